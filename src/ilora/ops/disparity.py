"""Depth from disparity that is known up to a scale."""

import torch
from jaxtyping import Float
from torch import Tensor

from ilora.ops import masked

NEAR = 0.99  # quantile of an image's disparities that counts as its nearest surface
FARTHEST = 20.0  # times as far as that is the farthest that a disparity is believed to tell


def relative_depth(disparity: Float[Tensor, "b 1 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Relative planar depth: 1 at each image's nearest surface, ``FARTHEST`` at most, larger is farther.

    depth = near / max(disparity, near / ``FARTHEST``), where near is the ``NEAR`` quantile. It is true up to a scale if
    0 stands for infinity in the disparity. Networks trained on affine-invariant disparity (MiDaS, Ranftl et al. 2022)
    know it up to a shift, too; then the order of depths is true and their ratios are not. The limit keeps the sky, and
    what the shift makes of it, from being everything that a map is about.

    An image whose near is 0 or less tells nothing: its depth is 1 everywhere.
    """
    disparity = masked.precise(disparity)
    everywhere = torch.ones_like(disparity, dtype=torch.bool)
    near = masked.quantile(disparity, everywhere, q=NEAR)[:, None, None, None]  # [b, 1, 1, 1]
    known = near > 0
    depth = near / torch.maximum(disparity, near / FARTHEST).clamp(min=torch.finfo(disparity.dtype).tiny)
    return torch.where(known, depth, 1)
