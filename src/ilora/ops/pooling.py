"""Angular errors pooled over the pixels of a whole data set, as DSINE and Lotus print them.

A mean over images gives each image one vote, a pooled mean each pixel: the two do not compare. What a pooled number
needs of each image is small: its count of pixels, its own errors, and for the median a histogram. Means, shares and
root mean squares are exact. The median is exact to half a bin, 0.025 deg.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ilora.ops import geometry, statistics
from ilora.ops.statistics import Summary

WIDTH = 0.05  # of a histogram's bin [deg]; bins are centred on its multiples
BINS = round(180 / WIDTH) + 1
ROOTS = ("rmse_angle",)  # metrics whose squares are averaged
MEDIANS = ("median_angle",)  # metrics that no image's own number leads to

Counts = Int[Tensor, "n bins"]  # pixels of each image whose angle is in each bin


def histogram(
    map: Float[Tensor, "b 3 h w"], target: Float[Tensor, "b 3 h w"], valid: Bool[Tensor, "b 1 h w"]
) -> Int[Tensor, "b bins"]:
    """How many of each image's valid pixels have which angle between the two vectors, in ``BINS`` bins.

    Free of NaN inside the mask; a zero vector counts as 90 deg off.
    """
    angle = geometry.angle(*(torch.where(valid, values.double(), 0) for values in (map, target)))
    place = (angle / WIDTH).round().long().clamp(0, BINS - 1).flatten(1)  # [b, h*w]
    counts = torch.zeros(len(place), BINS, dtype=torch.int32, device=place.device)
    return counts.scatter_add_(1, place, valid.flatten(1).to(torch.int32))


def median(counts: Counts) -> float:
    """Median over all pixels of all images [deg], the mean of the middle two where their number is even; NaN of none.

    Right to half a bin.
    """
    reached = counts.sum(0).cumsum(0)  # [bins]
    total = int(reached[-1])
    if total == 0:
        return float("nan")
    middle = torch.tensor([(total + 1) // 2, total // 2 + 1], device=counts.device)
    return torch.searchsorted(reached, middle).double().mean().item() * WIDTH


def summaries(
    errors: dict[str, Float[Tensor, " n"]],
    pixels: Float[Tensor, " n"],
    counts: Counts,
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> dict[str, Summary]:
    """Each metric over all pixels of a data set, with the interval of another draw of its images.

    Args:
        errors: of ``metrics.angles``: one number an image; NaN where an image has no valid pixel.
        pixels: valid ones of each image.
        counts: of ``histogram``.
        resamples: bootstrap draws of whole images.
        seed: of the draws.

    Returns:
        For each metric a summary whose mean, low and high are pooled; its median is that of the images' own numbers.
    """
    draw = {"resamples": resamples, "seed": seed}
    return {
        name: _median(values, counts, **draw) if name in MEDIANS else mean(name, values, pixels, **draw)
        for name, values in errors.items()
    }


def mean(
    name: str, values: Float[Tensor, " n"], pixels: Float[Tensor, " n"], *, resamples: int = 10_000, seed: int = 0
) -> Summary:
    """A metric that is a mean over pixels, or the root of one (``ROOTS``), pooled."""
    power = 2 if name in ROOTS else 1
    found = statistics.summarise(values**power, weights=pixels, resamples=resamples, seed=seed)
    root = 1 / power
    return Summary(found.mean**root, found.median**root, found.low**root, found.high**root, found.count)


def _median(values: Float[Tensor, " n"], counts: Counts, *, resamples: int, seed: int) -> Summary:
    """The pooled median, and its percentiles over draws of images."""
    kept = ~values.isnan()  # images without a valid pixel
    own, counts = values[kept], counts[kept]
    if not len(own):
        return statistics.summarise(own)
    reached = counts.double().cumsum(1).T.contiguous()  # [bins, m]
    draws = torch.cat(
        [_middles(drawn, reached) for drawn in statistics.counts(len(own), resamples=resamples, seed=seed)]
    )
    low, high = statistics.percentiles(draws)
    return Summary(median(counts), own.quantile(0.5).item(), low, high, len(own))


def _middles(drawn: Float[Tensor, "r m"], reached: Float[Tensor, "bins m"]) -> Float[Tensor, " r"]:
    """Pooled lower medians [deg] of resamples, each found by bisection over the bins."""
    wanted = drawn @ reached[-1] / 2  # [r]
    low = torch.zeros(len(drawn), dtype=torch.long, device=drawn.device)
    high = torch.full_like(low, BINS - 1)  # a bin that is reached
    for _ in range(BINS.bit_length()):
        middle = (low + high) // 2
        enough = (drawn * reached[middle]).sum(1) >= wanted
        low, high = torch.where(enough, low, (middle + 1).clamp(max=BINS - 1)), torch.where(enough, middle, high)
    return high * WIDTH
