"""Several samples of one map: how far they are apart, pixel by pixel. Two samples or more."""

import torch
from jaxtyping import Float
from torch import Tensor

from ilora.ops import alignment, geometry

Samples = Float[Tensor, "n b c h w"]


def deviation(samples: Samples) -> Float[Tensor, "b 1 h w"]:
    """Standard deviation in the map's units (divided by n - 1); of several channels the root of their mean variance."""
    return samples.var(0, correction=1).mean(1, keepdim=True).sqrt()


def angular_deviation(samples: Samples, mean: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Root mean square angle between the samples and their mean direction [deg] (divided by n - 1)."""
    angles = torch.stack([geometry.angle(sample, mean) for sample in samples])  # [n, b, 1, h, w]
    return (angles.square().sum(0) / (len(samples) - 1)).sqrt()


def aligned(samples: Samples) -> Samples:
    """Each sample with the scale and shift that bring it closest to the mean of all.

    For maps whose scale and shift are unknown: they are not what the samples disagree about.
    """
    mean = samples.mean(0)
    everywhere = torch.ones_like(mean[:, :1], dtype=torch.bool)
    return torch.stack([alignment.by_scale_and_shift(sample, mean, everywhere) for sample in samples])
