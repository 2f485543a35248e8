"""Surface normals: unit vectors in camera axes, painted as colours."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ilora.ops import color, ensembles, geometry, masked, metrics, resample
from ilora.records import Image, Loss, Valid

Normals = Float[Tensor, "b 3 h w"]  # unit length; RUB: x right, y up, z towards the viewer

SOFT = 0.05  # length below which a painted vector counts less and less as a direction
LENGTH_WEIGHT = 0.1  # of the squared error of the length, against radians


class Normal:
    """Direction in which a visible surface faces. The image is the vector itself, one component a channel."""

    name = "normal"
    channels = 3
    prompt = "surface normal"
    units = "unit vector, camera axes RUB: x right, y up, z towards the viewer"
    uncertainty = "root mean square angle of the samples to their mean direction, degrees"
    primary = "mean_angle"
    range = (-1.0, 1.0)

    def to_image(self, map: Normals, valid: Valid) -> Image:
        """The components as red, green and blue, [-1, 1]; invalid pixels are 0, the grey that no direction has."""
        return torch.where(valid, map, 0)

    def from_image(self, image: Image) -> Normals:
        """Unit vectors; a pixel shorter than 1e-6 has no direction and faces the viewer."""
        image = masked.precise(image)
        length = torch.linalg.vector_norm(image, dim=1, keepdim=True)
        return geometry.normalize(torch.where(length > 1e-6, image, _frontal(image)))

    def flip(self, map: Normals) -> Normals:
        """The scene in a mirror: columns reversed and x negated."""
        return map.flip(-1) * map.new_tensor([-1, 1, 1])[:, None, None]

    def relight(self, map: Normals, gain: Float[Tensor, "3"]) -> Normals:
        """Geometry knows no light."""
        return map

    def resize(self, map: Normals, height: int, width: int) -> Float[Tensor, "b 3 height width"]:
        """Averaged as vectors, then of unit length again; 0 where they cancel."""
        return geometry.normalize(resample.resize(map, height, width))

    def ensemble(self, samples: ensembles.Samples) -> tuple[Normals, Float[Tensor, "b 1 h w"]]:
        """Mean direction (where they cancel, towards the viewer), and root mean square angle to it [deg]."""
        mean = self.from_image(samples.mean(0))
        return mean, ensembles.angular_deviation(samples, mean)

    def loss(self, image: Image, map: Normals, valid: Valid) -> Loss:
        """Mean angle [rad] to the painted vector, plus a tenth of the squared error of its length.

        The angle is ``geometry.angle`` of the vector v shortened to v / sqrt(|v|^2 + SOFT^2): its gradient is finite at
        0 and 180 deg, where the arccosine's is not, and below 1 / SOFT for vectors that vanish, which cost 90 deg.
        Pixels whose map is a zero vector do not count.
        """
        valid = valid & (torch.where(valid, map, 0) != 0).any(1, keepdim=True)
        image = torch.where(valid, masked.precise(image), 0)
        wanted = geometry.normalize(torch.where(valid, masked.precise(map), _frontal(image)))
        length = torch.linalg.vector_norm(image, dim=1, keepdim=True)  # [b, 1, h, w]
        soft = image / (length.square() + SOFT**2).sqrt()
        apart, along = (torch.linalg.vector_norm(v, dim=1, keepdim=True) for v in (soft - wanted, soft + wanted))
        error = 2 * torch.atan2(apart, along) + LENGTH_WEIGHT * (length - 1).square()
        return masked.mean(error, valid, empty=0.0)

    def metrics(self, map: Normals, target: Normals, valid: Valid) -> dict[str, Float[Tensor, " b"]]:
        """Angles between the vectors [deg] and shares of the pixels below thresholds [%]."""
        return metrics.angles(map, target, valid)

    def show(self, map: Normals) -> UInt8[Tensor, "b 3 h w"]:
        """Components from -1 to 1 as bytes: floors green, walls facing the camera lilac. NaN is black."""
        return color.to_uint8((map + 1) / 2)


def _frontal(like: Image) -> Normals:
    """Vectors that face the viewer."""
    return like.new_tensor([0, 0, 1])[:, None, None].expand_as(like)
