"""Maps and pictures to files, each with its story in the metadata.

``about`` is a dictionary of words: units, axes, colour space, range. It goes into text chunks (PNG), attributes (EXR),
string members (NPZ) or a JSON file beside the array (NPY, which has no room for it).
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from ilora.images import exr, png
from ilora.images.atomic import replacing
from ilora.images.maps import SOFTWARE

LEVELS = 65535


def write_npy(path: str | Path, map: Float[Tensor, "c h w"], *, about: Mapping[str, str]) -> Path:
    """A float32 array [h, w] or [h, w, c], and ``about`` in a JSON file beside it (``NAME.npy.json``)."""
    path = Path(path)
    with replacing(path) as temporary:
        np.save(temporary, _plain(map), allow_pickle=False)
    with replacing(path.with_name(f"{path.name}.json")) as temporary:
        temporary.write_text(json.dumps(dict(about), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def write_npz(path: str | Path, map: Float[Tensor, "c h w"], *, about: Mapping[str, str]) -> Path:
    """A compressed file with the float32 array ``map``, [h, w] or [h, w, c], and each of ``about`` as a string.

    Raises:
        ValueError: ``about`` has the key "map".
    """
    if "map" in about:
        raise ValueError(f"about must leave the name 'map' to the array, got {about['map']!r} for it; use another key")
    words = {key: np.array(str(value)) for key, value in about.items()}
    with replacing(path) as temporary:
        np.savez_compressed(temporary, map=_plain(map), **words)
    return Path(path)


def write_exr(path: str | Path, map: Float[Tensor, "c h w"], *, about: Mapping[str, str]) -> Path:
    """A 32-bit float EXR, channel Y for c = 1 and R, G, B for c = 3, with ``about`` as attributes.

    Raises:
        ImportError: OpenEXR is not installed.
        ValueError: c is neither 1 nor 3.
    """
    _check_channels(map)
    with replacing(path) as temporary:
        exr.write(temporary, _rows_first(map), {key: str(value) for key, value in about.items()})
    return Path(path)


def write_png16(
    path: str | Path, map: Float[Tensor, "c h w"], *, low: float, high: float, about: Mapping[str, str]
) -> Path:
    """A 16-bit PNG, grey or RGB: value = low + stored * (high - low) / 65535.

    Values beyond [low, high] are clipped and what is not finite becomes low; the rounding error is at most
    (high - low) / 131070. ``low`` and ``high`` are written beside ``about``, and ``read_map`` undoes the scaling.

    Raises:
        ValueError: c is neither 1 nor 3, or low is not below high.
    """
    _check_channels(map)
    if not low < high:
        raise ValueError(f"low must be below high, got {low!r} and {high!r}; pass the range that the map can have")
    share = (_rows_first(map).astype(np.float64) - low) / (high - low)
    stored = np.rint(np.nan_to_num(share, nan=0.0, posinf=0.0, neginf=0.0).clip(0, 1) * LEVELS).astype(np.uint16)
    scale = {"Software": SOFTWARE, "low": repr(float(low)), "high": repr(float(high))}
    with replacing(path) as temporary:
        temporary.write_bytes(png.encode(stored, {**_words(about), **scale}))
    return Path(path)


def write_preview(path: str | Path, picture: UInt8[Tensor, "3 h w"], *, about: Mapping[str, str]) -> Path:
    """An 8-bit PNG for people, sRGB, with ``about`` as text."""
    with replacing(path) as temporary:
        temporary.write_bytes(png.encode(picture.detach().cpu().numpy().transpose(1, 2, 0), _words(about)))  # [h, w, 3]
    return Path(path)


def _check_channels(map: Float[Tensor, "c h w"]) -> None:
    """Files of pictures hold grey or RGB."""
    if map.shape[0] not in (1, 3):
        raise ValueError(f"a map must have 1 or 3 channels, got {map.shape[0]}; write_npy takes any number")


def _rows_first(map: Float[Tensor, "c h w"]) -> Float[np.ndarray, "h w c"]:
    """On the CPU in 32 bits."""
    return map.detach().float().cpu().numpy().transpose(1, 2, 0)  # [h, w, c]


def _plain(map: Float[Tensor, "c h w"]) -> Float[np.ndarray, "..."]:
    """[h, w] for one channel, [h, w, c] for more: what plotting libraries take."""
    rows = np.ascontiguousarray(_rows_first(map))
    return rows[..., 0] if rows.shape[-1] == 1 else rows


def _words(about: Mapping[str, str]) -> dict[str, str]:
    """Values as text."""
    return {key: str(value) for key, value in about.items()}
