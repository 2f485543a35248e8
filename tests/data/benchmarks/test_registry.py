"""Published data sets by name: which are there, what opens one, and what is said of files that are missing."""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ilora.data import benchmarks, dataset
from ilora.data.base import Dataset
from ilora.data.benchmarks import contents
from ilora.data.benchmarks.base import Benchmark
from ilora.intrinsics import NAMES as INTRINSICS
from tests import world
from tests.data.benchmarks import scene, test_diode, test_sintel


@pytest.mark.parametrize("name", benchmarks.NAMES)
def test_every_data_set_says_what_it_is(name: str) -> None:
    kind = benchmarks.reader(name)
    assert issubclass(kind, Benchmark) and isinstance(kind, type)
    assert set(kind.card.intrinsics) <= set(INTRINSICS) and set(kind.card.splits) <= {"train", "validation", "test"}
    told = "\n".join(benchmarks.described(name))
    assert all(f"{word}: " in told for word in ("units", "axes", "invalid", "licence", "home", "layout"))
    assert any(line.startswith(f"{name} ") and kind.card.title in line for line in benchmarks.listing())
    assert len(Path(inspect.getfile(kind)).read_text(encoding="utf-8").splitlines()) <= 120


@pytest.mark.parametrize("name", benchmarks.NAMES)
def test_an_empty_folder_says_what_is_expected(name: str, tmp_path: Path) -> None:
    kind = benchmarks.reader(name)
    with pytest.raises(ValueError, match=r"must (have examples|exist|hold)"):
        kind(tmp_path, intrinsic=kind.card.intrinsics[0], split=kind.card.splits[0])
    with pytest.raises(ValueError, match=f"folder of {kind.card.title} must exist"):
        kind(tmp_path / "absent", intrinsic=kind.card.intrinsics[0], split="all")


def test_names_paths_and_folders_are_told_apart(tmp_path: Path) -> None:
    assert benchmarks.named("nyuv2:/data/nyu") == ("nyuv2", "/data/nyu")
    assert benchmarks.named("rooms") is None and benchmarks.named("/data/nyu") is None
    assert benchmarks.named(r"C:\data\nyu") is None and benchmarks.named("nothing-like-it:/data") is None
    with pytest.raises(ValueError, match="did you mean 'hypersim'"):
        benchmarks.named("hypersym:/data")
    folder = tmp_path / "sintel:mine"
    world.write(folder, train=1, test=1)
    assert dataset(str(folder), intrinsic="depth").names == ["train0"]


def test_examples_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    test_sintel.write(tmp_path)
    (tmp_path / "training/clean/alley_1/frame_0001.png").write_bytes(b"no picture")
    data = dataset(f"sintel:{tmp_path}", intrinsic="albedo")
    assert isinstance(data, Dataset) and len(data) == 1
    with pytest.raises(ValueError, match="no known picture format"):
        data[0]
    with pytest.raises(IndexError):
        data[1]


def test_fingerprints_follow_names_contents_and_intrinsic_not_the_place(tmp_path: Path) -> None:
    one, other = (test_sintel.write(tmp_path / name) for name in ("a", "b"))
    prints = [dataset(f"sintel:{path}", intrinsic="depth").fingerprint for path in (one, other)]
    assert prints[0] == prints[1] != dataset(f"sintel:{one}", intrinsic="albedo").fingerprint
    scene.save(one / "training/final/alley_1/frame_0001.png", scene.noise(99))
    assert dataset(f"sintel:{one}", intrinsic="depth").fingerprint != prints[1]


def test_check_tells_every_split_and_intrinsic(tmp_path: Path) -> None:
    test_diode.write(tmp_path, normals=False)
    found = {(one.intrinsic, one.split): one for one in benchmarks.check("diode", tmp_path)}
    assert list(found) == [(name, split) for name in ("depth", "normal") for split in ("train", "validation")]
    whole = found["depth", "validation"]
    assert whole.lines == ["depth, validation: 1 of 1 examples are whole"] and not whole.missing
    assert "must have examples with depth, got none" in found["depth", "train"].lines[0]
    first, second = found["normal", "validation"].lines
    assert first == "normal, validation: 0 of 1 examples are whole"
    file = "val/indoors/scene_00019/scan_00183/00019_00183_indoors_000_000_normal.npy"
    assert second.startswith(f"  {file}: the normal map of 00019_00183_indoors_000_000 is missing")
    with pytest.raises(ValueError, match="intrinsic of DIODE must be one of depth, normal, got 'albedo'"):
        benchmarks.check("diode", tmp_path, intrinsic="albedo")
    with pytest.raises(ValueError, match="split of DIODE must be one of train, validation, all, got 'test'"):
        benchmarks.check("diode", tmp_path, split="test")


@pytest.mark.parametrize(("library", "read"), [("h5py", contents.field), ("scipy.io", contents.matlab)])
def test_libraries_that_are_absent_are_named(library: str, read: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=r"pip install 'ilora\[benchmarks\]'"):
        read(Path("any"))


def test_damaged_and_other_files_are_named(tmp_path: Path) -> None:
    whole = scene.hdf5(tmp_path / "a.hdf5", dataset=scene.planar())
    assert contents.field(whole).shape == (1, scene.HEIGHT, scene.WIDTH)
    with pytest.raises(ValueError, match=r"a\.hdf5 cannot be read: expected the array 'depth', got \['dataset'\]"):
        contents.hdf5(whole, "depth")
    whole.write_bytes(whole.read_bytes()[:900])
    with pytest.raises(ValueError, match=r"a\.hdf5 cannot be read"):
        contents.field(whole)
    (tmp_path / "list.csv").write_text("name,other\n1,2\n")
    with pytest.raises(ValueError, match=r"list of splits must have rows with name, split, got .*without \['split'\]"):
        contents.table(tmp_path / "list.csv", "list of splits", ("name", "split"))
