"""Everything that runs on Ray, in one file: test runners keep a file in one process, where one Ray does for all.

Each is compared with the same work in one process; a new worker imports much, so there are as few as prove it.
"""

import io
import json
import socket
import sys
from pathlib import Path

import numpy as np
import pytest

from ilora import cluster
from ilora import predict as plain
from ilora.cli import main
from ilora.evaluate import EvaluateConfig, evaluate
from ilora.fit import fit
from ilora.label import label as label_plain
from ilora.scale import bulk, pool
from ilora.scale.bulk import FAILURES, RECORDS, Crew, LabelJob, PredictJob
from ilora.studies.plan import StudyConfig
from ilora.studies.study import study
from tests import world
from tests.scale import poison
from tests.scale.conftest import lines, read_tar, tree
from tests.scale.mortal import ONCE
from tests.studies.test_study import SHORT
from tests.test_evaluate import small
from tests.toy_teachers import Device


def command(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Exit code of ``ilora`` with these words."""
    monkeypatch.setattr(sys, "argv", ["ilora", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code or 0


def test_two_workers_write_what_the_plain_command_writes(ray: Path, run: Path, photos: Path, tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    expected, out = tmp_path / "expected", tmp_path / "out"
    plain.predict(photos, run, expected, batch=1)  # groups of other sizes would round otherwise
    packed = tmp_path / "packed"
    packed.mkdir()
    world.write_tar(packed / "t.tar", {"x/a.png": (photos / "a.png").read_bytes(), "bad.png": b"no picture"})
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


def test_an_address_where_nobody_listens_is_refused_at_once() -> None:
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}", "127.0.0.1:99999"):
        with pytest.raises(ConnectionError, match=f"must answer at {address}, got: .*; begin one"):
            cluster._answers(address)
    cluster._answers("auto")


def test_labels_of_photos_are_those_of_the_plain_command(ray: Path, photos: Path, tmp_path: Path) -> None:
    job = LabelJob(("tests.toy_teachers:Device",), device="cpu")
    found = bulk.label([photos], job, tmp_path / "out", crew=Crew(workers=1, shard=3))
    assert sorted(found.done) == ["pictures-000000", "pictures-000001"]
    assert [Path(row["input"]).name for row in found.failed] == ["broken.png"]
    label_plain(photos, [Device("cpu")], tmp_path / "expected")
    there, expected = tree(tmp_path / "out"), tree(tmp_path / "expected")
    assert there.keys() - {FAILURES} == expected.keys()
    assert all(there[name] == expected[name] for name in expected if name.endswith(".npy"))
    assert [row["name"] for row in lines(tmp_path / "out" / "labels.jsonl")] == ["a_bmp", "a_png", "b", "c", "d"]
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "b.png").write_bytes((photos / "c.png").read_bytes())
    with pytest.raises(ValueError, match=r"b is taken by .*photos/b\.png; rename it, or choose another --out"):
        bulk.label([tmp_path / "more"], job, tmp_path / "out")
    assert tree(tmp_path / "out") == there


def test_drawn_pictures_are_labelled_once_though_a_worker_is_lost(
    ray: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--generator", "tests.scale.mortal:Mortal", "--prompt", "a room", "--seed", 3, "--batch", 30]
    words += ["--teacher", "tests.toy_teachers:Device", "--device", "cpu", "--count", 70]
    assert command(monkeypatch, "label", *words, "--ray", "auto", "--workers", 2, "--out", tmp_path / "out") == 0
    assert ray.is_file()  # one has died
    monkeypatch.setenv(ONCE, str(ray))
    assert command(monkeypatch, "label", *words, "--out", tmp_path / "expected") == 0
    there, expected = tree(tmp_path / "out"), tree(tmp_path / "expected")
    assert there.pop(FAILURES) == b"" and len([name for name in there if name.startswith("codes/")]) == 70
    assert there == expected  # every byte: pictures, labels, codes, meta.toml, log, sheet
    assert sorted(path.name for path in (tmp_path / "out" / RECORDS).glob("*.json")) == [
        ".owner.json", "seeds-000000.json", "seeds-000001.json"]  # fmt: skip


def test_a_task_that_kills_every_worker_is_given_up_and_the_rest_goes_on(
    ray: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "RETRIES", 1)
    options = {"address": "auto", "workers": 1, "device": "cpu"}
    answers = sorted(pool.spread(["a", "poison", "b"], poison.poisonous, **options))
    assert [(answer.number, answer.value) for answer in answers] == [(0, b"a"), (1, b""), (2, b"b")]
    assert answers[1].problem.startswith("its worker was lost 2 times")


def test_an_evaluation_gives_the_numbers_of_the_plain_command(
    ray: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over a folder in one process, and over the same pictures in a tar and a Parquet file by a worker."""
    import pyarrow
    import pyarrow.parquet

    folder, packed = world.write(tmp_path / "world", train=2, test=5), tmp_path / "packed"
    run = fit(small(folder, steps=3), tmp_path / "run", device="cpu")
    pooled = {"protocol": "dsine-nyu", "config": EvaluateConfig(controls=False, device="cpu")}
    evaluate(run, str(folder), json=tmp_path / "one.json", **pooled)
    files = {"png": "images/{}.png", "normal.npy": "normals/{}.npy"}
    rows = [
        {end: (folder / file.format(f"test{each}")).read_bytes() for end, file in files.items()} for each in range(5)
    ]
    packed.mkdir()
    world.write_tar(packed / "a.tar", {f"test{each}.{end}": rows[each][end] for each in range(3) for end in files})
    names = [{"name": f"test{each}"} | rows[each] for each in (3, 4)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(names), packed / "b.parquet")
    (packed / "meta.toml").write_text('[split]\ntest = ["*"]\n')
    words = ["--data", packed, "--protocol", "dsine-nyu", "--json", tmp_path / "two.json", "--no-controls"]
    words += ["--ray", "auto", "--workers", 1, "--device", "cpu"]
    assert command(monkeypatch, "evaluate", "--adapter", run, *words) == 0
    one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two"))
    assert [row["name"] for row in two["images"]] == ["a/test0", "a/test1", "a/test2", "b/test3", "b/test4"]
    for row in (*two["images"], *(row for rows in two["baseline_images"].values() for row in rows)):
        row["name"] = row["name"].rpartition("/")[2]
    own = ("data", "data_fingerprint")
    assert all(one["protocol"].pop(key) != two["protocol"].pop(key) for key in own)
    assert one == two and not (tmp_path / "two.groups").exists()


def test_a_study_gives_the_rows_of_one_process(ray: Path, tmp_path: Path) -> None:
    folder, rows = world.write(tmp_path / "world", train=9, test=2), []
    fields = {"generators": ("toy",), "data": str(folder), "quick": True, "resamples": 100, "device": "cpu"}
    config = StudyConfig(**fields, changes=SHORT, intrinsics=("normal",), images=1)
    for place, address in (("here", None), ("there", "auto")):
        study("families", tmp_path / place, config=config, ray=address)
        rows.append(json.loads((tmp_path / place / "families.json").read_text())["points"])
    assert len(rows[0]) == 1
    for ours, theirs in zip(*rows, strict=True):
        assert ours["seconds"] > 0 and theirs["seconds"] > 0
        assert ours | {"seconds": 0} == theirs | {"seconds": 0}
