"""Linear probes: against numpy, through the same fit and the same evaluation as an adapter."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from ilora.adapters import probes
from ilora.evaluate import EvaluateConfig, evaluate
from ilora.fit import fit
from ilora.generators import load
from ilora.generators.latent_diffusion import LatentDiffusion
from ilora.predictor import Predictor
from ilora.presets import preset
from ilora.records import Record
from ilora.run import Run
from tests import tiny, world

QUICK = EvaluateConfig(device="cpu", resamples=100, controls=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.write(tmp_path_factory.mktemp("world"))


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_stages_come_in_the_order_of_the_pass() -> None:
    toy = load("toy")
    code = toy.encode(noise(2, 3, 32, 24))  # [2, 48, 8, 6]
    found = probes.stages(toy.network, lambda: toy.forward(code), aspect=8 / 6)
    assert list(found) == ["conv_in", "blocks.0", "blocks.1", "proj_out"]
    assert {tuple(map.shape[-2:]) for map in found.values()} == {(8, 6)}
    assert [map.shape[1] for map in found.values()] == [64, 64, 64, 48]
    with torch.no_grad():
        expected = toy.network.conv_in(code)
        feature = expected + torch.nn.functional.interpolate(toy.network.position, (8, 6), mode="bilinear")
        tokens = toy.network.blocks[0](feature.flatten(2).mT)  # [2, 48, 64]
    assert_close(found["conv_in"], expected)
    assert_close(found["blocks.0"][:, :, 3, 2], tokens[:, 3 * 6 + 2])  # tokens lie row by row


def test_what_is_no_map_is_left_out_and_hooks_are_taken_off() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line, self.pair, self.rest = nn.Linear(4, 4), nn.Conv2d(1, 2, 1), nn.ModuleList([nn.Linear(4, 7)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.rest[0](self.pair(self.line(x)[:, None, None].expand(-1, 1, 4, 4)).mean((1, 2)))

    odd, after = Odd(), []
    found = probes.stages(odd, lambda: after.append(odd(noise(3, 4))))
    assert list(found) == ["pair"]  # vectors and logits form no grid
    assert after == []  # what follows the module is not computed
    assert not any(module._forward_hooks for module in odd.modules())


def test_ridge_agrees_with_numpy() -> None:
    x, y = noise(200, 6).double() * torch.arange(1, 7) + 3, noise(200, 3, seed=1).double()
    extended = torch.cat([x, torch.ones(200, 1).double()], dim=1)
    weight, bias = probes.ridge(extended.mT @ extended, extended.mT @ y, penalty=0.2)
    a, b = x.numpy(), y.numpy()
    z = (a - a.mean(0)) / a.std(0)
    expected = np.linalg.solve(z.T @ z + 0.2 * 200 * np.eye(6), z.T @ (b - b.mean(0))).T
    assert_close(weight, torch.from_numpy(expected))
    assert_close(bias, torch.from_numpy(b.mean(0)))


def test_a_solved_probe_minimises_its_own_loss() -> None:
    """Least squares over valid cells, seen through the generator's interface: any other map is worse."""
    probe = probes.Probed(load("toy"), "network")
    picture = noise(6, 3, 32, 32).clamp(-1, 1)
    valid = torch.ones(6, 1, 32, 32, dtype=torch.bool)
    valid[:, :, :8] = False
    target = probe.target(picture)
    assert probe.factor == 4 and target.shape == (6, 3, 8, 8)
    wild = torch.where(valid[:, :, ::4, ::4], target, 100.0)  # what is not valid does not count
    log = probes.prepare(probe, Record(probe.encode(picture), wild, picture, valid), "ridge")
    assert log["step"] == 0 and log["seconds"] > 0
    solved = probe.loss(probe.encode(picture), wild, valid).mean()
    assert_close(log["loss"], solved.item())
    standard = probe.network.standard(probe.activations(probe.encode(picture))).movedim(1, -1)[valid[:, 0, ::4, ::4]]
    assert_close(standard.mean(0), torch.zeros(240), atol=1e-3, rtol=0)
    assert_close(standard.std(0), torch.ones(240), atol=1e-2, rtol=0)
    own = probe.network.weight.clone()
    for seed in range(3):
        probe.network.weight.data = own + 0.02 * noise(3, 240, seed=seed)
        assert probe.loss(probe.encode(picture), wild, valid).mean() > solved


@pytest.mark.parametrize("method", ["ridge", "head"])
def test_a_probe_is_fitted_predicts_and_is_evaluated_like_an_adapter(method: str, folder: Path, tmp_path: Path) -> None:
    fields = {"generator": "toy", "data": str(folder), "method": method, "targets": "network"}
    config = preset("default", **fields, steps=100, batch=4, lr=2e-2, image_share=0.25)
    run = fit(config, tmp_path / "run", device="cpu")
    one = evaluate(run, str(folder), config=QUICK)
    assert one.protocol["fit"]["method"] == method
    assert one.summary("adapter").mean < 0.8 * one.summary("mean_map").mean
    before = Run(run).adapter.read_bytes()
    assert fit(config, run, resume=True, device="cpu") == run and Run(run).adapter.read_bytes() == before
    painted = Predictor(run, device="cpu")(noise(3, 36, 28).clamp(-1, 1))["normal"]
    assert painted.shape == (3, 36, 28)
    asked = evaluate(run, str(folder), config=QUICK.replace(controls=True))  # no control beside a control
    assert "is a control itself" in asked.notes[0]


def test_the_decoder_can_be_probed_where_it_has_layers(tmp_path: Path) -> None:
    tiny.pipeline("1", tmp_path / "sd")
    generator = load(str(tmp_path / "sd"))
    assert isinstance(generator, LatentDiffusion)
    side = generator.resolution
    probe = probes.Probed(generator, probes.DECODER)
    seen = probe.activations(probe.encode(noise(1, 3, side, side).clamp(-1, 1)))
    names = probes.stages(generator.codec.decoder, lambda: generator.decode(noise(1, 4, 4, 4)))
    assert "conv_in" in names and seen.shape[1] == probe.network.weight.shape[1]
    assert seen.shape[-1] == min(probes.GRID, side)
    assert probe.fingerprint not in (generator.fingerprint, probes.Probed(generator, "network").fingerprint)
    assert probe.forward(probe.encode(noise(1, 3, side, side))).shape == (1, 3, side, side)


def test_what_cannot_be_probed_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got none from Codec of toy; probe the other part"):
        probes.Probed(load("toy"), probes.DECODER)
    config = preset("default", generator="toy", data=str(folder), method="ridge", random_weights=True)
    with pytest.raises(ValueError, match="random_weights must be false for a linear probe"):
        fit(config, tmp_path / "run", device="cpu")
