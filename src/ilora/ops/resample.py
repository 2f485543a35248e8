"""Maps at another size."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from ilora.ops import masked


def resize(field: Float[Tensor, "b c h w"], height: int, width: int) -> Float[Tensor, "b c {height} {width}"]:
    """Bilinear interpolation between pixel centres; where it shrinks, each pixel averages all that it covers.

    Knows no mask: what is invalid bleeds into its neighbours, unless it is 0 and the result is divided by the share of
    valid pixels, resized in the same way.

    Args:
        field: any unit, linear in it (a colour is averaged as light only where it is given as light).
        height, width: wanted [px].
    """
    if field.shape[-2:] == (height, width):
        return field
    sized = interpolate(masked.precise(field), (height, width), mode="bilinear", antialias=True, align_corners=False)
    return sized.to(field.dtype)
