"""What a question says in the end: the verdict in a sentence, its table, its figures, and the numbers behind them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from ilora.evaluation import ranged
from ilora.ops.statistics import Ratio, Summary
from ilora.report import Section, Table, number
from ilora.studies.cells import Cell, Position
from ilora.studies.plan import Ask, Point

GOOD = 0.5  # position above which an intrinsic is recovered well
MEDIUM = 0.1  # above which there is something of it
RULE = (
    "position = (blind error - error of the adapter) / (blind error - codec ceiling), paired over seeds and images; "
    "blind: the same fit on random weights or the mean training map, whichever is better. ✓: its 95 % interval lies "
    f"above {GOOD}; ~: above {MEDIUM}; ✗: it does not; –: not measured, or the blind answer is as good as the ceiling."
)


@dataclass(frozen=True)
class Figure:
    """A drawing of the page.

    Attributes:
        name: of its file, after the study's; empty for the main one.
        svg: text.
        caption: what it shows.
    """

    name: str
    svg: str
    caption: str


@dataclass(frozen=True)
class Answer:
    """See the module.

    Attributes:
        verdict: one or two sentences.
        table: also written as LaTeX.
        figures: the main one first.
        findings: the numbers that the verdict is read from, plain values for JSON.
        sections: of the page, after the table.
    """

    verdict: str
    table: Table
    figures: tuple[Figure, ...] = ()
    findings: dict[str, Any] = field(default_factory=dict)
    sections: tuple[Section, ...] = ()


@runtime_checkable
class Question(Protocol):
    """One question: one file.

    Attributes:
        name: the command's word.
        asks: the question, in words.
        shows: how the answer is to be read.
        of_checkpoints: whether it takes checkpoints instead of generators.
    """

    name: str
    asks: str
    shows: str
    of_checkpoints: bool

    def points(self, ask: Ask) -> list[Point]:
        """The grid for one seed; equal calls give equal grids.

        Raises:
            ValueError: it cannot be asked about what was given.
        """
        ...

    def answer(self, ask: Ask, cells: Sequence[Cell]) -> Answer:
        """What the finished points say; points that failed are in the cells and say nothing."""
        ...


def verdict(where: Position) -> str:
    """✓, ~, ✗ or – by ``RULE``."""
    if where.low != where.low:
        return "–"
    return "✓" if where.low > GOOD else "~" if where.low > MEDIUM else "✗"


def words(result: Summary | Ratio | Position) -> str:
    """A number with its interval; a dash where there is none."""
    value = result.mean if isinstance(result, Summary) else result.value
    return ranged(value, result.low, result.high) if value == value else "–"


def plain(result: Ratio | Position) -> dict[str, float | None]:
    """For JSON."""
    return {name: value if value == value else None for name, value in vars(result).items()}


def percent(share: float) -> str:
    """Share of the network's weights."""
    return f"{number(100 * share)} %"


def common(cell: Cell) -> tuple[str, ...]:
    """The columns that every table ends with."""
    seeds = ", ".join(map(str, sorted(cell.runs))) or "none"
    size = f"{cell.weights:,} ({percent(cell.share)})" if cell.weights else "–"
    return (words(cell.error()), size, number(cell.seconds), seeds)


COMMON = ("error [95 %]", "weights", "seconds", "seeds")
