"""One rendered scene as the files that the two layouts hold."""

from __future__ import annotations

import json

import numpy as np

from ilora.data.scenes import codings
from ilora.data.scenes.sampling import sample_scene

FOLDER_SHADING = 16.0  # shading that the full 16 bits of a folder's PNG stand for


def scene_files(seed: int, *, size: int, samples: int, maps: bool, layout: str) -> dict[str, bytes]:
    """Render the scene of an absolute seed and encode it: suffix (webdataset) or folder.suffix -> bytes."""
    from ilora.data.scenes.rendering import render

    scene = render(sample_scene(seed), size, samples)
    if layout == "folder":
        return _folder(scene)
    encoded = {"png": codings.write_png(scene["image"]), "json": _record(scene)}
    return encoded | (_maps(scene) if maps else {})


def _record(scene: dict) -> bytes:
    factors = {name: round(value, 5) for name, value in scene["factors"].items()}
    camera = np.round(scene["camera"], 4).tolist()
    return json.dumps(
        {"caption": scene["caption"], "seed": scene["seed"], "camera": camera, "factors": factors}
    ).encode()


def _maps(scene: dict) -> dict[str, bytes]:
    """The maps in the codings of codings.py."""
    return {
        "normal.png": codings.write_png(_pad(codings.encode_normal(scene["normal"]))),
        "depth.png": codings.write_png(codings.encode_depth(scene["depth"])),
        "albedo.png": codings.write_png(codings.encode_albedo(scene["albedo"])),
        "shading.png": codings.write_png(codings.encode_shading(scene["shading"])),
        "valid.png": codings.write_png(scene["valid"].astype(np.uint8) * 255),
    }


def _pad(code: np.ndarray) -> np.ndarray:
    """[h, w, 2] to [h, w, 3] with zeros: a PNG has one or three channels."""
    return np.pad(code, ((0, 0), (0, 0), (0, 1)))


def _folder(scene: dict) -> dict[str, bytes]:
    """Plain PNGs that any reader understands; the scale of each is in meta.toml. The record comes last."""

    def coded(x, top):
        return codings.write_png(np.round(np.clip(x / top, 0, 1) * 65535).astype(np.uint16))

    return {
        "images.png": codings.write_png(scene["image"]),
        "normals.png": coded(scene["normal"] + 1, 2),
        "depths.png": coded(scene["depth"], 65.535),
        "albedos.png": coded(scene["albedo"], 1),
        "shadings.png": coded(scene["shading"], FOLDER_SHADING),
        "valids.png": codings.write_png(scene["valid"].astype(np.uint8) * 255),
        "scenes.json": _record(scene),
    }


def meta(size: int, samples: int) -> str:
    """meta.toml of a folder, as ilora.data.folder reads it: value = stored * scale + offset."""
    return f"""renderer = "ilora scenes, Mitsuba 3, {samples} paths a pixel, denoised; rounding: half a scale"
size = {size}

[images]
space = "srgb"

[normals]
axes = "RUB"
scale = {2 / 65535!r}
offset = -1.0

[depths]
unit = "m"
kind = "planar"
scale = 0.001

[albedos]
space = "linear"
scale = {1 / 65535!r}

[shadings]
space = "linear"
scale = {FOLDER_SHADING / 65535!r}

[valids]
invalid = 0
"""
