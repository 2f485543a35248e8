"""A scene to its picture and its intrinsic maps."""

from __future__ import annotations

import numpy as np

from ilora.data.scenes import captions, tracing, world
from ilora.data.scenes.geometry import Mesh, tessellate
from ilora.data.scenes.scene import Scene

GRID = 3  # rays a side in every pixel that albedo and normals are averaged over; odd, so that one is the centre
BATCH = 2**20  # paths at a time
KEY, HIGHLIGHT = 0.17, 0.75  # automatic exposure: log mean and 95th percentile of the luminance that they may reach


def to_srgb(linear: np.ndarray) -> np.ndarray:
    """Linear light to sRGB in 0..1 (IEC 61966-2-1), clipped."""
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def render(
    scene: Scene, size: int = 128, samples: int = 8, *, depth: int = 5, denoise: bool = True, mesh: Mesh | None = None
) -> dict:
    """Picture and maps of a scene, all [size, size, ...] with the row 0 on top.

    Args:
        samples: paths a pixel; each may scatter at `depth` surfaces.
        denoise: filter shading and residual with Open Image Denoise before they are put together.
        mesh: triangles to render instead of tessellate(scene).

    Returns:
        `image` [h, w, 3] uint8 sRGB; `normal` [h, w, 3] float32 unit, camera axes (x right, y up, z towards the
        viewer), turned to the camera; `depth` [h, w] planar z [m]; `albedo`, `shading`, `residual` [h, w, 3] linear
        RGB in the picture's own exposure, so that albedo * shading + residual is the picture before clipping;
        `valid` [h, w] bool, false at lamps, sky and where nothing is; `camera` [3, 3] in pixels; `caption`; `factors`;
        `seed`; `exposure`, the factor from the scene's radiance to the picture.
    """
    if size < 8 or samples < 1 or depth < 1:
        raise ValueError(f"size >= 8, samples >= 1, depth >= 1 expected, got {size}, {samples}, {depth}; raise them")
    mesh = mesh or tessellate(scene)
    uploaded = world.upload(scene, mesh)
    maps = _maps(tracing.first_hits(uploaded, size, GRID), size, scene, mesh)
    shading, specular = _light(uploaded, scene.seed, size, samples, depth)
    if denoise:
        shading, specular = _clean(shading, specular, maps)
    linear = maps["albedo"] * shading + specular + maps["emission"]
    exposure = scene.brightness * _exposure(linear, maps["valid"])
    image = np.round(to_srgb(exposure * linear) * 255).astype(np.uint8)
    caption, factors = captions.describe(scene, maps.pop("piece"))
    specular = specular + maps.pop("emission")
    return {
        "image": image,
        **maps,
        "shading": (exposure * shading).astype(np.float32),
        "residual": (exposure * specular).astype(np.float32),
        "camera": scene.camera.matrix(size),
        "caption": caption,
        "factors": factors,
        "seed": scene.seed,
        "exposure": exposure,
    }


def _maps(hits: dict, size: int, scene: Scene, mesh: Mesh) -> dict[str, np.ndarray]:
    """Means over the rays of a pixel; depth, validity and pieces from its centre."""
    centre = GRID * GRID // 2

    def mean(name):
        return hits[name].mean(2).reshape(3, size, size).transpose(1, 2, 0)

    normal = mean("normal")
    length = np.linalg.norm(normal, axis=2, keepdims=True)
    normal = np.where(length > 1e-6, normal / np.maximum(length, 1e-6), [0.0, 0.0, 1.0])
    face = hits["face"]
    glow = np.array([sum(m.emission) > 0 for m in scene.materials])[mesh.material]
    valid = ((face >= 0) & ~glow[face]).all(1).reshape(size, size)
    piece = np.where(face[:, centre] >= 0, mesh.piece[face[:, centre]], -1).reshape(size, size)
    return {
        "normal": normal.astype(np.float32),
        "depth": hits["distance"][:, centre].reshape(size, size).astype(np.float32),
        "albedo": mean("albedo").astype(np.float32),
        "emission": mean("emission"),
        "valid": valid,
        "piece": piece,
    }


def _light(uploaded: world.World, seed: int, size: int, samples: int, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Shading and specular light [size, size, 3], means over the paths; shading only over those that met a surface."""
    total, done, turn = np.zeros((7, size * size)), 0, 0
    while done < samples:
        share = min(samples - done, max(1, BATCH // (size * size)))
        shading, rest, solid = tracing.trace(uploaded, size, share, seed * 4096 + turn, depth)
        tracing.dr.eval(shading, rest, solid)
        for row, values in zip(total, (*shading, *rest, solid), strict=True):
            row += np.array(values).reshape(-1, share).sum(1)
        done, turn = done + share, turn + 1
    shading = total[:3] / np.maximum(total[6], 1)
    images = np.stack([shading, total[3:6] / samples]).reshape(2, 3, size, size)
    return tuple(np.ascontiguousarray(images.transpose(0, 2, 3, 1), np.float32))


def _clean(shading: np.ndarray, specular: np.ndarray, maps: dict) -> tuple[np.ndarray, np.ndarray]:
    """Open Image Denoise on both, guided by the normals."""
    try:
        import pyoidn
    except ImportError as error:
        raise ImportError("denoising needs pyoidn: pip install 'ilora[scenes]', or denoise=False") from error
    # The guide is the albedo of a white world: the true one would print its textures into the shading.
    guide = np.repeat(maps["valid"][..., None], 3, 2).astype(np.float32)
    clean = pyoidn.denoise(shading, albedo=guide, normal=maps["normal"], hdr=True)
    if specular.max() > 0:
        specular = pyoidn.denoise(specular, albedo=guide, normal=maps["normal"], hdr=True)
    return clean, specular


def _exposure(linear: np.ndarray, valid: np.ndarray) -> float:
    """The factor that brings the log mean to KEY, unless highlights get too bright before."""
    light = world.luminance(linear[valid].T if valid.any() else linear.reshape(-1, 3).T)
    if light.mean() <= 0:
        raise ValueError(
            "no light reaches the camera, expected some; give the scene a lamp or a window that is not covered"
        )
    key = np.exp(np.log(light + 1e-4 * light.mean() + 1e-12).mean())
    return float(min(KEY / key, HIGHLIGHT / (np.percentile(light, 95) + 1e-12)))
