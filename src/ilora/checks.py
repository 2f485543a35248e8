"""The boundary: what comes from outside is checked here once, and every message says expected, got, and what to do."""

import difflib
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

LARGEST_SEED = 2**63 - 1  # torch.Generator takes 64 bits; this much also fits a signed JSON integer


def image(value: Tensor) -> Float[Tensor, "3 h w"]:
    """One picture, sRGB in [-1, 1], as ``ilora.images.read`` returns it.

    Raises:
        ValueError: another shape, integers, values not finite or beyond [-1, 1] by more than 1e-3.
    """
    if value.ndim != 3 or value.shape[0] != 3 or 0 in value.shape or not value.is_floating_point():
        raise ValueError(
            f"image must be floating point [3, h, w] in [-1, 1], got {value.dtype} {tuple(value.shape)}; "
            "ilora.images.read() returns this form"
        )
    low, high = float(value.min()), float(value.max())
    if not (low >= -1.001 and high <= 1.001):  # a NaN fails both comparisons
        raise ValueError(
            f"image must be finite and in [-1, 1], got values in [{low:.4g}, {high:.4g}]; "
            "ilora.images.read() returns this form, and 2 * x - 1 makes it from [0, 1]"
        )
    return value


def labels(
    map: Float[Tensor, "c _ _"], valid: Bool[Tensor, "1 _ _"], *, like: Float[Tensor, "3 h w"]
) -> tuple[Float[Tensor, "c h w"], Bool[Tensor, "1 h w"]]:
    """A map with its mask, which must belong to the picture ``like``.

    Raises:
        ValueError: sizes differ, nothing is valid, or a valid pixel is not finite.
    """
    if not map.shape[-2:] == valid.shape[-2:] == like.shape[-2:]:
        raise ValueError(
            f"map and mask must have the picture's size {tuple(like.shape[-2:])} (height, width), "
            f"got {tuple(map.shape[-2:])} and {tuple(valid.shape[-2:])}; resize them, or find the right file"
        )
    if not bool(valid.any()):
        raise ValueError("at least one pixel of the map must be valid, got 0; leave this example out")
    wrong = int((~torch.isfinite(map)).any(0, keepdim=True).logical_and(valid).sum())
    if wrong:
        raise ValueError(f"a valid pixel must be finite, got {wrong} that are not; mark them as invalid in the mask")
    return map, valid


def seed(value: object) -> int:
    """A seed for ``torch.Generator``: a whole number from 0 to 2^63 - 1.

    Raises:
        ValueError: anything else.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST_SEED:
        raise ValueError(f"seed must be a whole number in [0, 2^63), got {value!r}; 0 is a good choice")
    return value


def positive(name: str, value: object) -> int:
    """A whole number of at least 1, such as a count, a size [px] or a rank.

    Raises:
        ValueError: anything else; the message begins with ``name``.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}; pass 1 or more")
    return value


def between(name: str, value: object, *, low: float, high: float) -> float:
    """A finite number in [low, high].

    Raises:
        ValueError: anything else; the message begins with ``name``.
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not low <= value <= high:
        raise ValueError(f"{name} must be a number in [{low:g}, {high:g}], got {value!r}; pass one in that range")
    return float(value)


def choice(name: str, value: str, *, known: Sequence[str]) -> str:
    """One of the ``known`` words.

    Raises:
        ValueError: another word; the message names the nearest known one.
    """
    if value in known:
        return value
    near = difflib.get_close_matches(str(value), known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "choose one of these"
    raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}; {hint}")


def file(path: str | Path, what: str = "file") -> Path:
    """An existing, readable file that is not empty; ``~`` stands for the home folder.

    Raises:
        ValueError: it is absent, a folder, or empty; the message names the nearest name beside it.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise ValueError(f"{what} must be a file, got the folder {path}; name a file in it")
    if not path.is_file():
        raise ValueError(f"{what} must exist, got {path}; {_neighbour(path)}")
    if path.stat().st_size == 0:
        raise ValueError(f"{what} must not be empty, got 0 bytes in {path}; copy or download it again")
    return path


def folder(path: str | Path, what: str = "folder") -> Path:
    """An existing folder; ``~`` stands for the home folder.

    Raises:
        ValueError: it is absent or a file; the message names the nearest name beside it.
    """
    path = Path(path).expanduser()
    if path.is_file():
        raise ValueError(f"{what} must be a folder, got the file {path}; name the folder that holds it")
    if not path.is_dir():
        raise ValueError(f"{what} must exist, got {path}; {_neighbour(path)}")
    return path


def output(path: str | Path, what: str = "output") -> Path:
    """A folder to write into, made if it is absent; ``~`` stands for the home folder.

    Raises:
        ValueError: it is a file, or cannot be made here.
    """
    path = Path(path).expanduser()
    if path.is_file():
        raise ValueError(f"{what} must be a folder, got the file {path}; name another place")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{what} must be a folder that can be made, got {path} ({error.strerror}); "
                         "name another place") from error  # fmt: skip
    return path


def apart(out: str | Path, inputs: Iterable[str | Path]) -> None:
    """Refuse a folder to write to that lies directly around an input: outputs would replace it, or be inputs next time.

    Raises:
        ValueError: an input is in it; the message names the first one.
    """
    folder, first = Path(out).expanduser().resolve(), dict[Path, Path]()
    for path in map(Path, inputs):
        first.setdefault(path.absolute().parent, path)
    for parent, path in first.items():
        if parent.resolve() == folder:
            raise ValueError(f"out must not hold the inputs, got {path} in it; choose another folder")


def _neighbour(path: Path) -> str:
    """What to do about a name that does not exist: the nearest one that does, or the missing part of the path."""
    if not path.parent.is_dir():
        return f"its folder {path.parent} does not exist either; check the path"
    near = difflib.get_close_matches(path.name, [entry.name for entry in path.parent.iterdir()], n=1)
    return f"did you mean {near[0]!r}?" if near else "check the path"
