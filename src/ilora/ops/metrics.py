"""Errors of a map against a measured one: one number an image, over its valid pixels.

All take (map, target, valid) with map and target of one shape and valid [b, 1, h, w], and return [b] in the precision
of ``map`` (float32 at least). What lies outside ``valid`` is never looked at. An image without a valid pixel gives NaN,
which summaries leave out and count; NaN or infinity inside the mask is an error of its own (ValueError), so no other
NaN comes out unless a docstring says so. None aligns by itself, except those that are so defined (si_mse, si_rmse,
lmse). Sums are made in float64, which Apple's MPS lacks: move maps to the CPU there.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ilora.ops import alignment, geometry, masked

Map = Float[Tensor, "b c h w"]
Vectors = Float[Tensor, "b 3 h w"]
Depth = Float[Tensor, "b 1 h w"]
Valid = Bool[Tensor, "b 1 h w"]
Score = Float[Tensor, " b"]


class Legend(NamedTuple):
    """How a metric's number is read."""

    unit: str  # "" for a plain ratio
    better: str  # "lower" or "higher"


LEGEND = {
    **dict.fromkeys(("mean_angle", "median_angle", "rmse_angle"), Legend("deg", "lower")),
    **dict.fromkeys(("within_5", "within_7.5", "within_11.25", "within_22.5", "within_30"), Legend("%", "higher")),
    **dict.fromkeys(("abs_rel", "rmse_log", "log10"), Legend("", "lower")),
    **dict.fromkeys(("sq_rel", "rmse"), Legend("m", "lower")),
    "silog": Legend("%", "lower"),
    "i_rmse": Legend("1/km", "lower"),
    "boundary_f1": Legend("", "higher"),
    **dict.fromkeys(("delta1", "delta2", "delta3"), Legend("%", "higher")),
    **dict.fromkeys(("si_mse", "si_rmse", "lmse", "lmse_20", "mse", "reconstruction"), Legend("", "lower")),
    "whdr": Legend("%", "lower"),
    "psnr": Legend("dB", "higher"),
    "ssim": Legend("", "higher"),
}


# Normals. Both maps hold directions in the same axes; lengths do not matter, a zero vector counts as 90 deg off.


def angles(
    map: Vectors, target: Vectors, valid: Valid, *, thresholds: Sequence[float] = (5.0, 7.5, 11.25, 22.5, 30.0)
) -> dict[str, Score]:
    """Angles between the vectors, measured once and summed up in the usual ways.

    Args:
        thresholds: [deg], of the shares of good pixels.

    Returns:
        mean_angle, median_angle (the mean of the middle two where the count is even) and rmse_angle (root of the mean
        square) [deg], and for each threshold within_5 ...: the share of the pixels whose angle is below it [%].
    """
    error = geometry.angle(*_checked(map, target, valid))  # [b, 1, h, w]
    scores = {
        "mean_angle": masked.mean(error, valid),
        "median_angle": masked.median(error, valid),
        "rmse_angle": masked.mean(error.square(), valid).sqrt(),
    }
    scores |= {f"within_{limit:g}": 100 * masked.mean((error < limit).double(), valid) for limit in thresholds}
    return {name: score.to(_precision(map)) for name, score in scores.items()}


# Depth. Both maps are positive planar depths in metres, aligned by the caller. Eigen et al. 2014, *Depth map prediction
# from a single image using a multi-scale deep network*, has all but log10.


def abs_rel(map: Depth, target: Depth, valid: Valid) -> Score:
    """Mean of |map - target| / target."""
    x, y = positive(map, target, valid)
    return masked.mean((x - y).abs() / y, valid).to(_precision(map))


def sq_rel(map: Depth, target: Depth, valid: Valid) -> Score:
    """Mean of (map - target)^2 / target [m]; the benchmark code's form, not that of Eigen's text (target^2)."""
    x, y = positive(map, target, valid)
    return masked.mean((x - y).square() / y, valid).to(_precision(map))


def rmse(map: Map, target: Map, valid: Valid) -> Score:
    """Root of the mean of (map - target)^2, in the maps' unit."""
    x, y = _checked(map, target, valid)
    return masked.mean((x - y).square(), valid).sqrt().to(_precision(map))


def rmse_log(map: Depth, target: Depth, valid: Valid) -> Score:
    """Root of the mean of (ln map - ln target)^2."""
    x, y = positive(map, target, valid)
    return masked.mean((x / y).log().square(), valid).sqrt().to(_precision(map))


def log10(map: Depth, target: Depth, valid: Valid) -> Score:
    """Mean of |log10 map - log10 target|."""
    x, y = positive(map, target, valid)
    return masked.mean((x / y).log10().abs(), valid).to(_precision(map))


def silog(map: Depth, target: Depth, valid: Valid) -> Score:
    """100 times the standard deviation of ln map - ln target: Eigen's scale-invariant error as KITTI's table has it."""
    x, y = positive(map, target, valid)
    ratio = (x / y).log()
    about = ratio - masked.mean(ratio, valid)[:, None, None, None]
    return 100 * masked.mean(about.square(), valid).sqrt().to(_precision(map))


def i_rmse(map: Depth, target: Depth, valid: Valid) -> Score:
    """Root of the mean of (1 / map - 1 / target)^2 [1/km], of depths in metres: KITTI's depth benchmark, iRMSE."""
    x, y = positive(map, target, valid)
    return 1000 * masked.mean((1 / x - 1 / y).square(), valid).sqrt().to(_precision(map))


def delta(map: Depth, target: Depth, valid: Valid, *, power: int) -> Score:
    """Share of the pixels with max(map / target, target / map) < 1.25 ** power [%]."""
    x, y = positive(map, target, valid)
    return 100 * masked.mean((torch.maximum(x / y, y / x) < 1.25**power).double(), valid).to(_precision(map))


# Albedo and shading. The caller declares the colour space by what it hands over.


def si_mse(map: Map, target: Map, valid: Valid) -> Score:
    """Mean of (target - a map)^2 over pixels and channels, with the one number a that makes it least.

    Grosse et al. 2009, *Ground truth dataset and baseline evaluations for intrinsic image algorithms*; over the whole
    image, and divided by nothing but the count.
    """
    x, y = _checked(map, target, valid)
    return masked.mean((y - alignment.by_scale(x, y, valid)).square(), valid).to(_precision(map))


def si_rmse(map: Map, target: Map, valid: Valid) -> Score:
    """Root of ``si_mse``, in the target's unit."""
    return si_mse(map, target, valid).sqrt()


def lmse(map: Map, target: Map, valid: Valid, *, window: int | None = None) -> Score:
    """Squared error with its own scale in each window, over the target's power in the same windows; 0 to 1.

    Grosse et al. 2009: sum over windows of min_a sum (target - a map)^2, divided by the sum over windows of
    sum target^2. Windows overlap by half; one scale serves all channels. A target that is 0 throughout has no such
    error: NaN.

    Args:
        window: side of a window [px], at most the image's; Grosse's is 20. None: a tenth of the longer side, as on
            MPI-Sintel.
    """
    x, y = _checked(map, target, valid)
    side = min(window or max(2, round(0.1 * max(map.shape[-2:]))), *map.shape[-2:])
    stride = max(1, side // 2)
    xx, xy, yy = (avg_pool2d((u * v).sum(1, keepdim=True), side, stride) for u, v in ((x, x), (x, y), (y, y)))
    error = (yy - torch.where(xx > 0, xy.square() / torch.where(xx > 0, xx, 1), 0)).clamp(min=0)  # [b, 1, windows]
    return (error.flatten(1).sum(1) / yy.flatten(1).sum(1)).to(_precision(map))


def mse(map: Map, target: Map, valid: Valid) -> Score:
    """Mean of (map - target)^2 over pixels and channels: what ``psnr`` is made of, lower is better."""
    x, y = _checked(map, target, valid)
    return masked.mean((x - y).square(), valid).to(_precision(map))


def reconstruction(
    image: Map, albedo: Map, shading: Map, valid: Valid, *, rest: Float[Tensor, "b c h w"] | None = None
) -> Score:
    """Root of the mean of (image - (albedo * shading + rest))^2, all in linear RGB.

    The image formation of Careaga and Aksoy and of Marigold's lighting model: what is not diffuse is ``rest``. Albedo
    and shading that are known up to a scale are aligned by the caller, their product say, with ``alignment.by_scale``.

    Args:
        image: the picture in linear RGB, not its sRGB code.
        rest: None: nothing is left over.

    Raises:
        ValueError: shapes that do not belong together, or NaN or infinity inside the mask, in any of them.
    """
    require(albedo, shading, valid)
    made = torch.where(valid, albedo.double() * shading.double(), 0)
    if rest is not None:
        require(rest, image, valid)
        made = made + torch.where(valid, rest.double(), 0)
    return rmse(made, image, valid).to(_precision(image))


def psnr(map: Map, target: Map, valid: Valid, *, peak: float = 1.0) -> Score:
    """10 log10 (peak^2 / mean squared error) [dB]; infinite for equal maps.

    Args:
        peak: range of the values, in the maps' unit.
    """
    return 20 * (peak / rmse(map, target, valid)).log10()


def ssim(map: Map, target: Map, valid: Valid, *, peak: float = 1.0) -> Score:
    """Structural similarity, -1 to 1, averaged over channels and over the windows that are centred on a valid pixel.

    Wang et al. 2004, eq. 13: Gaussian windows of 11 px and standard deviation 1.5 px, wholly inside the image (smaller
    images have the largest odd window that fits). Unlike theirs, invalid pixels have no weight in a window's moments.
    An image without a valid centre gives NaN.

    Args:
        peak: range of the values, in the maps' unit.
    """
    x, y = _checked(map, target, valid)
    side = min(11, *(size - 1 + size % 2 for size in map.shape[-2:]))
    kernel = [math.exp(-((place - side // 2) ** 2) / (2 * 1.5**2)) for place in range(side)]

    def blur(field: Map) -> Float[Tensor, "b c y x"]:  # y = h - side + 1, x = w - side + 1
        for dim in (2, 3):
            places = field.shape[dim] - side + 1
            field = sum(share * field.narrow(dim, place, places) for place, share in enumerate(kernel))
        return field

    weight = blur(valid.to(x.dtype)).clamp(min=torch.finfo(x.dtype).tiny)
    mean_x, mean_y, xx, yy, xy = (blur(field) / weight for field in (x, y, x * x, y * y, x * y))
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    likeness = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    likeness = likeness * (2 * (xy - mean_x * mean_y) + c2) / (xx - mean_x**2 + yy - mean_y**2 + c2)
    edge = side // 2
    centre = valid[..., edge : valid.shape[-2] - edge, edge : valid.shape[-1] - edge]
    return masked.mean(likeness, centre).to(_precision(map))


def require(map: Float[Tensor, "..."], target: Float[Tensor, "..."], valid: Bool[Tensor, "..."]) -> None:
    """Refuse what no metric can judge.

    Raises:
        ValueError: shapes that do not belong together, or NaN or infinity inside the mask.
    """
    if map.shape != target.shape or valid.shape != (map.shape[0], 1, *map.shape[2:]):
        got = f"{list(map.shape)}, {list(target.shape)} and {list(valid.shape)}"
        raise ValueError(f"map and target must have one shape [b, c, h, w] and the mask [b, 1, h, w], got {got}; "
                         "resize one to the other")  # fmt: skip
    for name, values in (("map", map), ("target", target)):
        wrong = (valid & ~values.isfinite()).sum().item()
        if wrong:
            raise ValueError(f"the {name} must be finite wherever the mask is true, got {wrong} NaN or infinite values "
                             "there; leave those pixels out of the mask")  # fmt: skip


def _precision(map: Map) -> torch.dtype:
    return torch.promote_types(map.dtype, torch.float32)


def _checked(map: Map, target: Map, valid: Valid) -> tuple[Map, Map]:
    """Both maps in float64, 0 outside the mask."""
    require(map, target, valid)
    return torch.where(valid, map.double(), 0), torch.where(valid, target.double(), 0)


def positive(map: Depth, target: Depth, valid: Valid) -> tuple[Depth, Depth]:
    """Both depths in float64, 1 outside the mask; ValueError where one inside is not positive, or as in ``require``."""
    require(map, target, valid)
    x, y = (torch.where(valid, values.double(), 1) for values in (map, target))
    least = torch.minimum(x, y).min().item()
    if least <= 0:
        raise ValueError(f"depths must be positive wherever the mask is true, got {least:.3g}; "
                         "leave those pixels out of the mask, or clip the aligned prediction")  # fmt: skip
    return x, y
