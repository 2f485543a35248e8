"""LoRA+: groups by hand, an update by hand, and fits that go on to the same bits."""

import shutil
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from ilora.adapters import file, lora
from ilora.adapters.lora_plus import grouped
from ilora.config import AdapterConfig
from ilora.fit import fit
from ilora.presets import preset
from ilora.run import Run
from tests import world


def test_up_projections_are_a_group_of_their_own() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    lora.attach(network, AdapterConfig(method="dora", rank=1), ["0", "1"])
    named = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    ordered, (down, up) = grouped(named, 16.0)
    assert list(ordered.values()) == down["params"] + up["params"] and set(ordered) == set(named)
    assert (down["ratio"], up["ratio"]) == (1.0, 16.0)
    assert [weight.shape for weight in up["params"]] == [(2, 1), (2, 1)]
    same, groups = grouped(named, 1.0)
    assert list(same) == list(named) and len(groups) == 1
    with pytest.raises(ValueError, match="lr_ratio must be 1 without a low-rank adapter, got 4"):
        grouped({"weight": torch.zeros(2)}, 4.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(world.write(tmp_path_factory.mktemp("world"), train=4, test=1))


def short(folder: str, **changes: object) -> dict[str, object]:
    fields = {"generator": "toy", "data": folder, "steps": 6, "batch": 2, "warmup": 0, "lr": 1e-2, "rank": 2}
    return fields | {"targets": "attention", "schedule": "constant", "checkpoint_every": 2} | changes


def test_the_first_update_of_b_is_longer_by_the_ratio(folder: str, tmp_path: Path) -> None:
    """B begins at 0 and Adam's first step has the length of the learning rate; A sees no gradient yet."""
    runs = {}
    for ratio in (1.0, 16.0):
        config = preset("default", **short(folder, steps=1, lr_ratio=ratio, image_share=0.0))
        runs[ratio] = file.read(fit(config, tmp_path / str(ratio), device="cpu"))[0]
    for name in runs[1.0]:
        longer = 16.0 if "lora_B" in name else 1.0
        assert_close(runs[16.0][name], longer * runs[1.0][name], rtol=1e-4, atol=1e-6)
    assert max(weight.abs().max() for name, weight in runs[16.0].items() if "lora_B" in name) > 0.15


def test_it_goes_on_to_the_same_bits(folder: str, tmp_path: Path) -> None:
    """A constant rate and no decoder loss: a fit of two updates stands where a longer one stood after two."""
    config = preset("default", **short(folder, lr_ratio=8.0, ema=0.5, image_share=0.0))
    whole = Run(fit(config, tmp_path / "whole", device="cpu"))
    part = Run(fit(config.replace(steps=2), tmp_path / "part", device="cpu"))
    other = Run(shutil.copytree(whole.path, tmp_path / "other"))
    other.adapter.unlink()
    shutil.copy(part.checkpoint, other.checkpoint)
    fit(config, other.path, resume=True, device="cpu")
    assert other.adapter.read_bytes() == whole.adapter.read_bytes() != part.adapter.read_bytes()
