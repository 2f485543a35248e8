"""One field of the fit against the error, for both presets: what the questions of rank and labels share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ilora.report import Table, number
from ilora.studies.answer import COMMON, Answer, Figure, common, percent, plain
from ilora.studies.cells import Cell, compared, only
from ilora.studies.figures import Curve, Mark, Panel, panels
from ilora.studies.plan import QUICK_STEPS, Ask, Point

RANDOM = "random weights"
PRESETS = {"default": QUICK_STEPS, "paper": 80}  # preset: updates of its quick fits
CLOSE = 1.1  # of the best error: what counts as equal


@dataclass(frozen=True)
class Sweep:
    """A field and its values.

    Attributes:
        field: of ``FitConfig``.
        unit: name of the axis.
        values: all, ascending.
        quick: of the quick grid.
        control: whether random weights are fitted at every value, or at the last one only.
    """

    field: str
    unit: str
    values: tuple[int, ...]
    quick: tuple[int, ...]
    control: bool

    def points(self, ask: Ask) -> list[Point]:
        """Both presets at every value, and random weights with ``default``."""
        grid, values = [], self.quick if ask.config.quick else self.values
        for generator in ask.generators():
            for kind in ask.intrinsics():
                for value in values:
                    for name, steps in PRESETS.items():
                        fit = ask.fit(generator, kind, name=name, steps=steps, **{self.field: value})
                        grid.append(Point(name, str(value), fit))
                for value in values if self.control else [_reference(values)]:
                    fit = ask.fit(generator, kind, steps=PRESETS["default"], random_weights=True, **{self.field: value})
                    grid.append(Point(RANDOM, str(value), fit))
        return grid

    def panels(self, cells: Sequence[Cell]) -> str:
        """A row for each generator and intrinsic: error over the field, over the weights and over the seconds."""
        rows = []
        for generator, kind in pairs(cells):
            group = only(cells, generator=generator, intrinsic=kind)
            title, axes = f"{kind}, {generator}", [(self.unit, lambda cell: float(getattr(cell.fit, self.field)))]
            axes += [("weights that learn [% of the network]", lambda cell: 100 * cell.share)] * (not self.control)
            axes += [("updates, time [s]", lambda cell: cell.seconds)]
            lines = self._lines(group)
            shown = [name for name in (*PRESETS, RANDOM) if self.control or name != RANDOM]
            row = []
            for label, x in axes:
                curves = tuple(Curve(name, _marks(only(group, series=name), x)) for name in shown)
                metric = group[0].metric
                joined = not label.endswith("[s]")  # times that hardly differ have no order
                row.append(Panel(title, label, f"{metric}{unit_of(metric)}", curves, lines, log=True, joined=joined))
            rows.append(row)
        return panels(rows)

    def _lines(self, group: Sequence[Cell]) -> dict[str, float]:
        """Controls that do not depend on the field."""
        trained = only(group, series="default")
        lines = {"codec ceiling": trained[-1].error("codec_ceiling").mean} if trained else {}
        lines |= {"mean training map": trained[-1].error("mean_map").mean} if trained else {}
        if not self.control:
            lines |= {f"{RANDOM}, {self.field} {c.at}": c.error().mean for c in only(group, series=RANDOM)}
        return lines

    def table(self, cells: Sequence[Cell]) -> Table:
        """One line a cell."""
        rows = [(cell.fit.intrinsic, cell.fit.generator, cell.series, cell.at, *common(cell)) for cell in cells]
        caption = f"Lower is better. {PRESET_WORDS}"
        return Table(("intrinsic", "generator", "fit", self.field, *COMMON), tuple(rows), caption)


PRESET_WORDS = "default and paper: the two presets; random weights: default on a network drawn at random."


def smallest(cells: Sequence[Cell], best: Cell) -> Cell:
    """The first cell whose error is within ``CLOSE`` of the best one's."""
    return next(cell for cell in cells if cell is best or compared(cell, best).value <= CLOSE)


def finished(cells: Sequence[Cell]) -> list[Cell]:
    """Cells with at least one evaluation."""
    return [cell for cell in cells if cell.runs]


def lowest(cells: Sequence[Cell]) -> Cell | None:
    """The cell with the smallest error."""
    return min(finished(cells), key=lambda cell: cell.error().mean, default=None)


def pairs(cells: Sequence[Cell]) -> list[tuple[str, str]]:
    """Generators and intrinsics that occur together."""
    return list(dict.fromkeys((cell.fit.generator, cell.fit.intrinsic) for cell in cells))


def unit_of(metric: str) -> str:
    """Unit of a metric for an axis; errors without one are relative."""
    return " [deg]" if metric.endswith("angle") else ""


def _reference(values: Sequence[int]) -> int:
    """Where the control stands that is fitted once: the middle."""
    return values[len(values) // 2]


def _marks(cells: Sequence[Cell], x: Any) -> tuple[Mark, ...]:
    errors = [(x(cell), cell.error()) for cell in finished(cells)]
    return tuple(Mark(place, error.mean, error.low, error.high) for place, error in errors if math.isfinite(place))


def rank_answer(sweep: Sweep, cells: Sequence[Cell]) -> Answer:
    """How small an adapter may be: the smallest one within a tenth of the best."""
    sentences, findings = [], {}
    for generator, kind in pairs(cells):
        group = only(cells, generator=generator, intrinsic=kind)
        mine = finished(only(group, series="default"))
        best = lowest(mine)
        if best is None:
            sentences.append(f"{kind} of {generator}: not measured.")
            continue
        small = smallest(mine, best)
        (control,) = only(group, series=RANDOM)
        (like,) = only(group, series="default", rank=control.fit.rank)
        share, against = compared(small, best), compared(like, control)
        findings[f"{generator} {kind}"] = {
            "smallest": small.fit.rank, "weights": small.weights, "share": small.share, "best": best.fit.rank,
            "smallest ÷ best": plain(share), f"rank {control.at} ÷ the same on random weights": plain(against),
        }  # fmt: skip
        sentences.append(
            f"{kind} of {generator}: rank {small.at}, {small.weights:,} weights ({percent(small.share)}), is within "
            f"{round(100 * (CLOSE - 1))} % of the best, rank {best.at} (ratio {number(share.value)}); at rank "
            f"{control.at} the error is {number(against.value)} of that of the same fit on random weights."
        )
    figure = Figure("", sweep.panels(cells), "Error over rank, over the weights that learn, and over time.")
    return Answer(" ".join(sentences), sweep.table(cells), (figure,), findings)


def label_answer(sweep: Sweep, cells: Sequence[Cell]) -> Answer:
    """How few labels do: the fewest with which ``default`` is as good as ``paper`` with the most."""
    sentences, findings = [], {}
    for generator, kind in pairs(cells):
        group = only(cells, generator=generator, intrinsic=kind)
        mine, theirs = (finished(only(group, series=name)) for name in PRESETS)
        if not mine or not theirs:
            sentences.append(f"{kind} of {generator}: not measured.")
            continue
        most = theirs[-1]
        enough = next((cell for cell in mine if compared(cell, most).value <= 1), None)
        if enough is None:
            sentences.append(f"{kind} of {generator}: default does not reach paper with {most.at} labels.")
            continue
        share, time = compared(enough, most), enough.seconds / most.seconds
        findings[f"{generator} {kind}"] = {
            "labels": enough.fit.labels, "of": most.fit.labels, "default ÷ paper": plain(share), "time": time,
        }  # fmt: skip
        sentences.append(
            f"{kind} of {generator}: default with {enough.at} labels is as good as paper with {most.at} "
            f"(ratio {number(share.value)}), in {number(time)} of its time."
        )
    figure = Figure("", sweep.panels(cells), "Error over the number of labelled images, and over the time to learn.")
    return Answer(" ".join(sentences), sweep.table(cells), (figure,), findings)
