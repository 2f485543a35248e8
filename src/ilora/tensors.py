"""Files of tensors: safetensors, and torch's own format as far as it holds nothing but tensors. Nothing is ever run."""

import contextlib
import pickle
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ilora.images.atomic import replacing

# Whose bookkeeping checkpoints of trainers carry beside their weights; numpy's numbers are scores.
_TRAINERS = ("pytorch_lightning.", "lightning.", "argparse.", "omegaconf.", "taming.", "numpy.")


class _Inert:
    """Stands for an object of a trainer's class, or a number of numpy: takes any state and does nothing with it."""

    def __init__(self, *args: object, **kwargs: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


def read(
    path: Path, *, only: tuple[str, ...] = ("",), inside: str = "state_dict"
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors of a file, on the CPU, and what its header says (safetensors' own entry ``format`` left out).

    Args:
        path: ``.safetensors``, or a file of ``torch.save`` (.ckpt, .bin, .pt), whose numbers and strings beside the
            tensors become the header.
        only: beginnings of the names to read; the rest of a large file is not touched.
        inside: of a file of ``torch.save``, the entry whose tensors are meant, where there is one of this name.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, or a pickle that asks for more than tensors.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; expected .safetensors, .ckpt, .bin or .pt")
    if path.suffix != ".safetensors":
        tensors, header = _unpickle(path, inside)
        return {name: tensor for name, tensor in tensors.items() if name.startswith(only)}, header
    try:
        with safe_open(path, framework="pt") as file:
            wanted = [name for name in file.keys() if name.startswith(only)]  # noqa: SIM118
            header = {key: value for key, value in (file.metadata() or {}).items() if key != "format"}
            return {name: file.get_tensor(name) for name in wanted}, header
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file ({error}); copy or download it again") from error


def names(path: Path) -> list[str]:
    """Names of the tensors of a file; errors as in ``read``."""
    if path.suffix == ".safetensors" and path.is_file():
        with contextlib.suppress(SafetensorError), safe_open(path, framework="pt") as file:
            return list(file.keys())
    return list(read(path)[0])


def write(path: Path, tensors: dict[str, Tensor], header: dict[str, str]) -> None:
    """Write a safetensors file in one step: it is there whole, or not at all.

    With at most one header entry the same tensors give the same bytes; the library writes several in random order.
    """
    with replacing(path) as draft:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, draft, header)


def _unpickle(path: Path, inside: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        zipped = zipfile.is_zipfile(path)  # since torch 1.6
        asked = torch.serialization.get_unsafe_globals_in_checkpoint(path) if zipped else []
        inert = [(_Inert, name) for name in asked if name.startswith(_TRAINERS)]
        with torch.serialization.safe_globals(inert):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{path} could not be read as tensors alone, and nothing in it was run ({reason}); use a .safetensors file"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a dictionary of tensors, got {type(content).__name__}")
    header = {str(key): str(value) for key, value in content.items() if isinstance(value, int | float | str)}
    content = content.get(inside, content)
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}, header
