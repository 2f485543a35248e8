"""How good a generator's pictures are: distances between sets of pictures, without any network from elsewhere.

Fréchet and kernel distance need features. Ours come from a small frozen *scene encoder*, trained to read the renderer's
factors (room size, camera, furniture, colours, light) off a picture. Sliced Wasserstein distance needs no network.
"""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ilora.zoo.loop import mixed, train
from ilora.zoo.pictures import Pictures
from ilora.zoo.recipes import Training

VERSION = 1  # of the scene encoder; distances made with different versions do not compare
ENCODER = Training(steps=1000, batch=64, lr=2e-3, ema=0.99)


class SceneEncoder(nn.Module):
    """Picture to a feature vector from which the renderer's factors can be read linearly."""

    def __init__(self, factors: int, *, width: int = 32, features: int = 128) -> None:
        super().__init__()
        widths = [width, 2 * width, 3 * width, 4 * width]
        layers: list[nn.Module] = [nn.PixelUnshuffle(4)]  # [b, 48, h/4, w/4]
        before = 48
        for level, after in enumerate(widths):
            layers += [
                nn.Conv2d(before, after, 3, stride=2 if level else 1, padding=1),
                nn.GroupNorm(8, after),
                nn.SiLU(),
            ]
            layers += [nn.Conv2d(after, after, 3, padding=1), nn.GroupNorm(8, after), nn.SiLU()]
            before = after
        self.body = nn.Sequential(*layers)
        self.neck = nn.Linear(2 * before, features)
        self.head = nn.Linear(features, factors)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Features: mean and largest activation of each channel, projected."""
        maps = self.body(images)  # [b, c, h/32, w/32]
        return F.silu(self.neck(torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1)))

    def factors(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]:
        """Standardised factors."""
        return self.head(self(images))


def factor_table(pictures: Pictures) -> tuple[list[str], Float[Tensor, "n f"]]:
    """Names and standardised values of the factors that vary."""
    names = sorted({name for row in pictures.factors for name in row})
    table = torch.tensor([[float(row.get(name, 0.0)) for name in names] for row in pictures.factors])
    varying = table.std(0) > 1e-6
    table = table[:, varying]
    return [n for n, v in zip(names, varying.tolist(), strict=True) if v], (table - table.mean(0)) / table.std(0)


def train_encoder(pictures: Pictures, folder: Path, *, config: Training = ENCODER, device: str = "cpu") -> SceneEncoder:
    """Train the scene encoder to regress the factors of rendered pictures."""
    _, table = factor_table(pictures)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        encoder = SceneEncoder(table.shape[1]).to(device, memory_format=torch.channels_last)
    table = table.to(device)

    def loss(step: int, numbers: torch.Generator) -> Float[Tensor, ""]:
        index = torch.randint(len(pictures), (config.batch,), generator=numbers)
        images = pictures.images(index).to(device)
        images = images + 0.05 * torch.randn(images.shape, generator=numbers).to(device)
        with mixed(device):
            guess = encoder.factors(images.contiguous(memory_format=torch.channels_last))
        return F.smooth_l1_loss(guess.float(), table[index.to(device)])

    return train(encoder, loss, config, folder)


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


@torch.no_grad()
def features(encoder: SceneEncoder, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
    """Features of many pictures, in batches."""
    device = next(encoder.parameters()).device
    return torch.cat([encoder(part.to(device)).float().cpu() for part in images.split(64)])


def measure(
    encoder: SceneEncoder, painted: Float[Tensor, "n 3 h w"], real: Float[Tensor, "m 3 h w"]
) -> dict[str, float]:
    """All distances between painted and real pictures; lower is better."""
    a, b = features(encoder, painted), features(encoder, real)
    return {
        "frechet": frechet(a, b),
        "kernel": kernel_distance(a, b),
        "sliced_wasserstein": sliced_wasserstein(painted, real),
    }
