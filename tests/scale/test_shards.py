"""Inputs cut by hand, and shards unpacked and packed again."""

import io
from pathlib import Path

import numpy as np
import pytest

from ilora.scale.layouts import LAYOUTS, outputs
from ilora.scale.pool import Share, share
from ilora.scale.shards import Shard, cut, sow
from tests import world
from tests.scale.conftest import encoded, read_tar


def test_a_folder_is_cut_by_count_and_packed_files_are_one_shard_each(photos: Path) -> None:
    world.write_tar(photos / "x.tar", {"k.png": encoded(1)})
    (photos / "y.parquet").write_bytes(b"PAR1")
    failed: dict[str, str] = {}
    shards = cut([photos, "nowhere"], failed=failed, size=4, column="image")
    assert [(shard.name, shard.layout, list(shard.files)) for shard in shards] == [
        ("pictures-000000", "pictures", ["a_bmp", "a_png", "b", "broken"]),
        ("pictures-000001", "pictures", ["c", "d"]),
        ("x", "tar", ["x"]),
        ("y", "parquet", ["y"]),
    ]
    assert list(failed) == ["nowhere"] and shards[3].column == "image"
    assert Shard.read(shards[0].write()) == shards[0]
    before = shards[0].content()
    (photos / "b.png").write_bytes(encoded(9))
    assert cut([photos], failed={}, size=4)[0].content() != before
    assert cut([photos], failed={}, size=4)[1].content() == shards[1].content()


def test_seeds_are_cut_into_whole_groups() -> None:
    shards = sow(range(3, 13), size=7, batch=3)
    assert [(shard.name, list(shard.files)) for shard in shards] == [
        ("seeds-000000", ["00003", "00004", "00005", "00006", "00007", "00008"]),
        ("seeds-000001", ["00009", "00010", "00011", "00012"]),
    ]
    assert [len(shard.files) for shard in sow(range(10), size=2, batch=8)] == [8, 2]
    more = sow(range(3, 14), size=7, batch=3)
    assert more[0].content() == shards[0].content() and more[1].content() != shards[1].content()
    assert Shard.read(shards[0].write()) == shards[0] and not shards[0].packed


def test_a_folder_of_packed_files_alone_lacks_nothing(tmp_path: Path) -> None:
    world.write_tar(tmp_path / "x.tar", {})
    failed: dict[str, str] = {}
    assert [shard.name for shard in cut([tmp_path], failed=failed)] == ["x"] and failed == {}


def test_a_cluster_is_shared_by_hand() -> None:
    one = {"device": None, "threads": 4}
    assert share({"CPU": 8.0}, 2, **one) == Share(2, 4, 4.0, 0.0)
    assert share({"CPU": 2.0}, 1, device=None, threads=2) == Share(1, 2, 2.0, 0.0)
    assert share({"CPU": 3.0, "GPU": 4.0}, 2, **one) == Share(2, 1, 1.0, 1.0)
    assert share({"CPU": 2.0, "GPU": 1.0}, 4, **one) == Share(4, 1, 0.5, 0.25)
    assert share({"CPU": 2.0, "GPU": 1.0}, 1, device="cpu", threads=1).gpus == 0


def maps(folder: Path, names: list[str]) -> Path:
    """What a command might leave: an array and its story for each name, and a log."""
    folder.mkdir()
    for number, name in enumerate(names):
        np.save(folder / f"{name}.depth.npy", np.full((2, 3), number, np.float32))
        (folder / f"{name}.depth.npy.json").write_text('{"units": "relative", "range": "0 to 1", "input": "x"}')
    (folder / "predictions.jsonl").write_text("{}\n")
    return folder


def test_a_tar_keeps_its_keys(tmp_path: Path) -> None:
    members = {"v1.0/a.png": encoded(0), "v1.0/a.json": b"{}", "v1.0/a.seg.png": b"-", "../b.jpg": encoded(1),
               "empty.png": b"", "b.png": encoded(2), "b.bmp": encoded(3)}  # fmt: skip
    shard = Shard("s", "tar", {"s": str(world.write_tar(tmp_path / "s.tar", members))})
    (tmp_path / "in").mkdir()
    found = LAYOUTS["tar"].unpack(shard, tmp_path / "in")
    assert list(found.keys.values()) == ["v1.0/a", "../b", "b"]
    assert sorted(found.failed) == ["b", "empty"] and "second" in found.failed["b"]
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == sorted(map(str, found.photos.values()))
    made = maps(tmp_path / "made", list(found.photos))
    assert LAYOUTS["tar"].pack(shard, found, made=made, out=tmp_path / "out") == ["s.tar"]
    packed = read_tar(tmp_path / "out" / "s.tar")
    assert list(packed)[::2] == ["v1.0/a.depth.npy", "../b.depth.npy", "b.depth.npy"]
    assert np.load(io.BytesIO(packed["b.depth.npy"])).max() == 2


def test_of_a_damaged_tar_what_comes_before_the_damage_is_kept(tmp_path: Path) -> None:
    path = world.write_tar(tmp_path / "s.tar", {"a.png": encoded(0), "b.png": encoded(1, height=64, width=64)})
    path.write_bytes(path.read_bytes()[:4000])
    found = LAYOUTS["tar"].unpack(Shard("s", "tar", {"s": str(path)}), tmp_path)
    assert list(found.keys.values()) == ["a"] and "damaged after 1 pictures" in found.failed["s.tar"]


@pytest.mark.parametrize("form", ["bytes", "struct"])
def test_parquet_keeps_its_names_and_says_what_its_columns_mean(tmp_path: Path, form: str) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    data = [encoded(0), None, encoded(1)]
    column = data if form == "bytes" else [{"bytes": each, "path": "x"} for each in data]
    table = {"image": column} | ({"name": ["a", "b", "a.b"]} if form == "bytes" else {})
    parquet.write_table(pyarrow.table(table), tmp_path / "s.parquet")
    shard = Shard("s", "parquet", {"s": str(tmp_path / "s.parquet")})
    found = LAYOUTS["parquet"].unpack(shard, tmp_path)
    names = ["a", "a.b"] if form == "bytes" else ["00000000", "00000002"]
    assert list(found.keys.values()) == names and len(found.failed) == 1
    made = maps(tmp_path / "made", list(found.photos))
    LAYOUTS["parquet"].pack(shard, found, made=made, out=tmp_path / "out")
    written = parquet.read_table(tmp_path / "out" / "s.parquet")
    assert written.column_names == ["name", "depth.npy", "depth.npy.json"] and written["name"].to_pylist() == names
    assert written.schema.field("depth.npy").metadata == {b"units": b"relative"}
    assert [np.load(io.BytesIO(row)).max() for row in written["depth.npy"].to_pylist()] == [0, 1]


def test_parquet_with_two_columns_of_bytes_asks_which(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"a": [encoded(0)], "b": [encoded(1)]}), tmp_path / "s.parquet")
    files = {"s": str(tmp_path / "s.parquet")}
    with pytest.raises(ValueError, match="got a, b among a, b; name it with --column"):
        LAYOUTS["parquet"].unpack(Shard("s", "parquet", files), tmp_path)
    assert len(LAYOUTS["parquet"].unpack(Shard("s", "parquet", files, "b"), tmp_path).photos) == 1


def test_labels_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for file in ("images/a.png", "normals/a.npy", "normals/a.npy.json", "depths/a.npy", "meta.toml", "labels.jsonl"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    assert [made.ending for made in outputs(tmp_path, {"a": "a"})] == ["depth.npy", "png", "normal.npy",
                                                                       "normal.npy.json"]  # fmt: skip
