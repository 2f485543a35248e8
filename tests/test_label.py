"""Labelling: what is written is what teachers said, once, whole, and something that a fit learns from."""

import json
import shutil
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from ilora import images
from ilora.codes import encode
from ilora.data import dataset, meta
from ilora.data.teachers.base import ask
from ilora.fit import fit
from ilora.generators import load
from ilora.intrinsics import intrinsic
from ilora.label import TRIAL, Draw, label
from ilora.labelling import toml
from ilora.ops import color
from ilora.presets import preset
from ilora.run import Run
from ilora.teacher import teacher
from tests import tiny_teachers, world
from tests.toy_teachers import Bright, Facing


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three pictures of two sizes and a broken one."""
    place = world.write(tmp_path / "world", train=2, test=2) / "images"
    (place / "test0.png").unlink()
    (place / "broken.png").write_bytes(b"no picture")
    return place


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Pictures of the toy with labels by a tiny DPT, and the folder of that teacher."""
    place = tmp_path_factory.mktemp("drawn")
    tiny_teachers.depth("dpt", place / "dpt")
    label(Draw("toy", 10, "a room", seed=3), [str(place / "dpt")], place / "data", batch=4, device="cpu")
    return place / "data", str(place / "dpt")


# Photos.


def test_the_folder_holds_what_the_teacher_says_of_its_pictures(photos: Path, tmp_path: Path) -> None:
    result = label(photos, [Bright(), Facing()], tmp_path / "out")
    assert sorted(result.names) == ["test1", "train0", "train1"]
    assert list(result.failed) == [str(photos / "broken.png")] and "no known picture format" in str(result.failed)
    for kind, by in (("depth", Bright()), ("normal", Facing())):
        examples = dataset(str(tmp_path / "out"), intrinsic=kind, split="all")  # raises where anything is doubtful
        assert examples.names == ["test1", "train0", "train1"] and len(examples) == 3
        for example in examples:
            assert example.image.equal(images.read(photos / f"{example.name}.png"))
            (answer,) = ask(by, example.image[None])
            assert_close(example.map, answer.labels[kind].map, rtol=0, atol=1e-6)
            assert example.valid.equal(answer.labels[kind].valid)
    assert Image.open(result.sheet).width > 3 * 150


def test_meta_toml_tells_the_story(photos: Path, tmp_path: Path) -> None:
    label(photos, [Bright(), Facing()], tmp_path / "out")
    told = tomllib.loads((tmp_path / "out" / "meta.toml").read_text())
    assert told["depth_teacher"] == "brightness" and told["normal_fingerprint"] == "2"
    assert told["depths"]["unit"] == "m" and told["normals"]["axes"] == "RUB"
    about = json.loads((tmp_path / "out" / "depths" / "train0.npy.json").read_text())
    assert about["teacher"] == "brightness" and about["meaning"] == 'unit = "m", kind = "planar", invalid = nan'


def test_nothing_is_asked_twice(photos: Path, tmp_path: Path) -> None:
    first, again = Bright(), Bright()
    label(photos, [first], tmp_path / "out", batch=2)
    assert sorted(first.seen) == [1, 2]  # by size
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.npy")}
    result = label(photos, [again], tmp_path / "out")
    assert again.seen == [] and sorted(result.skipped) == ["test1", "train0", "train1"] and result.sheet is None
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.npy")} == before


def test_what_a_kill_left_out_is_made_up_for(photos: Path, tmp_path: Path) -> None:
    label(photos, [Bright()], tmp_path / "out")
    log = tmp_path / "out" / "labels.jsonl"
    (tmp_path / "out" / "images" / "train1.png").unlink()
    lines = log.read_text().splitlines()
    log.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:20])
    result = label(photos, [Bright()], tmp_path / "out")
    lost = json.loads(lines[-1])["name"]
    assert sorted(result.names) == sorted({"train1", lost})
    assert len(dataset(str(tmp_path / "out"), intrinsic="depth", split="all")) == 3
    assert list((tmp_path / "out").rglob(".*")) == []


def test_a_photo_that_changed_is_labelled_again_by_all(photos: Path, tmp_path: Path) -> None:
    label(photos, [Bright(), Facing()], tmp_path / "out")
    picture = Image.open(photos / "train0.png").transpose(Image.Transpose.ROTATE_90)
    picture.save(photos / "train0.png")
    assert label(photos, [Bright()], tmp_path / "out").names == ["train0"]
    assert not (tmp_path / "out" / "normals" / "train0.npy").exists()  # it belonged to the old picture
    assert label(photos, [Facing()], tmp_path / "out").names == ["train0"]
    for kind in ("depth", "normal"):
        assert len(dataset(str(tmp_path / "out"), intrinsic=kind, split="all")) == 3


def test_a_second_folder_replaces_no_labels_of_the_same_name(photos: Path, tmp_path: Path) -> None:
    """Reported where the other photo is still there and is another one: not where it was moved, copied or deleted."""
    out, second = tmp_path / "out", tmp_path / "second"
    label(photos, [Bright()], out)
    before = {path: path.read_bytes() for path in out.rglob("train*")}
    second.mkdir()
    shutil.copy(photos / "train0.png", second / "train0.png")
    shutil.copy(photos / "test1.png", second / "train1.png")
    shutil.copy(photos / "test1.png", second / "new.png")
    result = label(second, [Bright()], out)
    assert (result.names, result.skipped) == (["new"], ["train0"])
    told = f"train1 is taken by {photos / 'train1.png'}; rename it, or choose another --out"
    assert result.failed == {str(second / "train1.png"): told}
    assert {path: path.read_bytes() for path in out.rglob("train*")} == before
    assert sorted(label(second, [Facing()], out).names) == ["new", "train0"]  # a copy is the same photo
    (photos / "train1.png").unlink()
    assert label(second / "train1.png", [Bright()], out).names == ["train1"]


def test_a_photo_whose_library_is_missing_does_not_stop_the_others(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images.write_exr(photos / "a.exr", torch.rand(3, 8, 8), about={})
    monkeypatch.setitem(sys.modules, "OpenEXR", None)  # as if it were not installed
    result = label(photos, [Bright()], tmp_path / "out")
    assert len(result.names) == 3 and set(result.failed) == {str(photos / "a.exr"), str(photos / "broken.png")}


def test_another_intrinsic_can_join_and_the_users_own_tables_stay(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    label(photos, [Bright()], out)
    own = (out / "meta.toml").read_text().replace("invalid = nan", "invalid = [nan, 0.0]\nlargest = 80.0")
    own += '[split]\ntrain = ["train*"]\ntest = ["test*"]\n'
    (out / "meta.toml").write_text(own)
    assert label(photos, [Bright()], out).names == [] and (out / "meta.toml").read_text() == own
    label(photos, [Facing(), Bright()], out)
    told = meta.read(out)
    assert told.tables["depths"].largest == 80 and told.tables["depths"].invalid[1:] == [0]
    assert told.declared == {"depths", "normals", "split"} and told.tables["split"].of("test7") == "test"
    for kind in ("normal", "depth"):
        assert dataset(str(out), intrinsic=kind).names == ["train0", "train1"]


def test_larger_photos_are_made_smaller(photos: Path, tmp_path: Path) -> None:
    label(photos, [Bright()], tmp_path / "out", side=20)
    sizes = {name: np.load(tmp_path / "out" / "depths" / f"{name}.npy").shape for name in ("train0", "test1")}
    assert sizes == {"train0": (16, 20), "test1": (20, 16)}
    assert label(photos, [Bright()], tmp_path / "out", side=20).names == []
    assert len(label(photos, [Bright()], tmp_path / "out", side=30).names) == 3


def test_labels_that_cannot_be_are_left_out_and_their_teacher_given_up(photos: Path, tmp_path: Path) -> None:
    away = Facing(sign=-1.0)
    result = label(photos, [Bright(), away], tmp_path / "out")
    assert result.names == [] and "normal: most surfaces face away" in result.failed[str(photos / "train0.png")]
    assert not (tmp_path / "out" / "depths").exists()  # nor what another teacher says of these pictures
    for number in range(TRIAL):
        shutil.copy(photos / "train0.png", photos / f"more{number}.png")
    with pytest.raises(ValueError, match=r"first 8 labels by facing should be possible, got none.*LUF.* would fit"):
        label(photos, [away], tmp_path / "many", batch=4)


def test_a_folder_that_was_begun_otherwise_is_refused(photos: Path, tmp_path: Path) -> None:
    label(photos, [Bright()], tmp_path / "out")
    with pytest.raises(ValueError, match="was begun with depth_fingerprint = '1', got 'other'; choose another --out"):
        label(photos, [Bright("other")], tmp_path / "out")
    with pytest.raises(ValueError, match=r"was begun with pictures = 'photographs', got .painted by toy, prompt"):
        label(Draw("toy", 1), [Bright()], tmp_path / "out")
    with pytest.raises(ValueError, match="expected one teacher for each intrinsic, got depth from bright, depth"):
        label(photos, [Bright(), Bright()], tmp_path / "new")
    with pytest.raises(FileExistsError, match="must be empty or made by ilora label, got albedos in it"):
        label(photos, [Bright()], photos.parent)


def test_toml_is_read_back() -> None:
    content = {"a b": 'x "y" \\ \n ü', "n": 1.5, "t": {"list": [1, [2, 3]], "yes": True, "in": {"fx": 1.0}}}
    assert tomllib.loads(toml(content)) == content


# Pictures of a generator.


def test_a_generators_pictures_come_with_their_codes(drawn: tuple[Path, str]) -> None:
    folder, name = drawn
    painter = load("toy")
    pictures, codes = painter.sample(range(3, 13))
    examples = dataset(str(folder), intrinsic="depth", split="all")
    assert examples.names == [f"{seed:05d}" for seed in range(3, 13)]
    own = teacher(name, device="cpu")
    for index, example in enumerate(examples):
        assert_close(example.painted.code, codes[index], rtol=1e-5, atol=1e-5)
        stored = color.to_uint8((pictures[index : index + 1] + 1) / 2)
        assert example.image.equal((stored[0].float() / 255) * 2 - 1)
        assert_close(example.map, own.label(example.image[None])["depth"][0][0], rtol=1e-4, atol=1e-4)
    told = tomllib.loads((folder / "meta.toml").read_text())
    assert told["pictures"] == "painted by toy, prompt 'a room'" and told["generator"] == painter.fingerprint
    with pytest.raises(ValueError, match=r"prompt 'a hall'.*choose another --out"):
        label(Draw("toy", 1, "a hall"), [name], folder, device="cpu")
    (folder / "codes" / "00005.safetensors").unlink()
    for again in (["00005"], []):
        assert label(Draw("toy", 10, "a room", seed=3), [name], folder, device="cpu").names == again
    assert_close(examples[2].painted.code, codes[2], rtol=1e-5, atol=1e-5)


def test_a_fit_on_them_learns_and_its_adapter_teaches_in_turn(
    drawn: tuple[Path, str], photos: Path, tmp_path: Path
) -> None:
    folder, _ = drawn
    fields = {"steps": 80, "batch": 4, "warmup": 2, "lr": 1e-2, "rank": 8, "image_share": 0.0}
    config = preset("default", generator="toy", data=str(folder), intrinsic="depth", **fields)
    run = fit(config, tmp_path / "run", device="cpu")
    rows = [json.loads(line) for line in Run(run).log.read_text().splitlines()]
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]
    records = encode(load("toy"), intrinsic("depth"), dataset(str(folder), intrinsic="depth"), mirrored=True)
    assert len(records.code) == len(dataset(str(folder), intrinsic="depth"))  # the stored codes alone

    result = label(photos, [str(run)], tmp_path / "taught", device="cpu")
    assert len(result.names) == 3
    taught = dataset(str(tmp_path / "taught"), intrinsic="depth", split="all")
    assert all(example.map.min() == 1 for example in taught)  # known up to a shift, which puts the nearest at 1
    own = teacher(str(run), device="cpu")
    maps = own.predictor.maps(taught[0].image[None])["depth"][0]
    assert_close(taught[0].map - taught[0].map.mean(), maps - maps.mean(), rtol=0, atol=1e-5)
