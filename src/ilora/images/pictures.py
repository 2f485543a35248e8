"""Pictures as generators take them: sRGB in [-1, 1], upright, three channels."""

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Shaped
from PIL import Image, ImageCms
from torch import Tensor

from ilora import checks
from ilora.images import arrays, exr, raster
from ilora.ops import color

ORIENTATION = 0x0112  # EXIF 2.32, table 4


def read(path: str | Path) -> Float[Tensor, "3 h w"]:
    """A picture in sRGB, [-1, 1], turned upright by its EXIF orientation.

    - Grey is repeated; palettes, CMYK and YCbCr are converted; an embedded colour profile is converted to sRGB.
    - Transparent pixels are composited on white. Of several frames or pages the first is read.
    - Integers are divided by what their bits can hold (8, 12, 16, ...), never by the picture's own maximum.
    - Floats in TIFF and EXR are linear light: clipped to [0, 1], then the sRGB curve (IEC 61966-2-1).
      Floats in NPY and NPZ are sRGB in [0, 1] already.

    Raises:
        ValueError: one line that says why the file cannot be read, and what to do.
    """
    path = checks.file(path, "picture")
    suffix = path.suffix.lower()
    if suffix in (".npy", ".npz"):
        values = _from_array(path)
    elif suffix == ".exr":
        values = _from_exr(path)
    else:
        values = _from_raster(path)
    return torch.from_numpy(values.transpose(2, 0, 1).copy()).mul(2).sub(1)  # [3, h, w]


def resolution(path: str | Path) -> tuple[int, int]:
    """Height and width [px] of the picture that ``read`` returns; most formats need only their header for it.

    Raises:
        ValueError: as ``read``.
    """
    path = checks.file(path, "picture")
    if path.suffix.lower() in (".npy", ".npz", ".exr"):
        return tuple(read(path).shape[-2:])
    try:
        with Image.open(path, formats=raster.formats()) as picture:
            raster.check_size(picture.height, picture.width)
            turned = picture.format != "TIFF" and _orientation(picture) >= 5  # TIFF's size is turned already
    except Exception as error:  # as in open_raster
        raise ValueError(raster.unreadable(path, error)) from error
    return (picture.width, picture.height) if turned else (picture.height, picture.width)


def suffixes() -> set[str]:
    """The suffixes, in lower case, of the names of files that ``read`` takes."""
    known = {suffix for suffix, name in Image.registered_extensions().items() if name in raster.formats()}
    return known | {".imt", ".mpo", ".exr", ".npy", ".npz"}  # Pillow opens the first two without saying so


def find(folder: str | Path) -> list[Path]:
    """The files in a folder whose names say that ``read`` takes them, sorted; hidden files and subfolders are left out.

    Raises:
        ValueError: no such folder.
    """
    known = suffixes()
    entries = sorted(checks.folder(folder, "folder of pictures").iterdir())
    return [path for path in entries if path.suffix.lower() in known and path.is_file() and path.name[0] != "."]


def _from_raster(path: Path) -> Float[np.ndarray, "h w 3"]:
    """sRGB in [0, 1] of anything that Pillow opens."""
    picture = raster.open_raster(path)
    orientation = _orientation(picture)
    try:
        pixels = raster.pixels(_to_srgb(picture), path)
    except (ValueError, OSError) as error:  # a mode without a way to RGB
        raise ValueError(raster.unreadable(path, error)) from error
    values = raster.unit(pixels)
    if pixels.full_scale is None:
        values = _linear_to_srgb(values)
    return _upright(_on_white(values.clip(0, 1)), orientation)


def _from_exr(path: Path) -> Float[np.ndarray, "h w 3"]:
    """sRGB in [0, 1] of linear light; colours are premultiplied by alpha, as the format has it."""
    colour = all(name in exr.names(path) for name in exr.RGB)
    values, alpha, _ = exr.read(path, exr.RGB if colour else None)
    if values.shape[-1] not in (1, 3):
        raise ValueError(f"{path} must hold 1 or 3 channels to be a picture, got {values.shape[-1]}; write it as RGB")
    behind = 0.0 if alpha is None else 1 - alpha.clip(0, 1)[..., None]
    return _three(_linear_to_srgb(values + behind))


def _from_array(path: Path) -> Float[np.ndarray, "h w 3"]:
    """sRGB in [0, 1] of 8-bit, 16-bit or float arrays."""
    array, _ = arrays.read(path)
    if array.dtype in (np.uint8, np.uint16):
        return _on_white(array.astype(np.float32) / np.iinfo(array.dtype).max)
    low, high = float(array.min()), float(array.max())
    if array.dtype.kind != "f" or not (low >= 0 and high <= 1):  # a NaN fails both comparisons
        raise ValueError(
            f"{path} must hold sRGB as uint8, uint16, or floats in [0, 1], got {array.dtype} in [{low:.4g}, "
            f"{high:.4g}]; divide by its largest possible value"
        )
    return _on_white(array.astype(np.float32))


def _linear_to_srgb(linear: Float[np.ndarray, "h w c"]) -> Float[np.ndarray, "h w c"]:
    """sRGB in [0, 1] of linear light, which is clipped to [0, 1]; NaN is black."""
    light = np.nan_to_num(linear, nan=0.0).clip(0, 1).astype(np.float32)
    return color.to_srgb(torch.from_numpy(light)).numpy()


def _on_white(values: Float[np.ndarray, "h w c"]) -> Float[np.ndarray, "h w 3"]:
    """Three channels of 1 to 4; the second of two and the fourth of four are alpha, not premultiplied."""
    colour, alpha = values, 1.0
    if values.shape[-1] in (2, 4):
        colour, alpha = values[..., :-1], values[..., -1:]
    return _three(colour * alpha + (1 - alpha))


def _three(values: Float[np.ndarray, "h w c"]) -> Float[np.ndarray, "h w 3"]:
    """Grey repeated."""
    return np.broadcast_to(values, (*values.shape[:2], 3))


def _to_srgb(picture: Image.Image) -> Image.Image:
    """Colours under an embedded profile as sRGB, alpha as it was; unchanged where that is absent, broken or sRGB."""
    stored = picture.info.get("icc_profile")
    if not stored or picture.mode not in ("RGB", "RGBA", "CMYK"):
        return picture
    alpha = picture.convert("RGBA").getchannel("A") if picture.has_transparency_data else None
    colours = picture if alpha is None else picture.convert("RGB")
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(stored))
        if "srgb" in ImageCms.getProfileDescription(profile).lower():
            return picture
        shown = ImageCms.profileToProfile(colours, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):  # viewers show such a picture without its profile too
        return picture
    if alpha is not None:
        shown.putalpha(alpha)
    return shown


def _orientation(picture: Image.Image) -> int:
    """EXIF orientation, 1 to 8; 1 where the tag is absent or broken."""
    try:
        value = picture.getexif().get(ORIENTATION, 1)
    except Exception:  # broken EXIF raises anything, and the picture is fine without it
        return 1
    return value if value in range(1, 9) else 1


def _upright(values: Shaped[np.ndarray, "a b c"], orientation: int) -> Shaped[np.ndarray, "h w c"]:
    """Pixels stored under an EXIF orientation (EXIF 2.32, section 4.6.4) as they should be seen."""
    if orientation >= 5:
        values = values.swapaxes(0, 1)  # [a, b, c] -> [b, a, c]
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return values[::rows, ::columns]
