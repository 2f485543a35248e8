"""From the numbers of batches to those of a data set."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ilora.ops import pooling
from ilora.ops.statistics import Summary, summarise
from ilora.protocols.judge import Verdict


class Tally:
    """What a protocol says about each image of a data set, filled batch by batch.

    Attributes:
        errors: metric to one number an image; NaN where there is none.
        pixels: of each image that counted.
        angles: histograms of the images where the protocol pools pixels; else None.
    """

    def __init__(self, count: int) -> None:
        """Room for so many images."""
        self.errors: dict[str, Float[Tensor, " n"]] = {}
        self.pixels: Float[Tensor, " n"] = torch.zeros(count, dtype=torch.float64)
        self.angles: Int[Tensor, "n bins"] | None = None

    def add(self, places: Int[Tensor, " b"], verdict: Verdict) -> None:
        """Note the images at these places."""
        for metric, values in verdict.scores.items():
            column = self.errors.setdefault(metric, torch.full_like(self.pixels, torch.nan))
            column[places] = values.double()
        self.pixels[places] = verdict.pixels
        if verdict.angles is not None:
            empty = verdict.angles.new_zeros(len(self.pixels), verdict.angles.shape[1])
            self.angles = empty if self.angles is None else self.angles
            self.angles[places] = verdict.angles

    def summaries(self, *, resamples: int = 10_000, seed: int = 0) -> dict[str, Summary]:
        """Each metric over the data set, aggregated as the protocol says, with its bootstrap interval."""
        if self.angles is not None:
            return pooling.summaries(self.errors, self.pixels, self.angles, resamples=resamples, seed=seed)
        return {name: summarise(values, resamples=resamples, seed=seed) for name, values in self.errors.items()}
