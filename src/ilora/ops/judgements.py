"""People's judgements of which of two points is the darker paint, and how far an albedo disagrees with them."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

EQUAL, FIRST, SECOND = 0, 1, 2  # which point is darker


class Judgements(NamedTuple):
    """What people said about pairs of points of one image.

    Attributes:
        first, second: the points, as shares of height and width (y, x) in [0, 1).
        darker: ``EQUAL``, ``FIRST`` or ``SECOND``.
        confidence: weight of each judgement, 0 and up.
    """

    first: Float[Tensor, "n 2"]
    second: Float[Tensor, "n 2"]
    darker: Int[Tensor, " n"]
    confidence: Float[Tensor, " n"]


def whdr(albedo: Float[Tensor, "3 h w"], judgements: Judgements, *, delta: float = 0.10) -> Float[Tensor, ""]:
    """Weighted human disagreement rate of one image [%].

    Bell et al. 2014, *Intrinsic Images in the Wild*, section 4: a point is darker where the other one's reflectance is
    more than 1 + ``delta`` times its own, else they are equal; judgements that differ from that, by confidence. As in
    their code reflectance is the mean of linear red, green and blue, at least 1e-10. NaN without a judgement of some
    confidence.

    Args:
        albedo: linear RGB, any scale; sRGB codes would give other ratios.
        delta: least relative difference that people see.

    Raises:
        ValueError: points outside the image, an unknown answer, a negative confidence, or an albedo that is not finite
            at a point that counts.
    """
    points = torch.stack([judgements.first, judgements.second])  # [2, n, 2]
    weight = judgements.confidence.double()
    if not ((points >= 0) & (points < 1)).all():
        raise ValueError(f"points must be shares of height and width in [0, 1), got {points.min():.4g} to "
                         f"{points.max():.4g}; divide pixels by the image's size")  # fmt: skip
    if not torch.isin(judgements.darker, torch.tensor([EQUAL, FIRST, SECOND])).all() or not (weight >= 0).all():
        raise ValueError(f"judgements must be {EQUAL} (equal), {FIRST} or {SECOND} (the darker point) and confidences "
                         f"at least 0, got {judgements.darker.unique().tolist()} and a least confidence of "
                         f"{weight.min():.4g}; leave the others out")  # fmt: skip
    row, column = (points.double() * torch.tensor(albedo.shape[-2:])).long().unbind(2)  # [2, n] each
    light = albedo.double()[:, row, column].mean(0)  # [2, n]
    wrong = (~light[:, weight > 0].isfinite()).sum().item()
    if wrong:
        raise ValueError(f"the albedo must be finite at every point that is judged, got {wrong} that are not; "
                         "leave their judgements out")  # fmt: skip
    first, second = light.clamp(min=1e-10)
    answer = torch.where(second / first > 1 + delta, FIRST, torch.where(first / second > 1 + delta, SECOND, EQUAL))
    disagreed = torch.where(answer != judgements.darker, weight, 0)
    return (100 * disagreed.sum() / weight.sum()).to(torch.promote_types(albedo.dtype, torch.float32))
