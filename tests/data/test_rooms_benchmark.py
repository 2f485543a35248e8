"""The benchmark is read as it was rendered: units, axes, masks and splits."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from ilora.data import dataset, rooms_benchmark
from ilora.data.base import Dataset
from ilora.data.rooms_benchmark import INTRINSICS, Rooms
from ilora.data.scenes.rooms import read_rooms, write_rooms

SIZE = 24


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four small scenes in three splits."""
    pytest.importorskip("mitsuba", reason="rendering needs mitsuba: pip install 'ilora[scenes]'")
    pytest.importorskip("pyoidn", reason="denoising needs pyoidn: pip install 'ilora[scenes]'")
    folder = tmp_path_factory.mktemp("rooms")
    write_rooms(folder, size=SIZE, samples=2, workers=1, counts={"labelled": 2, "validation": 1, "test": 1})
    return folder


@pytest.mark.parametrize("intrinsic", INTRINSICS)
def test_examples_hold_what_was_rendered(intrinsic: str, place: Path) -> None:
    data = Rooms(intrinsic=intrinsic, place=place)
    scenes = list(read_rooms(place / "labelled.npz"))
    assert isinstance(data, Dataset) and len(data) == 2 and data.names == ["10000000", "10000001"]
    for example, scene in zip(data, scenes, strict=True):
        y, x = 17, 5
        assert_close(example.image[:, y, x], torch.from_numpy(scene.image[y, x]).float() / 127.5 - 1)
        values = torch.from_numpy(getattr(scene, intrinsic)).reshape(SIZE, SIZE, -1)
        mask = torch.from_numpy(scene.valid)
        assert torch.equal(example.valid[0], mask)
        assert torch.equal(example.map[:, mask], values[mask].T)
        assert float(example.map[:, ~mask].abs().sum()) == 0


def test_pictures_are_albedo_times_shading_and_more(place: Path) -> None:
    example = {name: Rooms(intrinsic=name, place=place)[0] for name in INTRINSICS}
    code = (example["albedo"].image + 1) / 2
    light = torch.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    diffuse = example["albedo"].map * example["shading"].map
    dark = (light < 0.9).all(0) & example["albedo"].valid[0]  # not clipped
    assert int(dark.sum()) > SIZE * SIZE / 4
    assert float((light - diffuse)[:, dark].min()) > -0.02  # gloss only adds


def test_axes_and_units(place: Path) -> None:
    normal, depth = (Rooms(intrinsic=name, split="test", place=place)[0] for name in ("normal", "depth"))
    assert_close(normal.map.norm(dim=0)[normal.valid[0]], torch.ones(int(normal.valid.sum())))
    low = normal.valid[0] & (torch.arange(SIZE)[:, None] > SIZE * 2 // 3)
    assert float(normal.map[1][low].mean()) > 0.2 and float(normal.map[2][normal.valid[0]].mean()) > 0.2
    assert 0.3 < float(depth.map[depth.valid].median()) < 30  # m


def test_splits_and_intrinsics_have_their_own_fingerprints(place: Path) -> None:
    splits = ("train", "validation", "test")
    names = [Rooms(intrinsic="depth", split=split, place=place).names for split in splits]
    assert len(set().union(*names)) == 4
    prints = {Rooms(intrinsic=name, split=split, place=place).fingerprint for name in INTRINSICS for split in splits}
    assert len(prints) == 12
    assert Rooms(intrinsic="depth", place=place).fingerprint == Rooms(intrinsic="depth", place=place).fingerprint


def test_unknown_words_are_named(place: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="did you mean 'normal'"):
        Rooms(intrinsic="normals", place=place)
    with pytest.raises(ValueError, match="did you mean 'validation'"):
        Rooms(intrinsic="depth", split="valid", place=place)
    with pytest.raises(ValueError, match="the test scenes of rooms must exist"):
        Rooms(intrinsic="depth", split="test", place=tmp_path)


@pytest.mark.skipif(
    not (rooms_benchmark.PLACE / "card.json").is_file(), reason="this checkout is without the benchmark's files"
)
def test_the_shipped_benchmark() -> None:
    seen: set[str] = set()
    for split, count in (("train", 250), ("validation", 50), ("test", 150)):
        data = dataset("rooms", intrinsic="normal", split=split)
        assert len(data) == count and not seen & set(data.names)
        seen |= set(data.names)
        assert all(example.image.shape == (3, 128, 128) for example in data)
        up = torch.stack([example.map[1, 96:].mean() for example in data])
        assert float((up > 0).float().mean()) > 0.95  # floors point up
    size = sum(path.stat().st_size for path in rooms_benchmark.PLACE.iterdir())
    assert size <= 20 * 2**20
