"""Real pictures as styles: an encoder guesses them, a few steps of descent refine the guess.

The encoder gives offsets from the mean style (Richardson et al. 2021, arXiv 2008.00951); the descent has the schedule
of Karras et al. (2020, arXiv 1912.04958, app. D), on colours at several scales where they take a network's features.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ilora.config import Configuration
from ilora.generators.stylegan_layers import Styles
from ilora.ops import resample
from ilora.records import Image, Loss

SCALES = 4  # of the distance between pictures: each half the one before


@dataclass(frozen=True, kw_only=True)
class Inversion(Configuration):
    """How a picture becomes styles."""

    encoder: bool = True  # begin with the encoder's guess; False: with the mean style, which takes about 1000 steps
    steps: int = 100  # of descent
    lr: float = 0.1  # of Adam, at its highest


@dataclass(frozen=True, kw_only=True)
class EncoderShape(Configuration):
    """Of an encoder."""

    styles: int  # one a layer of the generator
    w: int
    side: int = 64  # pictures are brought to this side first [px]; a power of 2, at least 8
    width: int = 32  # channels at the full side; they double up to 4 times as many
    features: int = 256  # that all styles are read off


class Encoder(nn.Module):
    """Picture to the offsets of its styles from the mean style; silent at birth, so that it begins at the mean."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.shape = shape
        before, layers = shape.width, [nn.Conv2d(3, shape.width, 3, padding=1), nn.SiLU()]
        for level in range(int(math.log2(shape.side // 4))):
            after = min(shape.width * 2 ** (level + 1), 4 * shape.width)
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.SiLU()]
            layers += [nn.Conv2d(after, after, 3, padding=1), nn.GroupNorm(8, after), nn.SiLU()]
            before = after
        self.body = nn.Sequential(*layers)  # [b, 3, side, side] -> [b, c, 4, 4]
        self.neck = nn.Sequential(nn.Linear(16 * before, shape.features), nn.SiLU())
        self.head = nn.Linear(shape.features, shape.styles * shape.w)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, image: Image) -> Styles:
        """Offsets for an image of any size."""
        small = resample.resize(image, self.shape.side, self.shape.side)
        flat: Float[Tensor, "b d"] = self.head(self.neck(self.body(small).flatten(1)))
        return flat.unflatten(1, (self.shape.styles, self.shape.w))  # [b, n, w]


def distance(painted: Image, wanted: Image) -> Loss:
    """Mean absolute difference, averaged over ``SCALES`` scales: coarse ones pull where fine ones are flat."""
    total = (painted - wanted).abs().flatten(1).mean(1)
    levels = min(SCALES, int(math.log2(min(painted.shape[-2:]))))
    for _ in range(levels - 1):
        painted, wanted = F.avg_pool2d(painted, 2), F.avg_pool2d(wanted, 2)
        total = total + (painted - wanted).abs().flatten(1).mean(1)
    return total / levels


def refine(paint: Callable[[Styles], Image], styles: Styles, wanted: Image, config: Inversion) -> Styles:
    """Styles that paint ``wanted`` more closely, by Adam on each image for itself; the same in any batch, to rounding.

    Of each image's course the best point is kept, so that refinement never does harm.

    Args:
        paint: the frozen generator; gradients pass.
        styles: to begin with.
    """
    found = styles.detach().clone().float().requires_grad_(True)
    best, least = found.detach().clone(), torch.full((len(styles),), math.inf, device=styles.device)
    optimizer = torch.optim.Adam([found], lr=config.lr)
    for step in range(config.steps + 1):
        with torch.enable_grad():
            value = distance(paint(found).float(), wanted)  # [b]
            total = value.sum()
        better = value.detach() < least
        best[better], least[better] = found.detach()[better], value.detach()[better]
        if step < config.steps:
            optimizer.param_groups[0]["lr"] = config.lr * rate(step / config.steps)
            (found.grad,) = torch.autograd.grad(total, [found])
            optimizer.step()
    return best


def rate(progress: float) -> float:
    """Share of the learning rate: up over the first 5 %, down by half a cosine over the last 25 %."""
    fall = min(1.0, (1 - progress) / 0.25)
    return min(1.0, progress / 0.05 + 1e-2) * (0.5 - 0.5 * math.cos(math.pi * fall))
