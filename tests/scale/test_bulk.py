"""Shards to files: those of the plain command, once, whatever is stopped, lost or broken."""

import json
from pathlib import Path

import pytest

from ilora import predict as plain
from ilora.generators import load
from ilora.label import Draw
from ilora.label import label as label_plain
from ilora.scale import bulk
from ilora.scale.bulk import RECORDS, DrawJob, LabelJob, PredictJob
from ilora.scale.shards import cut, sow
from tests import world
from tests.scale.conftest import encoded, read_tar, tree
from tests.test_predict import draw


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
    path = world.write_tar(tmp_path / "s.tar", {"a.png": encoded(0), "b.png": encoded(1)})
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


def test_outputs_never_replace_inputs(run: Path, photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(ValueError, match=r"must not hold the inputs, got .*a\.bmp"):
        bulk.predict([photos], PredictJob((str(run),)), photos)
    world.write_tar(tmp_path / "s.tar", {"a.png": encoded(0)})
    with pytest.raises(ValueError, match="must not hold the inputs"):
        bulk.predict([tmp_path], PredictJob((str(run),)), tmp_path)


def test_labels_go_to_a_folder_of_their_own(photos: Path) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(FileExistsError, match="must be empty"):
        bulk.label([photos], LabelJob(("tests.toy_teachers:Device",)), photos)


# Seeds.


def test_drawn_pictures_come_whole_in_shards(tmp_path: Path) -> None:
    """In the groups of one process, each with the generator loaded once; more are added by a larger count."""
    draw, out = Draw("toy", 10, "a room", seed=3), tmp_path / "out"
    by = LabelJob(("tests.toy_teachers:Device",), batch=4, device="cpu")
    job = DrawJob(draw, by)
    identity = job.identity(by.load("cpu"), job.load("cpu"))
    label_plain(draw, by.load("cpu"), tmp_path / "expected", batch=4, device="cpu")
    shards = sow(range(3, 13), size=4, batch=4)
    act = bulk.start(job, identity, str(out))
    assert [act(shard.write()) for shard in (shards[2], shards[0], shards[1], shards[0])] == [b"done"] * 3 + [
        b"skipped"
    ]
    there, expected = tree(out), tree(tmp_path / "expected")
    whole = {"labels.jsonl", "meta.toml", "sheet.png"}  # made of all shards
    assert there == {name: data for name, data in expected.items() if name not in whole}
    rows = [row for shard in shards for row in json.loads((out / RECORDS / f"{shard.name}.json").read_text())["rows"]]
    assert "".join(f"{json.dumps(row)}\n" for row in rows).encode() == expected["labels.jsonl"]
    (out / "codes" / "00005.safetensors").unlink()
    more = sow(range(3, 15), size=4, batch=4)
    assert [act(shard.write()) for shard in more] == [b"done", b"skipped", b"done"]
    assert {name: data for name, data in tree(out).items() if name in there} == there
    assert sorted(path.stem for path in (out / "codes").iterdir()) == [f"{seed:05d}" for seed in range(3, 15)]


def test_an_impossible_label_of_a_drawn_picture_is_reported_and_leaves_no_code(tmp_path: Path) -> None:
    job = DrawJob(Draw("toy", 3), LabelJob(("tests.toy_teachers:Doubtful",), device="cpu"))
    (shard,) = sow(range(3), batch=2)
    assert bulk.start(job, "identity", str(tmp_path))(shard.write()) == b"done"
    record = json.loads((tmp_path / RECORDS / f"{shard.name}.json").read_text())
    failed = [(row["shard"], row["input"]) for row in record["failed"]]
    names = {row["name"] for row in record["rows"]}
    assert failed == [("seeds-000000", "seed 1")] and "face away" in record["failed"][0]["reason"]
    assert names == {"00000", "00002"} == {path.stem for path in (tmp_path / "codes").iterdir()}


def test_a_generator_that_is_loaded_cannot_travel(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(ValueError, match="load the generator by name, got 'toy' loaded"):
        bulk.label(Draw(load("toy"), 2), LabelJob(("tests.toy_teachers:Device",)), tmp_path / "out")


def test_a_folder_of_drawn_labels_belongs_to_one_generator_prompt_and_first_seed(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    by = LabelJob(("tests.toy_teachers:Device",), device="cpu")
    jobs = [
        DrawJob(draw, by) for draw in (Draw("toy", 2), Draw("toy", 9), Draw("toy", 2, "hall"), Draw("toy", 2, seed=1))
    ]
    first, longer, *others = (job.identity(by.load("cpu"), job.load("cpu")) for job in jobs)
    assert first == longer and len({first, *others}) == 3
    (tmp_path / "mine.txt").touch()
    with pytest.raises(FileExistsError, match=r"same teachers \(and generator, prompt and seed\)"):
        bulk.label(Draw("toy", 2), by, tmp_path)
