"""Finite impulse response filters on images: zeros between samples, a filter, every n-th sample."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def fir(
    image: Float[Tensor, "b c h w"],
    taps: Float[Tensor, "*n"],
    *,
    up: int = 1,
    down: int = 1,
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    gain: float = 1.0,
) -> Float[Tensor, "b c rows columns"]:
    """Convolve each channel: ``up - 1`` zeros after every sample, padding, the filter, every ``down``-th result.

    The filter is mirrored as a convolution demands (``scipy.signal.upfirdn``), and only whole overlaps count.

    Args:
        taps: of the filter; one axis stands for its outer product with itself, none for the identity.
        padding: zeros at the left, right, top and bottom after the insertion; negative numbers crop.
        gain: of the filter; ``up`` squared keeps the brightness.
    """
    b, c, h, w = image.shape
    if up > 1:
        image = F.pad(image[:, :, :, None, :, None], (0, up - 1, 0, 0, 0, up - 1))  # [b, c, h, up, w, up]
        image = image.reshape(b, c, h * up, w * up)
    image = F.pad(image, padding)
    if taps.ndim == 0:
        return image[:, :, ::down, ::down] * gain
    kernel = taps.to(image).flip(tuple(range(taps.ndim)))
    if taps.ndim == 2:
        return F.conv2d(image, (kernel * gain).expand(c, 1, *kernel.shape), stride=down, groups=c)
    line = (kernel * gain**0.5).expand(c, 1, 1, -1)  # [c, 1, 1, n]
    image = F.conv2d(image, line, stride=(1, down), groups=c)
    return F.conv2d(image, line.mT, stride=(down, 1), groups=c)
