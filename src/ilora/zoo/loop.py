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
from ilora.zoo.recipes import Adversarial, Training

Loss = Callable[[int, torch.Generator], Float[Tensor, ""]]  # (step, its own random numbers) -> scalar

REPORT = 50  # updates a log line
MINUTES = 2.0  # between checkpoints
BOOKKEEPING = ("step", "images", "images_per_second")  # of a log line, beside its losses


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
    ledger = Ledger(folder, config, parameters, optimizer=optimizer, averaged=averaged, minutes=minutes)
    with interruption() as asked, progress(folder.name, config.steps, done=ledger.first) as tell:
        for step in range(ledger.first, config.steps):
            # Gradient.
            for group in optimizer.param_groups:
                group["lr"] = config.lr * rate(step, config)
            value = loss(step, torch.Generator().manual_seed(config.seed * 1_000_003 + step))
            ledger.count({"loss": value}, step)
            value.backward()

            # Update.
            nn.utils.clip_grad_norm_(network.parameters(), config.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            average(averaged, parameters, min(config.ema, (1 + step) / (10 + step)))

            # Report and save.
            ledger.close(step + 1, tell, stop=asked.is_set())
    network.load_state_dict(averaged, strict=False)
    return network.eval()


class Ledger:
    """What a training leaves behind in its folder: log, snapshots, and checkpoints to go on from.

    Attributes:
        first: the update that it goes on with; weights, optimizer and averages are then those of before.
        running: smoothed losses, under their names.
    """

    def __init__(
        self,
        folder: Path,
        config: Training | Adversarial,
        parameters: dict[str, nn.Parameter],
        *,
        optimizer: torch.optim.Optimizer,
        averaged: dict[str, Tensor],
        minutes: float,
    ) -> None:
        self.folder, self.config, self.minutes = folder, config, minutes
        self._kept = (parameters, optimizer, averaged)
        self.first = load_checkpoint(self._checkpoint, parameters, optimizer=optimizer, average=averaged)
        last = cut(self._log, self.first)
        self.running = {name: value for name, value in last.items() if name not in BOOKKEEPING}
        self._began = self._saved = time.monotonic()

    def count(self, losses: dict[str, Float[Tensor, ""]], step: int) -> None:
        """Smooth the losses of an update.

        Raises:
            FloatingPointError: one is not finite.
        """
        for name, value in losses.items():
            if not torch.isfinite(value):
                raise FloatingPointError(
                    f"the {name} became {value.item()} at step {step}; "
                    "train a recipe with a lower lr into another --out"
                )
            self.running[name] = 0.98 * self.running.get(name, value.item()) + 0.02 * value.item()

    def close(self, done: int, tell: Callable[[int, str], None], *, stop: bool) -> None:
        """Log, keep and save what is due after ``done`` updates.

        Raises:
            KeyboardInterrupt: ``stop`` before the end; what was done is saved.
        """
        config, (parameters, optimizer, averaged) = self.config, self._kept
        images, last = done * config.batch, done == config.steps
        if done % REPORT == 0 or last:
            speed = (done - self.first) * config.batch / (time.monotonic() - self._began)
            append(self._log, {"step": done, "images": images, **self.running, "images_per_second": speed})
            tell(done, f"loss {self.running['loss']:.4g}")
        if done in config.snapshots or last:
            tensors.write(self.folder / "snapshots" / f"{images:08d}.safetensors", averaged, {})
        if stop or last or time.monotonic() - self._saved > 60 * self.minutes:
            save_checkpoint(self._checkpoint, done, parameters, optimizer=optimizer, average=averaged)
            self._saved = time.monotonic()
        if stop and not last:
            raise KeyboardInterrupt(f"stopped after {done} of {config.steps} updates; resume goes on from there")

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    @property
    def _log(self) -> Path:
        return self.folder / "log.jsonl"


def snapshots(folder: Path) -> list[Path]:
    """Averaged weights that a training left in ``folder``, in the order of the images seen; half-written ones are not
    among them."""
    return sorted((folder / "snapshots").glob("[0-9]*.safetensors"))


def chosen_device(device: str | None) -> str:
    """Where to train: what was asked for, or a GPU if there is one."""
    return device or ("cuda" if torch.cuda.is_available() else "cpu")


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
def average(averaged: dict[str, Tensor], parameters: dict[str, Tensor], decay: float) -> None:
    """Move averages towards the weights of the same names, in place."""
    for name, value in parameters.items():
        averaged[name].lerp_(value, 1 - decay)
