"""Evaluation in parts: the numbers of the plain command, to the bit."""

from pathlib import Path

import pytest
import torch

from ilora import evaluate as plain
from ilora.evaluate import EvaluateConfig
from ilora.fit import fit
from ilora.protocols import Verdict
from ilora.scale import judging
from tests import world
from tests.test_evaluate import small

QUICK = EvaluateConfig(device="cpu", resamples=200, batch=2)


def test_verdicts_travel_as_tensors() -> None:
    plainly = Verdict({"a": torch.tensor([1.0, torch.nan]), "b/c": torch.tensor([2.0, 3.0])}, torch.ones(2), None)
    pooled = Verdict({"a": torch.zeros(2)}, torch.ones(2), torch.arange(6).reshape(2, 3))
    back = judging.unpacked(judging.packed({"adapter": plainly, "mean_map": pooled}))
    assert list(back) == ["adapter", "mean_map"] and list(back["adapter"].scores) == ["a", "b/c"]
    assert torch.equal(back["adapter"].scores["a"].isnan(), torch.tensor([False, True]))
    assert back["adapter"].angles is None and torch.equal(back["mean_map"].angles, pooled.angles)


def test_finished_groups_are_read_and_not_judged_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = world.write(tmp_path / "world", train=2, test=3)
    run = fit(small(folder, steps=3), tmp_path / "run", device="cpu")
    asked = {"adapter": run, "data": str(folder), "protocol": "rooms", "split": "test"}
    first = judging.start(asked, QUICK, tmp_path / "kept", "identity")("[0, 2]")
    monkeypatch.setattr(plain, "prepare", lambda *_, **__: pytest.fail("loaded again"))
    assert judging.start(asked, QUICK, tmp_path / "kept", "identity")("[0, 2]") == first
