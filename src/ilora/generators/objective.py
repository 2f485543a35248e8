"""The native objective of generators that paint through a convolutional codec: squared error of latent cells."""

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ilora.records import Loss, Valid


def cells(valid: Valid, factor: int) -> Bool[Tensor, "b 1 rows columns"]:
    """Latent cells all of whose ``factor`` x ``factor`` pixels are valid.

    The rule of Marigold, Lotus and GenPercept. The codec sees further than one cell, so a cell beside an invalid one
    still knows a little of it.

    Raises:
        ValueError: the sides are not multiples of ``factor``.
    """
    height, width = valid.shape[-2:]
    if height % factor or width % factor:
        raise ValueError(f"valid must have sides that are multiples of {factor} px, got {height} x {width}")
    return F.max_pool2d((~valid).float(), factor) == 0


def latent_loss(
    estimate: Float[Tensor, "b c rows columns"], target: Float[Tensor, "b c rows columns"], valid: Valid
) -> Loss:
    """Mean squared error over channels and valid cells of each image, in float32; 0 for an image without any.

    Args:
        valid: of the pixels; all True gives the plain mean of the published recipe.
    """
    inside = cells(valid, valid.shape[-1] // estimate.shape[-1])
    squared = (estimate.float() - target.float()).square().mean(1, keepdim=True)  # [b, 1, rows, columns]
    return (squared * inside).flatten(1).sum(1) / inside.flatten(1).sum(1).clamp(min=1)
