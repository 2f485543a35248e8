"""Pictures arrive as sRGB in [-1, 1], upright, whatever the file; hostile ones fail with one line."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageOps
from torch.testing import assert_close

from ilora import images
from ilora.images import raster

BYTES = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3) * 2  # [h, w, c]


def expected(values: np.ndarray) -> torch.Tensor:
    """[h, w, 3] in [0, 1] as a picture."""
    return torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1) * 2 - 1


def test_bytes_by_hand(tmp_path: Path) -> None:
    Image.fromarray(np.array([[[0, 255, 51]]], np.uint8)).save(tmp_path / "a.png")
    assert_close(images.read(tmp_path / "a.png"), torch.tensor([-1.0, 1.0, -0.6])[:, None, None])


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.webp", "a.ppm"])
def test_lossless_formats_agree(name: str, tmp_path: Path) -> None:
    Image.fromarray(BYTES).save(tmp_path / name, **({"lossless": True} if name == "a.webp" else {}))
    assert_close(images.read(tmp_path / name), expected(BYTES / 255))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in ("a.png", "a.tif"):
        Image.fromarray(BYTES).save(tmp_path / name, exif=exif)
        with Image.open(tmp_path / name) as stored:
            upright = np.asarray(ImageOps.exif_transpose(stored))
        assert_close(images.read(tmp_path / name), expected(upright / 255))
        assert images.resolution(tmp_path / name) == upright.shape[:2]


def test_a_turned_picture_by_hand(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the file's first row is the picture's right side
    Image.fromarray(np.array([[10, 20, 30]], np.uint8)).save(tmp_path / "a.png", exif=exif)
    assert_close((images.read(tmp_path / "a.png")[0] + 1) * 127.5, torch.tensor([[10.0], [20.0], [30.0]]))


def test_transparency_is_composited_on_white(tmp_path: Path) -> None:
    colour = np.array([[[0, 100, 200, 0], [0, 100, 200, 51], [0, 100, 200, 255]]], np.uint8)
    Image.fromarray(colour).save(tmp_path / "a.png")
    share = colour[..., 3:] / 255
    assert_close(images.read(tmp_path / "a.png"), expected(colour[..., :3] / 255 * share + 1 - share))


def test_palettes_with_a_transparent_entry(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("P")
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    picture.save(tmp_path / "a.png", transparency=1)
    shown = np.array([[[10, 20, 30], [255, 255, 255], [70, 80, 90]]])
    assert_close(images.read(tmp_path / "a.png"), expected(shown / 255))


@pytest.mark.parametrize(("name", "mode"), [("a.png", "1"), ("a.png", "L"), ("a.png", "LA"), ("a.jpg", "L")])
def test_grey_is_repeated(name: str, mode: str, tmp_path: Path) -> None:
    Image.new(mode, (8, 8), 1 if mode == "1" else (255, 255) if mode == "LA" else 255).save(tmp_path / name)
    assert_close(images.read(tmp_path / name), torch.ones(3, 8, 8))


def test_sixteen_bits_are_divided_by_what_they_can_hold(tmp_path: Path) -> None:
    grey = np.array([[0, 1000, 65535]], np.uint16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert_close(images.read(tmp_path / "a.png"), expected(np.repeat(grey[..., None], 3, 2) / 65535))
    colour = torch.tensor([0.1, 0.5, 0.9])[:, None, None].expand(3, 2, 2)
    images.write_png16(tmp_path / "b.png", colour, low=0, high=1, about={})
    assert_close(images.read(tmp_path / "b.png"), colour * 2 - 1, atol=2 / 65535, rtol=0)


def test_floats_in_tiff_and_exr_are_linear_light(tmp_path: Path) -> None:
    light = np.array([[-1.0, 0.0, 0.001, 0.214041, 1.0, 50.0, np.nan, np.inf]], np.float32)
    codes = torch.tensor([0.0, 0.0, 0.01292, 0.5, 1.0, 1.0, 0.0, 1.0])  # IEC 61966-2-1: 0.214041 is sRGB 0.5
    Image.fromarray(light).save(tmp_path / "a.tif")
    images.write_exr(tmp_path / "a.exr", torch.from_numpy(light)[None], about={})
    for name in ("a.tif", "a.exr"):
        assert_close(images.read(tmp_path / name)[1, 0], codes * 2 - 1, atol=1e-5, rtol=0)


def test_arrays_are_srgb(tmp_path: Path) -> None:
    for name, array in (("rows", BYTES), ("first", BYTES.transpose(2, 0, 1)), ("deep", BYTES.astype(np.uint16) * 257)):
        np.save(tmp_path / f"{name}.npy", array)
        assert_close(images.read(tmp_path / f"{name}.npy"), expected(BYTES / 255))
    np.savez(tmp_path / "a.npz", picture=BYTES / 255)
    assert_close(images.read(tmp_path / "a.npz"), expected(BYTES / 255))
    for bad, words in ((BYTES * 1.0, r"\[0, 208\]"), (BYTES.astype(np.int64), "int64"), (BYTES / 255 - 1, r"\[-1, ")):
        np.save(tmp_path / "bad.npy", bad)
        with pytest.raises(ValueError, match=words):
            images.read(tmp_path / "bad.npy")


def test_useless_colour_profiles_are_left_aside(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()  # of no RGB picture: ignored
    Image.fromarray(BYTES).save(tmp_path / "wrong.png", icc_profile=profile)
    Image.fromarray(BYTES).save(tmp_path / "broken.png", icc_profile=b"no profile")
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(BYTES).save(tmp_path / "srgb.png", icc_profile=srgb)
    for name in ("wrong", "broken", "srgb"):
        assert_close(images.read(tmp_path / f"{name}.png"), expected(BYTES / 255))


def test_profiles_of_transparent_pictures_are_converted(tmp_path: Path) -> None:
    """Under sRGB with its red and green primaries exchanged, a file's red is the picture's green."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = srgb.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))
    for old, new in ((b"rXYZ", b"hold"), (b"gXYZ", b"rXYZ"), (b"hold", b"gXYZ")):
        profile = profile.replace(old, new)
    alpha = (np.arange(5 * 7).reshape(5, 7, 1) * 7).astype(np.uint8)
    swapped, share = BYTES[..., [1, 0, 2]] / 255, alpha / 255
    Image.fromarray(BYTES).save(tmp_path / "opaque.png", icc_profile=profile)
    assert_close(images.read(tmp_path / "opaque.png"), expected(swapped), atol=2 / 255, rtol=0)
    Image.fromarray(np.concatenate([BYTES, alpha], -1)).save(tmp_path / "alpha.png", icc_profile=profile)
    assert_close(images.read(tmp_path / "alpha.png"), expected(swapped * share + 1 - share), atol=2 / 255, rtol=0)
    Image.fromarray(BYTES).save(tmp_path / "key.png", icc_profile=profile, transparency=tuple(BYTES[2, 3].tolist()))
    keyed = swapped.copy()
    keyed[2, 3] = 1  # the colour that means transparent
    assert_close(images.read(tmp_path / "key.png"), expected(keyed), atol=2 / 255, rtol=0)


def test_adobe_rgb_becomes_srgb(real: Path) -> None:
    path = real / "photos/rocket.jpg"
    with Image.open(path) as picture:
        stored = np.asarray(picture) / 255
    # Adobe RGB (1998), sections 4.3.1 and 4.3.4: gamma 563/256; its red and blue beside sRGB's, white D65 in both.
    light = stored ** (563 / 256) @ np.array([[1.39836, -0.39836, 0], [0, 1, 0], [0, -0.04293, 1.04293]]).T
    light = light.clip(0, 1)
    codes = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    error = (images.read(path) - expected(codes)).abs() / 2
    assert float(error.max()) < 6 / 255 and float(error.mean()) < 1 / 255
    assert float((expected(stored) - expected(codes)).abs().max()) > 0.1


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.gif", "a.webp"])
def test_damaged_files_open_or_fail_with_one_line(name: str, tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)).save(tmp_path / name)
    whole, failed = (tmp_path / name).read_bytes(), 0
    generator = np.random.default_rng(1)
    for attempt in range(60):
        data = bytearray(whole[: len(whole) * attempt // 30 + 1])
        if attempt >= 30:  # whole files with three wrong bytes
            for place in generator.integers(0, len(data), 3):
                data[place] ^= int(generator.integers(1, 256))
        (tmp_path / name).write_bytes(data)
        try:
            with warnings.catch_warnings(action="ignore"):
                image = images.read(tmp_path / name)
        except ValueError as error:
            failed += 1
            assert "\n" not in str(error) and str(error).startswith(str(tmp_path / name))
        else:
            assert image.ndim == 3 and bool(((image >= -1) & (image <= 1)).all())
    assert failed >= 15


def test_a_header_that_claims_too_much_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raster, "LARGEST", 99)
    Image.new("L", (10, 10)).save(tmp_path / "a.png")
    images.write_exr(tmp_path / "a.exr", torch.zeros(1, 10, 10), about={})
    for name in ("a.png", "a.exr"):
        with pytest.raises(ValueError, match="10 x 10 pixels, expected 1 to 99"):
            images.read(tmp_path / name)


def test_find_lists_what_read_takes(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpeg", "c.exr", "d.npy", "notes.txt", ".hidden.png", "e.npy.json", "meta.toml"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in images.find(tmp_path)] == ["a.jpeg", "b.PNG", "c.exr", "d.npy"]


MUST_FAIL = {
    "broken.png",
    "truncated_image.png",
    "truncated_jpeg.jpg",
    "decompression_bomb.gif",
    "decompression_bomb.ico",
    "hopper_unknown_pixel_mode.tif",
    "unbound_variable.jp2",
}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_hostile_files(real: Path) -> None:
    opened, failed = 0, set()
    for path in images.find(real / "hostile_images"):
        try:
            image = images.read(path)
        except ValueError as error:
            assert "\n" not in str(error)
            failed.add(path.name)
        else:
            opened += 1
            assert images.resolution(path) == tuple(image.shape[-2:])
    assert (opened, failed) == (75, MUST_FAIL)


def test_turned_photographs_show_the_same_person(real: Path) -> None:
    upright = images.read(real / "hostile_images/hopper_orientation_2.jpg")
    for number in range(3, 9):
        turned = images.read(real / f"hostile_images/hopper_orientation_{number}.jpg")
        assert float((turned - upright).abs().mean()) < 0.05  # JPEG's rounding in another order of blocks
    mirrored = (upright.flip(-1) - upright).abs().mean()
    assert float(mirrored) > 0.3


def test_damage_is_said_aloud(real: Path) -> None:
    with pytest.warns(UserWarning, match="88 of 128 rows"):
        damaged = images.read(real / "hostile_images/broken_data_stream.png")
    whole = images.read(real / "hostile_images/hopper.png")
    assert torch.equal(damaged[:, :88], whole[:, :88])
    assert torch.equal(damaged[:, 88:], damaged[:, 87:88].expand(3, 40, 128))


@pytest.mark.parametrize("folder", ["photos", "diode_rgb_only"])
def test_photographs(folder: str, real: Path) -> None:
    paths = [path for path in images.find(real / folder) if path.name != "truncated.jpg"]
    for path in paths:
        image = images.read(path)
        assert image.shape[0] == 3 and float(image.std()) > 0.05
    assert len(paths) >= 2
