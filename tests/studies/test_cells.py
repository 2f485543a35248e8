"""Pooling, ratios, positions and the rule of the verdict, on numbers made by hand."""

import math
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from ilora.evaluation import Evaluation
from ilora.presets import preset
from ilora.studies.answer import GOOD, MEDIUM, verdict, words
from ilora.studies.cells import Cell, Outcome, Position, cells, compared, difference, only, position
from ilora.studies.plan import Point, StudyConfig, works

NAN = float("nan")


def made(
    errors: list[float],
    *,
    seed: int = 0,
    series: str = "adapter",
    at: str = "1",
    generator: str = "toy",
    **fields: object,
) -> Outcome:
    """A finished point with these errors; the ceiling is 1 everywhere, the mean map 10."""
    fit = preset("default", generator=generator, seed=seed, **fields)
    point = Point(series, at, fit)
    columns = {"adapter": errors, "codec_ceiling": [1.0] * len(errors), "mean_map": [10.0] * len(errors)}
    table = {name: {"mean_angle": torch.tensor(column).double()} for name, column in columns.items()}
    protocol = {"name": "rooms", "fit": fit.write(), "split": "test", "labels": 8}
    one = Evaluation(tuple("abcdefgh"[: len(errors)]), table, "mean_angle", protocol, resamples=400)
    (work,) = works([point], StudyConfig(generators=("toy",)), Path("out"))
    return Outcome(point, work, one, 2.0 + seed, 50, 200, "")


def failed(**fields: object) -> Outcome:
    good = made([1.0], **fields)
    return Outcome(good.point, good.work, None, NAN, 0, 0, "FloatingPointError: the loss became nan")


def cell(*outcomes: Outcome) -> Cell:
    (one,) = cells(outcomes)
    return one


def test_seeds_are_pooled_and_failures_kept_apart() -> None:
    first, second = found = cells([made([2.0, 4.0]), made([3.0], at="2", rank=2), made([4.0, 6.0], seed=1)])
    assert [(one.at, len(one.outcomes)) for one in found] == [("1", 2), ("2", 1)]
    assert (first.error().mean, first.error("mean_map").mean, first.seconds, first.share) == (4.0, 10.0, 2.5, 0.25)
    assert only(found, rank=2) == [second] == only(found, at="2") and only(found, series="other") == []
    mixed = cell(made([2.0, 4.0]), failed(seed=1))
    assert (mixed.error().mean, list(mixed.runs)) == (3.0, [0])
    assert mixed.problems == ("FloatingPointError: the loss became nan",)
    nothing = cell(failed())
    assert nothing.error().count == 0 and math.isnan(nothing.seconds) and nothing.row()["error"] is None
    assert words(nothing.error()) == "–"


def test_ratios_are_paired_over_common_seeds() -> None:
    ours = cell(made([1.0, 2.0]), made([2.0, 4.0], seed=1), made([100.0, 100.0], seed=2))
    theirs = cell(made([2.0, 4.0]), made([4.0, 8.0], seed=1), failed(seed=2))
    share = compared(ours, theirs)
    assert (share.value, share.low, share.high, share.seeds) == (0.5, 0.5, 0.5, 2)
    assert compared(theirs, theirs, method="mean_map").value == 4.5 / 10
    assert math.isnan(compared(ours, None).value) and math.isnan(compared(ours, cell(failed())).value)
    assert math.isnan(compared(ours, theirs, method="untouched").value)


def test_three_seeds_on_one_side_are_no_difference_by_that() -> None:
    """Seeds differ by 1, 2 and 3 on every image: a bootstrap of them stays in [1, 3], Student's t is 2 -+ 2.484."""
    ours = cell(*(made([11.0 + seed, 21.0 + seed], seed=seed) for seed in range(3)))
    theirs = cell(*(made([10.0, 20.0], seed=seed, rank=2) for seed in range(3)))
    found = difference(ours, theirs)
    assert found.mean == 2.0 and (found.low, found.high) == pytest.approx((-0.484138, 4.484138), abs=1e-5)
    wider = difference(ours, theirs, level=0.9978)
    assert wider.low < found.low and wider.high > found.high
    alone = difference(cell(made([11.0, 23.0])), cell(made([10.0, 20.0], rank=2)))
    assert (alone.mean, alone.low, alone.high) == (2.0, 1.0, 3.0)  # one seed: images alone


def test_position_by_hand() -> None:
    """Ceiling 1, random weights 5 and 9, adapter 2 and 3: left over are 1 + 2 of 4 + 8."""
    where = position(cell(made([2.0, 3.0])), cell(made([5.0, 9.0], random_weights=True)))
    assert_close(torch.tensor([where.value, where.low, where.high]), torch.tensor([0.75, 0.75, 0.75]))
    same = cell(made([5.0, 9.0]))
    assert position(same, same).value == 0.0
    assert position(cell(made([1.0, 1.0])), same).value == 1.0
    worse = position(cell(made([9.0, 17.0])), same)
    assert worse.value == -1.0 and worse.low <= worse.value <= worse.high


def test_a_control_that_fails_altogether_does_not_stand_for_knowledge() -> None:
    """Random weights 50 and 70, mean map 10 and 10: the mean map is the blind answer, of whose 9 + 9 are left 1 + 8."""
    where = position(cell(made([2.0, 9.0])), cell(made([50.0, 70.0], random_weights=True)))
    assert where.value == pytest.approx(1 - 9 / 18)
    assert position(cell(made([10.0, 10.0])), cell(made([50.0, 70.0], random_weights=True))).value == 0.0


def test_position_is_not_known_where_random_weights_reach_the_ceiling() -> None:
    where = position(cell(made([2.0, 3.0])), cell(made([1.0, 1.0])))
    assert math.isnan(where.value) and verdict(where) == "–"
    assert verdict(position(cell(failed()), cell(made([5.0])))) == "–"


@pytest.mark.parametrize(
    ("low", "sign"), [(0.51, "✓"), (GOOD, "~"), (0.11, "~"), (MEDIUM, "✗"), (-0.4, "✗"), (NAN, "–")]
)
def test_the_rule_reads_the_lower_bound(low: float, sign: str) -> None:
    assert verdict(Position(0.9, low, 1.0)) == sign
