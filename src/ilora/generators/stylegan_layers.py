"""What StyleGAN 2 and 3 are made of: a mapping from noise to styles, and convolutions that a style modulates.

Written from the equations of Karras et al. (2020, arXiv 1912.04958; 2021, arXiv 2106.12423). The equalised gains that
their layers multiply weights with at each call are folded into the weights here: every layer is plain, and an adapter
merges into it exactly.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ilora.config import Configuration

EPSILON = 1e-8  # under square roots, as published
Styles = Float[Tensor, "b n d"]  # one style a layer, W+


@dataclass(frozen=True, kw_only=True)
class MappingShape(Configuration):
    """Of the mapping network."""

    z: int = 512
    w: int = 512
    layers: int = 8
    classes: int = 0  # 0: unconditional
    embedding: int = 0  # width of the table of classes (XL); 0: the class itself is projected (2, 3)
    class_width: int = 0  # of the projected class, which stands beside the noise
    class_activation: bool = False  # of the projection
    centres: int = 1  # of truncation: one, or one a class (XL)


class Dense(nn.Linear):
    """A linear layer that is born as StyleGAN's are: weights N(0, 1 / inputs), a constant bias."""

    def __init__(self, inputs: int, outputs: int, *, start: float = 0.0) -> None:
        self.start = start
        super().__init__(inputs, outputs)

    def reset_parameters(self) -> None:
        """Draw the weights again."""
        nn.init.normal_(self.weight, std=1 / math.sqrt(self.in_features))
        nn.init.constant_(self.bias, self.start)


class Kernel(nn.Conv2d):
    """Weights of a modulated convolution, born N(0, 1 / inputs); demodulation forgets their scale. No bias."""

    def reset_parameters(self) -> None:
        """Draw the weights again."""
        nn.init.normal_(self.weight, std=1 / math.sqrt(self.weight[0].numel()))


class Mapping(nn.Module):
    """Noise z and class to a style w."""

    def __init__(self, shape: MappingShape) -> None:
        super().__init__()
        self.shape = shape
        width = shape.class_width if shape.classes else 0
        if shape.embedding:
            self.embed: nn.Module = nn.Embedding(shape.classes, shape.embedding)
            self.embed_proj = Dense(shape.embedding, width)
        elif shape.classes:
            self.embed = Dense(shape.classes, width)
        inputs = shape.z + width
        for index in range(shape.layers):
            self.add_module(f"fc{index}", Dense(inputs if index == 0 else shape.w, shape.w))
        self.register_buffer("w_avg", torch.zeros([shape.w] if shape.centres == 1 else [shape.centres, shape.w]))

    def forward(self, z: Float[Tensor, "b z"], classes: Int[Tensor, " b"] | None = None) -> Float[Tensor, "b w"]:
        """Style of each image, in the network's type."""
        weight = self.fc0.weight
        x = _unit(z.to(weight))
        if self.shape.classes:
            x = torch.cat([x, _unit(self._class(classes))], dim=1)  # [b, z + class width]
        for index in range(self.shape.layers):
            x = leaky(self.get_submodule(f"fc{index}")(x))
        return x

    def centre(self, classes: Int[Tensor, " b"] | None = None) -> Float[Tensor, "_ w"]:
        """What truncation pulls a style to: the mean style, of its class where there is one a class; else one row."""
        mean: Float[Tensor, "*n w"] = self.w_avg
        if mean.ndim == 1:
            return mean[None]
        return mean.mean(0, keepdim=True) if classes is None else mean[classes]

    def _class(self, classes: Int[Tensor, " b"]) -> Float[Tensor, "b d"]:
        if self.shape.embedding:
            projected = self.embed_proj(self.embed(classes))
            return leaky(projected) if self.shape.class_activation else projected
        return self.embed(F.one_hot(classes, self.shape.classes).to(self.embed.weight))


def truncate(
    style: Float[Tensor, "b d"],
    centre: Float[Tensor, "_ d"],
    *,
    layers: int,
    psi: float = 1.0,
    cutoff: int | None = None,
) -> Styles:
    """One style for every layer, pulled to the centre: w <- c + psi (w - c) (Karras et al. 2019, app. B).

    Args:
        psi: 1 leaves the style as it is, 0 gives the centre.
        cutoff: layers that are pulled, from the coarsest; None: all.
    """
    styles = style[:, None].expand(-1, layers, -1)  # [b, n, d]
    pulled = centre[:, None] + psi * (styles - centre[:, None])
    count = layers if cutoff is None else cutoff
    return torch.cat([pulled[:, :count], styles[:, count:]], dim=1)


def leaky(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Leaky rectifier of slope 0.2 that keeps the variance: times the square root of 2."""
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def demodulation(weight: Float[Tensor, "o i k l"], style: Float[Tensor, "b i"]) -> Float[Tensor, "b o 1 1"]:
    """Factor that gives each output of a modulated convolution unit variance (2020, eq. 3), computed in float32."""
    power = weight.float().square().sum((2, 3))  # [o, i]
    # Not a matrix product: autocast would round one to 8 bits.
    total = (style.float().square()[:, None] * power).sum(2)  # [b, o]
    return (total + EPSILON).rsqrt()[:, :, None, None]


def modulated(
    x: Float[Tensor, "b i h w"],
    weight: Float[Tensor, "o i k l"],
    style: Float[Tensor, "b i"],
    *,
    padding: int = 0,
    up: bool = False,
) -> Float[Tensor, "b o rows columns"]:
    """Convolution with w' = s_i w, demodulated (2020, eqs. 1 and 3).

    The scales go to the activations before and after it, which is the same and needs no grouped convolution.

    Args:
        up: transposed convolution of stride 2, h to 2 h + 1.
    """
    x = x * style.to(x)[:, :, None, None]
    x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2) if up else F.conv2d(x, weight, padding=padding)
    return x * demodulation(weight, style).to(x)


def clamped(x: Float[Tensor, "*shape"], limit: float | None) -> Float[Tensor, "*shape"]:
    """Within [-limit, limit], where there is one."""
    return x if limit is None else x.clamp(-limit, limit)


def _unit(x: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
    """Of mean square 1."""
    return x * (x.square().mean(1, keepdim=True) + EPSILON).rsqrt()
