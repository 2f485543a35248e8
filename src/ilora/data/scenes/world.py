"""A scene as the path tracer's kernel reads it.

Every scene-dependent number is data of the compiled kernel, not part of it: it is compiled once a process.
Loading this module sets Mitsuba's variant to llvm_ad_rgb for the whole process.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Num

from ilora.data.scenes import textures
from ilora.data.scenes.geometry import Mesh
from ilora.data.scenes.scene import Scene

try:
    import drjit as dr
    import mitsuba as mi

    mi.set_variant("llvm_ad_rgb")
    from mitsuba import Float, UInt32
except ImportError as error:
    raise ImportError("rendering scenes needs mitsuba and pyoidn: pip install 'ilora[scenes]'") from error

if not dr.has_backend(dr.JitBackend.LLVM):
    raise ImportError(
        "rendering scenes needs the LLVM shared library, which was not found: "
        "install it (apt install libllvm19, brew install llvm) or set DRJIT_LIBLLVM_PATH"
    )

WINDOWS = 2  # the sun enters through at most so many


def _floats(array) -> mi.Float:
    return Float(np.ascontiguousarray(array, np.float32).ravel())


def _constant(array) -> list[mi.Float]:
    """Numbers as kernel arguments instead of literals, which would compile the kernel anew for every scene."""
    return [dr.opaque(Float, float(v)) for v in np.ravel(array)]


@dataclass
class World:
    """A scene as the kernel reads it. f faces, m materials, e emitting faces, t texels."""

    scene: mi.Scene
    geometric: mi.Float  # [f, 3] face normals
    normal: mi.Float  # [f, 3, 3] corner normals
    uv: mi.Float  # [f, 3, 2]
    material: mi.UInt32  # [f]
    look: mi.Float  # [m, 3] specular, roughness, texture tiles a metre
    glow: mi.Float  # [m, 3] radiance
    tile: mi.UInt32  # [m, 2] first texel, side
    texels: mi.Float  # [t, 3]
    lamp: mi.Float  # [e, 4, 3] corner, two edges, normal
    lamp_glow: mi.Float  # [e, 3]
    alias: mi.Float  # [e] chance to keep a bin of the alias table
    other: mi.UInt32  # [e] the bin to take instead
    counts: list  # [e] and total power: sum of area * luminance
    camera: list  # position, rotation, half width of the picture plane
    sun: list  # direction, radius, irradiance
    windows: list  # WINDOWS * (centre, half_u, half_v)


def luminance(colour: mi.Color3f | Num[np.ndarray, "3 n"]) -> mi.Float | Num[np.ndarray, " n"]:
    """Of linear RGB with Rec. 709 primaries; the channels come first."""
    return 0.2126 * colour[0] + 0.7152 * colour[1] + 0.0722 * colour[2]


def _alias_table(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vose 1991: sample a discrete distribution with one look-up. Returns keep chances and the other bins, both [e]."""
    count = len(weight)
    keep, other = weight * count / weight.sum(), np.arange(count)
    small, large = [i for i in range(count) if keep[i] < 1], [i for i in range(count) if keep[i] >= 1]
    while small and large:
        low, high = small.pop(), large[-1]
        other[low] = high
        keep[high] -= 1 - keep[low]
        if keep[high] < 1:
            small.append(large.pop())
    keep[small + large] = 1
    return keep, other


def _mitsuba_mesh(position: np.ndarray) -> mi.Scene:
    """Triangles [f, 3, 3] as a scene for ray casting."""
    mesh = mi.Mesh("rooms", 3 * len(position), len(position))
    values = mi.traverse(mesh)
    values["vertex_positions"] = _floats(position)
    values["faces"] = dr.arange(UInt32, 3 * len(position))
    values.update()
    return mi.load_dict({"type": "scene", "mesh": mesh})


def upload(scene: Scene, mesh: Mesh) -> World:
    """Everything that the kernel reads, from a scene and its triangles."""
    edges = mesh.position[:, 1:] - mesh.position[:, :1]
    cross = np.cross(edges[:, 0], edges[:, 1])
    twice = np.linalg.norm(cross, axis=1, keepdims=True)
    geometric = cross / np.maximum(twice, 1e-20)
    emission = np.array([m.emission for m in scene.materials], np.float32)
    glow = emission[mesh.material]
    lit = np.flatnonzero(glow.sum(1) > 0)
    power = twice[lit, 0] / 2 * luminance(glow[lit].T)
    lamp = np.concatenate([mesh.position[lit, :1], edges[lit], geometric[lit, None]], 1)
    if len(lit) == 0:  # only the sun shines: a lamp without light
        lamp, power, glow, lit = np.ones((1, 4, 3)), np.ones(1), np.zeros((1, 3)), np.zeros(1, int)
    keep, other = _alias_table(power.astype(np.float64))
    texels, starts, sides = textures.atlas(scene.materials)
    look = [(m.specular, m.roughness, 1.0 if m.scale == 0 else 1 / m.scale) for m in scene.materials]
    return World(
        scene=_mitsuba_mesh(mesh.position),
        geometric=_floats(geometric),
        normal=_floats(mesh.normal),
        uv=_floats(mesh.uv),
        material=UInt32(mesh.material.astype(np.uint32)),
        look=_floats(look),
        glow=_floats(emission),
        tile=UInt32(np.stack([starts, sides], 1).ravel().astype(np.uint32)),
        texels=_floats(texels),
        lamp=_floats(lamp),
        lamp_glow=_floats(glow[lit]),
        alias=_floats(keep),
        other=UInt32(other.astype(np.uint32)),
        counts=_constant([len(lit), power.sum() if emission.sum() > 0 else 1e30]),
        camera=_camera(scene),
        sun=_sun(scene),
        windows=_windows(scene),
    )


def _camera(scene: Scene) -> list:
    camera = scene.camera
    return _constant(np.concatenate([camera.position, np.ravel(camera.rotation), [np.tan(np.radians(camera.fov) / 2)]]))


def _sun(scene: Scene) -> list:
    if scene.sun is None:
        return _constant([0, 0, 1, 0, 0, 0, 0])
    return _constant([*scene.sun.direction, np.radians(scene.sun.radius), *scene.sun.irradiance])


def _windows(scene: Scene) -> list:
    if len(scene.windows) > WINDOWS:
        raise ValueError(f"a scene has at most {WINDOWS} windows, got {len(scene.windows)}; leave some out")
    table = np.zeros((WINDOWS, 3, 3))
    for row, window in zip(table, scene.windows, strict=False):
        row[:] = window.centre, window.half_u, window.half_v
    return _constant(table)
