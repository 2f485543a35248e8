"""StyleGAN 2: styles to an image through modulated convolutions, resolution after resolution (arXiv 1912.04958)."""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ilora.adapters.lora import effective_weight
from ilora.config import Configuration
from ilora.generators.stylegan_layers import (
    Dense,
    Kernel,
    Mapping,
    MappingShape,
    Styles,
    clamped,
    leaky,
    modulated,
)
from ilora.ops.fir import fir
from ilora.records import Image

TAPS = (0.125, 0.375, 0.375, 0.125)  # of every resampling filter


@dataclass(frozen=True, kw_only=True)
class Shape2(Configuration):
    """Of a StyleGAN 2, with ADA or without."""

    widths: tuple[int, ...]  # channels at 4 px, 8 px, ... up to the resolution
    clamp: float | None = None  # of activations; networks that were trained in half precision have one
    mapping: MappingShape = field(default_factory=MappingShape)

    @property
    def resolution(self) -> int:
        """Side of the image [px]."""
        return 4 * 2 ** (len(self.widths) - 1)

    @property
    def styles(self) -> int:
        """Layers that take a style of their own in W+."""
        return 2 * len(self.widths)


class Layer(nn.Module):
    """Modulated 3 x 3 convolution, noise, bias, rectifier; twice the side where ``up``."""

    def __init__(self, w: int, inputs: int, outputs: int, side: int, *, up: bool, clamp: float | None) -> None:
        super().__init__()
        self.up, self.clamp = up, clamp
        self.affine = Dense(w, inputs, start=1.0)
        self.conv = Kernel(inputs, outputs, 3, bias=False)
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise_const", torch.randn(side, side))
        self.register_buffer("taps", torch.tensor(TAPS), persistent=False)

    def forward(
        self, x: Float[Tensor, "b i h w"], style: Float[Tensor, "b d"], draws: torch.Generator | None
    ) -> Float[Tensor, "b o rows columns"]:
        """One step; ``draws`` gives new noise in training, None the noise that belongs to the network."""
        x = modulated(x, effective_weight(self.conv), self.affine(style), padding=1, up=self.up)
        if self.up:
            x = fir(x, self.taps, padding=(1, 1, 1, 1), gain=4)  # [b, o, 2 h + 1, 2 w + 1] -> [b, o, 2 h, 2 w]
        noise = self.noise_const if draws is None else _noise(x, draws)
        x = x + (noise * self.noise_strength + self.bias[:, None, None]).to(x)
        return clamped(leaky(x), self.clamp)


class Paint(nn.Module):
    """Modulated 1 x 1 convolution to colours; the style is not demodulated."""

    def __init__(self, w: int, inputs: int, *, clamp: float | None) -> None:
        super().__init__()
        self.clamp = clamp
        self.affine = Dense(w, inputs, start=1.0)
        self.conv = Kernel(inputs, 3, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Float[Tensor, "b i h w"], style: Float[Tensor, "b d"]) -> Image:
        """What this resolution adds to the image."""
        x = x * self.affine(style).to(x)[:, :, None, None]
        return clamped(F.conv2d(x, effective_weight(self.conv), self.bias), self.clamp).float()


class Block(nn.Module):
    """One resolution."""

    def __init__(self, shape: Shape2, level: int) -> None:
        super().__init__()
        w, after, side = shape.mapping.w, shape.widths[level], 4 * 2**level
        if level == 0:
            self.const = nn.Parameter(torch.empty(after, 4, 4))
            self.reset_parameters()
        else:
            self.conv0 = Layer(w, shape.widths[level - 1], after, side, up=True, clamp=shape.clamp)
        self.conv1 = Layer(w, after, after, side, up=False, clamp=shape.clamp)
        self.torgb = Paint(w, after, clamp=shape.clamp)

    def reset_parameters(self) -> None:
        """Draw the constant that everything is painted on, N(0, 1)."""
        if hasattr(self, "const"):
            nn.init.normal_(self.const)


class Synthesis2(nn.Module):
    """Styles to image: the sum of what each resolution paints."""

    def __init__(self, shape: Shape2) -> None:
        super().__init__()
        self.levels = len(shape.widths)
        for level in range(self.levels):
            self.add_module(f"b{4 * 2**level}", Block(shape, level))
        self.register_buffer("taps", torch.tensor(TAPS), persistent=False)

    def forward(self, styles: Styles, draws: torch.Generator | None = None) -> Image:
        """Image, not clamped; ``draws`` gives new noise, None the network's own (``noise_mode='const'``)."""
        x = self.b4.const.expand(len(styles), -1, -1, -1)  # [b, c, 4, 4]
        styles = styles.to(x)
        image: Image = torch.zeros((), device=x.device).expand(len(styles), 3, 2, 2)
        for level in range(self.levels):
            block, first = self.get_submodule(f"b{4 * 2**level}"), 2 * level - 1
            if level > 0:
                x = block.conv0(x, styles[:, first], draws)
            x = block.conv1(x, styles[:, first + 1], draws)
            with torch.autocast(x.device.type, enabled=False):
                image = fir(image, self.taps.float(), up=2, padding=(2, 1, 2, 1), gain=4)
            image = image + block.torgb(x, styles[:, first + 2])  # [b, 3, side, side]
        return image


class StyleGAN2(nn.Module):
    """Mapping and synthesis, as one network."""

    def __init__(self, shape: Shape2) -> None:
        super().__init__()
        self.shape = shape
        self.mapping = Mapping(shape.mapping)
        self.synthesis = Synthesis2(shape)

    def forward(self, styles: Styles, draws: torch.Generator | None = None) -> Image:
        """Image of styles in W+."""
        return self.synthesis(styles, draws)


def widths(resolution: int, *, base: int = 32768, most: int = 512) -> tuple[int, ...]:
    """Published channels at 4 px, 8 px, ...: ``base`` over the side, at most ``most`` (config F)."""
    return tuple(min(base // side, most) for side in (2**power for power in range(2, int(math.log2(resolution)) + 1)))


def _noise(x: Float[Tensor, "b o h w"], draws: torch.Generator) -> Float[Tensor, "b 1 h w"]:
    """Fresh noise, drawn where ``draws`` is."""
    return torch.randn((len(x), 1, *x.shape[-2:]), generator=draws, device=draws.device).to(x)
