"""The steps that protocols are put together from, by name: crops, alignments, spaces, metrics."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ilora.ops import alignment, boundaries, color, geometry, masked, metrics, robust
from ilora.records import Map, Valid

SEED = 0  # of RANSAC's draws, the same for every image
BRIGHT, LEVEL, DARK = 0.9, 0.8, 1e-4  # exposure: this quantile of brightness becomes this level, unless it is darker
AWAY = -0.1  # mean z of an image's true normals below which its surfaces cannot be facing the camera

Scores = dict[str, Float[Tensor, " b"]]


class Crop(NamedTuple):
    """A rectangle of the image.

    Attributes:
        words: what it is.
        rows, columns: shares of height and width where it begins and ends; places are rounded down.
        window: height and width [px] that are cut out first, at the bottom and centred, of images at least that large.
    """

    words: str
    rows: tuple[float, float] = (0.0, 1.0)
    columns: tuple[float, float] = (0.0, 1.0)
    window: tuple[int, int] | None = None

    def mask(self, height: int, width: int) -> Bool[Tensor, "1 1 {height} {width}"]:
        """True inside."""
        top, left, tall, wide = 0, 0, height, width
        if self.window and height >= self.window[0] and width >= self.window[1]:
            tall, wide = self.window
            top, left = height - tall, (width - wide) // 2
        (y, bottom), (x, right) = (  # 1e-6: shares of whole pixels must not fall one short
            [int(share * size + 1e-6) for share in shares] for shares, size in ((self.rows, tall), (self.columns, wide))
        )
        inside = torch.zeros(1, 1, height, width, dtype=torch.bool)
        inside[..., top + y : top + bottom, left + x : left + right] = True
        return inside


CROPS = {
    "none": Crop("the whole image"),
    "eigen-nyu": Crop("Eigen's crop of NYUv2: rows 45 to 471 of 480, columns 41 to 601 of 640; other sizes: the same "
                      "shares", (45 / 480, 471 / 480), (41 / 640, 601 / 640)),
    "eigen-kitti": Crop("KITTI's benchmark crop, 352 x 1216 px at the bottom and centred (smaller images whole), and "
                        "in it Eigen's: rows .3324324 to .91351351, columns .0359477 to .96405229",
                        (0.3324324, 0.91351351), (0.0359477, 0.96405229), (352, 1216)),
    "garg-kitti": Crop("Garg's crop of KITTI: rows .40810811 to .99189189, columns .03594771 to .96405229",
                       (0.40810811, 0.99189189), (0.03594771, 0.96405229)),
}  # fmt: skip


def grid(height: int, width: int, *, longest: int | None) -> Bool[Tensor, "1 1 {height} {width}"]:
    """Pixels that nearest-neighbour resizing to ``longest`` keeps; all of them where the image is no larger."""
    scale = 1.0 if longest is None else min(1.0, longest / max(height, width))
    rows, columns = (torch.zeros(size, dtype=torch.bool) for size in (height, width))
    for kept in (rows, columns):
        kept[(torch.arange(int(len(kept) * scale)) / scale).long()] = True
    return (rows[:, None] & columns)[None, None]


class Alignment(NamedTuple):
    """How a prediction is brought to the truth: what it does in words, and the function of map, truth and mask."""

    words: str
    apply: Callable[[Map, Map, Valid], Map]


def _as_it_is(map: Map, target: Map, valid: Valid) -> Map:
    return map


def _by_disparity_to_the_farthest(map: Map, target: Map, valid: Valid) -> Map:
    """Aligned disparity is at least that of the farthest truth."""
    farthest = torch.where(valid, target, 0).flatten(1).amax(1)
    return alignment.by_disparity(map, target, valid, floor=1 / farthest.clamp(min=torch.finfo(map.dtype).tiny))


def _by_ransac(map: Map, target: Map, valid: Valid) -> Map:
    """Each image with draws of its own, so that it does not matter which images come together."""
    images = zip(map.split(1), target.split(1), valid.split(1), strict=True)
    return torch.cat(
        [robust.by_ransac(*image, generator=torch.Generator().manual_seed(SEED)) for image in images] or [map]
    )


ALIGNMENTS = {
    "none": Alignment("none", _as_it_is),
    "median": Alignment("scaled so that the medians agree", alignment.by_median),
    "scale": Alignment("one scale by least squares", alignment.by_scale),
    "scale_and_shift": Alignment("scale and shift by least squares, the scale's sign free",
                                 alignment.by_scale_and_shift),
    "disparity": Alignment("scale and shift by least squares to 1 / truth, clipped at 1e-3 1/m, inverted",
                           alignment.by_disparity),
    "disparity_far": Alignment("scale and shift by least squares to 1 / truth, clipped at the farthest truth's "
                               "disparity, inverted", _by_disparity_to_the_farthest),
    "l1": Alignment("scale and shift of least absolute error weighted by 1 / truth, on one pixel for each cell of a "
                    "64 x 64 grid, solved exactly", robust.by_l1),
    "ransac": Alignment("scale and shift by RANSAC on errors of the logarithm, on one pixel for each cell of a 64 x 64 "
                        f"grid: {robust.TRIALS} draws of two, tolerance {robust.TOLERANCE:g}, seed {SEED}",
                        _by_ransac),
}  # fmt: skip


def exposed(map: Map, target: Map, valid: Valid) -> tuple[Map, Map, Valid]:
    """Both maps times the number that makes the truth's bright quantile 0.8, clipped to [0, 1].

    Marigold's evaluation of shading (src/util/metric.py, quantile_map): 90th percentile of .3 R + .59 G + .11 B. A
    truth whose quantile is below 1e-4 has no exposure: its image counts no pixel (theirs: compares black with black).
    """
    weights = target.new_tensor([0.3, 0.59, 0.11])[:, None, None]
    brightness = (target * weights).sum(1, keepdim=True)  # [b, 1, h, w]
    light = masked.quantile(brightness, valid, q=BRIGHT)[:, None, None, None]
    known = light >= DARK
    factor = LEVEL / torch.where(known, light, 1)
    return (map * factor).clamp(0, 1), (target * factor).clamp(0, 1), valid & known


class Gap(NamedTuple):
    """How far two pixels are apart.

    Attributes:
        words: what is measured, with its unit.
        most: where a picture's scale of it ends.
        measure: of a prediction and a truth, in a space's own form.
    """

    words: str
    most: float
    measure: Callable[[Map, Map], Float[Tensor, "b 1 h w"]]


def _relative(map: Map, target: Map) -> Float[Tensor, "b 1 h w"]:
    return (map - target).abs() / target.clamp(min=torch.finfo(target.dtype).tiny)


COLOURS = Gap("root mean square error of the channels", 0.5,
              lambda map, target: (map - target).square().mean(1, keepdim=True).sqrt())  # fmt: skip
ANGLE = Gap("angle, degrees", 60.0, geometry.angle)
RELATIVE = Gap("error over true depth", 0.5, _relative)


class Space(NamedTuple):
    """What two maps are compared in.

    Attributes:
        words: axes, unit, colour space.
        encode: from ilora's own units.
        known: which pixels of a truth hold one; ValueError for a truth in other units.
        gap: of two pixels in it.
    """

    words: str
    encode: Callable[[Map], Map] = lambda map: map
    known: Callable[[Map, Valid], Valid] = lambda target, valid: valid
    gap: Gap = COLOURS


def _facing(target: Map, valid: Valid) -> Valid:
    """Pixels that hold a direction; a visible surface cannot face away from the camera."""
    valid = valid & (target != 0).any(1, keepdim=True)
    z = masked.mean(target[:, 2:], valid)  # [b], NaN without a pixel
    if (z < AWAY).any():
        raise ValueError(
            f"true normals must be in RUB axes, z towards the viewer, got an image whose mean z is "
            f"{z.nan_to_num(0).min():.2f}; geometry.convert(normal, 'RDF', 'RUB') turns OpenCV's"
        )
    return valid


def _coded(map: Map) -> Map:
    return color.to_srgb(map.clamp(0, 1))


SPACES = {
    "own": Space("the intrinsic's own"),
    "depth": Space("planar depth in metres", gap=RELATIVE),
    "vectors": Space("unit vectors in camera axes RUB, whichever way a truth faces", gap=ANGLE),
    "RUB": Space("unit vectors in camera axes RUB (x right, y up, z to the viewer); predictions in other axes are "
                 "converted first, a truth that faces away is refused", known=_facing, gap=ANGLE),
    "linear": Space("linear RGB with sRGB's primaries"),
    "sRGB": Space("sRGB codes, 0 to 1", encode=_coded),
}  # fmt: skip


def _one(name: str, metric: Callable[[Map, Map, Valid], Float[Tensor, " b"]]) -> Callable[[Map, Map, Valid], Scores]:
    """A metric as a table of one."""
    return lambda map, target, valid: {name: metric(map, target, valid)}


ANGLES = (
    "mean_angle",
    "median_angle",
    "rmse_angle",
    "within_5",
    "within_7.5",
    "within_11.25",
    "within_22.5",
    "within_30",
)
_SINGLE = {
    **{f.__name__: f for f in (metrics.abs_rel, metrics.sq_rel, metrics.rmse, metrics.rmse_log, metrics.log10,
                               metrics.silog, metrics.i_rmse, boundaries.boundary_f1, metrics.si_mse, metrics.si_rmse,
                               metrics.mse, metrics.psnr, metrics.ssim)},
    **{f"delta{power}": partial(metrics.delta, power=power) for power in (1, 2, 3)},
    "lmse_20": partial(metrics.lmse, window=20),
}  # fmt: skip
METRICS = dict.fromkeys(ANGLES, metrics.angles) | {name: _one(name, metric) for name, metric in _SINGLE.items()}


def scores(names: tuple[str, ...], map: Map, target: Map, valid: Valid) -> Scores:
    """The named metrics, in that order; those that are found together are computed once."""
    found: Scores = {}
    for name in names:
        if name not in found:
            found |= METRICS[name](map, target, valid)
    return {name: found[name] for name in names}
