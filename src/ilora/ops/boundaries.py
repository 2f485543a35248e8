"""How well the edges of a depth map lie where depth really jumps, whatever its scale."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ilora.ops import metrics

RATIOS = (1.05, 1.25, 10)  # least and greatest ratio of neighbouring depths that is a boundary, and how many of them


def boundary_f1(
    map: Float[Tensor, "b 1 h w"], target: Float[Tensor, "b 1 h w"], valid: Bool[Tensor, "b 1 h w"]
) -> Float[Tensor, " b"]:
    """F1 of occlusion boundaries, 0 to 1, averaged over the ratios t of ``RATIOS`` with weights t.

    Bochkovskii et al. 2025, *Depth Pro*, section 3.3: of all ordered pairs of neighbours along x and y, those are
    boundaries whose depths have a ratio above t; precision and recall count the pairs that both maps call so. Scale
    has no influence; a shift has. Unlike in the published code (src/depth_pro/eval/boundary_metrics.py), precision and
    recall are taken over the four directions at once, as in the paper's equations, so that a scene without boundaries
    in some direction can still reach 1. Pairs with an invalid pixel are left out, and so are ratios that no pair of the
    target exceeds: an image of no boundary at all gives NaN.

    Raises:
        ValueError: shapes that do not belong together; NaN, infinity or a depth that is not positive inside the mask.
    """
    x, y = metrics.positive(map, target, valid)
    thresholds = torch.linspace(*RATIOS, dtype=torch.float64, device=x.device)
    total, weights = x.new_zeros(len(x)), x.new_zeros(len(x))
    for threshold in thresholds:
        both, found, true = x.new_zeros(3, len(x)).unbind()  # [b] each
        for dim in (2, 3):
            size = valid.shape[dim] - 1
            pair = valid.narrow(dim, 0, size) & valid.narrow(dim, 1, size)
            jumps = [(z.narrow(dim, 1, size) / z.narrow(dim, 0, size)).log() for z in (x, y)]
            for sign in (1, -1):
                ours, theirs = (pair & (sign * jump > threshold.log()) for jump in jumps)
                counts = (edge.flatten(1).sum(1) for edge in (ours & theirs, ours, theirs))
                both, found, true = (sum(pair) for pair in zip((both, found, true), counts, strict=True))
        share = torch.where(true > 0, 2 * both / (found + true).clamp(min=1), 0)  # F1 in one fraction
        total, weights = total + threshold * share, weights + torch.where(true > 0, threshold, 0)
    return torch.where(weights > 0, total / weights, torch.nan).to(torch.promote_types(map.dtype, torch.float32))
