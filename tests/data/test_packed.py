"""Labelled pictures in tars and Parquet files: the same examples as from a folder, and every mistake named."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from ilora.data import archives, dataset
from ilora.data.base import Dataset
from ilora.data.folder import Folder, check
from ilora.data.packed import Packed, holds
from ilora.data.survey import survey
from tests import world

META = '[depths]\nunit = "m"\n[shadings]\nspace = "linear"\n[split]\ntest = ["*/test*"]\ntrain = ["a/*"]\n'


def record(folder: Path, name: str, key: str = "") -> dict[str, bytes]:
    """Members of a picture of ``world`` with its maps; a mask whose left half is not measured."""
    mask = io.BytesIO()
    np.save(mask, np.arange(40)[None].repeat(32, 0) >= 20)
    kinds = {"normals": "normal.npy", "depths": "depths.npy", "shadings": "shading.npy"}
    maps = {ending: (folder / part / f"{name}.npy").read_bytes() for part, ending in kinds.items()}
    picture = {"png": (folder / "images" / f"{name}.png").read_bytes(), "valid.npy": mask.getvalue(), "json": b"{}"}
    return {f"{key or name}.{ending}": data for ending, data in (picture | maps).items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.write(tmp_path_factory.mktemp("world"), train=3, test=1)


@pytest.fixture
def packed(folder: Path, tmp_path: Path) -> Path:
    """Two records in a tar, one in a Parquet file of two row groups, whose second row has no mask."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: pip install 'ilora[ray]'")
    import pyarrow

    world.write_tar(tmp_path / "a.tar", record(folder, "train0") | record(folder, "train1", "sub.d/train1"))
    rows = []
    for name in ("train2", "test0"):
        members = record(folder, name)
        rows.append({"key": name, "image": {"bytes": members[f"{name}.png"], "path": "x"}}
                    | {"normal": members[f"{name}.normal.npy"],
                       "valid": members[f"{name}.valid.npy"] if name != "test0" else None})  # fmt: skip
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "b.parquet", row_group_size=1)
    (tmp_path / "meta.toml").write_text(META)
    return tmp_path


def test_shards_hold_the_examples_of_a_folder(folder: Path, packed: Path) -> None:
    data, wanted = (
        dataset(str(packed), intrinsic="normal", split="all"),
        Folder(folder, intrinsic="normal", split="all"),
    )
    assert isinstance(data, Dataset) and isinstance(data, Packed)
    assert data.names == ["a/sub.d/train1", "a/train0", "b/test0", "b/train2"]
    right = torch.arange(40) >= 20
    for name, example in zip(("train1", "train0", "test0", "train2"), data, strict=True):
        other = wanted[wanted.names.index(name)]
        assert torch.equal(example.image, other.image)
        measured = other.valid & right if name != "test0" else other.valid
        assert torch.equal(example.valid, measured) and torch.equal(example.map, torch.where(measured, other.map, 0))
    assert data.fingerprint == Packed(packed, intrinsic="normal", split="all").fingerprint
    assert data.fingerprint != Packed(packed, intrinsic="normal", split="train").fingerprint


def test_splits_are_patterns_of_shard_and_key_and_one_shard_is_a_data_set(packed: Path) -> None:
    assert dataset(str(packed), intrinsic="normal", split="train").names == ["a/sub.d/train1", "a/train0"]
    assert dataset(str(packed), intrinsic="normal", split="test").names == ["b/test0"]
    depth = dataset(str(packed / "a.tar"), intrinsic="depth", split="all")
    assert depth.names == ["a/sub.d/train1", "a/train0"] and 2 < float(depth[0].map.max()) <= 4
    with pytest.raises(ValueError, match=r"b\.parquet/test0\.image: its record has no depth; add it"):
        dataset(str(packed), intrinsic="depth", split="all")
    with pytest.warns(UserWarning, match="left out"):
        assert len(dataset(str(packed), intrinsic="depth", split="all", on_problem="skip")) == 2


def test_what_is_wrong_is_named_by_shard_and_member(folder: Path, tmp_path: Path) -> None:
    members = record(folder, "train0") | record(folder, "train1")
    members |= {"train0.normal.npy": b"nothing", "train1.jpg": b"", "lost.normal.npy": b"x", "train0.seg.png": b"y"}
    world.write_tar(tmp_path / "a.tar", members)
    world.write_tar(tmp_path / "cut.tar", record(folder, "train2"))
    (tmp_path / "cut.tar").write_bytes((tmp_path / "cut.tar").read_bytes()[:3000])
    lines = [str(problem) for problem in check(Packed(tmp_path, intrinsic="normal", split="all"))]
    assert [line.partition(":")[0] for line in lines] == [
        "a.tar/train1.jpg", "a.tar/lost.normal.npy", "cut.tar", "a.tar/train0.normal.npy", "a.tar/train1.jpg"
    ]  # fmt: skip
    assert "the record also has train1.png" in lines[0] and "has no picture" in lines[1]
    assert "cannot be read" in lines[2] and all(line.count("/") == 1 for line in lines[3:]), lines[
        3:
    ]  # no file that is gone
    with pytest.raises(ValueError, match=r"a\.tar/train0\.normal\.npy"):
        Packed(tmp_path / "a.tar", intrinsic="normal", split="all")[0]
    with pytest.raises(ValueError, match=r"must hold KEY\.albedo\.SUFFIX.*got depths\.npy, jpg, json"):
        Packed(tmp_path / "a.tar", intrinsic="albedo", split="all")


def test_compressed_tars_and_codings_of_rendered_scenes_are_refused(folder: Path, tmp_path: Path) -> None:
    world.write_tar(tmp_path / "a.tar", record(folder, "train0"))
    with tarfile.open(tmp_path / "b.tar", "w:gz"):
        pass
    with pytest.raises(ValueError, match=r"b\.tar.* write it again, uncompressed"):
        archives.members(tmp_path / "b.tar")
    (tmp_path / "about.json").write_text('{"format": "webdataset"}')
    with pytest.raises(ValueError, match="codings of their own; render them with --format folder"):
        Packed(tmp_path, intrinsic="normal", split="all")


def test_a_folder_of_pictures_stays_one_whatever_lies_beside_it(folder: Path, tmp_path: Path) -> None:
    assert not holds(tmp_path) and not holds(tmp_path / "absent.tar") and not holds(folder)
    world.write_tar(tmp_path / "a.tar", {})
    assert holds(tmp_path) and holds(tmp_path / "a.tar")
    (tmp_path / "images").mkdir()
    assert not holds(tmp_path)


def test_shards_beside_a_folder_of_pictures_are_told_of(tmp_path: Path) -> None:
    world.write(tmp_path, train=1, test=0)
    world.write_tar(tmp_path / "a.tar", {})
    with pytest.warns(UserWarning, match=r"a\.tar and other tar or Parquet files beside images/ are not read"):
        assert dataset(str(tmp_path), intrinsic="normal").names == ["train0"]


def test_statistics_of_shards(packed: Path, tmp_path: Path) -> None:
    found = survey(str(packed / "a.tar"), out=tmp_path / "sheet.png")
    assert [one.kind.name for one in found] == ["normal", "depth", "shading"] and found[0].total == 2
    assert found[1].shares == [0.5, 0.5] and (tmp_path / "sheet.png").is_file()
    with pytest.raises(ValueError, match=r"must hold one of KEY\.normal\.npy, .*got png; add it"):
        survey(str(world.write_tar(tmp_path / "c.tar", {"a.png": b"x"})))
