"""Scenes on disk: deterministic, resumable, in parallel, and one bad scene does not stop the rest."""

import io
import json
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mitsuba", reason="rendering needs mitsuba: pip install 'ilora[scenes]'")
pytest.importorskip("pyoidn", reason="denoising needs pyoidn: pip install 'ilora[scenes]'")

from ilora.data.folder import Folder
from ilora.data.scenes import render, rooms, sample_scene, write, writer

QUICK = {"size": 16, "samples": 1, "progress": False}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    """Six scenes in three shards, written at one go."""
    out = tmp_path_factory.mktemp("shards")
    write(out, 6, workers=1, shard=2, **QUICK)
    return out


def test_a_shard_holds_pictures_and_what_they_show(shards):
    assert len(list(shards.glob("*.tar"))) == 3
    with tarfile.open(shards / "rooms-00000002-00002.tar") as archive:
        assert archive.getnames() == ["00000002.png", "00000002.json", "00000003.png", "00000003.json"]
        picture = np.asarray(Image.open(io.BytesIO(archive.extractfile("00000003.png").read())))
        record = json.loads(archive.extractfile("00000003.json").read())
    expected = render(sample_scene(3), 16, 1)
    np.testing.assert_array_equal(picture, expected["image"])
    assert record["caption"] == expected["caption"] and record["seed"] == 3
    assert record["factors"].keys() == expected["factors"].keys()
    np.testing.assert_allclose(record["camera"], expected["camera"], atol=1e-3)


def test_two_processes_write_the_same_bytes(shards, tmp_path):
    done = write(tmp_path, 6, workers=2, shard=2, **QUICK)
    assert (done.rendered, done.skipped, done.failed) == (6, 0, ())
    assert contents(tmp_path) == contents(shards)


def test_a_killed_write_completes_to_the_same_bytes(shards, tmp_path):
    code = f"from ilora.data.scenes import write; write({str(tmp_path)!r}, 6, workers=1, shard=2, **{QUICK!r})"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2] / "src")
    while process.poll() is None and not list(tmp_path.glob("*.tar")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (tmp_path / "rooms-00000004-00002.tar.tmp").write_bytes(b"half a shard")
    done = write(tmp_path, 6, workers=1, shard=2, **QUICK)
    assert done.skipped >= 2 and done.skipped + done.rendered == 6
    assert contents(tmp_path) == contents(shards)
    assert write(tmp_path, 6, workers=1, shard=2, **QUICK).rendered == 0


def test_a_larger_request_replaces_the_shorter_last_shard(shards, tmp_path):
    write(tmp_path, 3, workers=1, shard=2, **QUICK)
    assert write(tmp_path, 6, workers=1, shard=2, **QUICK).skipped == 2
    assert contents(tmp_path) == contents(shards)


def test_other_settings_in_the_same_folder_are_refused(shards):
    with pytest.raises(ValueError, match="begun with"):
        write(shards, 6, workers=1, shard=2, **{**QUICK, "size": 24})


def test_a_folder_is_read_like_a_users_own(tmp_path):
    write(tmp_path, 2, split="validation", format="folder", workers=1, **QUICK)
    maps = render(sample_scene(20_000_001), 16, 1)
    steps = {"normal": 1.5 / 65535, "depth": 0.00051, "albedo": 0.6 / 65535, "shading": 8.1 / 65535}
    for intrinsic, step in steps.items():
        data = Folder(tmp_path, intrinsic=intrinsic, split="all")
        assert data.names == ["20000000", "20000001"] and not data.unmatched
        example, expected = data[1], maps[intrinsic].reshape(16, 16, -1).transpose(2, 0, 1)
        np.testing.assert_array_equal(example.valid[0].numpy(), maps["valid"])
        error = np.abs(example.map.numpy() - expected)[:, maps["valid"]]
        assert error.max() <= step
        picture = (example.image.numpy() + 1) * 127.5
        np.testing.assert_allclose(picture, maps["image"].transpose(2, 0, 1), atol=1e-4)
    assert json.loads((tmp_path / "captions.json").read_text())["20000001"] == maps["caption"]
    assert write(tmp_path, 2, split="validation", format="folder", workers=1, **QUICK).rendered == 0


def odd_only(seed: int) -> dict[str, bytes]:
    if seed % 2 == 0:
        raise ArithmeticError("even")
    return {"txt": str(seed).encode()}


def test_a_bad_scene_is_reported_and_the_rest_go_on():
    results = dict(writer.parallel(odd_only, range(4), 1))
    assert results == {0: "ArithmeticError: even", 1: {"txt": b"1"}, 2: "ArithmeticError: even", 3: {"txt": b"3"}}


@pytest.mark.parametrize(
    "wrong", [{"format": "zip"}, {"products": "none"}, {"split": "train"}, {"seed": -1}, {"workers": 0}]
)
def test_bad_requests_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match="got"):
        write(tmp_path / "new", 2, **{**QUICK, **wrong})
    assert not (tmp_path / "new").exists()


def test_the_benchmark_file_gives_the_maps_back_within_its_card(tmp_path):
    card = rooms.write_rooms(tmp_path, size=16, samples=2, workers=1, counts={"test": 3})
    scenes = list(rooms.read_rooms(tmp_path / "test.npz"))
    assert [s.seed for s in scenes] == [30_000_000, 30_000_001, 30_000_002]
    rounding = card["splits"]["test"]["rounding"]
    assert rounding["image_levels"] == 0 and rounding["normal_degrees"] < 0.08
    for scene in scenes:
        maps = render(sample_scene(scene.seed), 16, 2)
        np.testing.assert_array_equal(scene.image, maps["image"])
        np.testing.assert_array_equal(scene.valid, maps["valid"])
        valid = scene.valid
        assert (scene.normal * maps["normal"]).sum(-1)[valid].min() > np.cos(np.radians(0.1))
        assert np.abs(scene.depth / maps["depth"] - 1)[valid].max() <= rounding["depth_ratio"] * 1.001
        assert np.abs(scene.albedo - maps["albedo"])[valid].max() <= rounding["albedo"] + 1e-6
        assert (np.abs(scene.shading - maps["shading"]) / (maps["shading"] + 1 / 64))[valid].max() < 0.0083
        assert scene.caption == maps["caption"]
    assert [s.seed for s in rooms.read_rooms(tmp_path / "test.npz", limit=1)] == [30_000_000]


def test_a_missing_benchmark_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.npz"):
        next(rooms.read_rooms(tmp_path / "none.npz"))


def test_a_missing_renderer_names_the_extra():
    code = "import sys; sys.modules['mitsuba'] = None; import ilora.data.scenes.rendering"
    source = Path(__file__).parents[2] / "src"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True)
    assert "pip install 'ilora[scenes]'" in done.stderr.splitlines()[-1]
