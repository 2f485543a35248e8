"""16-bit PNG both ways against a decoder written from the specification, and reading up to the damage."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from ilora.images import png

LIMIT = 2**20


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Kinds and bodies; lengths and checksums must be right."""
    assert data[:8] == bytes([137, 80, 78, 71, 13, 10, 26, 10])
    found, at = [], 8
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        body = data[at + 4 : at + 8 + size]
        assert struct.pack(">I", zlib.crc32(body)) == data[at + 8 + size : at + 12 + size]
        found.append((body[:4], body[4:]))
        at += 12 + size
    return found


def decode(data: bytes) -> np.ndarray:
    """Samples [h, w, c], byte by byte after the specification's section 9."""
    parts = chunks(data)
    width, height, depth, colour = struct.unpack(">IIBB", parts[0][1][:10])
    channels = {0: 1, 2: 3}[colour]
    step, raw = channels * depth // 8, zlib.decompress(b"".join(body for kind, body in parts if kind == b"IDAT"))
    length, above, rows = width * step, bytes(width * step), []
    for start in range(0, height * (length + 1), length + 1):
        number, row = raw[start], bytearray(raw[start + 1 : start + 1 + length])
        for x in range(length):
            a, c = (row[x - step], above[x - step]) if x >= step else (0, 0)
            b = above[x]
            p = a + b - c
            nearest = min(((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c)))[2]
            row[x] = (row[x] + (0, a, b, (a + b) // 2, nearest)[number]) % 256
        rows.append(bytes(row))
        above = rows[-1]
    return np.frombuffer(b"".join(rows), f">u{depth // 8}").reshape(height, width, channels)


SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3]))


@given(arrays.arrays(st.sampled_from([np.uint8, np.uint16]), SHAPES))
def test_what_is_written_is_read_by_the_specification(pixels: np.ndarray) -> None:
    assert np.array_equal(decode(png.encode(pixels, {})), pixels)


def test_pillow_reads_eight_bits_and_every_filter_is_used() -> None:
    ramp = np.arange(64, dtype=np.uint8)
    flat, across = np.full((8, 64), 7, np.uint8), np.tile(ramp, (8, 1))
    kinds = [flat, across, np.tile(ramp[:8, None] * 30, (1, 64)), ramp + ramp[:8, None]]
    noise = np.random.default_rng(0).integers(0, 2, (8, 64), np.uint8)  # best left as it is
    pixels = np.concatenate([*kinds, noise])[..., None]
    data = png.encode(pixels, {})
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels[..., 0])
    raw = zlib.decompress(next(body for kind, body in chunks(data) if kind == b"IDAT"))
    assert set(raw[::65]) == {0, 1, 2, 4}


def test_text_is_read_back_in_any_script() -> None:
    about = {"units": "m²", "axes": "x → right", "empty": ""}
    picture = Image.open(io.BytesIO(png.encode(np.zeros((2, 2, 3), np.uint16), about)))
    picture.load()
    assert picture.text == about


@pytest.mark.parametrize("channels", [3, 4])
def test_all_sixteen_bits_of_a_colour_file_are_read(channels: int, tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 2**16, (11, 13, channels), np.uint16)
    rows = pixels.astype(">u2").tobytes()
    body = b"".join(b"\0" + rows[i : i + 26 * channels] for i in range(0, len(rows), 26 * channels))
    header = struct.pack(">IIBBBBB", 13, 11, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    path = tmp_path / "deep.png"
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(body)), (b"IEND", b""))
    path.write_bytes(png.SIGNATURE + b"".join(png._chunk(*part) for part in parts))
    assert np.array_equal(png.read16(path), pixels)


def test_other_files_are_not_taken_for_sixteen_bit_colour(tmp_path: Path) -> None:
    for name, pixels in (("grey", np.zeros((2, 2, 1), np.uint16)), ("eight", np.zeros((2, 2, 3), np.uint8))):
        (tmp_path / name).write_bytes(png.encode(pixels, {}))
        assert png.read16(tmp_path / name) is None
    (tmp_path / "jpeg").write_bytes(b"\xff\xd8\xff")
    assert png.read16(tmp_path / "jpeg") is None


def picture(rows: int = 20) -> tuple[np.ndarray, bytes]:
    """Noise, which does not compress, and its file."""
    pixels = np.random.default_rng(2).integers(0, 256, (rows, 16, 3), np.uint8)
    return pixels, png.encode(pixels, {})


def test_a_file_that_lost_its_end_after_the_last_pixel_is_whole() -> None:
    pixels, data = picture()
    mended, rows = png.mend(data[:-12], largest=LIMIT)
    assert rows == 20
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(mended))), pixels)


def test_damage_inside_keeps_the_rows_before_it() -> None:
    pixels = np.repeat(np.arange(20, dtype=np.uint8)[:, None], 16, 1)[..., None]
    header, _, _ = chunks(png.encode(pixels, {}))
    rows = b"".join(bytes([0 if y < 14 else 9]) + bytes([y] * 16) for y in range(20))  # filter 9 does not exist
    parts = (header, (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    data = png.SIGNATURE + b"".join(png._chunk(*part) for part in parts)
    mended, whole = png.mend(data, largest=LIMIT)
    assert whole == 14
    found = np.asarray(Image.open(io.BytesIO(mended)))
    assert np.array_equal(found[:, 0], [*range(14), *[13] * 6])


def test_what_is_not_worth_mending() -> None:
    _, data = picture()
    assert png.mend(data[: len(data) // 2], largest=LIMIT) is None  # cut short: better fetched again
    assert png.mend(b"\xff\xd8\xff" + data, largest=LIMIT) is None  # no PNG
    assert png.mend(data, largest=20 * 16 - 1) is None  # too large
    assert png.mend(png.SIGNATURE, largest=LIMIT) is None
