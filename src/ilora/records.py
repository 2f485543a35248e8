"""The tensor types that every part of ilora shares.

Legend for shapes: b images, c channels, h w pixels, n tokens.
"""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int64
from torch import Tensor

Image = Float[Tensor, "b 3 h w"]  # sRGB, [-1, 1]
Map = Float[Tensor, "b c h w"]  # physical values; each intrinsic declares its units and axes
Valid = Bool[Tensor, "b 1 h w"]  # True where the map holds a measurement
Code = Float[Tensor, "b ..."]  # what a generator paints from: a latent, a style, a token embedding
Loss = Float[Tensor, "b"]  # one number an image, never reduced over the batch


@dataclass(frozen=True)
class Painted:
    """What a generator painted a picture from.

    Attributes:
        code: without the axis of the batch.
        generator: fingerprint of the one that painted it; to any other the code means nothing.
    """

    code: Float[Tensor, "..."]
    generator: str


@dataclass(frozen=True)
class Example:
    """One labelled picture at its own size, as a data set hands it out.

    Attributes:
        name: unique in its data set; outputs are named after it.
        image: picture, sRGB in [-1, 1].
        map: physical values of one intrinsic, in that intrinsic's units and axes.
        valid: True where ``map`` holds a measurement.
        painted: of pictures that a generator painted; None of all others.
    """

    name: str
    image: Float[Tensor, "3 h w"]
    map: Float[Tensor, "c h w"]
    valid: Bool[Tensor, "1 h w"]
    painted: Painted | None = None


@dataclass(frozen=True)
class Judgements:
    """People's answers to which of two points of a picture lies on the darker surface; WHDR is computed from them.

    Attributes:
        points: x and y of both points, as shares of the picture's width and height from its upper left, [0, 1).
        darker: 0 where both look the same, 1 where the first is darker, 2 where the second is.
        weight: confidence in the answer, above 0.
    """

    points: Float[Tensor, "n 2 2"]
    darker: Int64[Tensor, " n"]
    weight: Float[Tensor, " n"]

    def pixels(self, height: int, width: int) -> Int64[Tensor, "n 2 2"]:
        """Row and column of both points in a picture of that size."""
        size = self.points.new_tensor([height, width])
        return (self.points.flip(-1) * size).long().minimum(size.long() - 1)  # (x, y) -> (row, column)


@dataclass(frozen=True, kw_only=True)
class Judged(Example):
    """A picture of which people judged pairs of points, and nobody measured a map: none of its pixels is valid.

    Attributes:
        judgements: of the picture.
    """

    judgements: Judgements


@dataclass(frozen=True)
class Record:
    """A batch that a generator learns from: codes of pictures beside the maps of the same scenes.

    Attributes:
        code: what the generator paints each picture from.
        target: what the generator's native loss compares with (``Generator.target``); made once and cached.
        map: physical values at the generator's resolution.
        valid: True where ``map`` holds a measurement.
    """

    code: Code
    target: Code
    map: Map
    valid: Valid
