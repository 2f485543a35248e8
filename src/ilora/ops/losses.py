"""Terms that losses are made of: masked, one number an image, finite gradients everywhere, 0 without a valid pixel.

They are meant for residuals and codes of order 1 and work in float32 (float64 stays).
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ilora.ops import masked


def absolute(
    map: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"], valid: Bool[Tensor, "b 1 h w"]
) -> Float[Tensor, " b"]:
    """Mean of |map - target|."""
    return masked.mean(_residual(map, target, valid).abs(), valid, empty=0.0)


def edges(
    map: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"], valid: Bool[Tensor, "b 1 h w"], *, scales: int = 4
) -> Float[Tensor, " b"]:
    """Mean absolute difference of neighbouring residuals, along x and y, averaged over scales.

    Ranftl et al. 2022, section 5: each scale keeps every second pixel of the one before. Pairs with an invalid pixel
    are left out, and each direction is divided by its own number of pairs.
    """
    residual = _residual(map, target, valid)
    total = residual.new_zeros(len(residual))
    for scale in range(scales):
        step = 2**scale
        r, v = residual[..., ::step, ::step], valid[..., ::step, ::step]
        across = masked.mean((r[..., 1:] - r[..., :-1]).abs(), v[..., 1:] & v[..., :-1], empty=0.0)
        down = masked.mean((r[..., 1:, :] - r[..., :-1, :]).abs(), v[..., 1:, :] & v[..., :-1, :], empty=0.0)
        total = total + (across + down) / scales
    return total


def composed(
    albedo: Float[Tensor, "b 3 h w"],
    shading: Float[Tensor, "b 3 h w"],
    light: Float[Tensor, "b 3 h w"],
    valid: Bool[Tensor, "b 1 h w"],
    *,
    epsilon: float = 0.02,
) -> Float[Tensor, " b"]:
    """How far light = albedo * shading is from true, up to one factor an image: stops, in natural logarithms.

    The mean over pixels and channels of |r - median(r)|, r = ln(light + epsilon) - ln(albedo * shading + epsilon). The
    median is the factor of least mean, so that none is better and the gradient through it is 0; it is held fixed.
    Absolute values, because what is not diffuse (a highlight, light = albedo * shading + rest) shall not outvote the
    other pixels.

    Args:
        albedo, shading, light: linear RGB, 0 and up.
        epsilon: light below which ratios hardly count: it is in the last codes of a picture.
    """
    product = masked.precise(albedo).clamp(min=0) * masked.precise(shading).clamp(min=0)
    wanted = (masked.precise(light).clamp(min=0) + epsilon).log()
    ratio = torch.where(valid, wanted - (product + epsilon).log(), 0)
    middle = masked.median(ratio.detach(), valid).nan_to_num(0)[:, None, None, None]
    return masked.mean((ratio - middle).abs(), valid, empty=0.0)


def scaled_and_shifted(
    map: Float[Tensor, "b c h w"],
    target: Float[Tensor, "b c h w"],
    valid: Bool[Tensor, "b 1 h w"],
    *,
    epsilon: float = 1e-4,
) -> Float[Tensor, "b c h w"]:
    """The map after the scale and shift that bring it closest to the target, differentiable through both.

    ``alignment.scale_and_shift`` with a ridge: covariance / (variance + epsilon), so that a constant map has a finite
    gradient. With values of order 1 the ridge changes a good match by one part in ten thousand.

    Args:
        epsilon: squared spread below which a map counts as constant, in the map's unit squared.
    """
    x, y = (torch.where(valid, masked.precise(values), 0) for values in (map, target))
    mean_x, mean_y = (masked.mean(values, valid, empty=0.0)[:, None, None, None] for values in (x, y))
    dx, dy = x - mean_x, y - mean_y
    variance, covariance = (masked.mean(dx * other, valid, empty=0.0) for other in (dx, dy))
    return dx * (covariance / (variance + epsilon))[:, None, None, None] + mean_y


def scaled(
    map: Float[Tensor, "b c h w"],
    target: Float[Tensor, "b c h w"],
    valid: Bool[Tensor, "b 1 h w"],
    *,
    epsilon: float = 1e-4,
) -> Float[Tensor, "b c h w"]:
    """The map times the number that brings it closest to the target, differentiable through it; a ridge as above."""
    x, y = (torch.where(valid, masked.precise(values), 0) for values in (map, target))
    power, product = (masked.mean(x * other, valid, empty=0.0) for other in (x, y))
    return x * (product / (power + epsilon))[:, None, None, None]


def root_mean_square(
    map: Float[Tensor, "b c h w"],
    target: Float[Tensor, "b c h w"],
    valid: Bool[Tensor, "b 1 h w"],
    *,
    epsilon: float = 1e-3,
) -> Float[Tensor, " b"]:
    """Root of the mean of (map - target)^2, rounded off below ``epsilon`` so that its gradient ends at 0."""
    mean = masked.mean(_residual(map, target, valid).square(), valid, empty=0.0)
    return (mean + epsilon**2).sqrt() - epsilon


def _residual(
    map: Float[Tensor, "b c h w"], target: Float[Tensor, "b c h w"], valid: Bool[Tensor, "b 1 h w"]
) -> Float[Tensor, "b c h w"]:
    """map - target, and 0 outside the mask in value and gradient."""
    return torch.where(valid, masked.precise(map), 0) - torch.where(valid, masked.precise(target), 0)
