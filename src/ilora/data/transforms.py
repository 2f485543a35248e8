"""Labelled pictures in a mirror and at other sizes."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ilora import checks
from ilora.intrinsics.base import Intrinsic
from ilora.ops import resample
from ilora.records import Example

MEASURED = 0.5  # least share of a new pixel that must be covered by valid old ones


def mirror(example: Example, intrinsic: Intrinsic) -> Example:
    """The scene in a mirror, under the name ``NAME-mirrored``: columns reversed, and normals change the sign of x."""
    flipped = intrinsic.flip(example.map[None])[0]
    return Example(f"{example.name}-mirrored", example.image.flip(-1), flipped, example.valid.flip(-1))


def resize(example: Example, intrinsic: Intrinsic, *, height: int, width: int) -> Example:
    """The example at ``height`` x ``width`` px; where it shrinks, each pixel averages all that it covers.

    A map's average is over valid pixels only, in its own units (normals stay of unit length), so that what is invalid
    does not bleed. A pixel is valid where at least half of what it covers was.
    """
    checks.positive("height", height)
    checks.positive("width", width)
    map, valid = _average(example.map, example.valid, height, width)
    image = resample.resize(example.image[None], height, width)[0].clamp(-1, 1)
    return Example(example.name, image, intrinsic.resize(map[None], height, width)[0], valid)


def square(example: Example, intrinsic: Intrinsic, *, side: int) -> Example:
    """The middle of the example as a square: the shorter side is resized to ``side`` px, the longer one cropped."""
    height, width = example.image.shape[-2:]
    scale = side / min(height, width)
    sized = resize(example, intrinsic, height=max(side, round(height * scale)), width=max(side, round(width * scale)))
    top, left = (sized.image.shape[-2] - side) // 2, (sized.image.shape[-1] - side) // 2
    image, map, valid = (x[:, top : top + side, left : left + side] for x in (sized.image, sized.map, sized.valid))
    return Example(example.name, image.contiguous(), map.contiguous(), valid.contiguous())


def _average(
    map: Float[Tensor, "c h w"], valid: Bool[Tensor, "1 h w"], height: int, width: int
) -> tuple[Float[Tensor, "c {height} {width}"], Bool[Tensor, "1 {height} {width}"]]:
    """Means over valid pixels, 0 where there are too few, and where there are enough."""
    known = torch.where(valid, map, 0)
    share = resample.resize(valid.to(map.dtype)[None], height, width)  # [1, 1, height, width]
    mean = resample.resize(known[None], height, width) / share.clamp(min=MEASURED)
    enough = share >= MEASURED
    return torch.where(enough, mean, 0)[0], enough[0]
