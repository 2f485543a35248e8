"""Reductions over the valid pixels of each image, and the precision they are made in."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def precise(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The same values in float32 or better, so that half precision enters no sum and no division."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def mean(
    values: Float[Tensor, "b c h w"], valid: Bool[Tensor, "b 1 h w"], *, empty: float = math.nan
) -> Float[Tensor, " b"]:
    """Mean over the valid pixels and all channels of each image.

    Args:
        values: any unit; what lies outside ``valid`` is never looked at, NaN included.
        valid: pixels that count.
        empty: what an image without a valid pixel gets: NaN for a metric, 0 for a loss.
    """
    kept = torch.where(valid, values, 0)
    count = valid.flatten(1).sum(1) * values.shape[1]  # [b]
    return torch.where(count > 0, kept.flatten(1).sum(1) / count.clamp(min=1), empty)


def quantile(values: Float[Tensor, "b c h w"], valid: Bool[Tensor, "b 1 h w"], *, q: float) -> Float[Tensor, " b"]:
    """Quantile over the valid pixels and all channels of each image, interpolated linearly between neighbours.

    Hyndman and Fan 1996, definition 7 (NumPy's default). Unlike ``Tensor.median`` the middle of an even count is the
    mean of the two middle values, and unlike ``torch.quantile`` it has no limit of 2**24 values.

    Args:
        values: any unit, free of NaN inside ``valid``.
        valid: pixels that count; an image without any gives NaN.
        q: share of the pixels below, in [0, 1].
    """
    count = valid.flatten(1).sum(1, keepdim=True) * values.shape[1]  # [b, 1]
    ordered = torch.where(valid, values, math.inf).flatten(1).sort(dim=1).values  # [b, c*h*w], invalid ones last
    place = (q * (count - 1)).clamp(min=0)
    low, high = (ordered.gather(1, index.long()) for index in (place.floor(), place.ceil()))  # [b, 1] each
    between = torch.lerp(low, high, (place - place.floor()).to(low.dtype))
    return torch.where(count > 0, between, math.nan).squeeze(1)


def median(values: Float[Tensor, "b c h w"], valid: Bool[Tensor, "b 1 h w"]) -> Float[Tensor, " b"]:
    """Median over the valid pixels and all channels of each image; NaN without any. See ``quantile``."""
    return quantile(values, valid, q=0.5)
