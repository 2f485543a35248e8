"""The loop of embedded trainings: a stopped training goes on with the same bits."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ilora.zoo.loop import rate, snapshots, train
from ilora.zoo.recipes import Training

CONFIG = Training(steps=40, batch=4, lr=0.05, warmup=4, ema=0.5, snapshots=(10, 20))


def line() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Linear(2, 1)


def regression(network: nn.Module, stop_at: int | None = None):
    def loss(step: int, numbers: torch.Generator) -> torch.Tensor:
        if step == stop_at:
            raise KeyboardInterrupt
        x = torch.randn(4, 2, generator=numbers)
        return (network(x) - (3 * x[:, :1] - x[:, 1:] + 0.5)).square().mean()

    return loss


def test_learns_a_line(tmp_path):
    network = line()
    train(network, regression(network), CONFIG.replace(steps=400), tmp_path)
    torch.testing.assert_close(network.weight.detach(), torch.tensor([[3.0, -1.0]]), atol=0.05, rtol=0)
    torch.testing.assert_close(network.bias.detach(), torch.tensor([0.5]), atol=0.05, rtol=0)


def test_interrupted_training_ends_with_the_same_bits(tmp_path):
    whole, parts = line(), line()
    train(whole, regression(whole), CONFIG, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(parts, regression(parts, stop_at=23), CONFIG, tmp_path / "parts", minutes=0)
    fresh = line()
    train(fresh, regression(fresh), CONFIG, tmp_path / "parts")
    assert torch.equal(whole.weight, fresh.weight)
    assert torch.equal(whole.bias, fresh.bias)


def test_snapshots_are_named_after_the_images_seen_and_the_last_is_the_result(tmp_path):
    network = train(net := line(), regression(net), CONFIG, tmp_path)
    files = sorted(path.name for path in (tmp_path / "snapshots").iterdir())
    assert files == ["00000040.safetensors", "00000080.safetensors", "00000160.safetensors"]
    assert torch.equal(load_file(tmp_path / "snapshots" / files[-1])["weight"], network.weight)


def test_half_written_snapshots_are_passed_over(tmp_path):
    train(net := line(), regression(net), CONFIG, tmp_path)
    (tmp_path / "snapshots" / ".00000120.0a1b.safetensors").write_bytes(b"half")
    assert [path.stem for path in snapshots(tmp_path)] == ["00000040", "00000080", "00000160"]


def test_rate_rises_stays_and_falls():
    long = CONFIG.replace(steps=100, warmup=10)
    assert [rate(step, long) for step in (0, 4, 10, 50, 70)] == pytest.approx([0.1, 0.5, 1.0, 1.0, 1.0])
    assert rate(85, long) == pytest.approx(0.5)
    assert rate(99, long) == pytest.approx(1 / 30)


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path):
    network = line()
    with pytest.raises(FloatingPointError, match="nan at step 0; train a recipe with a lower lr into another --out"):
        train(network, lambda step, numbers: network.weight.sum() * float("nan"), CONFIG, tmp_path)
