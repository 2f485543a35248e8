"""The loop that trains embedded generators: resumable, seeded, averaged, logged."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ilora.zoo.recipes import Training

Loss = Callable[[int, torch.Generator], Tensor]  # (step, its own random numbers) -> scalar


def train(network: nn.Module, loss: Loss, config: Training, folder: Path, *, minutes_between: float = 2.0) -> nn.Module:
    """Minimise ``loss`` and leave the averaged weights in ``network``.

    The random numbers of a step depend on the seed and the step only, so a stopped training goes on where it was.

    Args:
        network: trained in place.
        loss: value of one batch; called with the step and a generator of its own.
        config: how long and how fast.
        folder: ``checkpoint/`` to resume from, ``log.jsonl``, ``snapshots/{images}.safetensors``.
        minutes_between: checkpoints.

    Returns:
        ``network``, holding the averaged weights.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.lr, weight_decay=config.weight_decay, betas=(0.9, 0.99)
    )
    averaged = {name: value.detach().clone() for name, value in network.state_dict().items()}
    first = _resume(network, optimizer, averaged, folder)
    began = saved = time.monotonic()
    running = None
    for step in range(first, config.steps):
        # Gradient.
        for group in optimizer.param_groups:
            group["lr"] = config.lr * rate(step, config)
        value = loss(step, torch.Generator().manual_seed(config.seed * 1_000_003 + step))
        if not torch.isfinite(value):
            raise FloatingPointError(
                f"the loss became {value.item()} at step {step}; resume with a lower learning rate"
            )
        value.backward()

        # Update.
        nn.utils.clip_grad_norm_(network.parameters(), config.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        _average(averaged, network, min(config.ema, (1 + step) / (10 + step)))

        # Report and save.
        running = value.item() if running is None else 0.98 * running + 0.02 * value.item()
        done = step + 1
        if done % 50 == 0 or done == config.steps:
            rate_now = (done - first) * config.batch / (time.monotonic() - began)
            _log(folder, step=done, images=done * config.batch, loss=running, images_per_second=round(rate_now, 1))
        if done in config.snapshots or done == config.steps:
            _write(averaged, folder / "snapshots" / f"{done * config.batch:08d}.safetensors")
        if time.monotonic() - saved > 60 * minutes_between or done == config.steps:
            _save(network, optimizer, averaged, folder, done)
            saved = time.monotonic()
    network.load_state_dict(averaged)
    return network.eval()


def rate(step: int, config: Training) -> float:
    """Share of the learning rate at ``step``: linear warm-up, constant, linear to zero over the last 30 %.

    While it is constant a training may still be made longer: its past is the longer recipe's past.
    """
    rise = (step + 1) / max(1, config.warmup)
    fall = (config.steps - step) / max(1, 0.3 * config.steps)
    return min(1.0, rise, fall)


@torch.no_grad()
def _average(averaged: dict[str, Tensor], network: nn.Module, decay: float) -> None:
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            averaged[name].lerp_(value, 1 - decay)
        else:
            averaged[name].copy_(value)


def _resume(network: nn.Module, optimizer: torch.optim.Optimizer, averaged: dict[str, Tensor], folder: Path) -> int:
    """Load the last checkpoint, if there is one; the step to go on from."""
    path = folder / "checkpoint"
    if not (path / "state.json").is_file():
        return 0
    network.load_state_dict(load_file(path / "network.safetensors"))
    for name, value in load_file(path / "averaged.safetensors").items():
        averaged[name].copy_(value)
    moments = load_file(path / "optimizer.safetensors")
    step = json.loads((path / "state.json").read_text())["step"]
    state = {}
    for index, _ in enumerate(network.parameters()):
        if f"{index}.exp_avg" in moments:
            state[index] = {
                "step": torch.tensor(float(step)),
                "exp_avg": moments[f"{index}.exp_avg"],
                "exp_avg_sq": moments[f"{index}.exp_avg_sq"],
            }
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return step


def _save(
    network: nn.Module, optimizer: torch.optim.Optimizer, averaged: dict[str, Tensor], folder: Path, step: int
) -> None:
    """Write a checkpoint beside the old one, then put it in its place."""
    fresh, place = folder / "checkpoint.new", folder / "checkpoint"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, fresh / "network.safetensors")
    save_file({k: v.contiguous() for k, v in averaged.items()}, fresh / "averaged.safetensors")
    moments = {
        f"{index}.{name}": value.contiguous()
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
        if name != "step"
    }
    save_file(moments, fresh / "optimizer.safetensors")
    (fresh / "state.json").write_text(json.dumps({"step": step}))
    shutil.rmtree(place, ignore_errors=True)
    fresh.rename(place)


def _write(weights: dict[str, Tensor], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file({k: v.contiguous() for k, v in weights.items()}, partial)
    partial.rename(path)


def _log(folder: Path, **row: float) -> None:
    with (folder / "log.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
