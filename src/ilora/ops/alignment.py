"""Scale and shift that bring a relative map closest to a measured one, for each image.

Sums are made in float64, which Apple's MPS lacks: move maps to the CPU there.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ilora.ops import masked


def scale_and_shift(
    map: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"], valid: Bool[Tensor, "b 1 h w"]
) -> tuple[Float[Tensor, " b"], Float[Tensor, " b"]]:
    """Least squares s, t of sum (s map + t - target)^2 over the valid pixels; the sign of s is free.

    Ranftl et al. 2022, *Towards robust monocular depth estimation*, section 5, solved about the means: the same
    solution as that of the normal equations there, without their cancellation.

    Args:
        map: relative values. Where they are constant, s = 0 and t is the target's mean.
        target: measured values, any unit; s and t bring ``map`` to it.
        valid: pixels that count. Fewer than two determine nothing: s and t are NaN.

    Returns:
        s and t, in the precision of ``map``, float32 at least.
    """
    x, y = map.double(), target.double()
    mean_x, mean_y = masked.mean(x, valid), masked.mean(y, valid)
    dx, dy = x - _spread(mean_x), y - _spread(mean_y)
    variance, covariance = masked.mean(dx * dx, valid), masked.mean(dx * dy, valid)
    constant = variance <= 1e-24 * mean_x**2  # float32 values that differ at all vary more than that
    scale = torch.where(constant, 0, covariance / torch.where(constant, 1, variance))
    enough = valid.flatten(1).sum(1) * map.shape[1] >= 2
    scale = torch.where(enough, scale, math.nan)
    dtype = torch.promote_types(map.dtype, torch.float32)
    return scale.to(dtype), (mean_y - scale * mean_x).to(dtype)


def scale(
    map: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"], valid: Bool[Tensor, "b 1 h w"]
) -> Float[Tensor, " b"]:
    """Least squares s of sum (s map - target)^2 over valid pixels and all channels; 0 where ``map`` is 0 throughout.

    An image without a valid pixel gives NaN. In the precision of ``map``, float32 at least.
    """
    x, y = map.double(), target.double()
    power, product = masked.mean(x * x, valid), masked.mean(x * y, valid)
    ratio = torch.where(power == 0, 0, product / torch.where(power == 0, 1, power))
    return ratio.to(torch.promote_types(map.dtype, torch.float32))


def median_scale(
    map: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"], valid: Bool[Tensor, "b 1 h w"]
) -> Float[Tensor, " b"]:
    """Median of the target over the median of the map, as Zhou et al. 2017 (SfMLearner) align depth.

    A map whose median is 0 gives 0, an image without a valid pixel NaN. In the precision of ``map``, float32 at least.
    """
    middle, wanted = (masked.median(masked.precise(values), valid) for values in (map, target))
    return torch.where(middle == 0, 0, wanted / torch.where(middle == 0, 1, middle))


def by_scale_and_shift(
    map: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"], valid: Bool[Tensor, "b 1 h w"]
) -> Float[Tensor, "b c h w"]:
    """The map after ``scale_and_shift``, in the target's unit."""
    s, t = scale_and_shift(map, target, valid)
    return map * _spread(s) + _spread(t)


def by_scale(
    map: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"], valid: Bool[Tensor, "b 1 h w"]
) -> Float[Tensor, "b c h w"]:
    """The map after ``scale``, in the target's unit."""
    return map * _spread(scale(map, target, valid))


def by_median(
    map: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"], valid: Bool[Tensor, "b 1 h w"]
) -> Float[Tensor, "b c h w"]:
    """The map after ``median_scale``, in the target's unit."""
    return map * _spread(median_scale(map, target, valid))


def by_disparity(
    map: Float[Tensor, "b 1 h w"],
    target: Float[Tensor, "b 1 h w"],
    valid: Bool[Tensor, "b 1 h w"],
    *,
    floor: float | Float[Tensor, " b"] = 1e-3,
) -> Float[Tensor, "b 1 h w"]:
    """Depth from a map that is affine in disparity: ``scale_and_shift`` to 1 / target, clipped from below, inverted.

    Marigold's evaluation (script/depth/eval.py, least_square_disparity). Unlike there, pixels whose prediction is not
    positive are fitted too: a disparity that is known up to a shift has no zero.

    Args:
        map: relative disparity, larger is nearer.
        target: depth [m], positive wherever ``valid`` is true.
        floor: least disparity after alignment [1/m]: 1e-3 puts the farthest depth at 1 km; one number, or one an image.

    Raises:
        ValueError: a depth inside the mask is not positive.
    """
    least = torch.where(valid, target, math.inf).amin() if target.numel() else math.inf
    if least <= 0:
        raise ValueError(f"depths must be positive wherever the mask is true, got {float(least):.3g}; "
                         "leave those pixels out of the mask")  # fmt: skip
    inverse = 1 / torch.where(valid, masked.precise(target), 1)
    disparity = by_scale_and_shift(masked.precise(map), inverse, valid)
    lowest = torch.as_tensor(floor, dtype=disparity.dtype, device=disparity.device).reshape(-1, 1, 1, 1)
    return 1 / torch.maximum(disparity, lowest)


def _spread(number: Float[Tensor, " b"]) -> Float[Tensor, "b 1 1 1"]:
    """One number an image, against maps."""
    return number[:, None, None, None]
