"""Directions, axes, cameras.

Axes are named by the directions in which x, y and z grow: R right, L left, U up, D down, B back (towards the viewer),
F forward (into the scene). ilora's own are RUB, as in OpenGL: a floor is (0, 1, 0), a wall that faces the camera
(0, 0, 1).

A camera is its intrinsic matrix [px] with the centre of the first pixel at (0.5, 0.5), so that a resized picture only
scales the matrix. Calibrations that put that centre at (0, 0), as OpenCV's do, need 0.5 px added to their principal
point.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ilora.ops import masked

_LETTERS = {"R": (0, 1), "L": (0, -1), "U": (1, 1), "D": (1, -1), "B": (2, 1), "F": (2, -1)}  # line of RUB, direction


def normalize(vector: Float[Tensor, "b c h w"], *, epsilon: float = 1e-6) -> Float[Tensor, "b c h w"]:
    """Vectors of unit length; those shorter than ``epsilon`` are divided by it, so zero stays zero.

    Gradients stay below 1 / epsilon.
    """
    return vector / torch.linalg.vector_norm(vector, dim=1, keepdim=True).clamp(min=epsilon)


def angle(a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Angle between two vector fields [deg], 0 to 180; lengths do not matter.

    Kahan 2006, *How futile are mindless assessments of roundoff*, section 12: twice the arctangent of the difference
    over the sum of the vectors, each stretched by the other's length. Exact at 0 and 180, where the arccosine is blind
    below 0.02 deg. A zero vector has no direction and counts as 90 deg from everything.
    """
    a, b = masked.precise(a), masked.precise(b)
    length_a, length_b = (torch.linalg.vector_norm(v, dim=1, keepdim=True) for v in (a, b))  # [b, 1, h, w]
    p, q = a * length_b, b * length_a
    half = torch.atan2(
        torch.linalg.vector_norm(p - q, dim=1, keepdim=True), torch.linalg.vector_norm(p + q, dim=1, keepdim=True)
    )
    return torch.rad2deg(2 * torch.where(length_a * length_b > 0, half, math.pi / 4))


def convert(vector: Float[Tensor, "b 3 h w"], source: str, target: str) -> Float[Tensor, "b 3 h w"]:
    """The same vectors, written in other axes.

    Args:
        vector: components along the axes of ``source``; any length and unit.
        source: axes that the components are in: RUB (OpenGL), LUB (DSINE), RDF (OpenCV), or any three such letters.
        target: axes wanted.

    Raises:
        ValueError: a name that is not three of R|L, U|D, B|F in some order.
    """
    place = {line: (index, sign) for index, (line, sign) in enumerate(_axes(source))}
    order, signs = [], []
    for line, sign in _axes(target):
        order.append(place[line][0])
        signs.append(place[line][1] * sign)
    return vector[:, order] * vector.new_tensor(signs)[:, None, None]


def _axes(name: str) -> list[tuple[int, int]]:
    """Line of RUB and direction along it, for each letter of a name."""
    axes = [_LETTERS[letter] for letter in name if letter in _LETTERS]
    if len(name) != 3 or sorted(line for line, _ in axes) != [0, 1, 2]:
        raise ValueError(f"axes must be one each of R|L, U|D and B|F, such as RUB, LUB or RDF, got {name!r}; "
                         "spell the directions in which x, y and z grow")  # fmt: skip
    return axes


def upward(normal: Float[Tensor, "b 3 h w"], valid: Bool[Tensor, "b 1 h w"]) -> Float[Tensor, " b"]:
    """Share of each image's floor that points up; NaN for an image without.

    Pictures are mostly taken upright, so floor is what is level in the lower third: valid pixels there whose normal
    (RUB, unit length) leans up or down by more than 30 deg.
    """
    low = torch.arange(normal.shape[2], device=normal.device)[:, None] >= normal.shape[2] * 2 // 3
    floor = valid & low & (normal[:, 1:2].abs() > 0.5)
    return masked.mean((normal[:, 1:2] > 0).to(normal.dtype), floor)


def rays(camera: Float[Tensor, "b 3 3"], height: int, width: int) -> Float[Tensor, "b 3 h w"]:
    """Points at planar depth 1 that each pixel's centre looks at, RUB; the third component is -1.

    Args:
        camera: intrinsic matrix [px], the first pixel's centre at (0.5, 0.5).
        height, width: of the picture [px].
    """
    y = torch.arange(height, dtype=camera.dtype, device=camera.device) + 0.5
    x = torch.arange(width, dtype=camera.dtype, device=camera.device) + 0.5
    pixel = torch.stack([*torch.meshgrid(x, y, indexing="xy"), torch.ones_like(x).expand(height, width)])  # [3, h, w]
    seen = torch.linalg.inv(camera) @ pixel.flatten(1)  # [b, 3, h*w], RDF
    return convert(seen.unflatten(2, (height, width)), "RDF", "RUB")


def rays_by_share(matrix: Float[Tensor, "3 3"], height: int, width: int) -> Float[Tensor, "3 {height} {width}"]:
    """Direction that each pixel's centre looks in, RUB, of any length: ``matrix`` times (u, v, 1).

    For cameras without an intrinsic matrix, such as shifted lenses.

    Args:
        matrix: from u and v, which grow from -1 to 1 to the right and up across the picture.
        height, width: of the picture [px].
    """
    v, u = ((2 * torch.arange(n, dtype=matrix.dtype, device=matrix.device) + 1) / n - 1 for n in (height, width))
    across, up = torch.meshgrid(u, -v, indexing="xy")  # [h, w] each
    return torch.einsum("ij,jhw->ihw", matrix, torch.stack([across, up, torch.ones_like(up)]))


def _rays_of(depth: Float[Tensor, "b 1 h w"], camera: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b 3 h w"]:
    return rays(camera.to(masked.precise(depth)), *depth.shape[-2:])


def points(depth: Float[Tensor, "b 1 h w"], camera: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b 3 h w"]:
    """Positions seen by each pixel, RUB, camera at the origin, in the unit of ``depth`` (planar z)."""
    return _rays_of(depth, camera) * depth


def euclidean_from_planar(depth: Float[Tensor, "b 1 h w"], camera: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b 1 h w"]:
    """Distance from the camera's centre, from depth along its optical axis; same unit."""
    return depth * torch.linalg.vector_norm(_rays_of(depth, camera), dim=1, keepdim=True)


def planar_from_euclidean(
    distance: Float[Tensor, "b 1 h w"], camera: Float[Tensor, "b 3 3"]
) -> Float[Tensor, "b 1 h w"]:
    """Depth along the optical axis, from distance to the camera's centre; same unit."""
    return distance / torch.linalg.vector_norm(_rays_of(distance, camera), dim=1, keepdim=True)


def normals_from_depth(
    depth: Float[Tensor, "b 1 h w"], camera: Float[Tensor, "b 3 3"], *, reach: int = 1
) -> Float[Tensor, "b 3 h w"]:
    """Unit normals of the surface that a depth map describes, RUB, facing the camera.

    Cross product of the differences between the points ``reach`` pixels to either side (fewer at the border), so exact
    on planes. Where the stencil crosses an edge of an object the normal is meaningless: see ``smooth``. Zero where
    picture or depth are too small to span a surface.

    Args:
        depth: planar z, any unit.
        camera: intrinsic matrix [px], the first pixel's centre at (0.5, 0.5).
        reach: half width of the stencil [px]; larger averages coarsely quantised depth.
    """
    position = points(depth, camera)
    along_x, along_y = (_difference(position, dim, reach) for dim in (3, 2))
    normal = torch.linalg.cross(along_x, along_y, dim=1)
    away = (normal * position).sum(1, keepdim=True) > 0  # the camera is at the origin
    return normalize(torch.where(away, -normal, normal), epsilon=torch.finfo(depth.dtype).tiny)


def smooth(
    depth: Float[Tensor, "b 1 h w"], valid: Bool[Tensor, "b 1 h w"], *, reach: int = 1, jump: float = 0.05
) -> Bool[Tensor, "b 1 h w"]:
    """Pixels whose stencil of ``normals_from_depth`` is valid throughout and lies on one surface.

    Args:
        depth: planar z, any unit.
        valid: where ``depth`` holds a measurement.
        reach: half width of the stencil [px].
        jump: largest change of depth inside the stencil, as a share of the depth itself, that is no edge.
    """
    known = torch.where(valid, depth, math.inf)
    near, far = known, known
    for dim in (2, 3):
        for neighbour in _neighbours(known, dim, reach):
            near, far = torch.minimum(near, neighbour), torch.maximum(far, neighbour)
    return valid & far.isfinite() & (far - near <= jump * depth.abs())


def _neighbours(
    field: Float[Tensor, "b c h w"], dim: int, reach: int
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]:
    """Values ``reach`` pixels before and after along one side; the border stands for what lies beyond it."""
    index = torch.arange(field.shape[dim], device=field.device)
    before, after = (index - reach).clamp(min=0), (index + reach).clamp(max=field.shape[dim] - 1)
    return field.index_select(dim, before), field.index_select(dim, after)


def _difference(field: Float[Tensor, "b c h w"], dim: int, reach: int) -> Float[Tensor, "b c h w"]:
    before, after = _neighbours(field, dim, reach)
    return after - before
