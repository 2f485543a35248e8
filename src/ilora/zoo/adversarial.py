"""The loop that trains a generator of pictures, or a part of one, against a discriminator: resumable, seeded, averaged,
logged."""

import math
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ilora.generators.inversion import distance
from ilora.records import Image
from ilora.run import interruption, progress
from ilora.zoo.discriminator import Discriminator
from ilora.zoo.loop import MINUTES, Ledger, average
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
    ledger = Ledger(folder, config, parameters, optimizer=optimizer, averaged=averaged, minutes=minutes)
    with interruption() as asked, progress(folder.name, config.steps, done=ledger.first) as tell:
        for step in range(ledger.first, config.steps):
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
            average(averaged, own, min(config.ema, (1 + step) / (10 + step)))

            # Report and save.
            ledger.count(losses, step)
            ledger.close(step + 1, tell, stop=asked.is_set())
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
