"""Codings: round trips within half a step, and lossless packing."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from ilora.data.scenes import codings

RNG = np.random.default_rng(0)


def unit(count: int) -> np.ndarray:
    vectors = RNG.standard_normal((count, 3))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(("bits", "degrees"), [(16, 0.0045), (12, 0.07), (8, 1.2)])
def test_normals_come_back_within_the_step(bits, degrees):
    normals = unit(20000)
    back = codings.decode_normal(codings.encode_normal(normals, bits), bits)
    error = np.degrees(2 * np.arctan2(np.linalg.norm(normals - back, axis=1), np.linalg.norm(normals + back, axis=1)))
    assert error.max() < degrees
    np.testing.assert_allclose(np.linalg.norm(back, axis=1), 1, atol=1e-6)


def test_axes_come_back_exactly():
    axes = np.concatenate([np.eye(3), -np.eye(3)]).astype(np.float32)
    np.testing.assert_array_equal(codings.decode_normal(codings.encode_normal(axes, 12), 12), axes)


def test_depth_keeps_ratios():
    depth = np.geomspace(0.1, 50, 5000)
    for bits in (14, 16):
        half_step = (50 / 0.1) ** (0.5 / (2**bits - 1)) - 1
        back = codings.decode_depth(codings.encode_depth(depth, bits), bits)
        assert np.abs(back / depth - 1).max() <= half_step * 1.01
    np.testing.assert_allclose(
        codings.decode_depth(codings.encode_depth(np.array([0.001, 900.0]))), [0.1, 50], rtol=1e-6
    )


def test_albedo_and_shading_round_by_half_a_step():
    albedo = np.linspace(0, 1, 4001)
    back = codings.decode_albedo(codings.encode_albedo(albedo, 8), 8)
    assert np.abs(np.sqrt(back) - np.sqrt(albedo)).max() <= 0.5001 / 255
    shading = np.linspace(0, 64, 4001)
    back = codings.decode_shading(codings.encode_shading(shading, 9), 9)
    assert (np.abs(back - shading) / (shading + 1 / 64)).max() <= 0.0082  # half of log(1 + 4096) / 511
    assert codings.decode_shading(codings.encode_shading(np.array([1e6, 0.0]))).tolist() == pytest.approx([64, 0])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_grey_is_read_by_pillow(dtype):
    grey = RNG.integers(0, np.iinfo(dtype).max, (9, 7), endpoint=True).astype(dtype)
    np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(codings.write_png(grey)))), grey)


def test_png_colour_is_read_by_pillow():
    colour = RNG.integers(0, 256, (9, 7, 3)).astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(codings.write_png(colour)))), colour)
    deep = (colour.astype(np.uint16) << 8) | colour  # Pillow reads 16 bits of colour as their upper 8
    np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(codings.write_png(deep))).convert("RGB")), colour)


def test_png_refuses_other_arrays():
    with pytest.raises(ValueError, match="uint8 or uint16"):
        codings.write_png(np.zeros((4, 4)))
    with pytest.raises(ValueError, match=r"\[h, w\]"):
        codings.write_png(np.zeros((4, 4, 2), np.uint8))


def test_planes_come_back_exactly():
    smooth = (np.add.outer(np.arange(11), np.arange(17)) * 90)[None]
    rough = RNG.integers(-8000, 8000, (4, 11, 17))
    blocks = [np.concatenate([smooth, rough]), np.concatenate([-smooth, rough // 7])]
    packed = [codings.pack(block) for block in blocks]
    np.testing.assert_array_equal(codings.unpack(packed, (5, 11, 17)), np.stack(blocks))
    assert len(codings.pack(smooth)) < smooth.size / 4


def test_webp_is_lossless():
    rgb = RNG.integers(0, 256, (8, 6, 3)).astype(np.uint8)
    np.testing.assert_array_equal(codings.read_webp(codings.write_webp(rgb)), rgb)
