"""One adapter for several intrinsics: who is asked what, from which labels, and that every task is learned."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from ilora import codes, lessons
from ilora.adapters import file, formats
from ilora.cli import main
from ilora.config import FitConfig
from ilora.data import dataset
from ilora.data.base import select
from ilora.data.transforms import square
from ilora.evaluate import EvaluateConfig, evaluate, evaluate_each
from ilora.fit import control, fit, rate
from ilora.intrinsics import NAMES, chosen, intrinsic
from ilora.lessons import Lesson
from ilora.plan import configure
from ilora.predict import Predictor, find, predict
from ilora.presets import preset
from ilora.records import Record
from ilora.run import Run, read_json
from ilora.tensors import read
from tests import spoken, tiny, world

QUICK = EvaluateConfig(device="cpu", resamples=50, images=2, generator=spoken.NAME)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six labelled pictures with all four maps, and two more to validate and two to test."""
    place = world.write(tmp_path_factory.mktemp("world"), train=6, test=4, square=True)
    meta = place / "meta.toml"
    meta.write_text(meta.read_text().replace('test = ["test*"]', 'validation = ["test0", "test1"]\ntest = ["test*"]'))
    meta.write_text(meta.read_text().replace('test = ["test*"]', 'test = ["test2", "test3"]'))
    return place


def small(folder: Path, **changes: object) -> FitConfig:
    """Six updates."""
    fields = {"generator": spoken.NAME, "data": str(folder), "intrinsic": "all", "steps": 6, "batch": 4, "rank": 2}
    fields |= {"lr": 5e-3, "warmup": 1, "image_share": 0.0, "targets": "attention", "checkpoint_every": 2}
    return preset("default", **fields | changes)


def predictor(run: Path, **given: object) -> Predictor:
    """Of the adapter, on its generator."""
    return Predictor(run, generator=spoken.NAME, device="cpu", **given)


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit of all four, with reconstruction and the tie, that has learned something."""
    changes = {"steps": 45, "batch": 5, "rank": 8, "lr": 1e-2, "targets": "all", "reconstruction": 0.2, "tie": 0.1}
    return fit(small(folder, **changes), tmp_path_factory.mktemp("runs") / "run", device="cpu")


def bits(run: Path) -> bytes:
    return Run(run).adapter.read_bytes()


# Words and rows.


def test_words_for_several_intrinsics() -> None:
    assert chosen("all") == list(NAMES) == ["normal", "depth", "albedo", "shading"]
    assert chosen("albedo, normal") == ["albedo", "normal"]
    with pytest.raises(ValueError, match="named once, got 'depth,depth'"):
        chosen("depth,depth")
    with pytest.raises(ValueError, match="did you mean 'albedo'"):
        chosen("normal,albdo")


def rowed(count: int, *, kind: str | None = "depth", prompt: str = "") -> Lesson:
    """A lesson of so many rows."""
    code = torch.zeros(count, 1)
    maps, valid = torch.zeros(count, 1, 1, 1), torch.ones(count, 1, 1, 1, dtype=torch.bool)
    return Lesson(prompt or f"{count}", Record(code, code, maps, valid), None if kind is None else intrinsic(kind))


def drawn(taught: list[Lesson], steps: int, **fields: object) -> torch.Tensor:
    """All rows of the first updates, [steps, batch]."""
    config = FitConfig(**fields)
    return torch.stack([lessons.batch(taught, step, config) for step in range(steps)])


def test_rows_of_one_lesson_are_those_of_a_fit_before_there_were_several() -> None:
    rows = drawn([rowed(10)], 7, batch=4, seed=3)
    assert rows.equal(torch.stack([codes.batch(step, size=4, count=10, seed=3) for step in range(7)]))


def test_lessons_take_turns_and_each_goes_through_its_own_rows() -> None:
    taught = [rowed(6), rowed(3), rowed(6, prompt="other")]  # rows 0 to 5, 6 to 8, 9 to 14
    rows = drawn(taught, 6, batch=3, seed=1)
    assert (rows[:, 0] < 6).all() and (rows[:, 1] - 7).abs().max() <= 1 and (rows[:, 2] > 8).all()
    assert rows[:, 0].sort().values.tolist() == [0, 1, 2, 3, 4, 5]  # an epoch
    assert rows[:3, 1].sort().values.tolist() == [6, 7, 8] == rows[3:, 1].sort().values.tolist()  # two
    assert rows[:, 2].sub(9).ne(rows[:, 0]).any()  # in an order of its own
    assert drawn(taught, 18, batch=1, seed=1).flatten().equal(rows.flatten())  # however it is cut into batches


def test_the_picture_gets_its_share() -> None:
    rows = drawn([rowed(5), rowed(5), rowed(5, kind=None)], 10, batch=10, reconstruction=0.1)
    assert ((rows >= 10).sum(1) == 1).all()
    assert (rows < 5).sum() == ((rows >= 5) & (rows < 10)).sum() == 45


def test_parts_give_every_row_to_its_lesson() -> None:
    taught = [rowed(4), rowed(2), rowed(3)]
    found = [
        (taught.index(lesson), mine.tolist()) for lesson, mine in lessons.parted(taught, torch.tensor([8, 1, 6, 3]))
    ]
    assert found == [(0, [1, 3]), (2, [2, 0])]


# Labels.


def test_labels_are_those_of_each_fit_alone(folder: Path) -> None:
    config = FitConfig(data=str(folder), intrinsic="all", labels=3, seed=5)
    found = lessons.labelled(config, "refuse")
    alone = select(dataset(str(folder), intrinsic="albedo"), 3, seed=5)
    assert list(found) == list(NAMES) and {name: each.names for name, each in found.items()} == dict.fromkeys(
        NAMES, alone.names
    )


def test_a_folder_with_two_of_four_maps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = world.write(tmp_path / "world", train=4, test=1, square=True)
    for part in ("normals", "shadings"):
        (place / part).rename(tmp_path / part)
    out = fit(small(place, steps=2), tmp_path / "run", device="cpu")
    assert "has no maps of normal and shading; the adapter learns depth and albedo" in capsys.readouterr().err
    about = file.read(out)[1]
    assert about.intrinsics == ["depth", "albedo"] and about.data["maps"] == {"depth": 4, "albedo": 4}
    assert read_json(Run(out).config)["intrinsic"] == "depth,albedo"
    with pytest.raises(ValueError, match="must hold normals/"):
        fit(small(place, intrinsic="depth,normal"), tmp_path / "other", device="cpu")


def test_images_that_lack_a_map_serve_the_others(folder: Path, tmp_path: Path) -> None:
    place = world.write(tmp_path / "world", train=4, test=1, square=True)
    (place / "depths" / "train1.npy").unlink()
    with pytest.raises(ValueError, match="no file of that name in depths"):
        lessons.labelled(small(place), "refuse")
    with pytest.warns(UserWarning, match="are left out"):
        found = lessons.labelled(small(place), "skip")
        few = lessons.labelled(small(place, labels=3), "skip")
    assert {name: len(each) for name, each in found.items()} == {"normal": 4, "depth": 3, "albedo": 4, "shading": 4}
    assert all(sorted(each.names) == ["train0", "train2", "train3"] for each in few.values())


# Learning.


def test_scores_are_those_of_the_predictions(run: Path, folder: Path) -> None:
    scores, own = file.read(run)[1].scores, predictor(run)
    assert set(scores) == set(NAMES)
    for name in NAMES:
        kind = own.intrinsic(name)
        held = [square(each, kind, side=32) for each in dataset(str(folder), intrinsic=name, split="validation")]
        errors = [kind.metrics(own.paint(each.image[None])[name], each.map[None], each.valid[None]) for each in held]
        mean = torch.cat([each[kind.primary] for each in errors]).mean().item()
        assert scores[name] == {"split": "validation", "images": 2, kind.primary: pytest.approx(mean, rel=1e-3)}


@torch.no_grad()
def test_the_loss_of_every_task_falls(run: Path) -> None:
    config, own = FitConfig.read(read_json(Run(run).config)), predictor(run)
    taught = lessons.prepared(own.generator, config, lessons.labelled(config, "refuse"))
    assert [len(lesson) for lesson in taught] == [12] * 5  # with mirror images, and the picture itself

    def losses() -> torch.Tensor:
        found = []
        for lesson in taught:
            own.generator.ask(lesson.prompt)
            found.append(own.generator.loss(lesson.records.code, lesson.records.target, lesson.records.valid).mean())
        return torch.stack(found)

    before = losses()
    with own._worn(own._skills["normal"]):
        after = losses()
    assert (after < 0.5 * before).all(), (before, after)


def test_another_task_is_another_answer_of_the_same_weights(run: Path) -> None:
    own = predictor(run)
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    kept = {id(value) for name in NAMES for _, value in own._skills[name].weights}
    assert len(kept) == len(own._skills["normal"].weights)  # merged once
    assert len({own.digest(name) for name in NAMES}) == 1
    painted = {}
    for name in NAMES:
        with own._worn(own._skills[name]):
            painted[name] = own.generator.forward(own.generator.encode(image))
    apart = [(painted[a] - painted[b]).abs().mean() for a in NAMES for b in NAMES if a < b]
    assert min(apart) > 1e-3
    assert_close(own.paint(image)["normal"], intrinsic("normal").from_image(painted["normal"]))


def test_a_picture_is_encoded_once_for_all(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, calls = predictor(run), []
    encode = own.generator.encode
    monkeypatch.setattr(own.generator, "encode", lambda image: calls.append(len(image)) or encode(image))
    own.paint(torch.zeros(3, 3, 32, 32))
    assert calls == [3]


def test_files_of_all_and_of_one(run: Path, folder: Path, tmp_path: Path) -> None:
    photo = folder / "images" / "test0.png"
    result = predict(photo, predictor(run), tmp_path / "all", formats=["npy"])
    assert [path.name for path in result.files[photo]] == [f"test0.{name}.npy" for name in NAMES]
    one = predict(photo, predictor(run, intrinsics=("depth",)), tmp_path / "one", formats=["npy"])
    assert np.array_equal(np.load(one.files[photo][0]), np.load(tmp_path / "all" / "test0.depth.npy"))


def test_the_header_and_the_sheet_name_all(run: Path) -> None:
    about = file.read(run)[1]
    assert about.intrinsic == list(NAMES) and about.units == {name: intrinsic(name).units for name in NAMES}
    assert [source.intrinsic for source in find([run])] == list(NAMES)
    assert Image.open(Run(run).sheet).size[0] > 9 * 100
    assert about.data["maps"] == dict.fromkeys(NAMES, 6) and len(about.data["labels"]) == 6


def test_exported_it_still_paints_all(run: Path, tmp_path: Path) -> None:
    path = formats.export(run, "peft", tmp_path / "peft")
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found, expected = predictor(path).paint(image), predictor(run).paint(image)
    assert list(found) == list(NAMES)
    for name in NAMES:
        assert_close(found[name], expected[name], rtol=1e-3, atol=1e-3)


def test_evaluation_of_each_with_the_control(run: Path, folder: Path, tmp_path: Path) -> None:
    out, rows = fit_copy(run, tmp_path), tmp_path / "rows.json"
    found = evaluate_each(out, str(folder), config=QUICK.replace(controls=False), json=rows)
    assert [one.protocol["intrinsic"] for one in found] == list(NAMES)
    assert sorted(path.name for path in tmp_path.glob("rows.*.json")) == sorted(f"rows.{name}.json" for name in NAMES)
    assert "mean_map" in found[1].errors
    with pytest.raises(ValueError, match="--intrinsic NAME"):
        evaluate(out, str(folder), config=QUICK.replace(controls=False))
    (alone,) = evaluate_each(out, str(folder), intrinsics="depth", config=QUICK.replace(controls=False))
    assert_close(alone.errors["adapter"], found[1].errors["adapter"])


def test_evaluation_of_a_folder_of_runs(folder: Path, tmp_path: Path) -> None:
    fit(small(folder, steps=1, intrinsic="shading,depth"), tmp_path / "two", device="cpu")
    fit(small(folder, steps=1, intrinsic="normal"), tmp_path / "one", device="cpu")
    found = evaluate_each(tmp_path, str(folder), config=QUICK.replace(controls=False))
    assert [one.protocol["intrinsic"] for one in found] == ["normal", "depth", "shading"]
    assert all("mean_map" in one.errors for one in found)  # which the run folder of each holds
    assert [one.protocol["fit"]["intrinsic"] for one in found] == ["normal", "shading,depth", "shading,depth"]


def fit_copy(run: Path, place: Path) -> Path:
    """The run folder again, to be written into."""
    copy = place / "copy"
    copy.mkdir()
    for path in Run(run).path.glob("*.*"):
        (copy / path.name).write_bytes(path.read_bytes())
    return copy


# The same bits.


def test_cut_off_and_resumed_gives_the_same_bits(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def until_the_power_fails(step: int, config: FitConfig) -> float:
        if step == 5:
            raise OSError("the power failed")
        return rate(step, config)

    config = small(folder, tie=0.1, reconstruction=0.2, image_share=0.5)
    straight = fit(config, tmp_path / "straight", device="cpu")
    begun = Run(tmp_path / "begun")
    with monkeypatch.context() as world_without_power, pytest.raises(OSError, match="the power failed"):
        world_without_power.setattr("ilora.fit.rate", until_the_power_fails)
        fit(config, begun.path, device="cpu")
    assert read(begun.checkpoint)[1]["step"] == "4" and not begun.adapter.exists()
    fit(configure(begun.path, {"generator": spoken.NAME}, resume=True), begun.path, resume=True, device="cpu")
    assert bits(begun.path) == bits(straight)
    assert bits(fit(config.replace(tie=0.0), tmp_path / "loose", device="cpu")) != bits(straight)


def test_accumulation_changes_rounding_only(folder: Path, tmp_path: Path) -> None:
    fields = {"steps": 2, "tie": 0.1, "reconstruction": 0.2, "batch": 6}
    whole = file.read(fit(small(folder, **fields), tmp_path / "whole", device="cpu"))[0]
    parts = file.read(fit(small(folder, **fields, accumulate=3), tmp_path / "parts", device="cpu"))[0]
    for name in whole:
        assert_close(parts[name], whole[name], rtol=1e-2, atol=1e-4)


def test_the_control_learns_the_same_tasks(folder: Path, tmp_path: Path) -> None:
    out = fit(small(folder, steps=2), tmp_path / "run", device="cpu")
    about, twin = file.read(out)[1], file.read(control(out, device="cpu"))[1]
    assert twin.intrinsic == about.intrinsic == list(NAMES) and twin.fit == about.fit | {"random_weights": True}
    (found,) = evaluate_each(out, str(folder), intrinsics="albedo", config=QUICK)
    assert {"random_weights", "mean_map", "untouched"} <= set(found.errors)


# Refusals and plans.


def test_a_generator_without_words_is_refused(folder: Path, tmp_path: Path) -> None:
    config = small(folder, generator="toy")
    with pytest.raises(ValueError, match=r"toy paints the same .*'surface normal' or 'depth map'.*--intrinsic shading"):
        fit(config, tmp_path / "run", device="cpu", dry_run=True)
    with pytest.raises(ValueError, match=r"toy paints the same .*'depth map' or 'a photo'"):
        fit(config.replace(intrinsic="depth", reconstruction=0.1), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "ridge"}, "cannot have method = ridge"),
        ({"readout_auto": True}, "cannot have readout = auto"),
        ({"intrinsic": "normal,depth", "tie": 0.1}, "tie holds albedo times shading to the picture, got normal,depth"),
    ],
)
def test_what_cannot_be_learned_together(
    folder: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fit(small(folder, **changes), tmp_path / "run", device="cpu", dry_run=True)


def test_from_the_command_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["fit", "--intrinsic", "all", "--generator", spoken.NAME, "--data", str(folder), "--labels", "3"]
    words += ["--set", "tie=0.1", "--set", "reconstruction=0.1", "--dry-run", "--out", str(tmp_path / "run")]
    monkeypatch.setattr("sys.argv", ["ilora", *words])
    with pytest.raises(SystemExit) as end:
        main()
    told = capsys.readouterr().err
    plan = json.loads(told[: told.rindex("}") + 1])
    assert end.value.code == 0 and plan["config"]["intrinsic"] == "normal,depth,albedo,shading"
    assert (plan["config"]["tie"], plan["config"]["labels"], plan["data"]["maps"]["depth"]) == (0.1, 3, 3)
    assert "normal and depth and albedo and shading" in told and not (tmp_path / "run").exists()


# A generator that reads.


def test_words_reach_a_stable_diffusion(folder: Path, tmp_path: Path) -> None:
    """Trained for two updates, it tells the tasks apart, and one batch after the other is what it learned from."""
    base = str(tiny.smallest(tmp_path / "sd"))
    out = fit(small(folder, generator=base, steps=2, tie=0.1), tmp_path / "run", device="cpu")
    painted = Predictor(out, device="cpu").paint(torch.zeros(1, 3, 16, 16))
    assert list(painted) == list(NAMES)
    assert not painted["albedo"].equal(painted["shading"])
