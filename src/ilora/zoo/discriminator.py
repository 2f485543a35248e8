"""The other half of a GAN's training, which is not shipped: pictures to one number, high for real ones.

The residual discriminator of Karras et al. (2020, arXiv 1912.04958, sec. 4.1), written from the paper.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ilora.generators.stylegan2 import TAPS
from ilora.generators.stylegan_layers import Dense, Kernel, leaky
from ilora.ops.fir import fir
from ilora.records import Image


class Level(nn.Module):
    """Two convolutions and a shortcut from one resolution to half of it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv0, self.conv1 = Kernel(inputs, inputs, 3, bias=False), Kernel(inputs, outputs, 3, bias=False)
        self.skip = Kernel(inputs, outputs, 1, bias=False)
        self.bias0, self.bias1 = nn.Parameter(torch.zeros(inputs)), nn.Parameter(torch.zeros(outputs))
        self.register_buffer("taps", torch.tensor(TAPS), persistent=False)

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o rows columns"]:
        """Half the side; low-pass filtered before every second sample is dropped."""
        y = leaky(F.conv2d(x, self.conv0.weight, self.bias0, padding=1))
        y = fir(y, self.taps, padding=(2, 2, 2, 2))  # [b, i, h + 1, w + 1]
        y = leaky(F.conv2d(y, self.conv1.weight, self.bias1, stride=2))
        short = F.conv2d(fir(x, self.taps, padding=(1, 1, 1, 1), down=2), self.skip.weight)  # [b, o, h / 2, w / 2]
        return (y + short) / math.sqrt(2)


class Discriminator(nn.Module):
    """Pictures to logits; unlike the published one it begins at half the side, with kernels of 4 x 4 pixels, to spare
    the convolutions at the full one."""

    def __init__(self, widths: tuple[int, ...], *, group: int) -> None:
        super().__init__()
        self.group = group
        self.begin, self.begin_bias = Kernel(3, widths[-2], 4, bias=False), nn.Parameter(torch.zeros(widths[-2]))
        pairs = zip(widths[-2:0:-1], widths[-3::-1], strict=True)
        self.levels = nn.Sequential(*(Level(inputs, outputs) for inputs, outputs in pairs))
        self.last, self.last_bias = (
            Kernel(widths[0] + 1, widths[0], 3, bias=False),
            nn.Parameter(torch.zeros(widths[0])),
        )
        self.dense, self.out = Dense(16 * widths[0], widths[0]), Dense(widths[0], 1)

    def forward(self, images: Image) -> Float[Tensor, " b"]:
        """One logit a picture; those of a batch see how their group varies."""
        x = leaky(F.conv2d(images, self.begin.weight, self.begin_bias, stride=2, padding=1))  # [b, c, h / 2, w / 2]
        x = self.levels(x)  # [b, c, 4, 4]
        x = torch.cat([x, spread(x, self.group)], dim=1)
        x = leaky(F.conv2d(x, self.last.weight, self.last_bias, padding=1))
        return self.out(leaky(self.dense(x.flatten(1)))).flatten()


def spread(x: Float[Tensor, "b c h w"], group: int) -> Float[Tensor, "b 1 h w"]:
    """Standard deviation over the images of a group, mean over channels and places (Karras et al. 2018, sec. 3).

    Image i is in a group with i + n, i + 2 n, ..., where n is the number of groups.
    """
    size = min(group, len(x))
    deviation = (x.unflatten(0, (size, -1)).var(0, correction=0) + 1e-8).sqrt()  # [groups, c, h, w]
    level = deviation.mean((1, 2, 3))  # [groups]
    return level.repeat(size)[:, None, None, None].expand(-1, 1, *x.shape[2:])
