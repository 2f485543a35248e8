"""Tensors, arrays and modules out of a pickle that was read as plain data: each is rebuilt from bytes in the file."""

import io
import math
import struct
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ilora.generators.pickles import Name, Note, parse

ELEMENTS = 2**28  # most numbers of one tensor; the largest of a published StyleGAN has 2^23
TOTAL = 2**29  # most numbers of one network; the largest of a published StyleGAN has 2^28
MODULES = 10_000  # of one network
_MAGIC = 0x1950A86A20F9469CFC6C  # of torch's file format before 1.6, in which a pickled tensor holds its numbers
_STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
}  # fmt: skip
_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")
_CODES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")  # of numpy types that are numbers


def value(content: Any) -> Any:
    """A tensor, array or number behind a note; what is none of these stays as it is.

    Raises:
        ValueError: a tensor or array that does not fit the bytes that the file gives for it, or is too large.
    """
    if not isinstance(content, Note) or not isinstance(content.of, Name):
        return content
    name = str(content.of)
    try:
        if name in ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"):
            return value(content.args[0])
        if name == "torch._utils._rebuild_tensor_v2":
            return _tensor(*content.args[:4])
        if name in [f"{module}._reconstruct" for module in _NUMPY]:
            return _array(content.state)
        if name in [f"{module}.scalar" for module in _NUMPY]:
            dtype, data = content.args
            return _numbers(dtype, (), _bytes(data)).item()
    except (TypeError, IndexError, KeyError, AttributeError, struct.error) as error:
        raise ValueError(f"expected a pickled {name}, got one with other parts ({error})") from error
    return content


def attributes(content: Any) -> dict[str, Any]:
    """Attributes of a pickled module: of NVIDIA's persistent classes, and of plain ones.

    A persistent class carries its source code along, which its own reader runs; here nobody looks at it.

    Raises:
        ValueError: no module.
    """
    if isinstance(content, Note) and content.asks_for("torch_utils.persistence._reconstruct_persistent_obj"):
        state = entries(content.args[0] if content.args else None).get("state")
    else:
        state = content.state if isinstance(content, Note) else None
    if not isinstance(state, dict):
        raise ValueError(f"expected a pickled module, got {_kind(content)}")
    return state


def child(content: Any, name: str) -> Any:
    """A module inside a pickled module, ``a.b`` inside the one inside.

    Raises:
        ValueError: there is none of that name.
    """
    for part in name.split("."):
        inside = entries(attributes(content).get("_modules"))
        if part not in inside:
            raise ValueError(f"expected a module {name!r}, got {', '.join(map(str, inside)) or 'none'}")
        content = inside[part]
    return content


def state_dict(content: Any) -> dict[str, Tensor]:
    """Parameters and buffers of a pickled module under the names that ``nn.Module.state_dict`` gives them.

    Raises:
        ValueError: more than ``MODULES`` modules, more than ``TOTAL`` numbers, or broken tensors.
    """
    found: dict[str, Tensor] = {}
    waiting, modules, total = [("", content)], 0, 0
    while waiting:
        (prefix, module), modules = waiting.pop(), modules + 1
        own = attributes(module)
        stored = entries(own.get("_parameters")) | entries(own.get("_buffers"))
        for name, tensor in {name: value(each) for name, each in stored.items() if each is not None}.items():
            if not isinstance(tensor, Tensor):
                raise ValueError(f"expected a tensor for {prefix}{name}, got {_kind(tensor)}")
            found[f"{prefix}{name}"], total = tensor, total + tensor.numel()
        if modules > MODULES or total > TOTAL:
            raise ValueError(f"expected at most {MODULES:,} modules and {TOTAL:,} numbers, got more")
        inside = entries(own.get("_modules"))
        waiting += [(f"{prefix}{name}.", inner) for name, inner in inside.items() if inner is not None]
    return found


def entries(content: Any) -> dict[Any, Any]:
    """A dictionary, or the entries of an object that is one (``OrderedDict``)."""
    if isinstance(content, Note):
        return content.entries
    return content if isinstance(content, dict) else {}


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """A view of a storage, checked: torch itself would enlarge a storage that is too small."""
    if not (isinstance(storage, Note) and storage.asks_for("torch.storage._load_from_bytes")):
        raise ValueError(f"expected the bytes of a storage, got {_kind(storage)}")
    flat = _storage(_bytes(storage.args[0]))
    whole = [offset, *size, *stride]
    if len(size) != len(stride) or len(size) > 8 or not all(type(n) is int and 0 <= n <= ELEMENTS for n in whole):
        raise ValueError(f"expected offset, sizes and strides of a tensor, got {len(whole)} other values")
    count, last = math.prod(size), offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if count and (count > len(flat) or last >= len(flat)):
        raise ValueError(f"expected a tensor within its {len(flat):,} numbers, got {size} from number {offset}")
    return torch.as_strided(flat, size, stride, offset).clone() if count else torch.empty(size, dtype=flat.dtype)


def _storage(data: bytes) -> Tensor:
    """Numbers of a storage in torch's old file format: five pickles, then a count and the numbers themselves."""
    file = io.BytesIO(data)
    magic, _, _, story, _ = (parse(file) for _ in range(5))
    note = story.args[0] if isinstance(story, Note) else ()
    if magic != _MAGIC or not (isinstance(note, tuple) and len(note) >= 5 and isinstance(note[1], Name)):
        raise ValueError("expected a storage in torch's own format, got other bytes")
    dtype, (count,), rest = _STORAGES[note[1].name], struct.unpack("<q", file.read(8)), file.read()
    size = torch.empty(0, dtype=dtype).element_size()
    if count < 0 or count > ELEMENTS or len(rest) < count * size:
        raise ValueError(f"expected {count} numbers of a storage, got {len(rest)} bytes")
    if count == 0:
        return torch.empty(0, dtype=dtype)
    return torch.frombuffer(bytearray(rest[: count * size]), dtype=dtype)


def _array(state: Any) -> Any:
    """A numpy array from the state that numpy pickles: version, shape, type, order, bytes."""
    _, shape, dtype, fortran, data = state
    array = _numbers(dtype, tuple(shape)[::-1] if fortran else tuple(shape), _bytes(data))
    return array.T if fortran else array


def _numbers(dtype: Any, shape: tuple[int, ...], data: bytes) -> Any:
    if not (isinstance(dtype, Note) and dtype.asks_for("numpy.dtype") and dtype.args[0] in _CODES):
        raise ValueError(f"expected an array of numbers, got one of {_kind(dtype)}")
    order = dtype.state[1] if isinstance(dtype.state, tuple) and dtype.state[1] in ("<", ">", "|") else "<"
    kind = np.dtype(dtype.args[0]).newbyteorder(order if order != "|" else "=")
    if len(shape) > 8 or not all(type(n) is int and n >= 0 for n in shape) or math.prod(shape) > ELEMENTS:
        raise ValueError(f"expected the shape of an array of numbers, got {len(shape)} other values")
    if math.prod(shape) * kind.itemsize != len(data):
        raise ValueError(f"expected {math.prod(shape)} numbers of {kind.itemsize} bytes, got {len(data)} bytes")
    return np.frombuffer(data, kind).reshape(shape).astype(kind.newbyteorder("="))


def _bytes(content: Any) -> bytes:
    """Bytes, which old protocols write as words to be encoded."""
    if isinstance(content, Note) and content.asks_for("_codecs.encode"):
        content = content.args[0].encode("latin1")
    if not isinstance(content, (bytes, bytearray)):
        raise ValueError(f"expected bytes, got {_kind(content)}")
    return bytes(content)


def _kind(content: Any) -> str:
    return str(content.of)[:80] if isinstance(content, Note) else type(content).__name__
