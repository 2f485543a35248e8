"""A generator for tests: seeded, without files, 32 px, fast to adapt; an exact codec and one small transformer."""

import hashlib
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ilora.adapters.lora import disabled
from ilora.config import Readout
from ilora.generators.objective import latent_loss
from ilora.records import Code, Image, Loss, Valid

PATCH = 4  # side of a patch [px]
CHANNELS = 3 * PATCH * PATCH  # of a latent cell
WIDTH = 64  # of the transformer


class Codec(nn.Module):
    """Cosine transform of 4 x 4 patches: orthonormal, so that decoding undoes encoding to rounding."""

    def __init__(self) -> None:
        super().__init__()
        position = torch.arange(PATCH)
        waves = torch.cos(math.pi * (position + 0.5) * position[:, None] / PATCH) * math.sqrt(2 / PATCH)
        waves[0] /= math.sqrt(2)  # [frequency, position], rows orthonormal
        basis = torch.einsum("iy,jx->ijyx", waves, waves).reshape(-1, 1, PATCH, PATCH)  # [frequencies, 1, 4, 4]
        self.register_buffer("basis", basis.repeat(3, 1, 1, 1))  # [c, 1, 4, 4]

    def encode(self, image: Image) -> Float[Tensor, "b c rows columns"]:
        """Image [-1, 1] to 48 coefficients a patch: for each colour the mean first."""
        return F.conv2d(image, self.basis, stride=PATCH, groups=3)

    def decode(self, latent: Float[Tensor, "b c rows columns"]) -> Image:
        """Coefficients to image."""
        return F.conv_transpose2d(latent, self.basis, stride=PATCH, groups=3)


class Block(nn.Module):
    """Attention and a small perceptron, named like the blocks of real denoisers."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])
        self.ff = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens: Float[Tensor, "b n width"]) -> Float[Tensor, "b n width"]:
        """One residual step."""
        normal: Float[Tensor, "b n width"] = self.norm1(tokens)
        query, key, value = (
            layer(normal).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [b, heads, n, width / heads]
            for layer in (self.to_q, self.to_k, self.to_v)
        )
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)  # [b, n, width]
        tokens = tokens + self.to_out[0](mixed)
        return tokens + self.ff(self.norm2(tokens))


class Network(nn.Module):
    """Latent to latent: near the identity at birth, as a denoiser is at its last time step."""

    def __init__(self, blocks: int = 2) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(CHANNELS, WIDTH, 3, padding=1)
        self.position = nn.Parameter(torch.randn(1, WIDTH, 8, 8) / math.sqrt(WIDTH))
        self.blocks = nn.ModuleList([Block(WIDTH) for _ in range(blocks)])
        self.proj_out = nn.Linear(WIDTH, CHANNELS)
        self.gradient_checkpointing = False

    def enable_gradient_checkpointing(self) -> None:
        """Recompute each block in the backward pass instead of keeping what is inside it."""
        self.gradient_checkpointing = True

    def forward(self, latent: Float[Tensor, "b c rows columns"]) -> Float[Tensor, "b c rows columns"]:
        """The latent plus what the transformer adds to it."""
        feature: Float[Tensor, "b width rows columns"] = self.conv_in(latent)
        place = F.interpolate(self.position.float(), feature.shape[-2:], mode="bilinear")  # [1, c, rows, columns]
        tokens = (feature + place.to(feature.dtype)).flatten(2).mT  # [b, rows * columns, width]
        for block in self.blocks:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, use_reentrant=False)
            else:
                tokens = block(tokens)
        change = self.proj_out(tokens).mT  # [b, c, n]
        return latent + change.unflatten(2, latent.shape[-2:])  # [b, c, rows, columns]


class Toy:
    """See ``ilora.generators.base.Generator``. It has no text: ``ask`` changes nothing."""

    name = "toy"
    resolution = 32
    readout = Readout()  # without time steps it changes nothing

    def __init__(self, readout: Readout, device: str | torch.device, dtype: torch.dtype) -> None:
        self.readout = readout
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = Network()
        content = b"".join(tensor.numpy().tobytes() for tensor in network.requires_grad_(False).state_dict().values())
        self.fingerprint = hashlib.sha256(content).hexdigest()[:32]
        self.network = network.to(device, dtype).eval()
        self.codec = Codec().to(device)
        self.targets: dict[str, str | list[str]] = {
            "attention": r".*\.(to_q|to_k|to_v|to_out\.0)",
            "attention+conv": r".*\.(to_q|to_k|to_v|to_out\.0)|conv_in",
            "ff": r".*\.ff\.\d",
            "all": r".*",
        }

    def ask(self, prompt: str) -> None:
        """Nothing to condition."""

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Sides as multiples of the patch, about 32 x 32 px in all."""
        scale = self.resolution / math.sqrt(height * width)
        rows, columns = (max(1, round(side * scale / PATCH)) for side in (height, width))
        return rows * PATCH, columns * PATCH

    @torch.no_grad()
    def sample(self, seeds: Sequence[int], prompt: str | Sequence[str] = "") -> tuple[Image, Code]:
        """Smooth random patches."""
        side = self.resolution // PATCH
        fading = 0.5 ** torch.arange(CHANNELS // 3).repeat(3)[:, None, None]  # [48, 1, 1], the mean strongest
        drawn = [torch.randn(CHANNELS, side, side, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        code = (torch.stack(drawn) * fading).to(self.codec.basis.device)  # [b, 48, 8, 8]
        with disabled(self.network):
            code = self._paint(code)
        return self.decode(code).clamp(-1, 1), code

    @torch.no_grad()
    def encode(self, image: Image) -> Code:
        """Cosine coefficients of the patches."""
        return self.codec.encode(image.to(self.codec.basis))

    def target(self, image: Image) -> Code:
        """The same as ``encode``."""
        return self.encode(image)

    def decode(self, target: Code) -> Image:
        """The exact inverse of ``encode``."""
        return self.codec.decode(target.to(self.codec.basis))

    def forward(self, code: Code) -> Image:
        """What the (adapted) transformer makes of the code, decoded; not clamped."""
        return self.decode(self._paint(code))

    def loss(self, code: Code, target: Code, valid: Valid) -> Loss:
        """Squared error of the valid cells' coefficients."""
        return latent_loss(self._paint(code), target, valid)

    def _paint(self, code: Float[Tensor, "b c rows columns"]) -> Float[Tensor, "b c rows columns"]:
        weight = self.network.conv_in.weight
        return self.network(code.to(weight.device, weight.dtype)).float()


def recognises(name_or_path: str) -> bool:
    """Whether the toy is meant; it has one name and no files."""
    return name_or_path == Toy.name


def load(name: str, *, device: str | torch.device, dtype: torch.dtype, readout: Readout) -> Toy:
    """The one toy there is; it has no time steps, so ``readout`` is carried along and changes nothing."""
    return Toy(readout, device, dtype)
