import base64
import io
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from ilora.report import WIDTH, Bar, Bars, Gallery, Histogram, Page, Picture, Section, Table, number, render, write

VOID = {"meta", "img", "input"}


class Reader(HTMLParser):
    """Counts tags, checks that they nest, and keeps addresses and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.addresses, self.words, self.tags = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        self.open += [tag] if tag not in VOID else []

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def drawing(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(re.search(r"<svg.*?</svg>", text, re.S)[0])


def with_block(block) -> str:
    return render(Page("a title", "a headline", {"fact": "value"}, (Section("part", "words", (block,)),)))


@pytest.mark.parametrize(
    ("value", "text"),
    [(12.345, "12.3"), (0.0456, "0.0456"), (101.4, "101"), (0, "0"), (-2.5, "-2.50"), (3.14e-7, "3.1e-07"),
     (float("nan"), "–"), (float("inf"), "inf"), (1234.5, "1234"), (0.999, "0.999")],
)  # fmt: skip
def test_numbers_by_hand(value, text):
    assert number(value) == text


def test_bars_are_as_long_as_their_values():
    chart = Bars((Bar("a", 10.0, low=8.0, high=12.0, kind="ours"), Bar("b", 20.0, low=19.0, high=40.0)), "deg", "words")
    picture = drawing(with_block(chart))
    first, second = (float(bar.get("width")) for bar in picture.findall("rect"))
    assert second == pytest.approx(2 * first, rel=0.01)
    ends = [float(x) for path in picture.findall("path") for x in re.findall(r"H([\d.]+)", path.get("d"))]
    assert ends[1] < WIDTH and ends[1] - ends[0] == pytest.approx(2.8 * first, rel=0.01)
    assert [bar.get("class") for bar in picture.findall("rect")] == ["ours", "baseline"]


def test_columns_of_a_histogram_hold_every_finite_value():
    values = (*torch.rand(97, generator=torch.Generator().manual_seed(0)).tolist(), float("nan"), float("inf"))
    text = with_block(Histogram(values, "deg", "spread"))
    heights = [float(column.get("height")) for column in drawing(text).findall("rect")]
    counts = torch.tensor(values)[:97].histc(len(heights), min=min(values[:97]), max=max(values[:97]))
    assert torch.allclose(torch.tensor(heights), 110 * counts / counts.max(), atol=0.06)
    assert "2 without a number" in text


@pytest.mark.parametrize("values", [(), (float("nan"),), (3.0,), (3.0, 3.0)])
def test_a_histogram_of_little_or_nothing(values):
    text = with_block(Histogram(values, "deg", "spread"))
    assert ("no image has a number" in text) == (not any(value == value for value in values))
    assert "nan" not in text.lower().replace("finance", "")


def test_bars_without_a_number_are_left_out():
    text = with_block(Bars((Bar("a", float("nan"), low=float("nan"), high=float("nan")),), "deg"))
    assert drawing(text).findall("rect") == []


def test_pictures_are_inline_and_exact():
    pixels = (torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0)) * 256).to(torch.uint8)
    page = Reader(with_block(Gallery(("one",), ((Picture(pixels, "a <label>"),),))))
    (address,) = page.addresses
    stored = Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/png;base64,"))))
    assert torch.equal(torch.from_numpy(np.array(stored)), pixels.permute(1, 2, 0))


def test_a_page_fetches_nothing_nests_and_escapes():
    table = Table(("a & b", "c"), (("<script>x</script>", "1"), ("y", "2")), "caption", frozenset({1}))
    text = with_block(table)
    page = Reader(text)
    assert page.open == [] and page.addresses == [] and "script" not in page.tags
    assert "http" not in text and "@import" not in text and "url(" not in text
    assert "<script>x</script>" in page.words and "a & b" in page.words
    assert page.tags.count("tr") == 3 and "class=strong" in text
    assert {"a title", "a headline", "fact", "value", "part", "words"} <= set(page.words)


def test_both_schemes_are_styled():
    text = render(Page("t", "h"))
    assert "color-scheme:light dark" in text and text.count("light-dark(") >= 7


def test_writing_replaces_in_one_step(tmp_path):
    path = tmp_path / "new" / "page.html"
    assert write(path, Page("first", "h")) == path
    write(path, Page("second", "h"))
    assert "<title>second</title>" in path.read_text(encoding="utf-8")
    assert list(path.parent.iterdir()) == [path]
