"""Maps come back as they were stored, from every format that labels have."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from ilora import images
from ilora.images import exr

VALUES = torch.arange(2 * 6 * 5, dtype=torch.float32).reshape(2, 6, 5)[:1] / 7 - 1.3
COLOURS = torch.arange(3 * 6 * 5, dtype=torch.float32).reshape(3, 6, 5) / 40 - 1


def test_integers_stay_integers(tmp_path: Path) -> None:
    for array, full in ((np.array([[0, 7, 255]], np.uint8), 255), (np.array([[0, 1234, 65535]], np.uint16), 65535)):
        Image.fromarray(array).save(tmp_path / "a.png")
        np.save(tmp_path / "a.npy", array)
        for name in ("a.png", "a.npy"):
            stored = images.read_map(tmp_path / name)
            assert stored.values.tolist() == [array.tolist()] and stored.full_scale == full


def test_colours_keep_sixteen_bits(tmp_path: Path) -> None:
    images.write_png16(tmp_path / "a.png", COLOURS, low=-1, high=2, about={})
    data = (tmp_path / "a.png").read_bytes().replace(b"ilora", b"other")  # another program's file is not scaled
    (tmp_path / "b.png").write_bytes(_with_checksums(data))
    stored = images.read_map(tmp_path / "b.png")
    assert stored.full_scale == 65535
    assert torch.equal(stored.values, ((COLOURS.double() + 1) / 3 * 65535).round().float())


def _with_checksums(data: bytes) -> bytes:
    """The PNG with the checksums that its chunks should have."""
    from ilora.images import png

    return png.SIGNATURE + b"".join(png._chunk(kind, body) for kind, body, _ in png._chunks(data))


@pytest.mark.parametrize("map", [VALUES, COLOURS])
def test_written_maps_are_read_back(map: torch.Tensor, tmp_path: Path) -> None:
    about = {"units": "m", "axes": "RUB", "colour space": "none — µ"}
    images.write_npy(tmp_path / "a.npy", map, about=about)
    images.write_npz(tmp_path / "a.npz", map, about=about)
    images.write_exr(tmp_path / "a.exr", map, about=about)
    images.write_png16(tmp_path / "a.png", map, low=-2, high=10, about=about)
    for name in ("a.npy", "a.npz", "a.exr"):
        assert torch.equal(images.read_map(tmp_path / name).values, map)
    assert_close(images.read_map(tmp_path / "a.png").values, map, atol=12 / 131070 * 1.01, rtol=0)
    assert json.loads((tmp_path / "a.npy.json").read_text()) == about
    for name in ("a.npz", "a.exr", "a.png"):
        assert about.items() <= images.read_map(tmp_path / name).about.items()
    assert np.load(tmp_path / "a.npy").shape == ((6, 5) if map is VALUES else (6, 5, 3))


def test_what_cannot_be_stored_in_sixteen_bits(tmp_path: Path) -> None:
    map = torch.tensor([[[torch.nan, torch.inf, -5.0, 5.0, 0.25]]])
    images.write_png16(tmp_path / "a.png", map, low=0, high=1, about={})
    assert_close(images.read_map(tmp_path / "a.png").values, torch.tensor([[[0, 0, 0, 1, 0.25]]]), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="low must be below high, got 1 and 1"):
        images.write_png16(tmp_path / "b.png", map, low=1, high=1, about={})
    for write in (lambda path, map: images.write_exr(path, map, about={}),
                  lambda path, map: images.write_png16(path, map, low=0, high=1, about={})):  # fmt: skip
        with pytest.raises(ValueError, match="1 or 3 channels, got 2"):
            write(tmp_path / "b", torch.zeros(2, 4, 4))
    with pytest.raises(ValueError, match="'map'"):
        images.write_npz(tmp_path / "b.npz", map, about={"map": "depth"})
    assert not list(tmp_path.glob("*b*"))


@pytest.mark.parametrize(
    ("channels", "wanted"),
    [
        ({"B": 3, "G": 2, "R": 1}, [1, 2, 3]),
        ({"normal.Z": 3, "normal.X": 1, "normal.Y": 2}, [1, 2, 3]),
        ({"N.x": 1, "N.y": 2, "N.z": 3, "A": 9}, [1, 2, 3]),
        ({"Z": 4}, [4]),
        ({"depth.V": 4}, [4]),
        ({"distance": 4, "A": 0}, [4]),
    ],
)
def test_exr_channels_by_any_name(channels: dict[str, float], wanted: list[float], tmp_path: Path) -> None:
    _exr(tmp_path / "a.exr", channels, np.float16)
    assert images.read_map(tmp_path / "a.exr").values[:, 0, 0].tolist() == wanted


def test_exr_with_a_choice(tmp_path: Path) -> None:
    _exr(tmp_path / "a.exr", {"R": 1, "G": 2, "B": 3, "depth.Z": 4}, np.float32)
    with pytest.raises(ValueError, match=r"got \['B', 'G', 'R', 'depth.Z'\]; name those wanted"):
        images.read_map(tmp_path / "a.exr")
    assert images.read_map(tmp_path / "a.exr", channels=["depth.Z"]).values.unique().tolist() == [4]
    assert images.read_map(tmp_path / "a.exr", channels=["G", "R"]).values[:, 0, 0].tolist() == [2, 1]
    with pytest.raises(ValueError, match="correct `channels`"):
        images.read_map(tmp_path / "a.exr", channels=["Z"])
    assert images.read(tmp_path / "a.exr").shape == (3, 2, 3)  # a picture takes its colours


def _exr(path: Path, channels: dict[str, float], kind: type) -> None:
    """A file of constant channels."""
    library = exr._library()
    header = {"compression": library.ZIP_COMPRESSION, "type": library.scanlineimage}
    with library.File(header, {name: np.full((2, 3), value, kind) for name, value in channels.items()}) as file:
        file.write(str(path))


def test_alpha_says_what_is_measured(tmp_path: Path) -> None:
    pixels = np.zeros((2, 3, 4), np.uint8)
    pixels[..., 3] = [[255, 0, 1], [255, 255, 255]]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert images.read_map(tmp_path / "a.png").opaque.tolist() == [[[True, False, True], [True, True, True]]]
    Image.fromarray(pixels * 0).save(tmp_path / "b.png")
    assert images.read_map(tmp_path / "b.png").opaque.all()


def test_npz_with_a_choice(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", depth=np.ones((2, 3)), mask=np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"got \['depth', 'mask'\]"):
        images.read_map(tmp_path / "a.npz")
    assert images.read_map(tmp_path / "a.npz", channels=["depth"]).values.eq(1).all()


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], object), allow_pickle=True)
    np.savez(tmp_path / "a.npz", a=np.array([{"a": 1}], object))
    for name in ("a.npy", "a.npz"):
        with pytest.raises(ValueError, match="cannot be read"):
            images.read_map(tmp_path / name)


def test_lossy_and_shapeless_files_are_refused(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match="which lose nothing"):
        images.read_map(tmp_path / "a.jpg")
    for shape in ((4,), (5, 6, 7), (1, 1, 4, 4), (0, 4)):
        np.save(tmp_path / "a.npy", np.zeros(shape))
        with pytest.raises(ValueError, match=r"must hold \[h, w\]|an array of shape"):
            images.read_map(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.array([["a", "b"]]))
    with pytest.raises(ValueError, match="must hold numbers"):
        images.read_map(tmp_path / "b.npy")


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.exr"])
def test_damaged_maps_fail_with_one_line(name: str, tmp_path: Path) -> None:
    write = {"a.npy": images.write_npy, "a.npz": images.write_npz, "a.exr": images.write_exr}[name]
    write(tmp_path / name, COLOURS, about={})
    whole = (tmp_path / name).read_bytes()
    for share in (0.1, 0.5, 0.9, 0.99):
        (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ValueError) as caught:
            images.read_map(tmp_path / name)
        assert "\n" not in str(caught.value) and str(tmp_path / name) in str(caught.value)


def test_archives_fail_with_one_line_however_they_are_broken(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    images.write_npz(path, COLOURS, about={})
    whole, failed = path.read_bytes(), 0
    first = whole.index(b"PK\x01\x02")  # of the directory behind the members
    places = {"method": first + 10, "flags": first + 8}  # PKWARE's APPNOTE 6.3.10, section 4.3.12
    unknown, encrypted = bytearray(whole), bytearray(whole)
    unknown[places["method"]], encrypted[places["flags"]] = 97, encrypted[places["flags"]] | 1
    garbled = whole.replace(whole[60:90], bytes(30))
    for data, words in ((unknown, "compression"), (encrypted, "encrypted"), (garbled, "")):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=f"a.npz cannot be read: .*{words}"):
            images.read_map(path)
    generator = np.random.default_rng(0)
    for _ in range(200):
        data = bytearray(whole)
        for place in generator.integers(0, len(data), 3):
            data[place] ^= int(generator.integers(1, 256))
        path.write_bytes(data)
        try:
            images.read_map(path)
        except ValueError as error:
            failed += 1
            assert "\n" not in str(error) and str(error).startswith(str(path))
    assert failed > 100


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "deep/er/a.txt"
    with images.replacing(path) as temporary:
        temporary.write_text("first")
    with pytest.raises(KeyboardInterrupt), images.replacing(path) as temporary:
        temporary.write_text("half of the sec")
        raise KeyboardInterrupt
    assert path.read_text() == "first" and [entry.name for entry in path.parent.iterdir()] == ["a.txt"]


def test_names_may_be_as_long_as_the_file_system_has_it(tmp_path: Path) -> None:
    path = images.write_npy(tmp_path / f"{'x' * 246}.npy", VALUES, about={})  # 255 with the JSON beside it
    assert torch.equal(images.read_map(path).values, VALUES)
    with images.replacing(tmp_path / "a.npz") as temporary:
        temporary.touch()
        assert temporary.suffix == ".npz" and temporary.parent == tmp_path and temporary.name[0] == "."


def test_real_maps(real: Path) -> None:
    depth = images.read_map(real / "icl_livingroom/depth/00000.png")
    assert depth.full_scale == 65535 and 500 < float(depth.values.median()) < 10000  # millimetres of a room
    folder = real / "cleargrasp/real-val/d435"
    normal = images.read_map(folder / "000000123-normals.exr").values
    known = (normal != -1).any(0)
    assert_close(normal[:, known].norm(dim=0).median(), torch.tensor(1.0), atol=1e-2, rtol=0)
    assert images.read_map(folder / "000000080-opaque-depth-img.exr").values.isnan().any()
