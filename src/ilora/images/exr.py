"""OpenEXR files: any channel names, half and float, with the metadata that a map needs.

Source: openexr.com, "The OpenEXR Python Module"; channel names as in its "Technical Introduction to OpenEXR".
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
from jaxtyping import Float

from ilora.images.raster import check_size, unreadable

RGB = ("R", "G", "B")
ORDERS = ("rgb", "xyz", "uvw")  # last parts of the names of channels that belong together


def read(
    path: Path, channels: Sequence[str] | None = None
) -> tuple[Float[np.ndarray, "h w c"], Float[np.ndarray, "h w"] | None, dict[str, str]]:
    """Values, alpha where there is one, and the header's words.

    ``channels`` names those wanted, in order. Without it the file's first part must hold one group of channels: RGB,
    XYZ or a single one, under any names; alpha (``A``) is set aside.

    Raises:
        ValueError: no EXR, damaged, too large, or several groups to choose from.
    """
    library = _library()
    try:
        _check_size(path)
        with library.File(str(path), separate_channels=True) as file:
            planes: dict[str, Float[np.ndarray, "_ _"]] = {
                name: np.array(channel.pixels, np.float32) for name, channel in file.channels().items()
            }
            words = {key: value for key, value in file.header().items() if isinstance(value, str)}
    except (RuntimeError, ValueError, OSError) as error:
        raise ValueError(unreadable(path, error)) from error
    wanted = list(channels) if channels else _one_group(path, list(planes))
    absent = [name for name in wanted if name not in planes]
    if absent or len({planes[name].shape for name in wanted}) != 1:
        raise ValueError(f"{path} must hold channels {wanted} of one size, got {sorted(planes)}; correct `channels`")
    alpha = next((plane for name, plane in planes.items() if name.split(".")[-1].lower() == "a"), None)
    return np.stack([planes[name] for name in wanted], -1), alpha, words


def names(path: Path) -> list[str]:
    """Names of the channels of the first part.

    Raises:
        ValueError: no EXR, or damaged.
    """
    try:
        with _library().File(str(path), header_only=True) as file:
            return [channel.name for channel in file.header()["channels"]]
    except (RuntimeError, ValueError, OSError) as error:
        raise ValueError(unreadable(path, error)) from error


def write(path: Path, values: Float[np.ndarray, "h w c"], about: Mapping[str, str]) -> None:
    """A 32-bit float file: channel Y for c = 1, R, G and B for c = 3; ``about`` becomes header attributes."""
    library = _library()
    names = {1: "Y", 3: "RGB"}[values.shape[-1]]
    planes = {name: np.ascontiguousarray(values[..., index], np.float32) for index, name in enumerate(names)}
    header = {"compression": library.ZIP_COMPRESSION, "type": library.scanlineimage, **about}
    with library.File(header, planes) as file:
        file.write(str(path))


def _check_size(path: Path) -> None:
    """Refuse a header that claims too many pixels, before they are unpacked."""
    with _library().File(str(path), header_only=True) as file:
        (left, top), (right, bottom) = file.header()["dataWindow"]
    check_size(int(bottom - top) + 1, int(right - left) + 1)


def _one_group(path: Path, names: list[str]) -> list[str]:
    """The names of the only group of channels in a file, in the order of their meaning."""
    groups: dict[str, dict[str, str]] = {}
    for name in names:
        layer, last = re.fullmatch(r"(?:(.*)\.)?([^.]*)", name).groups()
        order = next((order for order in ORDERS if last.lower() in order), last.lower())
        if last.lower() != "a":
            groups.setdefault(f"{layer or ''}/{order}", {})[last.lower()] = name
    if len(groups) != 1:
        raise ValueError(
            f"{path} must hold one group of channels, got {sorted(names)}; name those wanted, in order, as `channels`"
        )
    (group,) = groups.values()
    return [group[last] for last in sorted(group, key=lambda last: max(order.find(last) for order in ORDERS))]


def _library() -> ModuleType:
    """The optional library behind this file."""
    try:
        import OpenEXR
    except ImportError as error:
        raise ImportError("EXR files need OpenEXR: pip install 'ilora[exr]'") from error
    return OpenEXR
