"""The parts of PNG that Pillow has no words for: 16 bits a colour both ways, and reading up to the damage.

Source: W3C, Portable Network Graphics (Third Edition), sections 5 (chunks), 9 (filters) and 11.2 (chunk types).
"""

import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type


def read16(path: Path) -> UInt16[np.ndarray, "h w c"] | None:
    """All 16 bits of an RGB (c = 3) or RGBA (c = 4) file; None where the file is no 16-bit RGB or RGBA PNG.

    Pillow opens such a file with 8 bits a colour. Its decoder can be asked for the high bytes and for the low bytes.
    """
    with path.open("rb") as file:
        start = file.read(26)
    if not start.startswith(SIGNATURE) or start[24] != 16 or start[25] not in (2, 6):  # bit depth, colour type
        return None
    mode = {2: "RGB", 6: "RGBA"}[start[25]]
    high, low = (_half(path, f"{mode};16{order}") for order in "BL")
    return (high.astype(np.uint16) << 8) | low


def _half(path: Path, raw: str) -> UInt8[np.ndarray, "h w c"]:
    """One byte of every 16-bit sample: the first under a raw mode ending in B, the second under one ending in L."""
    with Image.open(path, formats=("PNG",)) as picture:
        picture.tile = [tile._replace(args=raw) for tile in picture.tile]
        return np.asarray(picture)


def encode(pixels: UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"], about: Mapping[str, str]) -> bytes:
    """A whole PNG of grey (c = 1) or RGB (c = 3) pixels with ``about`` as text chunks."""
    height, width, channels = pixels.shape
    depth = 8 * pixels.dtype.itemsize
    header = struct.pack(">IIBBBBB", width, height, depth, {1: 0, 3: 2}[channels], 0, 0, 0)
    samples = np.ascontiguousarray(pixels, dtype=f">u{pixels.dtype.itemsize}")
    rows = samples.view(np.uint8).reshape(height, -1)  # [h, w * c * bytes]
    body = zlib.compress(_filtered(rows, channels * pixels.dtype.itemsize).tobytes(), 6)
    texts = [_text(key, value) for key, value in about.items()]
    chunks = [_chunk(b"IHDR", header), *texts, _chunk(b"IDAT", body), _chunk(b"IEND", b"")]
    return SIGNATURE + b"".join(chunks)


def _filtered(rows: UInt8[np.ndarray, "h n"], step: int) -> UInt8[np.ndarray, "h n+1"]:
    """Rows as differences, each under the filter whose differences are smallest (section 12.7), its number in front.

    Filters 0 (none), 1 (from the left), 2 (from above) and 4 (Paeth); ``step`` bytes make one pixel.
    """
    left = np.pad(rows, ((0, 0), (step, 0)))[:, : rows.shape[1]]
    above = np.pad(rows, ((1, 0), (0, 0)))[:-1]
    corner = np.pad(left, ((1, 0), (0, 0)))[:-1]
    a, b, c = (side.astype(np.int16) for side in (left, above, corner))
    from_a, from_b, from_c = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)  # |p - a| for p = a + b - c, ...
    nearest = np.where((from_a <= from_b) & (from_a <= from_c), left, np.where(from_b <= from_c, above, corner))
    differences = np.stack([rows, rows - left, rows - above, rows - nearest])  # [4, h, n], modulo 256
    cost = np.abs(differences.view(np.int8).astype(np.int16)).sum(2, dtype=np.int64)  # [4, h]
    best = cost.argmin(0)
    numbers = np.array([0, 1, 2, 4], np.uint8)[best]
    return np.column_stack([numbers, differences[best, np.arange(len(rows))]])


def _chunk(kind: bytes, body: bytes) -> bytes:
    """Length, kind, body and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _text(key: str, value: str) -> bytes:
    """A keyword with its text: tEXt where Latin-1 can spell it, iTXt (UTF-8) elsewhere."""
    keyword = key.encode("latin-1") + b"\0"
    try:
        return _chunk(b"tEXt", keyword + value.encode("latin-1"))
    except UnicodeEncodeError:
        return _chunk(b"iTXt", keyword + b"\0\0\0\0" + value.encode("utf-8"))


def mend(data: bytes, *, largest: int) -> tuple[bytes, int] | None:
    """A readable copy of a damaged file and the number of its rows that are whole; the last whole row fills the rest.

    None where nothing is worth mending: no PNG, more than ``largest`` pixels, interlaced, cut short before its last
    pixel (better fetched again), or fewer than half of its rows are whole.
    """
    chunks = list(_chunks(data))
    if not chunks or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        return None
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[0][1])
    if interlaced or not 0 < width * height <= largest:
        return None
    length = 1 + (width * CHANNELS.get(colour, 0) * depth + 7) // 8  # bytes of a row with its filter number
    pixels = _inflate(b"".join(body for kind, body, _ in chunks if kind == b"IDAT"), length * height)
    cut = any(not whole for kind, _, whole in chunks if kind == b"IDAT")
    if cut and len(pixels) < length * height:
        return None
    filters = np.frombuffer(pixels[: len(pixels) // length * length : length], np.uint8)
    rows = int(np.append(filters > 4, True).argmax())  # up to the first filter number that does not exist
    if 2 * rows < height:
        return None
    pixels = pixels[: rows * length] + (b"\2" + bytes(length - 1)) * (height - rows)  # 2: as the row above
    kept = [_chunk(kind, body) for kind, body, whole in chunks if whole and kind in (b"IHDR", b"PLTE", b"tRNS")]
    return SIGNATURE + b"".join([*kept, _chunk(b"IDAT", zlib.compress(pixels, 1)), _chunk(b"IEND", b"")]), rows


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """Kind, body and whether the body has its full length, up to the end or to a kind that is no four letters."""
    at = len(SIGNATURE)
    while data.startswith(SIGNATURE) and at + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        if not kind.isalpha():
            return
        body = data[at + 8 : at + 8 + size]
        yield kind, body, len(body) == size
        at += 12 + size


def _inflate(body: bytes, most: int) -> bytes:
    """As much of a zlib stream as comes out before it breaks, ``most`` bytes of it."""
    inflater, pixels = zlib.decompressobj(), b""
    for start in range(0, len(body), 4096):
        try:
            pixels += inflater.decompress(body[start : start + 4096], most - len(pixels))
        except zlib.error:
            break
        if len(pixels) >= most:
            break
    return pixels[:most]
