"""Contents of files as published data sets store them: MATLAB, HDF5, raw floats, coded colours, lists of names."""

import csv
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from ilora import checks, images
from ilora.images.raster import LARGEST, unreadable
from ilora.ops import color


def matlab(path: Path) -> dict[str, Any]:
    """The variables of a MATLAB file before version 7.3, by name.

    Raises:
        ImportError: scipy is not installed.
        ValueError: the file cannot be read.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ImportError("MATLAB files need scipy: pip install 'ilora[benchmarks]'") from error
    try:
        return loadmat(path)
    except Exception as error:  # a damaged file makes scipy fail in any way there is
        raise ValueError(unreadable(path, error)) from error


def hdf5(path: Path, key: str, index: int | None = None) -> Shaped[np.ndarray, "..."]:
    """The array ``key`` of an HDF5 file (MATLAB 7.3 writes these, too), or one item along its first side.

    Raises:
        ImportError: h5py is not installed.
        ValueError: the file cannot be read or has no such array.
    """
    try:
        with _h5py().File(path, "r") as file:
            if key not in file:
                raise ValueError(f"expected the array {key!r}, got {sorted(file)}")
            shape = file[key].shape if index is None else file[key].shape[1:]
            if not 0 < int(np.prod(shape, dtype=object)) <= 4 * LARGEST:
                raise ValueError(f"an array of shape {shape}, expected 1 to {4 * LARGEST} values")
            return file[key][()] if index is None else file[key][index]
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise ValueError(unreadable(path, error)) from error


def hdf5_shape(path: Path, key: str) -> tuple[int, ...] | None:
    """Shape of the array ``key`` of an HDF5 file; None where there is no such array.

    Raises:
        ImportError: h5py is not installed.
        ValueError: the file cannot be read.
    """
    try:
        with _h5py().File(path, "r") as file:
            return file[key].shape if key in file else None
    except (OSError, RuntimeError) as error:
        raise ValueError(unreadable(path, error)) from error


def field(path: Path, key: str = "dataset") -> Float[Tensor, "c h w"]:
    """An array [h, w] or [h, w, c] of an HDF5 file, as floats.

    Raises:
        ValueError: the file cannot be read or has no such array.
    """
    values = torch.from_numpy(hdf5(path, key)).float()
    return values.reshape(*values.shape[:2], -1).permute(2, 0, 1)  # [c, h, w]


def floats(path: Path, height: int, width: int, *, skip: int = 0) -> Float[Tensor, "1 {height} {width}"]:
    """A raw dump of 32-bit little-endian floats, row by row, after ``skip`` bytes.

    Raises:
        ValueError: the file does not hold so many.
    """
    found, wanted = (path.stat().st_size - skip) / 4, height * width
    if found != wanted:
        raise ValueError(
            f"{path} must hold {wanted} floats, one a pixel of {width} x {height}, got {found:g}; "
            "find the picture that it belongs to, or download it again"
        )
    values = np.fromfile(path, "<f4", offset=skip).astype(np.float32)
    return torch.from_numpy(values.reshape(1, height, width))


def picture(linear: Float[Tensor, "3 h w"]) -> Float[Tensor, "3 h w"]:
    """sRGB in [-1, 1] of linear light, clipped to [0, 1]."""
    return color.to_srgb(linear.nan_to_num(0).clamp(0, 1)).mul(2).sub(1)


def share(path: Path) -> Float[Tensor, "3 h w"]:
    """The integers of a picture file as shares of the largest that its bits can hold; grey is repeated.

    Raises:
        ValueError: the file cannot be read.
    """
    stored = images.read_map(path)
    values = stored.values / (stored.full_scale or 1.0)
    return values.expand(3, *values.shape[1:]) if len(values) == 1 else values


def lines(path: Path, what: str) -> list[str]:
    """The lines of a list that are not empty.

    Raises:
        ValueError: the file is absent or empty.
    """
    text = checks.file(path, what).read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip()]


def table(path: Path, what: str, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file.

    Raises:
        ValueError: the file is absent or empty, or has none of these columns.
    """
    with checks.file(path, what).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    absent = [column for column in columns if rows and column not in rows[0]]
    if absent or not rows:
        raise ValueError(f"{what} must have rows with {', '.join(columns)}, got {path} without {absent or 'rows'}; "
                         "download it again")  # fmt: skip
    return rows


def first(places: Sequence[Path]) -> Path:
    """The first place at which there is something; the first of all where there is nothing."""
    return next((place for place in places if place.exists()), places[0])


def _h5py() -> ModuleType:
    """The optional library behind HDF5."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError("HDF5 files need h5py: pip install 'ilora[benchmarks]'") from error
    return h5py
