"""One framework: the same command and the same loop for every family of generators."""

import shlex
from collections.abc import Sequence

from ilora.config import FitConfig, unparse
from ilora.report import Table, number
from ilora.studies.answer import Answer, Figure, percent, plain, words
from ilora.studies.cells import Cell, compared
from ilora.studies.figures import Bar, bars
from ilora.studies.plan import QUICK_STEPS, Ask, Point, StudyConfig
from ilora.studies.sweep import finished, unit_of


class Families:
    """See ``ilora.studies.answer.Question``."""

    name = "families"
    of_checkpoints = False
    asks = "Does one adapter fit all families?"
    shows = "The same command and the same loop for every generator: how much of it moves, and how far that carries."

    def points(self, ask: Ask) -> list[Point]:
        """The default fit of every generator and intrinsic."""
        return [
            Point(generator, kind, ask.fit(generator, kind, steps=QUICK_STEPS))
            for kind in ask.intrinsics()
            for generator in ask.generators(across=True)
        ]

    def answer(self, ask: Ask, cells: Sequence[Cell]) -> Answer:
        """Weights, labels and errors side by side."""
        rows, findings = [], {}
        for cell in cells:
            share = compared(cell, cell, method="mean_map")
            labels = str(cell.fit.labels or next((run.protocol["labels"] for run in cell.runs.values()), "–"))
            rows.append((cell.fit.intrinsic, cell.series, percent(cell.share), f"{cell.weights:,}", labels,
                         words(cell.error()), words(share), number(cell.error("codec_ceiling").mean),
                         number(cell.seconds), ", ".join(map(str, sorted(cell.runs)))))  # fmt: skip
            findings[f"{cell.series} {cell.fit.intrinsic}"] = {"adapter ÷ mean map": plain(share)}
        header = ("intrinsic", "generator", "weights that learn", "number", "labels", "error [95 %]",
                  "÷ mean map [95 %]", "codec ceiling", "seconds", "seeds")  # fmt: skip
        return Answer(_sentence(cells), Table(header, tuple(rows), _caption(ask.config)), _figures(cells), findings)


def _caption(config: StudyConfig) -> str:
    """The command that makes each of the fits again."""
    words = ["ilora", "fit", "--generator", "NAME", "--intrinsic", "NAME", "--seed", "N"]
    if config.data != FitConfig.data:
        words += ["--data", config.data, "--on-problem", "skip"]
    fields = ({"steps": QUICK_STEPS} if config.quick else {}) | config.changes
    fields.pop("seed", None)  # N is its sum with the place of the seed
    words += [word for change in unparse(fields) for word in ("--set", change)]
    return f"{shlex.join([*words, '--out', 'DIR'])} made each of them."


def _figures(cells: Sequence[Cell]) -> tuple[Figure, ...]:
    """Bars of the errors, a figure an intrinsic."""
    figures = []
    for kind in dict.fromkeys(cell.fit.intrinsic for cell in cells):
        group = [cell for cell in cells if cell.fit.intrinsic == kind]
        marks = [Bar(cell.series, cell.series, error.mean, error.low, error.high)
                 for cell in group if (error := cell.error()).count]  # fmt: skip
        metric = next((cell.metric for cell in group if cell.runs), "error")
        drawing = bars(marks, x=f"{metric}{unit_of(metric)}", title=kind)
        figures.append(Figure(kind if figures else "", drawing, f"Error of {kind}; lower is better."))
    return tuple(figures)


def _sentence(cells: Sequence[Cell]) -> str:
    """How many families, how few weights, and how much better than the mean map."""
    done = finished(cells)
    if not done:
        return "Not measured."
    shares = [cell.share for cell in done]
    better = [cell for cell in done if compared(cell, cell, method="mean_map").high < 1]
    return (
        f"{len({cell.series for cell in done})} generators, one command: {percent(min(shares))} to "
        f"{percent(max(shares))} of their weights learn; {len(better)} of {len(done)} adapters beat the mean "
        "training map, with intervals below 1."
    )
