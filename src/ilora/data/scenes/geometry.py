"""Triangle meshes of the primitives, and of a whole scene, in numpy."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from ilora.data.scenes.scene import Scene


@dataclass(frozen=True)
class Mesh:
    """Triangles that share no vertices. f faces."""

    position: np.ndarray  # [f, 3 corners, 3] m
    normal: np.ndarray  # [f, 3 corners, 3] unit, outward
    uv: np.ndarray  # [f, 3 corners, 2] metres, or 0..1
    material: np.ndarray  # [f] index into Scene.materials
    piece: np.ndarray  # [f] index into Scene.pieces, -1 for the room


@dataclass(frozen=True)
class Shape:
    """A primitive in the unit cube around the origin, with the axes whose lengths turn its uv into metres."""

    position: np.ndarray  # [f, 3, 3]
    normal: np.ndarray  # [f, 3, 3]
    uv: np.ndarray  # [f, 3, 2] in 0..1
    axes: np.ndarray  # [f, 2] index into size, for u and v
    factor: np.ndarray  # [f, 2] times that length


def _grid(points: Callable, rows: int, columns: int) -> tuple[np.ndarray, ...]:
    """Triangles of points(u, v) -> position, normal over a rows x columns grid of the unit square."""
    v, u = np.meshgrid(np.linspace(0, 1, rows + 1), np.linspace(0, 1, columns + 1), indexing="ij")
    position, normal = points(u, v)
    uv = np.stack([u, v], -1)

    def triangles(a):
        p00, p01, p10, p11 = a[:-1, :-1], a[:-1, 1:], a[1:, :-1], a[1:, 1:]
        both = np.stack([np.stack([p00, p01, p11], -2), np.stack([p00, p11, p10], -2)], 2)
        return both.reshape(-1, 3, a.shape[-1])

    return triangles(position), triangles(normal), triangles(uv)


def _shape(patches: list[tuple]) -> Shape:
    """Join patches of (position, normal, uv, axes, factor); faces without area are dropped."""
    position, normal, uv = (np.concatenate([p[i] for p in patches]) for i in range(3))
    axes = np.concatenate([np.tile(p[3], (len(p[0]), 1)) for p in patches])
    factor = np.concatenate([np.tile(p[4], (len(p[0]), 1)) for p in patches])
    cross = np.cross(position[:, 1] - position[:, 0], position[:, 2] - position[:, 0])
    keep = np.linalg.norm(cross, axis=1) > 1e-9
    flip = (cross * normal.mean(1)).sum(1) < 0  # corners run counter-clockwise seen from outside
    position, normal, uv = (np.where(flip[:, None, None], a[:, ::-1], a) for a in (position, normal, uv))
    return Shape(position[keep], normal[keep], uv[keep], axes[keep], factor[keep])


def _cube_faces(n: int, bend: Callable) -> Shape:
    """Six n x n grids of the unit cube, each point and normal sent through bend(position, normal)."""
    patches = []
    for axis in range(3):
        a, b = [(1, 2), (0, 2), (0, 1)][axis]
        for side in (-0.5, 0.5):

            def points(u, v, axis=axis, a=a, b=b, side=side):
                position, normal = np.zeros((*u.shape, 3)), np.zeros((*u.shape, 3))
                position[..., a], position[..., b], position[..., axis] = u - 0.5, v - 0.5, side
                normal[..., axis] = 2 * side
                return bend(position, normal)

            patches.append((*_grid(points, n, n), (a, b), (1.0, 1.0)))
    return _shape(patches)


def _box() -> Shape:
    return _cube_faces(1, lambda position, normal: (position, normal))


def _cushion(power: float = 5.0) -> Shape:
    """A box with round edges: the superellipsoid |x|^p + |y|^p + |z|^p = 1/2^p."""

    def bend(position, normal):
        radius = (np.abs(position) ** power).sum(-1, keepdims=True) ** (1 / power)
        position = 0.5 * position / radius
        normal = np.sign(position) * np.abs(position) ** (power - 1)
        return position, normal / np.linalg.norm(normal, axis=-1, keepdims=True)

    return _cube_faces(6, bend)


def _sphere(rows: int = 14, columns: int = 24) -> Shape:
    def points(u, v):
        theta, phi = np.pi * (1 - v), 2 * np.pi * u
        normal = np.stack([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)], -1)
        return normal / 2, normal

    return _shape([(*_grid(points, rows, columns), (0, 2), (np.pi, np.pi / 2))])


def _torus() -> Shape:
    """Ring in the xy plane; the tube's radius is a quarter of the ring's."""
    ring, tube = 0.4, 0.1

    def points(u, v):
        a, b = 2 * np.pi * u, 2 * np.pi * v
        axis = np.stack([np.cos(a), np.sin(a), np.zeros_like(a)], -1)
        normal = axis * np.cos(b)[..., None]
        normal[..., 2] = np.sin(b)
        position = ring * axis + tube * normal
        return position * [1, 1, 0.5 / tube], normal * [1, 1, 2 * tube] / np.linalg.norm(
            normal * [1, 1, 2 * tube], axis=-1, keepdims=True
        )

    return _shape([(*_grid(points, 12, 28), (0, 0), (np.pi, 0.6))])


def _cylinder(taper: float, columns: int = 24) -> Shape:
    """Along z with its bottom radius 1/2 and its top radius taper/2."""

    def side(u, v):
        phi = 2 * np.pi * u
        radius = 0.5 * (1 + (taper - 1) * v)
        position = np.stack([radius * np.cos(phi), radius * np.sin(phi), v - 0.5], -1)
        normal = np.stack([np.cos(phi), np.sin(phi), np.full_like(phi, 0.5 * (1 - taper))], -1)
        return position, normal / np.linalg.norm(normal, axis=-1, keepdims=True)

    def cap(z, radius):
        def points(u, v):
            phi = 2 * np.pi * u
            position = np.stack([radius * v * np.cos(phi), radius * v * np.sin(phi), np.full_like(phi, z)], -1)
            return position, np.broadcast_to([0.0, 0.0, np.sign(z)], position.shape)

        position, normal, _ = _grid(points, 1, columns)
        return position, normal, position[..., :2] + 0.5, (0, 1), (1.0, 1.0)

    return _shape([(*_grid(side, 1, columns), (0, 2), (np.pi, 1.0)), cap(-0.5, 0.5), cap(0.5, 0.5 * taper)])


def _quad() -> Shape:
    """Square in the xy plane, normal +z."""

    def points(u, v):
        position = np.stack([u - 0.5, v - 0.5, np.zeros_like(u)], -1)
        return position, np.broadcast_to([0.0, 0.0, 1.0], position.shape)

    return _shape([(*_grid(points, 1, 1), (0, 1), (1.0, 1.0))])


SHAPES = {"box": _box, "cushion": _cushion, "sphere": _sphere, "torus": _torus, "quad": _quad, "cylinder": _cylinder}


@cache
def shape(name: str, taper: float = 1.0) -> Shape:
    """The primitive of that name; `taper` is a cylinder's and 1 for all others."""
    if name not in SHAPES:
        raise ValueError(f"shape must be one of {', '.join(SHAPES)}, got {name!r}; choose one of these")
    return _cylinder(taper) if name == "cylinder" else SHAPES[name]()


def _world_uv(position: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """The two room coordinates that lie in the face: a wall's texture runs on around its windows."""
    axis = np.abs(normal[:, 0]).argmax(1)
    pairs = np.array([[1, 2], [0, 2], [0, 1]])[axis]  # [f, 2]
    return np.take_along_axis(position, pairs[:, None, :].repeat(3, 1), 2)


def tessellate(scene: Scene) -> Mesh:
    """All parts of a scene as one mesh, in the order of the parts."""
    if not scene.parts:
        raise ValueError("a scene needs at least one part, got none; add parts before rendering it")
    position, normal, uv, material, piece = [], [], [], [], []
    for part in scene.parts:
        form = shape(part.shape, round(part.taper, 2))
        size, rotation = np.asarray(part.size, float), np.asarray(part.rotation, float)
        p = (form.position * size) @ rotation.T + part.centre
        n = form.normal / np.maximum(size, 1e-6)
        n = (n / np.linalg.norm(n, axis=-1, keepdims=True)) @ rotation.T
        if part.uv == "world":
            t = _world_uv(p, n)
        else:
            t = form.uv if part.uv == "unit" else form.uv * (size[form.axes] * form.factor)[:, None]
        position.append(p)
        normal.append(n)
        uv.append(t)
        material.append(np.full(len(p), part.material))
        piece.append(np.full(len(p), part.piece))
    floats = (np.concatenate(a).astype(np.float32) for a in (position, normal, uv))
    return Mesh(*floats, np.concatenate(material).astype(np.uint32), np.concatenate(piece).astype(np.int32))
