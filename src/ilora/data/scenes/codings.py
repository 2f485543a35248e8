"""Maps as small exact-to-say integers and back: pure functions of numpy arrays, and PNG files of 8 and 16 bits."""

from __future__ import annotations

import lzma
import struct
import zlib
from io import BytesIO

import numpy as np
from PIL import Image

LZMA = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 0, "pb": 0}]
DEPTH_NEAR, DEPTH_FAR = 0.1, 50.0  # m
SHADING_TOP, SHADING_KNEE = 64.0, 1 / 64  # largest shading that is kept, and where its code turns from linear to log


def _round(x: np.ndarray, top: int) -> np.ndarray:
    """[0, 1] to the nearest of 0..top."""
    return np.round(np.clip(x, 0, 1) * top).astype(np.uint16)


def encode_normal(normal: np.ndarray, bits: int = 16) -> np.ndarray:
    """Unit vectors [..., 3] to octahedral codes [..., 2] uint16 (Cigolle et al. 2014); the axes are on the grid."""
    p = normal / np.abs(normal).sum(-1, keepdims=True)
    folded = (1 - np.abs(p[..., 1::-1])) * np.where(p[..., :2] >= 0, 1, -1)
    return _round(np.where(p[..., 2:] < 0, folded, p[..., :2]) / 2 + 0.5, 2**bits - 2)


def decode_normal(code: np.ndarray, bits: int = 16) -> np.ndarray:
    """Octahedral codes [..., 2] to unit vectors [..., 3] float32."""
    xy = code / (2 ** (bits - 1) - 1.0) - 1
    z = 1 - np.abs(xy).sum(-1, keepdims=True)
    folded = (1 - np.abs(xy[..., ::-1])) * np.where(xy >= 0, 1, -1)
    normal = np.concatenate([np.where(z < 0, folded, xy), z], -1)
    return (normal / np.linalg.norm(normal, axis=-1, keepdims=True)).astype(np.float32)


def encode_depth(depth: np.ndarray, bits: int = 16) -> np.ndarray:
    """Metres in 0.1..50 to uint16 in equal ratios; nearer and farther are clipped."""
    return _round(np.log(np.maximum(depth, DEPTH_NEAR) / DEPTH_NEAR) / np.log(DEPTH_FAR / DEPTH_NEAR), 2**bits - 1)


def decode_depth(code: np.ndarray, bits: int = 16) -> np.ndarray:
    """uint16 to metres, float32."""
    return (DEPTH_NEAR * (DEPTH_FAR / DEPTH_NEAR) ** (code / (2**bits - 1.0))).astype(np.float32)


def encode_albedo(albedo: np.ndarray, bits: int = 12) -> np.ndarray:
    """Linear 0..1 to its square root, uint16."""
    return _round(np.sqrt(np.clip(albedo, 0, 1)), 2**bits - 1)


def decode_albedo(code: np.ndarray, bits: int = 12) -> np.ndarray:
    """uint16 to linear 0..1, float32."""
    return ((code / (2**bits - 1.0)) ** 2).astype(np.float32)


def encode_shading(shading: np.ndarray, bits: int = 12) -> np.ndarray:
    """Linear 0..64 to log(1 + 64 s), uint16."""
    return _round(
        np.log1p(np.clip(shading, 0, None) / SHADING_KNEE) / np.log1p(SHADING_TOP / SHADING_KNEE), 2**bits - 1
    )


def decode_shading(code: np.ndarray, bits: int = 12) -> np.ndarray:
    """uint16 to linear 0..64, float32."""
    return (np.expm1(code / (2**bits - 1.0) * np.log1p(SHADING_TOP / SHADING_KNEE)) * SHADING_KNEE).astype(np.float32)


def write_png(array: np.ndarray) -> bytes:
    """PNG file of [h, w] or [h, w, 3], uint8 or uint16. Pillow cannot write colour in 16 bits."""
    if array.dtype not in (np.uint8, np.uint16) or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)):
        raise ValueError(
            f"array must be [h, w] or [h, w, 3] of uint8 or uint16, got {array.dtype} {array.shape}; convert it first"
        )
    height, width = array.shape[:2]
    bits, colour = array.dtype.itemsize * 8, 2 if array.ndim == 3 else 0
    rows = array.astype(array.dtype.newbyteorder(">")).reshape(height, -1).view(np.uint8).astype(np.int16)
    step = array.dtype.itemsize * (3 if colour else 1)
    left = np.pad(rows, ((0, 0), (step, 0)))[:, : rows.shape[1]]
    up = np.pad(rows, ((1, 0), (0, 0)))[:height]
    corner = np.pad(up, ((0, 0), (step, 0)))[:, : rows.shape[1]]
    filtered = ((rows - _paeth(left, up, corner)) & 255).astype(np.uint8)  # filter 4 of the PNG specification, 9.4
    data = zlib.compress(np.pad(filtered, ((0, 0), (1, 0)), constant_values=4).tobytes(), 9)
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _paeth(left: np.ndarray, up: np.ndarray, corner: np.ndarray) -> np.ndarray:
    guess = left + up - corner
    a, b, c = np.abs(guess - left), np.abs(guess - up), np.abs(guess - corner)
    return np.where((a <= b) & (a <= c), left, np.where(b <= c, up, corner))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_webp(rgb: np.ndarray) -> bytes:
    """[h, w, 3] uint8 without loss."""
    buffer = BytesIO()
    Image.fromarray(rgb).save(buffer, "WEBP", lossless=True, quality=100, method=6, exact=True)
    return buffer.getvalue()


def read_webp(data: bytes) -> np.ndarray:
    """[h, w, 3] uint8."""
    return np.asarray(Image.open(BytesIO(data)).convert("RGB"))


def pack(planes: np.ndarray) -> bytes:
    """Integer planes [c, h, w] without loss: median edge predictor (JPEG-LS, Weinberger et al. 2000), then LZMA."""
    planes = planes.astype(np.int32)
    left, up, corner = (
        np.pad(planes, ((0, 0), (y, 0), (x, 0)))[:, : planes.shape[1], : planes.shape[2]]
        for y, x in ((0, 1), (1, 0), (1, 1))
    )
    rest = planes - _median(left, up, corner)
    folded = ((rest << 1) ^ (rest >> 31)).astype(np.uint16)  # sign to the lowest bit
    return lzma.compress(
        np.stack([folded >> 8, folded & 255]).astype(np.uint8).tobytes(), lzma.FORMAT_RAW, filters=LZMA
    )


def unpack(blocks: list[bytes], shape: tuple[int, int, int]) -> np.ndarray:
    """Inverse of pack() for blocks of the same shape [c, h, w]: int32 [blocks, c, h, w]; together it is faster."""
    count, height, width = shape
    raw = b"".join(lzma.decompress(block, lzma.FORMAT_RAW, filters=LZMA) for block in blocks)
    high, low = (
        np.frombuffer(raw, np.uint8).reshape(len(blocks), 2, count, height, width).swapaxes(0, 1).astype(np.int32)
    )
    rest = (high << 8 | low).reshape(-1, height, width)
    rest = (rest >> 1) ^ -(rest & 1)
    planes = np.zeros((height + 1, width + 1, len(rest)), np.int32)  # with a row and a column of zeros before
    rest = np.ascontiguousarray(rest.transpose(1, 2, 0))
    for k in range(height + width - 1):  # one diagonal after another: each needs only those before
        y = np.arange(max(0, k - width + 1), min(height, k + 1))
        x = k - y
        planes[y + 1, x + 1] = rest[y, x] + _median(planes[y + 1, x], planes[y, x + 1], planes[y, x])
    return planes[1:, 1:].transpose(2, 0, 1).reshape(len(blocks), *shape)


def _median(left: np.ndarray, up: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """Median of left, up and left + up - corner."""
    low, high = np.minimum(left, up), np.maximum(left, up)
    return np.clip(left + up - corner, low, high)
