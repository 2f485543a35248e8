"""What answers say of cells made by hand, and the commands that pages give."""

import shlex
from itertools import pairwise
from pathlib import Path

from ilora.config import parse
from ilora.plan import configure
from ilora.studies import question
from ilora.studies.controls import ADAPTER
from ilora.studies.cost import Clock
from ilora.studies.page import command
from ilora.studies.plan import QUICK_STEPS, Ask, StudyConfig, points
from tests.studies.test_cells import cells, failed, made


def ask(**fields: object) -> Ask:
    config = StudyConfig(generators=("toy",), intrinsics=("normal",), **fields).resolved()
    return Ask(config, Path("out"), Clock(None, "cpu"), dry_run=True)


def test_the_command_of_a_page_asks_the_same_again() -> None:
    changes = {"masked": False, "clip": None, "lr": 3e-4, "schedule": "constant", "targets": "null", "steps": 7}
    config = StudyConfig(generators=("toy",), quick=True, images=5, changes=changes).resolved()
    words = shlex.split(command("families", config))
    assert parse([word for flag, word in pairwise(words) if flag == "--set"]) == changes
    assert words[words.index("--images") + 1] == "5" and "--quick" in words and "clip=null" in words


def test_the_caption_of_families_makes_the_fit_again() -> None:
    """The words of ``ilora fit`` give the configuration of the point, with own data, a short grid and other fields."""
    changed = ask(data="my rooms", quick=True, changes={"masked": False, "clip": None, "seed": 4})
    (point,) = points(question("families").points(changed), 1)
    caption = question("families").answer(changed, cells([failed()])).table.caption
    words = shlex.split(caption.removesuffix(" made each of them."))
    given = {word.removeprefix("--"): value for word, value in pairwise(words)
             if word in ("--generator", "--intrinsic", "--seed", "--data")}  # fmt: skip
    given |= {"generator": "toy", "intrinsic": "normal", "seed": point.fit.seed}  # NAME, NAME, N
    given |= parse([word for flag, word in pairwise(words) if flag == "--set"])
    assert configure("nowhere", given, resume=False) == point.fit
    assert (point.fit.seed, point.fit.steps) == (4, QUICK_STEPS)
    assert question("families").answer(ask(), cells([failed()])).table.caption == (
        "ilora fit --generator NAME --intrinsic NAME --seed N --out DIR made each of them."
    )


def test_the_rank_is_compared_with_random_weights_at_their_own_rank() -> None:
    """Best is rank 4; the control was fitted at rank 16, where the adapter's error is 8 of its 16."""
    errors = {1: 10.0, 4: 5.0, 16: 8.0}
    outcomes = [made([error], series="default", at=str(rank), rank=rank) for rank, error in errors.items()]
    outcomes += [made([16.0], series="random weights", at="16", rank=16, random_weights=True)]
    answer = question("rank").answer(ask(), cells(outcomes))
    assert "the best, rank 4 (ratio 1.00); at rank 16 the error is 0.500 of that of the same fit" in answer.verdict
    assert answer.findings["toy normal"]["rank 16 ÷ the same on random weights"]["value"] == 0.5
    assert "random weights, rank 16" in answer.figures[0].svg


def test_a_control_that_failed_is_not_measured() -> None:
    outcomes = [
        made([1.0, 2.0], series=ADAPTER, at="equal labels"),
        made([2.0, 4.0], series="random weights", at="equal labels", random_weights=True),
        failed(series="from scratch", at="equal time", method="scratch"),
    ]
    answer = question("controls").answer(ask(), cells(outcomes))
    assert answer.verdict == (
        "normal of toy: the adapter is better than random weights (equal labels); worse than none; no clear difference "
        "from none; not measured: from scratch (equal time)."
    )
