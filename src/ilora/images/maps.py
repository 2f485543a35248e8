"""Maps of labels as files hold them; what the numbers mean is for the reader of the folder to say."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from ilora import checks
from ilora.images import arrays, exr, raster

SUFFIXES = (".png", ".tif", ".tiff", ".exr", ".npy", ".npz")  # nothing lossy
SOFTWARE = "ilora"  # in the metadata of files whose integers ``read_map`` turns back into values


@dataclass(frozen=True)
class StoredMap:
    """Numbers of a file.

    Attributes:
        values: as stored, without alpha; integers are not divided by anything.
        full_scale: the largest integer that the file's bits can hold; None where it holds floats.
        opaque: False where alpha is 0; True everywhere in files without alpha.
        about: the words in the file's metadata.
    """

    values: Float[Tensor, "c h w"]
    full_scale: float | None
    opaque: Bool[Tensor, "1 h w"]
    about: dict[str, str]


def read_map(path: str | Path, *, channels: Sequence[str] | None = None) -> StoredMap:
    """A map from PNG (8 or 16 bits), TIFF (integer or float grey), EXR (half or float), NPY or NPZ.

    ``channels`` names the channels of an EXR file, in order, or the one array of an NPZ file; without it the file must
    leave no choice. 16-bit PNG that ``write_png16`` wrote comes back as values. No EXIF orientation is applied.

    Raises:
        ValueError: one line that says why the file cannot be read, and what to do.
    """
    path = checks.file(path, "map")
    suffix = path.suffix.lower()
    if suffix in (".npy", ".npz"):
        array, about = arrays.read(path, channels[0] if channels else None)
        alpha, full_scale = None, float(np.iinfo(array.dtype).max) if array.dtype.kind in "ui" else None
    elif suffix == ".exr":
        array, alpha, about = exr.read(path, channels)
        full_scale = None
    elif suffix in SUFFIXES:
        array, alpha, full_scale, about = _from_raster(path)
    else:
        raise ValueError(f"{path} must be one of {', '.join(SUFFIXES)}, which lose nothing; convert it from its source")
    values = torch.from_numpy(np.array(array.transpose(2, 0, 1), np.float32, order="C"))  # [c, h, w]
    if about.get("Software") == SOFTWARE and "low" in about and full_scale is not None:
        low, high = float(about["low"]), float(about["high"])
        values, full_scale = low + values * ((high - low) / full_scale), None
    return StoredMap(values, full_scale, _opaque(alpha, values), about)


def find_maps(folder: str | Path) -> list[Path]:
    """The files in a folder whose names say that ``read_map`` takes them, sorted; hidden files are left out.

    Raises:
        ValueError: no such folder.
    """
    entries = sorted(checks.folder(folder, "folder of maps").iterdir())
    return [path for path in entries if path.suffix.lower() in SUFFIXES and path.is_file() and path.name[0] != "."]


def _from_raster(
    path: Path,
) -> tuple[Shaped[np.ndarray, "h w c"], Shaped[np.ndarray, "h w"] | None, float | None, dict[str, str]]:
    """Samples [h, w, c] without alpha, alpha [h, w], full scale and text of a PNG or TIFF file."""
    picture = raster.open_raster(path)
    pixels = raster.pixels(picture, path)
    about = {key: str(value) for key, value in getattr(picture, "text", {}).items()}
    alpha = pixels.values[..., 3] if pixels.values.shape[-1] == 4 else None
    return pixels.values[..., :3], alpha, pixels.full_scale, about


def _opaque(alpha: Shaped[np.ndarray, "h w"] | None, values: Float[Tensor, "c h w"]) -> Bool[Tensor, "1 h w"]:
    """Where alpha is not 0; alpha that is 0 everywhere says nothing."""
    if alpha is None or not alpha.any():
        return torch.ones_like(values[:1], dtype=torch.bool)
    return torch.from_numpy(alpha != 0)[None]
