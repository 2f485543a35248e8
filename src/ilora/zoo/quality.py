"""How good a generator's pictures are: distances between sets of pictures, without any network from elsewhere.

Fréchet and kernel distance need features: those of ``ilora.zoo.scene_encoder``. Sliced Wasserstein distance needs none.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ilora.zoo import scene_encoder


def frechet(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    """Fréchet distance between normal distributions fitted to two sets of features (Heusel et al. 2017, eq. 6)."""
    a, b = a.double(), b.double()
    ca, cb = torch.cov(a.T), torch.cov(b.T)
    # tr sqrt(ca cb) is the sum of the square roots of the eigenvalues of sqrt(ca) cb sqrt(ca), which is symmetric.
    values, vectors = torch.linalg.eigh(ca)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cb @ root).clamp(min=0).sqrt().sum()
    return float((a.mean(0) - b.mean(0)).square().sum() + ca.trace() + cb.trace() - 2 * cross)


def kernel_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    """Unbiased squared maximum mean discrepancy with the cubic kernel (Bińkowski et al. 2018, sec. 4)."""
    a, b = a.double(), b.double()

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / x.shape[1] + 1) ** 3

    n, m = len(a), len(b)
    aa, bb = kernel(a, a), kernel(b, b)
    within = (aa.sum() - aa.trace()) / (n * (n - 1)) + (bb.sum() - bb.trace()) / (m * (m - 1))
    return float(within - 2 * kernel(a, b).mean())


def sliced_wasserstein(
    a: Float[Tensor, "n 3 h w"], b: Float[Tensor, "m 3 h w"], *, seed: int = 0, slices: int = 256
) -> float:
    """Sliced Wasserstein distance of 7 x 7 patches, mean over Laplacian levels (Karras et al. 2018, sec. 5).

    Patches are standardised by the mean and deviation of ``b``, the real pictures.
    """
    numbers = torch.Generator().manual_seed(seed)
    total, levels = 0.0, int(math.log2(min(a.shape[-2:]) / 16)) + 1
    for level in range(levels):
        last = level == levels - 1
        (pa, a), (pb, b) = (_band(a, last), _band(b, last))
        xa, xb = _patches(pa, numbers), _patches(pb, numbers)  # [k, 147]
        centre, spread = xb.mean(0), xb.std(0).clamp(min=1e-6)
        directions = F.normalize(torch.randn(147, slices, generator=numbers), dim=0)
        sa = ((xa - centre) / spread @ directions).sort(dim=0).values
        sb = ((xb - centre) / spread @ directions).sort(dim=0).values
        total += float((sa - sb).abs().mean())
    return total / levels


def _band(images: Tensor, last: bool) -> tuple[Tensor, Tensor]:
    """One level of a Laplacian pyramid and the images of the next."""
    if last:
        return images, images
    small = F.avg_pool2d(images, 2)
    return images - F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False), small


def _patches(images: Float[Tensor, "n 3 h w"], numbers: torch.Generator, count: int = 16384) -> Float[Tensor, "k 147"]:
    """``count`` random 7 x 7 patches."""
    n, _, h, w = images.shape
    index = torch.randint(n, (count, 1, 1), generator=numbers)
    top = torch.randint(h - 6, (count, 1, 1), generator=numbers) + torch.arange(7).view(1, 7, 1)
    left = torch.randint(w - 6, (count, 1, 1), generator=numbers) + torch.arange(7).view(1, 1, 7)
    return images.permute(0, 2, 3, 1)[index, top, left].flatten(1)  # [k, 7 * 7 * 3]


def measure(painted: Float[Tensor, "n 3 h w"], real: Float[Tensor, "m 3 h w"]) -> dict[str, float]:
    """All distances between painted and real pictures; lower is better. Features are those of the shipped encoder."""
    encoder = scene_encoder.shipped()
    a, b = scene_encoder.features(encoder, painted), scene_encoder.features(encoder, real)
    return {
        "frechet": frechet(a, b),
        "kernel": kernel_distance(a, b),
        "sliced_wasserstein": sliced_wasserstein(painted, real),
    }
