"""Tensors that are computed once and kept on disk under the hash of everything that they were computed from."""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ilora.images import replacing

Part = str | int | float | bool | None | bytes | Path | Tensor | Sequence | Mapping  # of parts again

VARIABLE = "ILORA_CACHE"  # names the folder of entries
DEFAULT = "~/.cache/ilora"
CHECKSUM = "sha256"  # key of the header that holds the hash of an entry's tensors


class Cache:
    """A folder of safetensors files, one an entry.

    An entry whose inputs change gets another name; one that is damaged is made again. Several processes may share a
    folder: entries appear whole, and the last writer of equal content wins.
    """

    def __init__(self, directory: str | Path | None = None) -> None:
        """Entries go into ``directory``; by default into $ILORA_CACHE, or ~/.cache/ilora."""
        self.directory = Path(directory or os.environ.get(VARIABLE) or DEFAULT).expanduser()

    def get(self, *key: Part, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """The entry under ``key``, from disk where it is whole, from ``make`` otherwise.

        The tensors are on the CPU and bit for bit what ``make`` returned. Where the folder cannot be written the entry
        is made each time, and a warning says so.

        Args:
            key: everything that ``make`` depends on; see ``content_hash``.
            make: computes the tensors by name.
        """
        path = self.path(*key)
        stored = _read(path)
        if stored is not None:
            return stored
        made = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in make().items()}
        try:
            with replacing(path) as temporary:
                save_file(made, temporary, metadata={CHECKSUM: _checksum(made)})
        except (OSError, SafetensorError) as error:
            remedy = f"set {VARIABLE} to a folder that can"
            warnings.warn(f"{self.directory} cannot be written ({error}); {remedy}", stacklevel=2)
        return made

    def path(self, *key: Part) -> Path:
        """The file that holds the entry under ``key``, whether or not it exists."""
        name = content_hash(*key)
        return self.directory / name[:2] / f"{name}.safetensors"


def content_hash(*parts: Part) -> str:
    """SHA-256 of the parts' contents, 64 hexadecimal digits; the order counts, and so do types (1 is not "1").

    A tensor counts with its type, shape and values, a path with the bytes of the file, a mapping in the order of its
    keys.

    Raises:
        TypeError: a part of another type.
    """
    digest = hashlib.sha256()
    for part in parts:
        _update(digest, part)
    return digest.hexdigest()


def _update(digest: "hashlib._Hash", part: Part) -> None:
    """Add one part, with its type and length in front, so that no two sequences of parts look alike."""
    if isinstance(part, Tensor):
        part = part.detach().cpu().contiguous()
        head, body = f"tensor {part.dtype} {list(part.shape)}", part.flatten().view(torch.uint8).numpy()
    elif isinstance(part, Path):
        with part.open("rb") as file:
            head, body = "file", hashlib.file_digest(file, "sha256").digest()
    elif isinstance(part, bytes):
        head, body = "bytes", part
    elif part is None or isinstance(part, (str, int, float)):
        head, body = type(part).__name__, json.dumps(part).encode()
    elif isinstance(part, Mapping):
        head, body = "mapping", content_hash(*(item for key in sorted(part) for item in (key, part[key]))).encode()
    elif isinstance(part, Sequence):
        head, body = "sequence", content_hash(*part).encode()
    else:
        raise TypeError(f"a key is made of words, numbers, tensors, paths and lists of them, got {type(part).__name__}")
    digest.update(f"{head} {len(body)}:".encode())
    digest.update(body)


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    """Hash of an entry's names and tensors."""
    return content_hash(dict(tensors))


def _read(path: Path) -> dict[str, Tensor] | None:
    """The tensors of an entry; None where it is absent or not what was written."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            whole = (file.metadata() or {}).get(CHECKSUM) == _checksum(tensors)
    except (SafetensorError, OSError):
        return None
    return tensors if whole else None
