"""Scale and shift that wrong pixels pull less, or not at all: weighted and truncated absolute errors, and RANSAC.

All take depth: a map that is affine in it, and measured depths, positive wherever ``valid`` is true. s map + t is then
closest to the depths; the sign of s is free. Images are solved one after the other, in float64. Fewer than two valid
pixels determine nothing: s and t are NaN.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

SIDE = 64  # cells of MoGe's grid along either side
HALVINGS = 64  # of the slope's angle: pi / 2^64 is below the spacing of float64
CHUNK = 1 << 20  # pairs of pixels that are looked at together
TRIALS = 256  # of RANSAC: with 30 % of good pixels, none of the pairs is good once in 3e10 images
TOLERANCE = 0.05  # |ln| of depth over truth that RANSAC takes for a match, about 5 %

Maps = Float[Tensor, "b 1 h w"]
Valid = Bool[Tensor, "b 1 h w"]
Points = Float[Tensor, " n"]
Line = tuple[float, float]  # slope and shift
Lines = tuple[Float[Tensor, " b"], Float[Tensor, " b"]]


def thinned(valid: Valid, *, side: int = SIDE) -> Valid:
    """Of each cell of a ``side`` by ``side`` grid over the image, the valid pixel nearest to the cell's centre.

    MoGe's evaluation fits on as many (moge/utils, mask-aware nearest resizing). Cells without a valid pixel stay empty,
    and an image with fewer pixels than cells keeps them all. Of equally near pixels the first one counts.
    """
    height, width = valid.shape[-2:]
    cells, apart = [], []
    for size in (height, width):
        place = torch.arange(size, dtype=torch.float64, device=valid.device) + 0.5
        cell = (place * side / size).floor()
        cells.append(cell.long())
        apart.append(((cell + 0.5) * size / side - place).square())
    cell = (cells[0][:, None] * side + cells[1]).flatten()  # [h*w]
    order = (apart[0][:, None] + apart[1]).flatten().argsort(stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    ranks = torch.where(valid.flatten(1), rank, len(order))  # [b, h*w]
    best = ranks.new_full((len(valid), side * side), len(order))
    best = best.scatter_reduce(1, cell.expand_as(ranks), ranks, "amin")
    return valid & (ranks == best[:, cell]).view_as(valid)


def l1(map: Maps, target: Maps, valid: Valid, *, truncate: float | None = None) -> Lines:
    """s, t of least sum |s map + t - target| / target: MoGe's alignment of affine-invariant depth.

    Wang et al. 2025, *MoGe*, and moge/test/metrics.py, which weighs by 1 / target and does not truncate (its training
    loss does). The sum is convex: for each slope the best shift is a weighted median of what is left, and the slope is
    found by bisection on the sign of the subgradient, so this is the minimum to float64's precision. MoGe gets there by
    trying every pixel as an anchor.

    Args:
        map: affine in depth; where it is constant, s = 0.
        truncate: greatest relative error that counts in full; what is beyond costs this much. That sum has many minima;
            the least goes through two pixels, and all such lines are tried, in n^2 log n steps: seconds an image.

    Raises:
        ValueError: a depth inside the mask is not positive.
    """
    solve = _truncated if truncate else _straight
    return _each(map, target, valid, partial(solve, limit=truncate) if truncate else solve)


def ransac(map: Maps, target: Maps, valid: Valid, *, generator: torch.Generator, trials: int = TRIALS) -> Lines:
    """s, t on which the most pixels agree, in the logarithm of depth.

    Fischler and Bolles 1981. Each hypothesis goes through two pixels that are drawn; a pixel costs its
    |ln (s map + t) - ln target|, at most ``TOLERANCE``, and that much where the depth is not positive (the cost of
    Torr and Zisserman 2000, MSAC). The best one is fitted again, twice, to the pixels within the tolerance, by least
    squares with weights 1 / target^2, which is the logarithm's error to first order, and kept if that costs less.

    Args:
        map: affine in depth; where it is constant, s = 0 and t is the median depth.
        generator: of the draws; the same state gives the same result.
        trials: hypotheses.

    Raises:
        ValueError: a depth inside the mask is not positive.
    """
    return _each(map, target, valid, partial(_agreed, generator=generator, trials=trials))


def by_l1(map: Maps, target: Maps, valid: Valid, *, truncate: float | None = None) -> Maps:
    """The map after ``l1``, fitted on ``thinned`` pixels, in the target's unit."""
    s, t = l1(map, target, thinned(valid), truncate=truncate)
    return map * s[:, None, None, None] + t[:, None, None, None]


def by_ransac(map: Maps, target: Maps, valid: Valid, *, generator: torch.Generator) -> Maps:
    """The map after ``ransac``, fitted on ``thinned`` pixels, in the target's unit."""
    s, t = ransac(map, target, thinned(valid), generator=generator)
    return map * s[:, None, None, None] + t[:, None, None, None]


def _each(map: Maps, target: Maps, valid: Valid, solve: Callable[[Points, Points], Line]) -> Lines:
    """The line of each image's valid pixels; NaN for fewer than two."""
    lines = []
    for x, y, kept in zip(map, target, valid, strict=True):
        x, y = x[kept].double(), y[kept].double()  # [n]
        if len(y) and y.min() <= 0:
            raise ValueError(f"depths must be positive wherever the mask is true, got {y.min().item():.3g}; "
                             "leave those pixels out of the mask")  # fmt: skip
        lines.append(solve(x, y) if len(x) >= 2 else (math.nan, math.nan))
    dtype = torch.promote_types(map.dtype, torch.float32)
    scale, shift = torch.tensor(lines, dtype=torch.float64, device=map.device).reshape(-1, 2).to(dtype).unbind(1)
    return scale, shift


def _straight(x: Points, y: Points) -> Line:
    """The line of least sum |s x + t - y| / y."""
    weight = 1 / y
    middle, level = x.median(), y.median()
    spread, height = (x - middle).abs().mean(), (y - level).abs().mean()
    if spread <= 1e-12 * middle.abs() or height == 0:
        return 0.0, _shift(torch.zeros_like(y), y, weight, 0.0)[0]
    u, v = (x - middle) / spread, (y - level) / height
    low, high = -math.pi / 2, math.pi / 2  # of the slope's angle, so that every slope is inside
    for _ in range(HALVINGS):
        slope = math.tan((low + high) / 2)
        shift, rising = _shift(u, v, weight, slope)
        if rising == 0:
            break
        low, high = (low, (low + high) / 2) if rising > 0 else ((low + high) / 2, high)
    scale = (slope * height / spread).item()
    return scale, (level + height * shift - scale * middle).item()


def _shift(x: Points, y: Points, weight: Points, slope: float) -> Line:
    """Best shift for a slope, a weighted median, and a subgradient of the least sum with respect to the slope."""
    rest = y - slope * x
    order = rest.argsort()
    reached = weight[order].cumsum(0)
    shift = rest[order[torch.searchsorted(reached, reached[-1:] / 2).clamp(max=len(x) - 1)]]  # [1]
    signed = weight * torch.sign(shift - rest)
    ties = torch.where(rest == shift, weight, 0)
    balance = -signed.sum() / ties.sum()  # what makes the derivative by the shift 0
    return shift.item(), ((signed + balance * ties) * x).sum().item()


def _truncated(x: Points, y: Points, *, limit: float) -> Line:
    """The line of least sum min(limit, |s x + t - y| / y): the best of the best ones through each pixel."""
    slopes = torch.cat([_pivoted(x, y, some, limit) for some in torch.arange(len(x)).split(max(1, CHUNK // len(x)))])
    shifts = y - slopes * x
    best, least = 0, math.inf
    for some in torch.arange(len(x)).split(max(1, CHUNK // len(x))):
        costs = ((slopes[some, None] * x + shifts[some, None] - y).abs() / y).clamp(max=limit).sum(1)
        if costs.min() < least:
            best, least = some[costs.argmin()], costs.min()
    return slopes[best].item(), shifts[best].item()


def _pivoted(x: Points, y: Points, pivots: Int[Tensor, " m"], limit: float) -> Float[Tensor, " m"]:
    """The best slope through each of some pixels.

    Along the slope a, another pixel costs min(limit, k |a - r|), where r leads through it and k = |run| / y. Its slope
    is -k from r - limit / k on, k from r on, and 0 from r + limit / k on: one sorted sweep sums all pixels.
    """
    run, rise = x - x[pivots, None], y - y[pivots, None]  # [m, n]
    steep = run.abs() / y
    through = torch.where(run != 0, rise / torch.where(run != 0, run, 1), 0)
    reach = torch.where(run != 0, limit / torch.where(run != 0, steep, 1), 0)
    events = torch.cat([through - reach, through, through + reach], dim=1)  # [m, 3n]
    turns = torch.cat([-steep, 2 * steep, -steep], dim=1)
    events, order = events.sort(dim=1)
    falling = turns.gather(1, order).cumsum(1)  # slope of the sum behind each event
    level = (falling[:, :-1] * events.diff(dim=1)).cumsum(1)  # at each event but the first, less the sum there
    return events.gather(1, level.argmin(1, keepdim=True) + 1).squeeze(1)


def _agreed(x: Points, y: Points, *, generator: torch.Generator, trials: int) -> Line:
    """The line of RANSAC."""

    def errors(scale: Float[Tensor, " m"], shift: Float[Tensor, " m"]) -> Float[Tensor, "m n"]:
        depth = scale[:, None] * x + shift[:, None]
        wrong = (depth.clamp(min=torch.finfo(depth.dtype).tiny).log() - y.log()).abs()
        return torch.where(depth > 0, wrong, math.inf).clamp(max=TOLERANCE)

    first, second = torch.randint(len(x), (2, trials), generator=generator).to(x.device)  # [trials] each
    run = x[second] - x[first]
    first, second, run = first[run != 0], second[run != 0], run[run != 0]
    if not len(run):
        return 0.0, y.median().item()
    scale = (y[second] - y[first]) / run
    shift = y[first] - scale * x[first]
    best = torch.cat([errors(s, t).sum(1) for s, t in zip(scale.split(128), shift.split(128), strict=True)]).argmin()
    scale, shift = scale[best, None], shift[best, None]  # [1] each
    for _ in range(2):
        kept = errors(scale, shift)[0] < TOLERANCE
        other = _weighted(x[kept], y[kept]) if kept.sum() >= 2 else (scale, shift)
        if errors(*other).sum() < errors(scale, shift).sum():
            scale, shift = other
    return scale.item(), shift.item()


def _weighted(x: Points, y: Points) -> tuple[Float[Tensor, " 1"], Float[Tensor, " 1"]]:
    """The line of least sum ((s x + t - y) / y)^2."""
    weight = 1 / y.square()
    mean_x, mean_y = ((weight * values).sum() / weight.sum() for values in (x, y))
    variance = (weight * (x - mean_x).square()).sum()
    slope = (weight * (x - mean_x) * (y - mean_y)).sum() / variance if variance > 0 else variance
    return slope[None], (mean_y - slope * mean_x)[None]
