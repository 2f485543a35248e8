"""Shards to files: those of the plain command, once, whatever is stopped, lost or broken."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest

from ilora import predict as plain
from ilora.label import label as label_plain
from ilora.scale import bulk, pool
from ilora.scale.bulk import FAILURES, RECORDS, Crew, LabelJob, PredictJob
from ilora.scale.shards import cut
from tests.scale import mortal
from tests.scale.conftest import encoded, read_tar, write_tar
from tests.test_predict import draw
from tests.toy_teachers import Device


def tree(folder: Path) -> dict[str, bytes]:
    """Files of a folder, records left out."""
    files = (path for path in folder.rglob("*") if path.is_file() and RECORDS not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def lines(path: Path) -> list[dict]:
    return sorted(map(json.loads, path.read_text().splitlines()), key=lambda row: str(row.get("name")))


def test_a_finished_shard_is_not_done_again_and_a_changed_one_is(run: Path, photos: Path, tmp_path: Path) -> None:
    job, out = PredictJob((str(run),), device="cpu"), tmp_path / "out"
    first, second = (shard.write() for shard in cut([photos], failed={}, size=4))
    act = bulk.start(job, job.identity(), str(out))
    assert [act(first), act(second), act(first), act(second)] == [b"done", b"done", b"skipped", b"skipped"]
    record = json.loads((out / RECORDS / "pictures-000000.json").read_text())
    assert [row["name"] for row in record["rows"]] == ["a_bmp", "a_png", "b"]
    assert [Path(row["input"]).name for row in record["failed"]] == ["broken.png"]
    (out / "c.normal.npy").unlink()
    assert (act(first), act(second)) == (b"skipped", b"done") and (out / "c.normal.npy").is_file()
    (photos / "a.png").write_bytes(encoded(7))
    assert (act(first), act(second)) == (b"done", b"skipped")
    other = PredictJob((str(draw(tmp_path / "other", "normal", seed=5)),), device="cpu")
    assert bulk.start(other, other.identity(), str(out))(second) == b"done"
    assert not list((out / RECORDS).glob("*.partial"))


def test_a_shard_that_fails_half_way_leaves_nothing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tar(tmp_path / "s.tar", {"a.png": encoded(0), "b.png": encoded(1)})
    job, out = PredictJob((str(run),), device="cpu", batch=1), tmp_path / "out"
    act, saved = bulk.start(job, job.identity(), str(out)), plain._save

    def save(photo, *rest, **more):
        if photo.name == "b":
            raise OSError("disk full")
        return saved(photo, *rest, **more)

    (task,) = (shard.write() for shard in cut([path], failed={}))
    with monkeypatch.context() as patch:
        patch.setattr(plain, "_save", save)
        with pytest.raises(OSError, match="disk full"):
            act(task)
    assert tree(out) == {} and list((out / RECORDS).iterdir()) == []
    assert act(task) == b"done" and len(read_tar(out / "s.tar")) == 6


def test_outputs_never_replace_inputs(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    write_tar(tmp_path / "s.tar", {"a.png": encoded(0)})
    with pytest.raises(ValueError, match="must not hold the inputs"):
        bulk.predict([tmp_path], PredictJob((str(run),)), tmp_path)


def test_labels_go_to_a_folder_of_their_own(photos: Path) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(FileExistsError, match="must be empty"):
        bulk.label([photos], LabelJob(("tests.toy_teachers:Device",)), photos)


# On Ray.


def test_two_workers_write_what_the_plain_command_writes(ray: Path, run: Path, photos: Path, tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    expected, out = tmp_path / "expected", tmp_path / "out"
    plain.predict(photos, run, expected, batch=1)  # groups of other sizes would round otherwise
    packed = tmp_path / "packed"
    packed.mkdir()
    write_tar(packed / "t.tar", {"x/a.png": (photos / "a.png").read_bytes(), "bad.png": b"no picture"})
    table = {"name": ["first"], "image": [(photos / "b.png").read_bytes()]}
    pyarrow.parquet.write_table(pyarrow.table(table), packed / "p.parquet")
    (packed / "broken.parquet").write_bytes(b"PAR1")
    found = bulk.predict(
        [photos, packed], PredictJob((str(run),), device="cpu", batch=1), out, crew=Crew(workers=2, shard=2)
    )
    assert sorted(found.done) == ["p", "pictures-000000", "pictures-000001", "pictures-000002", "t"]
    assert found.pictures == 7 and found.skipped == []
    assert sorted(row["input"].rpartition("/")[2] for row in found.failed) == ["bad", "broken", "broken.png"]
    assert lines(out / FAILURES) == sorted(found.failed, key=lambda row: "None")
    told = [row for row in lines(out / plain.LOG) if "shard" not in row]
    assert told == lines(expected / plain.LOG)
    files, there = tree(expected), tree(out)
    assert [name for name in files.keys() - {plain.LOG, "sheet.png"} if files[name] != there[name]] == []
    members = read_tar(out / "t.tar")
    assert list(members) == ["x/a.normal.npy", "x/a.normal.npy.json", "x/a.normal.png"]
    row = pyarrow.parquet.read_table(out / "p.parquet").to_pylist()[0]
    for data, name in ((members["x/a.normal.npy"], "a_png"), (row["normal.npy"], "b")):
        assert np.array_equal(np.load(io.BytesIO(data)), np.load(expected / f"{name}.normal.npy"))
    assert row["name"] == "first" and (out / "sheet.png").is_file()


def test_a_lost_worker_is_retried_and_its_labels_are_there_once(ray: Path, photos: Path, tmp_path: Path) -> None:
    job = LabelJob(("tests.scale.mortal:Mortal",), device="cpu")
    found = bulk.label([photos], job, tmp_path / "out", crew=Crew(shard=3))
    assert ray.is_file() and sorted(found.done) == ["pictures-000000", "pictures-000001"]
    assert [Path(row["input"]).name for row in found.failed] == ["broken.png"]
    label_plain(photos, [Device("cpu")], tmp_path / "expected")
    there, expected = tree(tmp_path / "out"), tree(tmp_path / "expected")
    assert there.keys() - {FAILURES} == expected.keys()
    assert all(there[name] == expected[name] for name in expected if name.endswith(".npy"))
    assert [row["name"] for row in lines(tmp_path / "out" / "labels.jsonl")] == ["a_bmp", "a_png", "b", "c", "d"]
    assert os.listdir(tmp_path / "out" / RECORDS)


def test_a_task_that_kills_every_worker_is_given_up_and_the_rest_goes_on(
    ray: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "RETRIES", 1)
    options = {"address": "auto", "workers": 1, "device": "cpu"}
    answers = sorted(pool.spread(["a", "poison", "b"], mortal.poisonous, **options))
    assert [(answer.number, answer.value) for answer in answers] == [(0, b"a"), (1, b""), (2, b"b")]
    assert answers[1].problem.startswith("its worker was lost 2 times")
