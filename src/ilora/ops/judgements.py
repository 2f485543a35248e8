"""People's judgements of which of two points is the darker paint, and how far an albedo disagrees with them."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

EQUAL, FIRST, SECOND = 0, 1, 2  # which point is darker


def whdr(
    albedo: Float[Tensor, "3 h w"],
    points: Float[Tensor, "n 2 2"],
    darker: Int[Tensor, " n"],
    weight: Float[Tensor, " n"],
    *,
    delta: float = 0.10,
) -> Float[Tensor, ""]:
    """Weighted human disagreement rate of one image [%].

    Bell et al. 2014, *Intrinsic Images in the Wild*, section 4: a point is darker where the other one's reflectance is
    more than 1 + ``delta`` times its own, else they are equal; judgements that differ from that, by confidence. As in
    their code reflectance is the mean of linear red, green and blue, at least 1e-10. NaN without a judgement of some
    confidence.

    Args:
        albedo: linear RGB, any scale; sRGB codes would give other ratios.
        points: x and y of both points of each judgement, as shares of width and height in [0, 1).
        darker: ``EQUAL``, ``FIRST`` or ``SECOND``, what people said.
        weight: their confidence, 0 and up.
        delta: least relative difference that people see.

    Raises:
        ValueError: points outside the image, an unknown answer, a negative confidence, or an albedo that is not finite
            at a point that counts.
    """
    weight = weight.double()
    if not ((points >= 0) & (points < 1)).all():
        raise ValueError(f"points must be shares of width and height in [0, 1), got {points.min():.4g} to "
                         f"{points.max():.4g}; divide pixels by the image's size")  # fmt: skip
    if not torch.isin(darker, torch.tensor([EQUAL, FIRST, SECOND])).all() or not (weight >= 0).all():
        raise ValueError(f"judgements must be {EQUAL} (equal), {FIRST} or {SECOND} (the darker point) and confidences "
                         f"at least 0, got {darker.unique().tolist()} and a least confidence of "
                         f"{weight.min():.4g}; leave the others out")  # fmt: skip
    row, column = (points.flip(2).double() * torch.tensor(albedo.shape[-2:])).long().unbind(2)  # [n, 2] each
    light = albedo.double()[:, row, column].mean(0).mT  # [2, n]
    wrong = (~light[:, weight > 0].isfinite()).sum().item()
    if wrong:
        raise ValueError(f"the albedo must be finite at every point that is judged, got {wrong} that are not; "
                         "leave their judgements out")  # fmt: skip
    first, second = light.clamp(min=1e-10)
    answer = torch.where(second / first > 1 + delta, FIRST, torch.where(first / second > 1 + delta, SECOND, EQUAL))
    disagreed = torch.where(answer != darker, weight, 0)
    return (100 * disagreed.sum() / weight.sum()).to(torch.promote_types(albedo.dtype, torch.float32))
