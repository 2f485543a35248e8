"""What came out of a grid: one outcome a point, one cell for points that differ in nothing but the seed."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from safetensors import safe_open

from ilora.comparison import Group
from ilora.config import FitConfig
from ilora.evaluation import OURS, Evaluation, ratio_of
from ilora.ops.statistics import Ratio, Summary, over_seeds, pooled, ratio
from ilora.studies.plan import Point, Work, look

NOTHING = Summary(math.nan, math.nan, math.nan, math.nan, 0)
UNKNOWN = Ratio(math.nan, math.nan, math.nan, 0, 0)
STANDARDS = ("mean", "deviation")  # of a probe's activations: kept in its file, but not learnt


@dataclass(frozen=True)
class Outcome:
    """One point and what came out of it.

    Attributes:
        point: what was asked.
        work: where it lies.
        evaluation: None where it failed.
        seconds: of the fit's updates.
        weights: that learnt.
        total: of the generator's network.
        problem: what went wrong; empty otherwise.
    """

    point: Point
    work: Work
    evaluation: Evaluation | None
    seconds: float
    weights: int
    total: int
    problem: str

    def row(self) -> dict[str, Any]:
        """One line of the CSV; numbers that are not there are None."""
        fit, one = self.point.fit, self.evaluation
        errors = {name: _finite(one.summary(name).mean) if one and name in one.errors else None for name in _METHODS}
        own = one.summary(OURS) if one else NOTHING
        return {
            "series": self.point.series,
            "at": self.point.at,
            **{name: getattr(fit, name) for name in _FIELDS},
            "metric": one.primary if one else None,
            "error": _finite(own.mean),
            "low": _finite(own.low),
            "high": _finite(own.high),
            "images": own.count,
            **errors,
            "weights": self.weights,
            "share": self.weights / self.total if self.total else None,
            "seconds": _finite(self.seconds),
            "problem": self.problem,
        }


_METHODS = ("codec_ceiling", "mean_map", "untouched", "identity")
_FIELDS = ("generator", "intrinsic", "preset", "method", "random_weights", "targets", "rank", "labels", "seed", "steps",
           "batch", "timestep")  # fmt: skip


def outcome(point: Point, work: Work, problem: str) -> Outcome:
    """Read what ``work`` left on the disk."""
    if problem or not work.result.is_file():
        return Outcome(point, work, None, math.nan, 0, 0, problem or "not made yet")
    seconds = json.loads(work.run.log.read_text().splitlines()[-1])["seconds"]
    return Outcome(point, work, Evaluation.read(work.result), seconds, *_weights(work), "")


def _weights(work: Work) -> tuple[int, int]:
    """Weights that learnt, and weights of the network."""
    total = look(work.fit.generator).weights
    if work.fit.method in ("full", "scratch"):
        return total, total
    with safe_open(work.run.adapter, "pt") as file:
        names = [name for name in file.keys() if name not in STANDARDS]  # noqa: SIM118 (no mapping)
        return sum(math.prod(file.get_slice(name).get_shape()) for name in names), total


@dataclass(frozen=True)
class Cell:
    """Points that differ in nothing but the seed.

    Attributes:
        series, at: see ``Point``.
        fit: of the first.
        outcomes: of all.
    """

    series: str
    at: str
    fit: FitConfig
    outcomes: tuple[Outcome, ...]

    @property
    def runs(self) -> dict[int, Evaluation]:
        """Evaluations of those that are finished, by seed."""
        return {one.point.fit.seed: one.evaluation for one in self.outcomes if one.evaluation}

    @property
    def metric(self) -> str:
        """Name of the error."""
        return next((run.primary for run in self.runs.values()), "error").replace("_", " ")

    @property
    def seconds(self) -> float:
        """Of a fit's updates, mean over the seeds."""
        known = [one.seconds for one in self.outcomes if one.evaluation]
        return sum(known) / len(known) if known else math.nan

    @property
    def weights(self) -> int:
        """That learnt."""
        return max(one.weights for one in self.outcomes)

    @property
    def share(self) -> float:
        """Of the network's weights that learnt."""
        return max((one.weights / one.total for one in self.outcomes if one.total), default=math.nan)

    @property
    def problems(self) -> tuple[str, ...]:
        """Of the points that failed."""
        return tuple(one.problem for one in self.outcomes if one.problem)

    def error(self, method: str = OURS) -> Summary:
        """Primary error over seeds and images, of the point or of a baseline in its evaluation."""
        runs = tuple(run for run in self.runs.values() if method in run.errors)
        return Group("", runs).summary(method) if runs else NOTHING

    def row(self) -> dict[str, Any]:
        """One line of the pooled table in JSON."""
        own = self.error()
        return {
            "series": self.series,
            "at": self.at,
            "generator": self.fit.generator,
            "intrinsic": self.fit.intrinsic,
            "metric": self.metric,
            "error": _finite(own.mean),
            "low": _finite(own.low),
            "high": _finite(own.high),
            "seeds": sorted(self.runs),
            "images": own.count,
            "weights": self.weights,
            "share": _finite(self.share),
            "seconds": _finite(self.seconds),
            "problems": list(self.problems),
        }


def cells(outcomes: Iterable[Outcome]) -> list[Cell]:
    """Outcomes with their seeds pooled, in the order of their first members."""
    groups: dict[tuple[str, str, FitConfig], list[Outcome]] = {}
    for one in outcomes:
        groups.setdefault((one.point.series, one.point.at, one.point.fit.replace(seed=0)), []).append(one)
    return [Cell(series, at, ones[0].point.fit, tuple(ones)) for (series, at, _), ones in groups.items()]


def only(found: Sequence[Cell], **wanted: Any) -> list[Cell]:
    """The cells with these values of ``series``, ``at``, or fields of the fit."""
    return [cell for cell in found if all(getattr(cell, k, getattr(cell.fit, k, None)) == v for k, v in wanted.items())]


def compared(first: Cell | None, second: Cell | None, *, method: str = OURS) -> Ratio:
    """Error of one cell divided by that of another, or by that of a baseline of it, over the seeds that both have."""
    above, below = _paired(first, second)
    if not above or any(method not in run.errors for run in below):
        return UNKNOWN
    return ratio_of(above, below, methods=(OURS, method))


def difference(first: Cell | None, second: Cell | None, *, level: float = 0.95) -> Summary:
    """Error of one cell minus that of another, paired by seed and image.

    The interval covers two: the bootstrap over seeds and images, and over two seeds or more Student's t over the seeds'
    mean differences, without which three seeds that lie on one side of 0 by chance would pass for an effect.
    """
    above, below = _paired(first, second)
    if not above:
        return NOTHING
    one = above[0]
    ours, theirs = (torch.stack([run.errors[OURS][one.primary] for run in side]) for side in (above, below))  # [s, n]
    apart = ours - theirs
    drawn = pooled(apart, weights=one.pixels, resamples=one.resamples, seed=one.seed, level=level)
    if len(apart) < 2 or not drawn.count:
        return drawn
    low, high = over_seeds(apart, weights=one.pixels, level=level)
    return replace(drawn, low=min(drawn.low, low), high=max(drawn.high, high))


@dataclass(frozen=True)
class Position:
    """Where an error lies between that of random weights, 0, and the codec ceiling, 1; with its interval."""

    value: float
    low: float
    high: float


def position(trained: Cell | None, random: Cell | None) -> Position:
    """(blind - adapter) / (blind - ceiling), paired by seed and image; NaN where the blind answer reaches the ceiling.

    Blind is the better of two answers that know nothing of the scene: the same fit on random weights and the mean
    training map. A control that fails altogether, such as a random transformer, must not make a mean map look like
    knowledge.
    """
    above, below = _paired(trained, random)
    if not above:
        return Position(math.nan, math.nan, math.nan)
    metric = above[0].primary
    ceiling = torch.stack([run.errors["codec_ceiling"][metric] for run in above])  # [s, n]
    ours, theirs = (torch.stack([run.errors[OURS][metric] for run in side]) for side in (above, below))
    mean = torch.stack([run.errors["mean_map"][metric] for run in above])
    blind = min(theirs, mean, key=lambda errors: float(errors.nanmean()))
    if (blind - ceiling).nanmean() <= 0:
        return Position(math.nan, math.nan, math.nan)
    left = ratio(ours - ceiling, blind - ceiling, resamples=above[0].resamples, seed=above[0].seed)
    return Position(1 - left.value, 1 - left.high, 1 - left.low)


def _paired(first: Cell | None, second: Cell | None) -> tuple[list[Evaluation], list[Evaluation]]:
    """Evaluations of the seeds that both have."""
    if first is None or second is None:
        return [], []
    seeds = sorted(first.runs.keys() & second.runs.keys())
    return [first.runs[seed] for seed in seeds], [second.runs[seed] for seed in seeds]


def _finite(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None
