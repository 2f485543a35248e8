"""One self-contained HTML page: tables, bars, histograms and pictures inline, nothing fetched, dark or light.

A page is data (``Page`` of ``Section`` of blocks); ``render`` turns it into text and ``write`` puts it on the disk.
"""

import base64
import html
import io
import math
from dataclasses import dataclass, field
from pathlib import Path

from jaxtyping import UInt8
from PIL import Image as Pillow
from torch import Tensor

from ilora.run import replacing

WIDTH = 760  # of a chart [px]
ROW = 30  # height of one bar's row [px]
LEFT = 210  # room for the bars' labels [px]
RIGHT = 190  # room for the bars' numbers [px]
BINS = 24  # of a histogram


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; ``strong`` numbers the rows that the eye should find first."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    strong: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Bar:
    """One horizontal bar with its interval; ``kind`` is ours | baseline | bound and sets the colour."""

    label: str
    value: float
    low: float
    high: float
    kind: str = "baseline"


@dataclass(frozen=True)
class Bars:
    """Bars on one axis that begins at zero."""

    bars: tuple[Bar, ...]
    unit: str
    caption: str = ""


@dataclass(frozen=True)
class Histogram:
    """How one number is spread over the images; entries that are not finite are left out and counted."""

    values: tuple[float, ...]
    unit: str
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture of the page.

    Attributes:
        pixels: sRGB, [0, 255].
        label: what it shows; also read out by screen readers.
    """

    pixels: UInt8[Tensor, "3 h w"]
    label: str


@dataclass(frozen=True)
class Gallery:
    """Pictures in rows under column headings."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Picture, ...], ...]
    caption: str = ""


@dataclass(frozen=True)
class Drawing:
    """A figure that somebody else drew.

    Attributes:
        svg: text of the whole file.
        caption: what it shows; also read out by screen readers.
    """

    svg: str
    caption: str


Block = Table | Bars | Histogram | Gallery | Drawing


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph, and blocks."""

    title: str
    text: str = ""
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True)
class Page:
    """A whole report.

    Attributes:
        title: of the window and the page.
        headline: the one result, in a sentence.
        facts: what the numbers depend on, name to value; shown as a list.
        sections: in order.
        files: what the page was made from, name to content; the page carries them and hands them out.
    """

    title: str
    headline: str
    facts: dict[str, str] = field(default_factory=dict)
    sections: tuple[Section, ...] = ()
    files: dict[str, str] = field(default_factory=dict)


def number(value: float) -> str:
    """Three significant digits, two with a power of ten below 0.0001, a dash for NaN: 12.3, 0.0456, 101, 3.1e-07."""
    if math.isnan(value):
        return "–"
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if abs(value) < 1e-4:
        return f"{value:.1e}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def render(page: Page) -> str:
    """The page as HTML text; every address in it is inline data."""
    facts = "".join(f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in page.facts.items())
    body = "".join(_section(section) for section in page.sections)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{_text(page.title)}</title><style>{STYLE}</style></head><body>"
        '<label class="switch" title="dark or light"><input type="checkbox" id="other">◐</label>'
        f'<main><header><p class="brand">ilora</p><h1>{_text(page.title)}</h1>'
        f'<p class="headline">{_text(page.headline)}</p>'
        f"{f'<dl>{facts}</dl>' if facts else ''}{_files(page.files)}</header>{body}</main></body></html>\n"
    )


def write(path: Path, page: Page) -> Path:
    """Render to a file, in one step so that nobody sees half a page; returns the path."""
    with replacing(path) as partial:
        partial.write_text(render(page), encoding="utf-8")
    return path


def _text(value: str) -> str:
    return html.escape(str(value))


def _files(files: dict[str, str]) -> str:
    """Links under which the browser saves files that lie in the page itself."""
    links = []
    for name, content in files.items():
        code = base64.b64encode(content.encode()).decode("ascii")
        links.append(f'<a download="{_text(name)}" href="data:text/plain;base64,{code}">{_text(name)}</a>')
    return f'<p class="files">All numbers: {", ".join(links)}</p>' if links else ""


def _section(section: Section) -> str:
    text = f"<p>{_text(section.text)}</p>" if section.text else ""
    return f"<section><h2>{_text(section.title)}</h2>{text}{''.join(_block(b) for b in section.blocks)}</section>"


def _block(block: Block) -> str:
    """A figure or a table element; the kind of block decides."""
    painters = {Table: _table, Bars: _bars, Histogram: _histogram, Gallery: _gallery, Drawing: _drawing}
    return painters[type(block)](block)


def _caption(text: str) -> str:
    return f"<figcaption>{_text(text)}</figcaption>" if text else ""


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{_text(cell)}</th>' for cell in table.header)
    rows = []
    for place, row in enumerate(table.rows):
        first, *rest = row
        cells = f'<th scope="row">{_text(first)}</th>' + "".join(f"<td>{_text(cell)}</td>" for cell in rest)
        rows.append(f"<tr{' class=strong' if place in table.strong else ''}>{cells}</tr>")
    return (
        f'<figure class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
        f"{_caption(table.caption)}</figure>"
    )


def _bars(chart: Bars) -> str:
    """Bars with whiskers from low to high and the numbers written at the right."""
    drawn = [bar for bar in chart.bars if math.isfinite(bar.value)]
    top = max((max(bar.value, bar.high) for bar in drawn), default=0.0) or 1.0
    scale = (WIDTH - LEFT - RIGHT) / top  # px for one unit
    parts = []
    for place, bar in enumerate(drawn):
        y, end = place * ROW, LEFT + bar.value * scale
        low, high = LEFT + bar.low * scale, LEFT + bar.high * scale
        middle = y + ROW / 2
        ticks = f"M{low:.1f} {middle - 4}v8M{high:.1f} {middle - 4}v8"
        parts.append(
            f'<text x="{LEFT - 10}" y="{middle + 4:.0f}" text-anchor="end" class="{bar.kind}">{_text(bar.label)}</text>'
            f'<rect x="{LEFT}" y="{y + 6}" width="{max(end - LEFT, 1):.1f}" height="{ROW - 12}" rx="3" '
            f'class="{bar.kind}"/>'
            f'<path d="M{low:.1f} {middle}H{high:.1f}{ticks}" class="span"/>'
            f'<text x="{max(end, high) + 8:.1f}" y="{middle + 4:.0f}" class="{bar.kind}">{number(bar.value)} '
            f'<tspan class="range">{number(bar.low)} to {number(bar.high)}</tspan></text>'
        )
    words = "; ".join(f"{bar.label} {number(bar.value)} {chart.unit}" for bar in drawn)
    return _figure("".join(parts), height=ROW * len(drawn), label=words, caption=chart.caption)


def _histogram(chart: Histogram) -> str:
    """Columns over equal bins, with a line at the median and the axis' ends written below."""
    finite = sorted(value for value in chart.values if math.isfinite(value))
    if not finite:
        return f"<figure>{_caption(f'{chart.caption} (no image has a number)')}</figure>"
    low, high, middle = finite[0], finite[-1], finite[len(finite) // 2]
    span = (high - low) or 1.0
    bins = [0] * BINS
    for value in finite:
        bins[min(int((value - low) / span * BINS), BINS - 1)] += 1
    height, step = 110, (WIDTH - 40) / BINS
    columns = "".join(
        f'<rect x="{20 + i * step + 1:.1f}" y="{height - height * n / max(bins):.1f}" width="{step - 2:.1f}" '
        f'height="{height * n / max(bins):.1f}" class="ours"/>'
        for i, n in enumerate(bins)
    )
    x = 20 + (middle - low) / span * (WIDTH - 40)
    marks = (
        f'<path d="M20 {height}H{WIDTH - 20}M{x:.1f} 0V{height}" class="span"/>'
        f'<text x="20" y="{height + 18}" class="range">{number(low)}</text>'
        f'<text x="{WIDTH - 20}" y="{height + 18}" text-anchor="end" class="range">{number(high)}</text>'
    )
    missing = len(chart.values) - len(finite)
    caption = f"{chart.caption} (the line: median {number(middle)} {chart.unit}; {missing} without a number)"
    return _figure(columns + marks, height=height + 26, label=caption, caption=caption)


def _figure(drawing: str, *, height: int, label: str, caption: str) -> str:
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{_text(label)}">{drawing}</svg>'
        f"{_caption(caption)}</figure>"
    )


def _gallery(gallery: Gallery) -> str:
    """A grid of pictures, as wide as its columns."""
    heads = "".join(f'<span class="head">{_text(name)}</span>' for name in gallery.columns)
    cells = "".join(
        f'<span class="cell">{_picture(picture)}<small>{_text(picture.label)}</small></span>'
        for row in gallery.rows
        for picture in row
    )
    return (
        f'<figure class="wide"><div class="grid" style="--n:{len(gallery.columns)}">{heads}{cells}</div>'
        f"{_caption(gallery.caption)}</figure>"
    )


def _drawing(drawing: Drawing) -> str:
    """As an image of its own, so that its names and styles stay apart from the page's."""
    code = base64.b64encode(drawing.svg.encode()).decode("ascii")
    image = f'<img class="drawing" alt="{_text(drawing.caption)}" src="data:image/svg+xml;base64,{code}">'
    return f'<figure class="wide">{image}{_caption(drawing.caption)}</figure>'


def _picture(picture: Picture) -> str:
    buffer = io.BytesIO()
    Pillow.fromarray(picture.pixels.movedim(0, -1).contiguous().cpu().numpy()).save(buffer, "PNG", optimize=True)
    code = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img alt="{_text(picture.label)}" src="data:image/png;base64,{code}">'


STYLE = """
:root{color-scheme:light dark;--ink:light-dark(#1c2230,#e7e9ee);--soft:light-dark(#5d6678,#9aa3b5);
--paper:light-dark(#fbfbfd,#12151c);--card:light-dark(#fff,#1a1f29);--line:light-dark(#e1e4ea,#2b3240);
--ours:light-dark(#2f5bea,#7c9cff);--baseline:light-dark(#aeb6c6,#566077);--bound:light-dark(#2b9a66,#58c994)}
@media(prefers-color-scheme:light){:root:has(#other:checked){color-scheme:dark}}
@media(prefers-color-scheme:dark){:root:has(#other:checked){color-scheme:light}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,"Segoe UI",Roboto,sans-serif}
main{max-width:1120px;margin:0 auto;padding:40px 24px 80px}
.switch{position:fixed;top:14px;right:18px;cursor:pointer;font-size:20px;color:var(--soft)}
.switch input{position:absolute;opacity:0}.switch:has(input:focus-visible){outline:2px solid var(--ours)}
.brand{margin:0;color:var(--ours);font-weight:700;letter-spacing:.08em}
h1{margin:.1em 0 .3em;font-size:34px;line-height:1.2;letter-spacing:-.02em}
.headline{margin:0 0 24px;font-size:20px;color:var(--soft);max-width:46em}
h2{margin:48px 0 8px;font-size:22px;letter-spacing:-.01em}
section>p{color:var(--soft);max-width:52em;margin:0 0 8px;white-space:pre-line}
dl{display:flex;flex-wrap:wrap;gap:1px;background:var(--line);
border:1px solid var(--line);border-radius:12px;overflow:hidden;margin:0}
dl div{flex:1 1 190px;background:var(--card);padding:10px 16px}
dt{font-size:12px;color:var(--soft);text-transform:uppercase;letter-spacing:.06em}dd{margin:0;overflow-wrap:anywhere}
figure{margin:16px 0;padding:18px 20px;background:var(--card);border:1px solid var(--line);border-radius:12px}
.files{margin:12px 0 0;font-size:14px;color:var(--soft)}.files a{color:var(--ours)}
.wide{overflow-x:auto}
figcaption{margin-top:12px;font-size:14px;color:var(--soft)}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:14px}
th,td{padding:7px 9px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
thead th{color:var(--soft);font-weight:600;font-size:13px}
th:first-child{text-align:left;font-weight:500}tbody tr:last-child>*{border-bottom:0}
.strong>*{font-weight:700!important;color:var(--ours)}
svg{display:block;width:100%;max-width:860px;height:auto;font-size:13px}
svg text{fill:var(--ink)}svg text.ours{font-weight:700}svg .range{fill:var(--soft);font-weight:400}
rect.ours{fill:var(--ours)}rect.baseline{fill:var(--baseline)}rect.bound{fill:var(--bound)}
.span{stroke:var(--ink);stroke-width:1.4;fill:none;opacity:.75}
.grid{display:grid;grid-template-columns:repeat(var(--n),minmax(96px,1fr));gap:8px}
.head{font-size:13px;color:var(--soft);text-align:center}
.cell{display:block}.cell img{display:block;width:100%;border-radius:6px}
.drawing{display:block;width:100%;max-width:1040px;background:#fff;border-radius:6px}
small{display:block;font-size:12px;color:var(--soft);text-align:center;overflow-wrap:anywhere}
@media print{.switch{display:none}figure{break-inside:avoid}}
"""
