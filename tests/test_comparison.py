import base64
import re
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from ilora import comparison
from ilora.comparison import compare, differences
from ilora.evaluation import Evaluation, ratio_of
from ilora.report import render


def made(first: list[float], second: list[float], **fit: int) -> Evaluation:
    """An evaluation with the errors of an adapter and of a mean map."""
    errors = {"adapter": {"error": torch.tensor(first).double()}, "mean_map": {"error": torch.tensor(second).double()}}
    protocol = {"name": "rooms", "intrinsic": "normal", "fit": {"seed": 0, "rank": 8} | fit}
    return Evaluation(tuple("abcdefgh"[: len(first)]), errors, "error", protocol, resamples=500)


def about(one: Evaluation, **changes: object) -> Evaluation:
    """The evaluation under another story."""
    return replace(one, protocol=one.protocol | changes)


def test_seeds_are_pooled_and_groups_compared(capsys):
    runs = [made([s + 1.0, s + 3.0], [4.0, 6.0], seed=s) for s in (1, 0)]
    others = [made([4.0 + 2 * s, 8.0 + 2 * s], [4.0, 6.0], seed=s, rank=2) for s in (0, 1)]
    first, second = groups = compare([*runs, *others])
    assert (first.label, first.seeds, second.label) == ("rank 8", (0, 1), "rank 2")
    assert first.summary("adapter").mean == 2.5 and first.ratio("mean_map").value == 0.5
    (found,) = differences(groups)
    assert found.ratio.value == 2.5 / 7 and found.verdict == "rank 8 is better"
    comparison.show(groups)
    shown = capsys.readouterr().out
    assert "0.357" in shown and "0.500" in shown and "rank 8 is better" in shown


def test_more_pairs_make_wider_intervals():
    generator = torch.Generator().manual_seed(0)
    errors = [(1 + torch.rand(8, generator=generator)).tolist() for _ in range(4)]
    runs = [made(row, row, rank=rank) for rank, row in enumerate(errors, start=1)]
    (alone,), together = differences(compare(runs[:2])), differences(compare(runs))
    assert len(together) == 6
    first = next(one for one in together if (one.first, one.second) == ("rank 1", "rank 2"))
    assert first.ratio.value == alone.ratio.value
    assert first.ratio.low < alone.ratio.low and first.ratio.high > alone.ratio.high
    wide = ratio_of([runs[0]], [runs[1]], level=1 - 0.05 / 6)
    assert_close(torch.tensor([first.ratio.low, first.ratio.high]), torch.tensor([wide.low, wide.high]))


def test_equal_runs_are_not_told_apart():
    (same,) = differences(compare([made([1.0, 2.0], [3.0, 3.0], rank=rank) for rank in (1, 2)]))
    assert (same.ratio.value, same.ratio.low, same.ratio.high, same.verdict) == (1.0, 1.0, 1.0, "undecided")


def test_the_page_carries_every_number():
    groups = compare([made([1.0, 2.0], [4.0, 6.0]), made([2.0, 5.0], [4.0, 6.0], rank=2)])
    text = render(comparison.page(groups))
    files = dict(re.findall(r'download="([^"]+)" href="data:text/plain;base64,([^"]+)"', text))
    assert set(files) == {"table.md", "table.tex", "rank-8-seed0.csv", "rank-2-seed0.csv"}
    rows = base64.b64decode(files["rank-2-seed0.csv"]).decode().splitlines()
    assert rows == ["method,name,error", "adapter,a,2.0", "adapter,b,5.0", "mean_map,a,4.0", "mean_map,b,6.0"]
    assert "rank 8 is better" in text


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match=r"one run a seed, got seeds \(0, 0\)"):
        compare([made([1.0], [1.0]), made([2.0], [1.0])])
    with pytest.raises(ValueError, match=r"\[1, 2\]"):
        compare([made([1.0], [1.0]), made([2.0, 3.0], [1.0, 1.0], seed=1)])
    with pytest.raises(ValueError, match="evaluations of one intrinsic, got depth, normal; compare each by itself"):
        compare([made([1.0], [1.0]), about(made([1.0], [1.0]), intrinsic="depth")])
    with pytest.raises(ValueError, match=r"of one data set \(data_fingerprint\), got 1a, 2b; compare each by itself"):
        compare([about(made([1.0], [1.0]), data_fingerprint=mark) for mark in ("2b", "1a")])


def test_adapters_that_do_not_tell_of_their_fit_are_compared():
    runs = [about(made([error], [4.0]), fit={}, adapter=name) for name, error in (("1a", 1.0), ("2b", 2.0))]
    first, second = compare(runs)
    assert (first.label, first.seeds, second.label) == ("adapter 1a", (0,), "adapter 2b")
    assert differences([first, second])[0].ratio.value == 0.5
