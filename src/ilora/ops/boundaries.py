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
    ours, theirs, known = _jumps(*metrics.positive(map, target, valid), valid)
    thresholds = torch.linspace(*RATIOS, dtype=torch.float64, device=map.device)
    total, weights = ours.new_zeros(2, len(map)).unbind()  # [b] each
    for threshold in thresholds:
        edges = (known & (ours > threshold.log()), known & (theirs > threshold.log()))
        both, found, true = (edge.sum(1).double() for edge in (edges[0] & edges[1], *edges))
        share = torch.where(true > 0, 2 * both / (found + true).clamp(min=1), 0)  # F1 in one fraction
        total, weights = total + threshold * share, weights + torch.where(true > 0, threshold, 0)
    return torch.where(weights > 0, total / weights, torch.nan).to(torch.promote_types(map.dtype, torch.float32))


def _jumps(
    x: Float[Tensor, "b 1 h w"], y: Float[Tensor, "b 1 h w"], valid: Bool[Tensor, "b 1 h w"]
) -> tuple[Float[Tensor, "b p"], Float[Tensor, "b p"], Bool[Tensor, "b p"]]:
    """Logarithm of the ratio of all ordered pairs of neighbours in both maps, and which pairs are valid."""
    jumps: tuple[list[Tensor], ...] = ([], [], [])
    for dim in (2, 3):
        size = valid.shape[dim] - 1
        known = (valid.narrow(dim, 0, size) & valid.narrow(dim, 1, size)).flatten(1)
        ours, theirs = ((z.narrow(dim, 1, size) / z.narrow(dim, 0, size)).log().flatten(1) for z in (x, y))
        for part, values in zip(jumps, ((ours, -ours), (theirs, -theirs), (known, known)), strict=True):
            part.extend(values)
    ours, theirs, known = (torch.cat(part, dim=1) for part in jumps)
    return ours, theirs, known
