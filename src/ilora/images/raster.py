"""Open any picture file with Pillow, safely: a limit of size, damage mended, one line for each failure."""

import warnings
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped
from PIL import Image

from ilora.images import png

LARGEST = 2**27  # pixels of a picture or a map; a header that claims more is refused before anything is unpacked
UNREADABLE = (ValueError, OSError, ImportError)  # what reading raises: damaged, gone, or its library is missing
NO_PICTURES = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")  # need other programs, which a hostile file would drive
BITS_PER_SAMPLE, SAMPLE_FORMAT, SIGNED = 258, 339, 2  # TIFF 6.0, sections 8 and 19


@dataclass(frozen=True)
class Pixels:
    """Samples as the file holds them.

    Attributes:
        values: integers or floats; c is 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA).
        full_scale: the integer that stands for 1; None where the file holds floats.
    """

    values: Shaped[np.ndarray, "h w c"]
    full_scale: float | None


def open_raster(path: Path) -> Image.Image:
    """The first frame of a picture file, decoded.

    A PNG that is damaged inside is read up to the damage, with a warning; a file that was cut short is refused.

    Raises:
        ValueError: Pillow cannot read it, or it is larger than ``LARGEST`` pixels.
    """
    try:
        return _load(path)
    except Exception as error:  # a hostile file makes a codec fail in any way there is
        mended = png.mend(path.read_bytes(), largest=LARGEST)
        if mended is None:
            raise ValueError(unreadable(path, error)) from error
    data, rows = mended
    picture = _load(BytesIO(data))
    if rows < picture.height:
        found = f"{rows} of {picture.height} rows read"
        warnings.warn(f"{path} is damaged: {found}, the last one fills the rest", stacklevel=3)
    return picture


def _load(source: Path | BytesIO) -> Image.Image:
    """The first frame, decoded, after its header's size was checked."""
    with Image.open(source, formats=formats()) as picture:
        check_size(picture.height, picture.width)
        picture.load()
    return picture


@cache
def formats() -> tuple[str, ...]:
    """Names of the formats that Pillow reads by itself."""
    Image.init()
    return tuple(name for name in Image.ID if name not in NO_PICTURES)


def check_size(height: int, width: int) -> None:
    """Refuse a size [px] that would fill the memory.

    Raises:
        ValueError: no pixel, or more than ``LARGEST``.
    """
    if not 0 < height * width <= LARGEST:
        raise ValueError(f"{width} x {height} pixels, expected 1 to {LARGEST}")


def unreadable(path: Path, error: Exception) -> str:
    """One line for a file that a library failed on: the library's reason without its line breaks."""
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    if isinstance(error, Image.UnidentifiedImageError):
        reason = "no known picture format, or damaged at its start"
    return f"{path} cannot be read: {reason[:200]}; open it in a viewer and save it again, or leave it out"


def pixels(picture: Image.Image, path: Path) -> Pixels:
    """Samples of a picture from ``open_raster``, with all the bits that the file at ``path`` holds.

    Bits, palettes, CMYK and YCbCr become 8-bit grey, RGB or RGBA. 16-bit grey with alpha and 16-bit RGB in TIFF come
    with 8 bits, as Pillow reads them.
    """
    if picture.mode == "F":
        return Pixels(np.asarray(picture)[..., None], None)
    if picture.mode.startswith("I"):
        return Pixels(np.asarray(picture)[..., None], _full_scale(picture))
    deep = png.read16(path) if picture.format == "PNG" else None
    if deep is not None and picture.mode in ("RGB", "RGBA"):
        return Pixels(deep, 65535.0)
    grey = picture.mode in ("1", "L") and not picture.has_transparency_data
    mode = "L" if grey else "RGBA" if picture.has_transparency_data else "RGB"
    values = np.asarray(picture.convert(mode))
    return Pixels(values[..., None] if grey else values, 255.0)


def _full_scale(picture: Image.Image) -> float:
    """The integer that stands for 1 in a grey file of more than 8 bits."""
    tags = getattr(picture, "tag_v2", {})  # of TIFF; PNG and PGM always fill 16 bits
    bits = tags.get(BITS_PER_SAMPLE, (16,))[0]
    signed = tags.get(SAMPLE_FORMAT, (1,))[0] == SIGNED
    return float(2 ** (bits - 1 if signed else bits) - 1)


def unit(pixels: Pixels) -> Float[np.ndarray, "h w c"]:
    """Samples as floats: integers divided by their full scale, floats as they are."""
    return pixels.values.astype(np.float32) / np.float32(pixels.full_scale or 1.0)
