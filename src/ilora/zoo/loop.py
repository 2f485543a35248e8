"""The loop that trains embedded generators: resumable, seeded, averaged, logged."""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ilora import tensors
from ilora.run import append, cut, interruption, load_checkpoint, progress, save_checkpoint
from ilora.team import has_bf16
from ilora.zoo.recipes import Training

Loss = Callable[[int, torch.Generator], Float[Tensor, ""]]  # (step, its own random numbers) -> scalar

REPORT = 50  # updates a log line
MINUTES = 2.0  # between checkpoints


def train(network: nn.Module, loss: Loss, config: Training, folder: Path, *, minutes: float = MINUTES) -> nn.Module:
    """Minimise ``loss`` and leave the averaged weights in ``network``.

    The random numbers of a step depend on the seed and the step only, so a stopped training goes on where it was.

    Args:
        network: trained in place; it has no buffers that change.
        loss: value of one batch; called with the step and a generator of its own.
        config: how long and how fast.
        folder: ``checkpoint.safetensors`` to go on from, ``log.jsonl``, ``snapshots/{images}.safetensors``.
        minutes: between checkpoints.

    Returns:
        ``network``, holding the averaged weights.

    Raises:
        FloatingPointError: the loss is not finite.
        KeyboardInterrupt: Ctrl-C; what was done is saved.
    """
    parameters = dict(network.named_parameters())
    averaged = {name: value.detach().clone() for name, value in parameters.items()}
    optimizer = torch.optim.AdamW(
        parameters.values(), lr=config.lr, weight_decay=config.weight_decay, betas=(0.9, 0.99)
    )
    checkpoint, log = folder / "checkpoint.safetensors", folder / "log.jsonl"
    first = load_checkpoint(checkpoint, parameters, optimizer=optimizer, average=averaged)
    running = cut(log, first).get("loss")
    began = saved = time.monotonic()
    with interruption() as asked, progress(folder.name, config.steps, done=first) as tell:
        for step in range(first, config.steps):
            # Gradient.
            for group in optimizer.param_groups:
                group["lr"] = config.lr * rate(step, config)
            value = loss(step, torch.Generator().manual_seed(config.seed * 1_000_003 + step))
            if not torch.isfinite(value):
                raise FloatingPointError(f"the loss became {value.item()} at step {step}; go on with a lower lr")
            value.backward()

            # Update.
            nn.utils.clip_grad_norm_(network.parameters(), config.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            _average(averaged, parameters, min(config.ema, (1 + step) / (10 + step)))

            # Report and save.
            running = value.item() if running is None else 0.98 * running + 0.02 * value.item()
            done, stop = step + 1, asked.is_set()
            if done % REPORT == 0 or done == config.steps:
                speed = (done - first) * config.batch / (time.monotonic() - began)
                append(log, {"step": done, "images": done * config.batch, "loss": running, "images_per_second": speed})
                tell(done, f"loss {running:.4g}")
            if done in config.snapshots or done == config.steps:
                tensors.write(folder / "snapshots" / f"{done * config.batch:08d}.safetensors", averaged, {})
            if stop or done == config.steps or time.monotonic() - saved > 60 * minutes:
                save_checkpoint(checkpoint, done, parameters, optimizer=optimizer, average=averaged)
                saved = time.monotonic()
            if stop and done < config.steps:
                raise KeyboardInterrupt(f"stopped after {done} of {config.steps} updates; resume goes on from there")
    network.load_state_dict(averaged, strict=False)
    return network.eval()


def rate(step: int, config: Training) -> float:
    """Share of the learning rate at ``step``: linear warm-up, constant, linear to zero over the last 30 %.

    While it is constant a training may still be made longer: its past is the longer recipe's past.
    """
    rise = (step + 1) / max(1, config.warmup)
    fall = (config.steps - step) / max(1, 0.3 * config.steps)
    return min(1.0, rise, fall)


def mixed(device: torch.device | str) -> torch.autocast:
    """bf16 where the device has instructions for it, else fp32."""
    device = torch.device(device)
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bf16(device))


@torch.no_grad()
def _average(averaged: dict[str, Tensor], parameters: dict[str, Tensor], decay: float) -> None:
    for name, value in parameters.items():
        averaged[name].lerp_(value, 1 - decay)
