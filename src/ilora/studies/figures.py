"""Figures as SVG text: curves with intervals and control lines, bars, scatter plots, heat maps."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ilora.report import number

COLOURS = ("#2f5bea", "#e07b00", "#2b9a66", "#b3399b", "#7a5cc7", "#c0392b", "#1a8aa0", "#6b7280")
LINES = {"random weights": ("#c0392b", "--"), "mean training map": ("#6b7280", ":"), "codec ceiling": ("#2b9a66", "-.")}
SALT = "ilora"  # of the names inside an SVG, so that the same figure is the same text


@dataclass(frozen=True)
class Mark:
    """A value with its interval at a place on the axis."""

    x: float
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """Marks that belong together."""

    label: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: what is seen.
        x, y: names of the axes with their units.
        curves: in the order of the legend.
        lines: controls, horizontal, by name.
        log: whether x is logarithmic.
        joined: whether the marks of a curve are joined.
    """

    title: str
    x: str
    y: str
    curves: tuple[Curve, ...]
    lines: dict[str, float] = field(default_factory=dict)
    log: bool = False
    joined: bool = True


@dataclass(frozen=True)
class Bar:
    """A horizontal bar with its interval; ``group`` gives its colour."""

    label: str
    group: str
    value: float
    low: float
    high: float


def panels(rows: Sequence[Sequence[Panel]]) -> str:
    """A grid of panels as SVG, one legend for all."""
    plots = _matplotlib()
    wide = max(len(row) for row in rows)
    figure, axes = plots.subplots(len(rows), wide, figsize=(3.9 * wide, 3.1 * len(rows) + 0.5), squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        for axis in line[len(row) :]:
            axis.axis("off")
        for axis, panel in zip(line, row, strict=False):
            _panel(axis, panel)
    _legend(figure, axes.flat)
    return _svg(plots, figure)


def _panel(axis: Any, panel: Panel) -> None:
    for place, curve in enumerate(panel.curves):
        marks = sorted((mark for mark in curve.marks if math.isfinite(mark.value)), key=lambda mark: mark.x)
        spread = [[max(0.0, m.value - m.low) for m in marks], [max(0.0, m.high - m.value) for m in marks]]
        colour = COLOURS[place % len(COLOURS)]
        line = "-" if panel.joined else "none"
        xs, ys = [m.x for m in marks], [m.value for m in marks]
        look = {"color": colour, "marker": "o", "ms": 4, "ls": line, "lw": 1.5, "capsize": 3}
        axis.errorbar(xs, ys, yerr=spread, label=curve.label, **look)
    for name, value in panel.lines.items():
        colour, style = LINES.get(name, ("#333333", "--"))
        if math.isfinite(value):
            axis.axhline(value, color=colour, ls=style, lw=1.2, label=name)
    if panel.log:
        axis.set_xscale("log")
        _ticks(axis, sorted({mark.x for curve in panel.curves for mark in curve.marks if math.isfinite(mark.value)}))
    axis.set(title=panel.title, xlabel=panel.x, ylabel=panel.y)
    axis.set_ylim(bottom=min(0.0, axis.get_ylim()[0]))
    axis.grid(alpha=0.25)


def _ticks(axis: Any, values: Sequence[float]) -> None:
    """Ticks at the values themselves where they are few; matplotlib's own otherwise."""
    if 0 < len(values) <= 8 and max(values) / min(values) >= 2 ** (len(values) - 1) * 0.5:
        axis.set_xticks(values, [f"{value:,.0f}" if value >= 10 else f"{value:.3g}" for value in values])
        axis.minorticks_off()
    else:
        axis.xaxis.set_major_formatter(_plain)
        axis.xaxis.set_minor_formatter(_plain if values and max(values) < 5 * min(values) else "")
        axis.tick_params(axis="x", which="minor", labelsize=7)


def _plain(value: float, _place: int | None = None) -> str:
    """A tick without a power of ten."""
    return f"{value:g}"


def bars(items: Sequence[Bar], *, x: str, title: str = "", lines: dict[str, float] | None = None) -> str:
    """Horizontal bars as SVG, the first on top, with vertical lines where something is to be reached."""
    plots = _matplotlib()
    shown = [bar for bar in items if math.isfinite(bar.value)]
    groups = list(dict.fromkeys(bar.group for bar in shown))
    figure, axis = plots.subplots(figsize=(8.2, 0.34 * len(shown) + 1.5))
    for place, bar in enumerate(shown):
        colour = COLOURS[groups.index(bar.group) % len(COLOURS)]
        spread = [[max(0.0, bar.value - bar.low)], [max(0.0, bar.high - bar.value)]]
        first = all(other.group != bar.group for other in shown[:place])
        name = bar.group if first else None
        axis.barh(place, bar.value, xerr=spread, color=colour, alpha=0.85, capsize=3, height=0.68, label=name)
    axis.set_yticks(range(len(shown)), [bar.label for bar in shown])
    axis.invert_yaxis()
    for style, (name, value) in zip(("--", ":", "-."), (lines or {}).items(), strict=False):
        axis.axvline(value, color="#333333", ls=style, lw=1, label=name)
    axis.set(xlabel=x, title=title)
    axis.grid(axis="x", alpha=0.25)
    axis.set_axisbelow(True)
    if len(groups) > 1 or lines:
        _legend(figure, [axis])
    return _svg(plots, figure)


def heat(
    values: Sequence[Sequence[float]], *, rows: Sequence[str], columns: Sequence[str], x: str, y: str, unit: str
) -> str:
    """A matrix as colours with its numbers written in, dark where the error is low; SVG."""
    plots = _matplotlib()
    figure, axis = plots.subplots(figsize=(0.95 * len(columns) + 3.2, 0.36 * len(rows) + 1.6))
    shown = axis.imshow(values, aspect="auto", cmap="viridis")
    known = [value for row in values for value in row if math.isfinite(value)]
    middle = (min(known) + max(known)) / 2 if known else 0.0
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            axis.text(j, i, number(value), ha="center", va="center", fontsize=8, color="w" if value < middle else "k")
    axis.set_xticks(range(len(columns)), columns)
    axis.set_yticks(range(len(rows)), rows)
    axis.set(xlabel=x, ylabel=y)
    figure.colorbar(shown, ax=axis, label=unit)
    return _svg(plots, figure)


def _legend(figure: Any, axes: Any) -> None:
    """One legend below everything, each name once."""
    found: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        place = {"loc": "outside lower center", "ncols": min(4, len(found)), "frameon": False, "fontsize": 9}
        figure.legend(found.values(), found.keys(), **place)


def _matplotlib() -> Any:
    """pyplot that draws into files.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("figures need matplotlib: pip install 'ilora[figures]'") from error
    matplotlib.use("svg")
    from matplotlib import pyplot

    look = {"svg.fonttype": "none", "svg.hashsalt": SALT, "font.size": 9, "axes.titlesize": 10}
    look |= {"axes.spines.top": False, "axes.spines.right": False, "figure.constrained_layout.use": True}
    matplotlib.rcParams.update(look)
    return pyplot


def _svg(plots: Any, figure: Any) -> str:
    """The figure as text, without a date, so that the same numbers give the same bytes."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    plots.close(figure)
    return buffer.getvalue()
