"""What cannot be true of a teacher's answer, beyond what the readers of folders doubt: axes, lengths, units."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ilora.data import meta
from ilora.data.labels import STRAY, Doubt, Labels
from ilora.ops import alignment, color, masked

BRIGHTEST = 1.01  # albedo that rounding explains
FACTORS = ("albedo", "shading")  # of a picture's light
NEGLIGIBLE = 0.01  # share of a picture's power that a product may miss, however even the picture is

Numbers = Float[Tensor, "c h w"]
Mask = Bool[Tensor, "1 h w"]


def values(numbers: Numbers, declared: meta.Stored) -> Numbers:
    """value = stored * scale + offset."""
    return numbers * (1.0 if declared.scale is None else declared.scale) + declared.offset


def doubts(name: str, labels: Labels, given: Numbers, opaque: Mask) -> list[Doubt]:
    """Doubts about the map of one intrinsic.

    Args:
        labels: as the folder's reader made them.
        given: the values that they were made from, before anything was masked.
        opaque: where the teacher says that it knows.
    """
    rule = _RULES.get(name)
    return rule(labels, given, opaque) if rule else []


def product(image: Float[Tensor, "3 h w"], labels: Mapping[str, Labels]) -> list[Doubt]:
    """A doubt where albedo times shading is farther from the picture's light than one colour is.

    Both are compared in linear RGB after the best scale of the product; what is not diffuse is not expected to fit.

    Args:
        image: sRGB in [-1, 1].
        labels: of the picture; without albedo or shading there is nothing to multiply.
    """
    if any(factor not in labels for factor in FACTORS):
        return []
    albedo, shading = (labels[factor] for factor in FACTORS)
    valid = (albedo.valid & shading.valid)[None]  # [1, 1, h, w]
    light = color.to_linear((image[None] + 1) / 2)
    fitted = alignment.by_scale((albedo.map * shading.map)[None], light, valid)
    mean = torch.stack([masked.mean(light[:, [channel]], valid) for channel in range(3)], 1)[..., None, None]
    missed, even, power = (float(masked.mean(x.square(), valid)) for x in (light - fitted, light - mean, light))
    if missed <= max(even, NEGLIGIBLE * power):
        return []
    what = f"albedo times shading misses the picture's light by {missed**0.5:.2g} rms, one colour by {even**0.5:.2g}"
    return [Doubt(what, "check the colour spaces that the teacher declares")]


def _positive(labels: Labels, given: Numbers, opaque: Mask) -> list[Doubt]:
    """Depth that is not in front of the camera."""
    behind = float((opaque & (given <= 0)).sum()) / max(int(opaque.sum()), 1)
    return [Doubt(f"{behind:.0%} of its depth is not positive", "declare the offset")] if behind > STRAY else []


def _reflectance(labels: Labels, given: Numbers, opaque: Mask) -> list[Doubt]:
    """Surfaces that send back more light than arrives."""
    shining = float(((labels.map > BRIGHTEST).any(0, keepdim=True) & labels.valid).sum())
    share = shining / max(int(labels.valid.sum()), 1)
    what = f"{share:.0%} of its albedo is above 1, up to {float(labels.map.max()):.3g}"
    return [Doubt(what, "declare the scale")] if share > STRAY else []


_RULES: dict[str, Callable[[Labels, Numbers, Mask], list[Doubt]]] = {"depth": _positive, "albedo": _reflectance}
