"""A pickle of plain values and arrays, read as data: nothing that it names is ever imported or called.

``pickle`` runs whatever a file names. Here the few names that NumPy writes for an array stand for records that only
keep what they are given, and any other name is refused. The arrays are then built from the bytes that were kept.

Source: PEP 307 and PEP 3154 (the format), ``numpy.ndarray.__reduce__`` (version, shape, type, order, bytes).
"""

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from ilora.images.raster import LARGEST

KINDS = "buif"  # of numbers that arrays may hold


class _Kind:
    """What ``numpy.dtype`` was asked for, such as "f8", and in which order of bytes."""

    def __init__(self, code: str, *_: object) -> None:
        self.code, self.order = code, "<"

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]


class _Array:
    """What ``numpy.ndarray`` was asked for."""

    def __init__(self, *_: object) -> None:
        self.state: tuple = ()

    def __setstate__(self, state: tuple) -> None:
        self.state = state


class _Scalar:
    """What ``numpy.core.multiarray.scalar`` was asked for: a number of some kind."""

    def __init__(self, kind: _Kind, data: bytes) -> None:
        self.state = (1, (1,), kind, False, data)


def _from_buffer(data: bytes | bytearray, kind: _Kind, shape: tuple, order: str) -> _Array:
    """``numpy._core.numeric._frombuffer``, by which protocol 5 writes arrays."""
    array = _Array()
    array.state = (1, shape, kind, order == "F", bytes(data))
    return array


def _text_as_bytes(text: str, encoding: str = "latin1") -> bytes:
    """``_codecs.encode``, by which Python 3 writes bytes for Python 2."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in {encoding!r}")
    return text.encode("latin1")


_RECORDS = {("numpy", "dtype"): _Kind, ("numpy", "ndarray"): _Array, ("_codecs", "encode"): _text_as_bytes}
for _core in ("numpy.core", "numpy._core"):  # before NumPy 2, and since
    _RECORDS[f"{_core}.multiarray", "_reconstruct"] = _Array
    _RECORDS[f"{_core}.multiarray", "scalar"] = _Scalar
    _RECORDS[f"{_core}.numeric", "_frombuffer"] = _from_buffer


class _Reader(pickle.Unpickler):
    """Knows the names above and no other."""

    def find_class(self, module: str, name: str) -> Any:
        """The record that a name stands for."""
        if (module, name) not in _RECORDS:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return _RECORDS[module, name]


def read(path: Path) -> dict[str, Any]:
    """The dictionary in a pickle, its arrays as NumPy's.

    Raises:
        ValueError: no pickle, no dictionary, or anything in it but plain values and arrays of numbers.
    """
    try:
        with path.open("rb") as file:
            kept = _Reader(file, encoding="latin1").load()
        if not isinstance(kept, dict):
            raise ValueError(f"it holds a {type(kept).__name__}, expected a dictionary")
        return {str(key): _plain(value) for key, value in kept.items()}
    except Exception as error:  # a hostile pickle fails in any way there is
        why = " ".join(str(error).split())[:200]
        reason = f"{path} must be a pickle of plain values and arrays of numbers, got one that is not ({why})"
        raise ValueError(f"{reason}; nothing in it was run: save its array as NPY where you trust it") from error


def _plain(value: Any) -> Any:
    """An array or a number in the place of its record."""
    if isinstance(value, _Scalar):
        return _built(value).item()
    return _built(value) if isinstance(value, _Array) else value


def _built(array: _Array | _Scalar) -> np.ndarray:
    """The array that was described."""
    _, shape, kind, by_columns, data = array.state
    wanted = np.dtype(f"{'<' if kind.order == '|' else kind.order}{kind.code.lstrip('<>|=')}")
    data = data.encode("latin1") if isinstance(data, str) else data
    if wanted.kind not in KINDS or not 0 < int(np.prod(shape, dtype=object)) <= 4 * LARGEST:
        raise ValueError(f"an array {shape} of {wanted}")
    return np.frombuffer(data, wanted).reshape(shape, order="F" if by_columns else "C")
