"""Labelled pictures under other light: the same scene, brighter or darker, and warmer or cooler.

Light is linear: in linear RGB a picture is the sum over lights of what the scene sends back, so a gain of each channel
is the same scene under light of that many times the strength and of another colour. Then geometry and albedo are what
they were, and light multiplies by the gain (``Intrinsic.relight``): the labels stay true for every intrinsic. Two
things a gain cannot do, which is why it is mild: bring back what the picture had clipped, and keep what it clips.
Rotations of the hue, which augment pictures elsewhere, are left out: no light does that, and albedo would have to turn
along.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from ilora.data.cache import content_hash
from ilora.intrinsics.base import Intrinsic
from ilora.ops import color
from ilora.records import Example

EXPOSURE = 0.5  # stops: the strength of the light is drawn from 2 ** [-EXPOSURE, EXPOSURE]
BALANCE = 0.25  # stops: so are red and blue against green


def gains(image: Float[Tensor, "3 h w"], count: int) -> Float[Tensor, "count 3"]:
    """Gains of the channels in linear RGB, drawn from the picture's content: the same ones in every fit."""
    seed = int(content_hash("light", image)[:15], 16)
    drawn = 2 * torch.rand(count, 3, generator=torch.Generator().manual_seed(seed)) - 1  # [count, 3] in [-1, 1]
    stops = EXPOSURE * drawn[:, :1] + BALANCE * drawn[:, 1:] @ torch.tensor([[1.0, 0, 0], [0, 0, 1.0]])
    return 2**stops


def relight(example: Example, intrinsic: Intrinsic, gain: Float[Tensor, "3"]) -> Example:
    """The scene under light times ``gain``, under the name ``NAME-relit``; what it makes too bright is clipped."""
    linear = color.to_linear((example.image + 1) / 2)
    image = (2 * color.to_srgb(gain[:, None, None] * linear) - 1).clamp(-1, 1)
    return Example(f"{example.name}-relit", image, intrinsic.relight(example.map[None], gain)[0], example.valid)
