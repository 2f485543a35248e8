"""Means over images with bootstrap intervals, paired ratios of two methods, Student's t, and rank correlation.

Percentile bootstrap: Efron and Tibshirani 1993, *An Introduction to the Bootstrap*, section 13.3. Images are drawn with
replacement, so an interval says how the mean would move on another draw of test images of the same kind.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

CHUNK = 1 << 22  # cells of one block of resampling counts, 32 MiB


@dataclass(frozen=True)
class Summary:
    """Location of one metric over the images of a data set.

    Attributes:
        mean: over images with a number.
        median: over the same images.
        low, high: bounds of the bootstrap interval of the mean.
        count: images with a number.
    """

    mean: float
    median: float
    low: float
    high: float
    count: int


def counts(n: int, *, resamples: int, seed: int) -> Iterator[Float[Tensor, "r n"]]:
    """How often each of ``n`` items is drawn in each resample, in blocks of a bounded size.

    Every row sums to ``n``. The same arguments give the same draws.
    """
    size = max(1, CHUNK // max(n, 1))
    for index, start in enumerate(range(0, resamples, size)):
        yield _block(n, min(size, resamples - start), seed * 1_000_003 + index)


@lru_cache(maxsize=1)  # all metrics and methods of a table are resampled alike
def _block(n: int, rows: int, seed: int) -> Float[Tensor, "rows n"]:
    """``rows`` resamples of ``n`` items."""
    drawn = torch.randint(n, (rows, n), generator=torch.Generator().manual_seed(seed))
    one = torch.ones(1, 1, dtype=torch.float64).expand(rows, n)
    return torch.zeros(rows, n, dtype=torch.float64).scatter_add_(1, drawn, one)


def summarise(
    values: Float[Tensor, " n"],
    *,
    weights: Float[Tensor, " n"] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Summary:
    """Mean, median and percentile bootstrap interval of the mean.

    Args:
        values: one number an image; NaN marks an image that has none, and is left out.
        weights: of the images in the mean, such as their counts of pixels; None: all alike. The median knows none.
        resamples: bootstrap draws.
        seed: of the draws.
        level: share of the draws inside the interval, in (0, 1).

    Returns:
        The summary; NaN throughout where no image has a number.
    """
    known = ~values.isnan()
    kept = values[known].double()  # [m], m <= n
    if not len(kept):
        return Summary(mean=float("nan"), median=float("nan"), low=float("nan"), high=float("nan"), count=0)
    share = torch.ones_like(kept) if weights is None else weights[known].double()
    draws = counts(len(kept), resamples=resamples, seed=seed)
    means = torch.cat([(drawn @ (share * kept)) / (drawn @ share) for drawn in draws])  # [r]
    low, high = percentiles(means, level)
    mean = ((share @ kept) / share.sum()).item()
    return Summary(mean=mean, median=kept.quantile(0.5).item(), low=low, high=high, count=len(kept))


@dataclass(frozen=True)
class Ratio:
    """Mean of one method divided by the mean of another on the same images.

    Attributes:
        value: ratio of the means over seeds and images; below 1 the first method has the smaller error.
        low, high: bounds of the paired bootstrap interval.
        seeds, images: what was pooled.
    """

    value: float
    low: float
    high: float
    seeds: int
    images: int


def ratio(
    first: Float[Tensor, "s n"],
    second: Float[Tensor, "s n"],
    *,
    weights: Float[Tensor, " n"] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Ratio:
    """Paired ratio of means: the same images and the same seeds are drawn for both methods.

    Args:
        first: error of one method, a row a seed, a column an image.
        second: error of the other one; row s was fitted with the same seed, column i is the same image.
        weights: of the images in both means, as in ``summarise``.
        resamples: bootstrap draws, of seeds and of images at once.
        seed: of the draws.
        level: share of the draws inside the interval, in (0, 1).

    Raises:
        ValueError: no image has a number in every row of both.
    """
    kept = ~(first.isnan() | second.isnan()).any(0)  # [n]
    if not kept.any():
        raise ValueError(f"a ratio needs an image with a number in every row, got none among {first.shape[1]}; "
                         "compare metrics that both methods have")  # fmt: skip
    share = 1 if weights is None else weights[kept].double()
    a, b = first[:, kept].double() * share, second[:, kept].double() * share  # [s, m]
    rows, images = a.shape
    draws = []
    seeds = torch.cat(list(counts(rows, resamples=resamples, seed=seed + 1)))  # [r, s]
    for drawn in counts(images, resamples=resamples, seed=seed):
        block, seeds = seeds[: len(drawn)], seeds[len(drawn) :]
        draws.append(((block @ a) * drawn).sum(1) / ((block @ b) * drawn).sum(1))
    low, high = percentiles(torch.cat(draws), level)
    return Ratio(value=(a.mean() / b.mean()).item(), low=low, high=high, seeds=rows, images=images)


def pooled(
    values: Float[Tensor, "s n"],
    *,
    weights: Float[Tensor, " n"] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Summary:
    """Summary over seeds and images at once; seeds and images are both drawn with replacement.

    Args:
        values: a row a seed, a column an image; images with a NaN in any row are left out.
        weights: of the images in the mean, as in ``summarise``.
        resamples: bootstrap draws.
        seed: of the draws.
        level: share of the draws inside the interval, in (0, 1).
    """
    known = ~values.isnan().any(0)
    kept, weights = values[:, known], None if weights is None else weights[known]  # [s, m] and [m]
    if not kept.numel():
        return summarise(kept.flatten(), resamples=resamples, seed=seed, level=level)
    mean = ratio(kept, torch.ones_like(kept), weights=weights, resamples=resamples, seed=seed, level=level)
    middle = kept.double().mean(0).quantile(0.5).item()
    return Summary(mean=mean.value, median=middle, low=mean.low, high=mean.high, count=kept.shape[1])


def student(level: float, degrees: int) -> float:
    """The t below which the magnitude of Student's t with so many degrees of freedom stays with probability ``level``.

    Args:
        level: in (0, 1).
        degrees: at least 1.
    """
    low, high = 0.0, math.pi / 2  # of the angle whose tangent is t / sqrt(degrees)
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if _within(middle, degrees) < level else (low, middle)
    return math.sqrt(degrees) * math.tan(low)


def _within(angle: float, degrees: int) -> float:
    """Probability that |t| <= sqrt(degrees) tan(angle): Abramowitz and Stegun 1964, 26.7.3 and 26.7.4."""
    odd = degrees % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for power in range(1 + odd, degrees, 2):
        total, term = total + term, term * math.cos(angle) ** 2 * power / (power + 1)
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total


def over_seeds(
    values: Float[Tensor, "s n"], *, weights: Float[Tensor, " n"] | None = None, level: float = 0.95
) -> tuple[float, float]:
    """Student's t interval of the mean over seeds, each of which counts with its mean over the images.

    A percentile bootstrap of three seeds is at most as wide as they lie apart, so that all three are on one side of 0
    in one of four draws in which nothing is; this one has its level at any number of seeds, if their means are normal.

    Args:
        values: a row a seed, a column an image; images with a NaN in any row are left out.
        weights: of the images in a seed's mean, as in ``summarise``.
        level: probability that the interval holds the mean, in (0, 1).

    Raises:
        ValueError: fewer than two seeds, which tell of no spread.
    """
    if len(values) < 2:
        raise ValueError(f"an interval over seeds needs at least 2, got {len(values)}; pool over images alone")
    known = ~values.isnan().any(0)
    kept = values[:, known].double()  # [s, m]
    share = torch.ones_like(kept[0]) if weights is None else weights[known].double()
    means = kept @ share / share.sum()  # [s]
    middle, half = means.mean().item(), student(level, len(means) - 1) * means.std().item() / math.sqrt(len(means))
    return middle - half, middle + half


@dataclass(frozen=True)
class Correlation:
    """Rank correlation of two measurements of the same things.

    Attributes:
        value: Spearman's rho, in [-1, 1]; NaN where either side is constant.
        low, high: bounds of the bootstrap interval.
        count: things that were measured.
    """

    value: float
    low: float
    high: float
    count: int


def ranks(values: Float[Tensor, "*r n"]) -> Float[Tensor, "*r n"]:
    """Places in ascending order along the last axis, from 1; equal values share the mean of theirs."""
    below = (values[..., None, :] < values[..., :, None]).sum(-1)  # [*r, n]
    equal = (values[..., None, :] == values[..., :, None]).sum(-1)
    return (below + (equal + 1) / 2).to(values.dtype)


def spearman(
    first: Float[Tensor, " n"],
    second: Float[Tensor, " n"],
    *,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Correlation:
    """Spearman's rho, the correlation of ranks, with a percentile bootstrap interval over the pairs.

    Resamples in which either side is constant have no correlation and are left out.

    Args:
        first, second: one number a thing; pairs with a NaN are left out.
        resamples: bootstrap draws of pairs.
        seed: of the draws.
        level: share of the draws inside the interval, in (0, 1).
    """
    kept = ~(first.isnan() | second.isnan())
    a, b = first[kept].double(), second[kept].double()  # [m]
    if len(a) < 2:
        return Correlation(float("nan"), float("nan"), float("nan"), len(a))
    drawn = torch.randint(len(a), (resamples, len(a)), generator=torch.Generator().manual_seed(seed))  # [r, m]
    rho = torch.cat([_pearson(ranks(a[rows]), ranks(b[rows])) for rows in drawn.split(max(1, CHUNK // len(a) ** 2))])
    rho = rho[~rho.isnan()]
    low, high = percentiles(rho, level) if len(rho) else (float("nan"), float("nan"))
    return Correlation(_pearson(ranks(a), ranks(b)).item(), low, high, len(a))


def _pearson(a: Float[Tensor, "*r n"], b: Float[Tensor, "*r n"]) -> Float[Tensor, "*r"]:
    """Correlation along the last axis; NaN where a side is constant."""
    a, b = a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True)
    return ((a * b).sum(-1) / (a.square().sum(-1) * b.square().sum(-1)).sqrt()).clamp(-1, 1)


def percentiles(draws: Float[Tensor, " r"], level: float = 0.95) -> tuple[float, float]:
    """Bounds that leave (1 - level) / 2 of the draws on either side."""
    bounds = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=draws.dtype)
    low, high = draws.quantile(bounds).tolist()
    return low, high
