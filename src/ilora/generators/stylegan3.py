"""StyleGAN 3 and XL: band-limited layers on Fourier features (Karras et al. 2021, arXiv 2106.12423)."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ilora.adapters.lora import effective_weight
from ilora.config import Configuration
from ilora.generators.stylegan_layers import Dense, Kernel, Mapping, MappingShape, Styles, clamped, leaky, modulated
from ilora.ops.fir import fir
from ilora.records import Image


@dataclass(frozen=True, kw_only=True)
class LayerShape(Configuration):
    """Of one layer."""

    name: str
    inputs: int
    outputs: int
    kernel: int = 3
    up: int = 1
    down: int = 1
    padding: tuple[int, ...] = (0, 0, 0, 0)  # left, right, top, bottom, after the zeros are put in; negative: crop
    up_taps: tuple[int, ...] = ()  # shape of the filter: (n,), (n, n), or () for none
    down_taps: tuple[int, ...] = ()
    clamp: float | None = 256.0
    paints: bool = False  # the last one: to colours


@dataclass(frozen=True, kw_only=True)
class Shape3(Configuration):
    """Of a StyleGAN 3, configurations T and R, or of XL."""

    resolution: int
    layers: tuple[LayerShape, ...]
    channels: int  # of the Fourier features
    size: tuple[int, ...]  # of their grid, columns and rows
    sampling_rate: float  # of the grid
    bandwidth: float
    scale: float = 0.25  # of the output
    mapping: MappingShape = field(default_factory=lambda: MappingShape(layers=2))

    @property
    def styles(self) -> int:
        """Layers that take a style of their own in W+: the Fourier features, then each layer."""
        return len(self.layers) + 1

    @classmethod
    def read(cls, values: dict[str, Any]) -> "Shape3":
        """As for every configuration; the layers may be dictionaries."""
        layers = [layer if isinstance(layer, LayerShape) else LayerShape.read(layer) for layer in values["layers"]]
        return super().read({**values, "layers": tuple(layers)})


class Fourier(nn.Module):
    """Fourier features that the first style turns and moves. Their numbers stay float32 in any network: rounding a
    frequency to 8 bits would move the far side of the image."""

    def __init__(self, shape: Shape3) -> None:
        super().__init__()
        self.size, self.rate, self.bandwidth = shape.size, shape.sampling_rate, shape.bandwidth
        self.affine = Dense(shape.mapping.w, 4)
        self.weight = nn.Parameter(torch.empty(shape.channels, shape.channels))
        self.register_buffer("transform", torch.eye(3))
        self.register_buffer("freqs", torch.zeros(shape.channels, 2))
        self.register_buffer("phases", torch.zeros(shape.channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the mixing weights, and let every style stand upright: (1, 0, 0, 0)."""
        nn.init.normal_(self.weight, std=1 / math.sqrt(len(self.weight)))
        nn.init.zeros_(self.affine.weight)
        with torch.no_grad():
            self.affine.bias.copy_(torch.tensor([1.0, 0, 0, 0]))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Fourier":
        """Follow to another device, not to another type."""
        return super()._apply(lambda tensor: tensor.to(fn(tensor.detach().flatten()[:0]).device), recurse)

    def forward(self, style: Float[Tensor, "b w"]) -> Float[Tensor, "b c rows columns"]:
        """sin(2 pi (f x + p)), faded out towards the band's limit, mixed."""
        with torch.autocast(style.device.type, enabled=False):
            turn = self.affine(style.float())  # [b, 4]: cosine, sine, x, y
            turn = turn / turn[:, :2].norm(dim=1, keepdim=True)
            move = _rotation(turn) @ _translation(turn) @ self.transform  # [b, 3, 3]
            phases = self.phases + (self.freqs @ move[:, :2, 2:])[:, :, 0]  # [b, c]
            freqs = self.freqs @ move[:, :2, :2]  # [b, c, 2]
            fade = 1 - (freqs.norm(dim=2) - self.bandwidth) / (self.rate / 2 - self.bandwidth)
            place = self._grid(style.device) @ freqs.mT[:, None]  # [b, rows, columns, c]
            waves = torch.sin(2 * math.pi * (place + phases[:, None, None])) * fade.clamp(0, 1)[:, None, None]
            return (waves @ self.weight.T).permute(0, 3, 1, 2)  # [b, c, rows, columns]

    def _grid(self, device: torch.device) -> Float[Tensor, "1 rows columns 2"]:
        """Centres of the samples; the picture's own part of it spans [-0.5, 0.5]."""
        columns, rows = self.size
        theta = torch.diag(torch.tensor([0.5 * columns / self.rate, 0.5 * rows / self.rate, 1.0], device=device))
        return F.affine_grid(theta[None, :2], [1, 1, rows, columns], align_corners=False)


class Layer3(nn.Module):
    """Modulated convolution, then the rectifier at a higher sampling rate, between two low-pass filters."""

    def __init__(self, w: int, shape: LayerShape) -> None:
        super().__init__()
        self.shape = shape
        self.affine = Dense(w, shape.inputs, start=1.0)
        self.conv = Kernel(shape.inputs, shape.outputs, shape.kernel, bias=False)
        self.bias = nn.Parameter(torch.zeros(shape.outputs))
        self.register_buffer("gain", torch.ones([]))  # of the input: one over the root of its mean square
        self.register_buffer("up_filter", torch.ones(shape.up_taps))
        self.register_buffer("down_filter", torch.ones(shape.down_taps))

    def forward(self, x: Float[Tensor, "b i h w"], style: Float[Tensor, "b d"]) -> Float[Tensor, "b o rows columns"]:
        """One step."""
        shape, style, weight = self.shape, self.affine(style), effective_weight(self.conv)
        if shape.paints:
            x = F.conv2d(x * style.to(x)[:, :, None, None], weight, padding=shape.kernel - 1)
        else:
            x = modulated(x, weight, style, padding=shape.kernel - 1)
        x = x * self.gain.to(x) + self.bias[:, None, None].to(x)
        x = fir(x, self.up_filter, up=shape.up, padding=shape.padding, gain=shape.up**2)
        x = clamped(x if shape.paints else leaky(x), shape.clamp)
        return fir(x, self.down_filter, down=shape.down)


class Synthesis3(nn.Module):
    """Styles to image."""

    def __init__(self, shape: Shape3) -> None:
        super().__init__()
        self.names = [layer.name for layer in shape.layers]
        self.scale = shape.scale
        self.input = Fourier(shape)
        for layer in shape.layers:
            self.add_module(layer.name, Layer3(shape.mapping.w, layer))

    def forward(self, styles: Styles) -> Image:
        """Image, not clamped."""
        weight = self.get_submodule(self.names[0]).bias
        x = self.input(styles[:, 0]).to(weight)  # [b, c, rows, columns]
        for index, name in enumerate(self.names):
            x = self.get_submodule(name)(x, styles[:, index + 1].to(weight))
        return x.float() * self.scale


class StyleGAN3(nn.Module):
    """Mapping and synthesis, as one network."""

    def __init__(self, shape: Shape3) -> None:
        super().__init__()
        self.shape = shape
        self.mapping = Mapping(shape.mapping)
        self.synthesis = Synthesis3(shape)

    def forward(self, styles: Styles) -> Image:
        """Image of styles in W+."""
        return self.synthesis(styles)


def _rotation(turn: Float[Tensor, "b 4"]) -> Float[Tensor, "b 3 3"]:
    """Of the plane, by cosine and sine."""
    cosine, sine, zero, one = turn[:, 0], turn[:, 1], torch.zeros_like(turn[:, 0]), torch.ones_like(turn[:, 0])
    return torch.stack([cosine, -sine, zero, sine, cosine, zero, zero, zero, one], dim=1).view(-1, 3, 3)


def _translation(turn: Float[Tensor, "b 4"]) -> Float[Tensor, "b 3 3"]:
    """Of the plane, against x and y."""
    zero, one = torch.zeros_like(turn[:, 0]), torch.ones_like(turn[:, 0])
    return torch.stack([one, zero, -turn[:, 2], zero, one, -turn[:, 3], zero, zero, one], dim=1).view(-1, 3, 3)
