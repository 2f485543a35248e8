"""The loop that trains a generator of pictures, or a part of one, against a discriminator: resumable, seeded, averaged,
logged."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ilora import tensors
from ilora.generators.inversion import distance
from ilora.records import Image
from ilora.run import append, cut, interruption, load_checkpoint, progress, save_checkpoint
from ilora.zoo.discriminator import Discriminator
from ilora.zoo.loop import MINUTES, REPORT
from ilora.zoo.recipes import Adversarial

Turn = Callable[[Int[Tensor, " b"], torch.Generator], tuple[Image, Image]]

SLOW = 0.01  # learning rate of a generator's mapping, as a share of the others'


class Pair(nn.Module):
    """What paints and what judges, under the names that checkpoints have."""

    def __init__(self, generator: nn.Module, discriminator: Discriminator) -> None:
        super().__init__()
        self.generator, self.discriminator = generator, discriminator


def train_pair(
    pair: Pair,
    turn: Turn,
    config: Adversarial,
    folder: Path,
    *,
    reals: int,
    minutes: float = MINUTES,
) -> None:
    """Train discriminator and generator in turn and leave the averaged weights in the generator.

    The random numbers of an update depend on the seed and its number only, so a stopped training goes on where it was.

    Args:
        turn: the real pictures of an update, by their numbers, and as many painted ones.
        folder: ``checkpoint.safetensors`` to go on from, ``log.jsonl``, ``snapshots/{images}.safetensors``.
        reals: how many real pictures there are.
        minutes: between checkpoints.

    Raises:
        FloatingPointError: a loss is not finite.
        KeyboardInterrupt: Ctrl-C; what was done is saved.
    """
    parameters, optimizer = equalised(pair, config.lr)
    own = {name: value for name, value in parameters.items() if name.startswith("generator.")}
    averaged = {name: value.detach().clone() for name, value in own.items()}
    checkpoint, log = folder / "checkpoint.safetensors", folder / "log.jsonl"
    first = load_checkpoint(checkpoint, parameters, optimizer=optimizer, average=averaged)
    running = cut(log, first)
    began = saved = time.monotonic()
    with interruption() as asked, progress(folder.name, config.steps, done=first) as tell:
        for step in range(first, config.steps):
            numbers = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
            images, fakes = turn(torch.randint(reals, (config.batch,), generator=numbers), numbers)

            # Discriminator.
            losses = {"discriminator": judge(pair.discriminator, images, fakes.detach(), step, config)}
            _update(optimizer, losses["discriminator"], pair.discriminator)

            # Generator.
            losses["loss"] = F.softplus(-pair.discriminator(fakes)).mean()
            losses["distance"] = distance(fakes[: config.batch // 2], images[: config.batch // 2]).mean()
            if step >= config.ahead:
                _update(optimizer, losses["loss"] + config.anchor * losses["distance"], pair.generator)
            decay = min(config.ema, (1 + step) / (10 + step))
            for name, value in own.items():
                averaged[name].lerp_(value.detach(), 1 - decay)

            # Report and save.
            for name, value in losses.items():
                if not torch.isfinite(value):
                    raise FloatingPointError(f"the {name} became {value.item()} at step {step}; go on with a lower lr")
                running[name] = 0.98 * running.get(name, value.item()) + 0.02 * value.item()
            done, stop = step + 1, asked.is_set()
            if done % REPORT == 0 or done == config.steps:
                speed = (done - first) * config.batch / (time.monotonic() - began)
                rows = {name: running[name] for name in losses}
                append(log, {"step": done, "images": done * config.batch, **rows, "images_per_second": speed})
                tell(done, f"loss {running['loss']:.3g}")
            if done in config.snapshots or done == config.steps:
                tensors.write(folder / "snapshots" / f"{done * config.batch:08d}.safetensors", averaged, {})
            if stop or done == config.steps or time.monotonic() - saved > 60 * minutes:
                save_checkpoint(checkpoint, done, parameters, optimizer=optimizer, average=averaged)
                saved = time.monotonic()
            if stop and done < config.steps:
                raise KeyboardInterrupt(f"stopped after {done} of {config.steps} updates; resume goes on from there")
    pair.load_state_dict(averaged, strict=False)


def judge(
    discriminator: Discriminator, images: Image, fakes: Image, step: int, config: Adversarial
) -> Float[Tensor, ""]:
    """The discriminator's loss on real and painted pictures; R1 on the real ones now and then."""
    counts = step % config.lazy == 0
    images = images.detach().requires_grad_(counts)
    real = discriminator(images)
    loss = F.softplus(-real).mean() + F.softplus(discriminator(fakes)).mean()
    if counts:
        (slope,) = torch.autograd.grad(real.sum(), images, create_graph=True)  # [b, 3, h, w]
        loss = loss + config.lazy * config.r1 / 2 * slope.square().sum((1, 2, 3)).mean()
    return loss


def equalised(pair: nn.Module, lr: float) -> tuple[dict[str, nn.Parameter], torch.optim.Adam]:
    """Adam whose steps are those of equalised learning rates (Karras et al. 2018, sec. 4.1), and its parameters in
    their order.

    There a layer keeps weights of unit variance and multiplies them by a gain at each call. Adam's steps do not depend
    on the scale of gradients, so that this is the same as effective weights with a learning rate of ``lr`` times the
    gain.
    """
    gains = dict.fromkeys(dict(pair.named_parameters()), 1.0)
    for name, module in pair.named_modules():
        slow = SLOW if ".mapping." in f".{name}" else 1.0
        if isinstance(module, nn.Linear | nn.Conv2d):
            gains[f"{name}.weight"] = slow / math.sqrt(module.weight[0].numel())
        if isinstance(module, nn.Linear):
            gains[f"{name}.bias"] = slow
    parameters = dict(sorted(pair.named_parameters(), key=lambda item: gains[item[0]]))
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        groups.setdefault(gains[name], []).append(parameter)
    settings = [{"params": group, "lr": lr * gain} for gain, group in groups.items()]
    return parameters, torch.optim.Adam(settings, betas=(0.0, 0.99))


def _update(optimizer: torch.optim.Optimizer, loss: Tensor, module: nn.Module) -> None:
    """One step of the parameters of ``module`` that learn, and of no others."""
    optimizer.zero_grad(set_to_none=True)
    values = [value for value in module.parameters() if value.requires_grad]
    for value, gradient in zip(values, torch.autograd.grad(loss, values, allow_unused=True), strict=True):
        value.grad = gradient
    optimizer.step()
