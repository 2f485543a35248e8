"""NPY and NPZ files, without unpickling anything and without unpacking more than ``LARGEST`` pixels."""

import zipfile
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from ilora.images.raster import LARGEST, unreadable


def read(path: Path, name: str | None = None) -> tuple[Shaped[np.ndarray, "h w c"], dict[str, str]]:
    """An array as [h, w, c] and the words stored beside it.

    Arrays may be [h, w], [h, w, c] or [c, h, w] with c up to 4. An NPZ holds the array ``name``, or one array that
    is not a word.

    Raises:
        ValueError: damaged, pickled objects, another shape, not numbers, or several arrays to choose from.
    """
    try:
        array, words = _from_npz(path, name) if path.suffix.lower() == ".npz" else (_from_npy(path), {})
    except Exception as error:  # as in open_raster: zipfile and what unpacks its members raise anything
        raise ValueError(unreadable(path, error)) from error
    if array.dtype.kind not in "buif":
        raise ValueError(f"{path} must hold numbers, got {array.dtype}; save one array of floats or integers")
    return _rows_first(array, path), words


def _from_npy(path: Path) -> Shaped[np.ndarray, "..."]:
    """The array of an NPY file."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    _check_size(array.shape)
    return np.array(array)


def _from_npz(path: Path, name: str | None) -> tuple[Shaped[np.ndarray, "..."], dict[str, str]]:
    """The chosen array of an NPZ file, and every member that is a single string."""
    with zipfile.ZipFile(path) as archive:
        headers = {member.removesuffix(".npy"): _header(archive, member) for member in archive.namelist()}
    arrays = [key for key, (shape, kind) in headers.items() if kind.kind != "U" or shape]
    if name is None and len(arrays) != 1:
        raise ValueError(f"expected one array, got {sorted(arrays)}: name the one wanted as `channels`")
    wanted = name or arrays[0]
    if wanted not in arrays:
        raise ValueError(f"expected the array {wanted!r}, got {sorted(arrays)}: correct `channels`")
    _check_size(headers[wanted][0])
    with np.load(path, allow_pickle=False) as archive:
        words = {key: str(archive[key]) for key in headers if key not in arrays}
        return archive[wanted], words


def _header(archive: zipfile.ZipFile, member: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of a member, from its first bytes."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, kind = read_header(file)
    return shape, kind


def _check_size(shape: tuple[int, ...]) -> None:
    """Refuse an empty array, and one that claims too many values for four channels."""
    count = int(np.prod(shape, dtype=object))
    if not 0 < count <= 4 * LARGEST:
        raise ValueError(f"an array of shape {shape}, expected 1 to {4 * LARGEST} values")


def _rows_first(array: Shaped[np.ndarray, "..."], path: Path) -> Shaped[np.ndarray, "h w c"]:
    """[h, w, c] from any of the layouts that are read; [h, w, c] wins where both would do."""
    if array.ndim == 2:
        return array[..., None]
    if array.ndim == 3 and array.shape[2] <= 4:
        return array
    if array.ndim == 3 and array.shape[0] <= 4:
        return np.moveaxis(array, 0, -1)  # [c, h, w] -> [h, w, c]
    raise ValueError(f"{path} must hold [h, w], [h, w, c] or [c, h, w], c <= 4, got {array.shape}; save one map a file")
