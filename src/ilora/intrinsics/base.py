"""What every intrinsic defines, in one file each: its map, image, mirror, loss, metrics and picture."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float, UInt8
from torch import Tensor

from ilora.ops.ensembles import Samples
from ilora.records import Image, Loss, Map, Valid


@runtime_checkable
class Intrinsic(Protocol):
    """A physical map of the scene together with the image that stands for it.

    Attributes:
        name: ``normal``, ``depth``, ``albedo`` or ``shading``.
        channels: of the map.
        prompt: the words that text-conditioned generators are asked with.
        units: of the map, axes and colour space included, in words for file headers.
        uncertainty: what ``ensemble`` calls uncertainty, with its unit, in words for file headers.
        primary: the metric that tables and comparisons are sorted by; lower is better.
        range: least and greatest value of a painted map; files of integers are scaled by it.
    """

    name: str
    channels: int
    prompt: str
    units: str
    uncertainty: str
    primary: str
    range: tuple[float, float]

    def to_image(self, map: Map, valid: Valid) -> Image:
        """What the generator learns to paint, [-1, 1]; invalid pixels are neutral."""
        ...

    def from_image(self, image: Image) -> Map:
        """Physical values that an image stands for; the inverse of ``to_image`` where that exists."""
        ...

    def flip(self, map: Map) -> Map:
        """The map of the mirrored scene, not the mirrored array."""
        ...

    def relight(self, map: Map, gain: Float[Tensor, "3"]) -> Map:
        """The map of the same scene under its light times ``gain``, a factor for each channel of linear RGB."""
        ...

    def resize(self, map: Map, height: int, width: int) -> Float[Tensor, "b c height width"]:
        """The map sampled at another size, still in its units (normals stay unit length)."""
        ...

    def ensemble(self, samples: Samples) -> tuple[Map, Float[Tensor, "b 1 h w"]]:
        """The one map that several samples of it make, and how far they are apart at each pixel; two or more."""
        ...

    def loss(self, image: Image, map: Map, valid: Valid) -> Loss:
        """How far a painted image is from the map, in a form whose gradient is finite everywhere."""
        ...

    def metrics(self, map: Map, target: Map, valid: Valid) -> dict[str, Float[Tensor, " b"]]:
        """Error of each image under the field's names; NaN for an image without a valid pixel."""
        ...

    def show(self, map: Map) -> UInt8[Tensor, "b 3 h w"]:
        """Picture for people."""
        ...
