"""The machine end to end on the toy: grid, resume, failures, executors, and files that agree with each other."""

import csv
import json
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from ilora.report import number
from ilora.studies import NAMES, on_ray, question
from ilora.studies.controls import ADAPTER, LEARNT
from ilora.studies.cost import Clock, Times
from ilora.studies.layers import anatomy
from ilora.studies.plan import Ask, Point, StudyConfig, Work, identity, points, works
from ilora.studies.study import study
from ilora.studies.work import attempt, local
from tests import world
from tests.generators.test_foreign import MODULE

SHORT = {"steps": 2, "batch": 2, "targets": "attention", "warmup": 0, "checkpoint_every": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.write(tmp_path_factory.mktemp("world"), train=9, test=2)


@pytest.fixture
def config(folder: Path) -> StudyConfig:
    """A quick study of the toy with two updates a fit."""
    fields = {"generators": ("toy",), "data": str(folder), "quick": True, "resamples": 100, "device": "cpu"}
    return StudyConfig(**fields, changes=SHORT)


def ask(config: StudyConfig) -> Ask:
    return Ask(config.resolved(), Path("out"), Clock(None, "cpu"), dry_run=True)


def adapters(out: Path) -> dict[str, int]:
    """When each finished fit ended."""
    return {path.parts[-3]: path.stat().st_mtime_ns for path in out.glob("points/*/run/adapter.safetensors")}


def named(grid: Sequence[Point]) -> list[tuple[str, str]]:
    return [(point.series, point.at) for point in grid]


def test_quick_questions_take_one_generator_unless_they_compare_them() -> None:
    quick, whole = ask(StudyConfig(quick=True)), ask(StudyConfig())
    assert quick.generators() == ("rooms-nano",)
    assert quick.generators(across=True) == whole.generators() == (
        "rooms-ar", "rooms-diffusion", "rooms-gan", "rooms-nano")  # fmt: skip
    for name, count in (("intrinsics", 4), ("families", 4), ("rank", 1), ("labels", 1)):
        assert len({point.fit.generator for point in question(name).points(quick)}) == count, name
    assert ask(StudyConfig(quick=True, generators=("toy",))).generators(across=True) == ("toy",)


def test_the_grid_of_ranks_by_hand(config: StudyConfig) -> None:
    grid = question("rank").points(ask(config))
    assert named(grid) == [
        *[(name, str(rank)) for rank in (1, 4, 16, 64) for name in ("default", "paper")],
        ("random weights", "16"),
    ]
    fits = [point.fit for point in grid]
    assert [fit.rank for fit in fits] == [1, 1, 4, 4, 16, 16, 64, 64, 16]
    assert {(fit.preset, fit.schedule) for fit in fits} == {("default", "cosine"), ("paper", "constant")}
    assert {fit.steps for fit in fits} == {2} and fits[-1].random_weights and not fits[-2].random_weights
    whole = config.replace(quick=False, intrinsics=("depth", "albedo"), changes={})
    grid = question("rank").points(ask(whole))
    assert len(grid) == 2 * (7 * 2 + 1) and {point.fit.steps for point in grid} == {300, 20_000}
    assert [point.fit.seed for point in points(grid[:2], 3)] == [0, 0, 1, 1, 2, 2]


def test_the_grids_of_the_other_questions(config: StudyConfig) -> None:
    assert [at for _, at in named(question("labels").points(ask(config)))] == ["8"] * 3  # there are nine labels
    assert len(question("intrinsics").points(ask(config))) == 8
    assert named(question("families").points(ask(config))) == [("toy", "normal")]
    blocks = [("conv_in", "30"), ("blocks.0", "30"), ("blocks.1", "30"), ("proj_out", "30")]
    types = [("layer type", name) for name in ("attention", "attention+conv", "ff", "all")]
    grid = question("layers").points(ask(config))
    assert named(grid) == [*blocks, *types, ("default", "default"), ("random weights", "default")]
    assert [point.fit.targets for point in grid[:2]] == [r"conv_in(\..*)?", r"blocks\.0(\..*)?"]
    assert not anatomy("toy").timed


def test_labels_are_counted_over_all_intrinsics(config: StudyConfig, tmp_path: Path) -> None:
    """Nine pictures with normals, six of them with depth: both are asked about six."""
    data = world.write(tmp_path / "world", train=9, test=1)
    for index in range(3):
        (data / "depths" / f"train{index}.npy").unlink()
    both = config.replace(data=str(data), intrinsics=("normal", "depth"))
    with pytest.warns(UserWarning, match="are left out"):
        grid = question("labels").points(ask(both))
    assert {(point.fit.intrinsic, point.fit.labels) for point in grid} == {("normal", 6), ("depth", 6)}


def test_equal_time_by_hand(config: StudyConfig) -> None:
    """An adapter's update takes 1 s (2 through the decoder): 10 updates at a share of 0.5 are 15 s.

    Half of its updates warm up half as long, six times as many no longer.
    """
    asked = ask(config.replace(changes=SHORT | {"steps": 10, "image_share": 0.5, "warmup": 6}))
    pairs = {ADAPTER: (1.0, 2.0), "probe of the network, trained": (0.2, 0.3), "full fine-tune": (2.0, 4.0),
             "from scratch": (2.0, 4.0)}  # fmt: skip
    for name, pair in pairs.items():
        fit = asked.fit("toy", "normal", steps=50, **LEARNT[name])
        asked.clock._known[asked.clock.key(fit)] = Times(*pair, 0.0, 0.0)
    grid = question("controls").points(asked)
    steps = {(point.series, point.at): (point.fit.steps, point.fit.warmup) for point in grid}
    assert steps["full fine-tune", "equal labels"] == (10, 6) and steps["full fine-tune", "equal time"] == (5, 3)
    assert steps["probe of the network, trained", "equal time"] == (60, 6)
    assert ("probe of the decoder, ridge", "equal labels") not in steps  # the toy's decoder has no layers
    assert ("random weights", "equal time") not in steps


def test_minutes_by_hand(config: StudyConfig) -> None:
    fit = ask(config).fit("toy", "normal", steps=1).replace(labels=6, steps=100, image_share=0.25, mirror=True)
    clock = Clock(None)
    clock._known[clock.key(fit)] = Times(native=1.0, image=3.0, encode=0.5, paint=0.1)
    assert clock.fit(fit) == 150.0  # 75 * 1 + 25 * 3
    assert clock.evaluation(fit, 10) == pytest.approx(10 * 3 * 0.6)
    assert clock.codes(fit) == 0.5 * 6 * 2 * 2  # codes and targets, with their mirror images
    assert clock.minutes([fit, fit], 10) == pytest.approx((2 * 150 + 2 * 18 + 12) / 60)
    few = fit.replace(labels=2)
    assert clock.minutes([fit, few], 0) == pytest.approx((2 * 150 + 12) / 60)  # the few are among the many


def test_times_are_measured_once_and_kept(config: StudyConfig, tmp_path: Path) -> None:
    fit = ask(config).fit("toy", "normal", steps=1)
    path = tmp_path / "times.json"
    first = Clock(path, "cpu").times(fit)
    assert min(first.native, first.image, first.encode, first.paint) > 0
    assert Clock(path, "cpu").times(fit.replace(intrinsic="depth", seed=5)) == first  # read, not measured again
    latent = Clock(path, "cpu").times(fit.replace(image_share=0.0, accumulate=2))
    assert latent.image is None and latent.update(fit.replace(image_share=0.0)) == latent.native
    assert len(json.loads(path.read_text())) == 2 and Clock(path, "cpu").times(fit) == first


@pytest.mark.parametrize(
    "changes",
    [{"targets": "all"}, {"rank": 2}, {"image_share": 0.0}, {"accumulate": 2}, {"gradient_checkpointing": True}],
)
def test_times_are_of_one_kind_of_fit(config: StudyConfig, changes: dict[str, object]) -> None:
    fit, clock = ask(config).fit("toy", "normal", steps=1), Clock(None, "cpu")
    assert clock.key(fit) != clock.key(fit.replace(**changes))
    assert clock.key(fit) == clock.key(fit.replace(seed=1, lr=0.1, image_share=0.5)) != Clock(None, "meta").key(fit)


def test_a_folder_is_named_by_its_content(config: StudyConfig, folder: Path) -> None:
    fit = ask(config).fit("toy", "normal", steps=1)
    assert identity(fit) == identity(fit.replace(rank=8)) != identity(fit.replace(seed=1))
    other = world.write(folder.parent / "other", train=8, test=1)
    assert identity(fit.replace(data=str(other))) != identity(fit)
    first, second = (works([Point(name, "1", fit)], config.resolved(), Path("out"))[0] for name in ("a", "b"))
    assert first == second and first.result.name.startswith("test-")
    shorter = works([Point("a", "1", fit)], config.resolved().replace(images=1), Path("out"))[0]
    assert shorter.place == first.place and shorter.result != first.result  # evaluated again, not fitted again


def test_other_test_pictures_are_evaluated_anew_and_fitted_no_more(config: StudyConfig, tmp_path: Path) -> None:
    data, out = world.write(tmp_path / "world", train=3, test=1, square=True), tmp_path / "out"
    asked = config.replace(data=str(data), images=1)
    study("families", out, config=asked)
    (before,), fitted = json.loads((out / "families.json").read_text())["points"], adapters(out)
    shutil.copy(data / "images" / "train0.png", data / "images" / "test0.png")
    study("families", out, config=asked)
    (after,) = json.loads((out / "families.json").read_text())["points"]
    assert after["error"] != before["error"] and after["problem"] == ""
    assert adapters(out) == fitted


def test_a_generator_of_the_users_own(
    config: StudyConfig, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From its fits to its maps on the page; and a task on another machine finds it, and data, by relative names."""
    place, elsewhere = tmp_path / "place", tmp_path / "elsewhere"
    shutil.copytree(folder, place / "data")
    elsewhere.mkdir()
    (place / "ilora_test_study_mine.py").write_text(MODULE)
    monkeypatch.chdir(place)
    mine = config.replace(generators=("ilora_test_study_mine:Mine",), data="data", images=1)
    page = study("families", tmp_path / "out", config=mine).read_text()
    (point,) = json.loads((tmp_path / "out" / "families.json").read_text())["points"]
    assert point["problem"] == "" and point["error"] > 0 and "What it looks like" in page
    (work,) = works(
        [Point("a", "1", ask(mine).fit(mine.generators[0], "normal", steps=1))], mine.resolved(), Path("new")
    )
    del sys.modules["ilora_test_study_mine"]
    monkeypatch.chdir(elsewhere)
    assert on_ray._attempt(work, torch.get_num_threads(), str(place)) == ""
    assert (place / work.result).is_file() and list(elsewhere.iterdir()) == []
    del sys.modules["ilora_test_study_mine"]


def test_what_the_user_changes_wins_over_presets_and_loses_to_the_question(config: StudyConfig) -> None:
    asked = ask(config.replace(changes={"steps": 7, "rank": 3, "lr": 0.5}))
    fit = asked.fit("toy", "depth", name="paper", steps=60, rank=4)
    assert (fit.steps, fit.rank, fit.lr, fit.intrinsic, fit.preset) == (7, 4, 0.5, "depth", "paper")
    assert ask(config.replace(changes={})).fit("toy", "depth", steps=60).steps == 60


def test_a_killed_study_goes_on_and_refits_nothing(config: StudyConfig, tmp_path: Path) -> None:
    two = config.replace(intrinsics=("normal", "depth"))
    grid = points(question("intrinsics").points(ask(two)), 1)
    todo = works(grid, config.resolved(), tmp_path)

    def kill(work: Work, problem: str) -> None:
        assert problem == ""
        if work is todo[1]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        local(todo, kill)
    before = adapters(tmp_path)
    assert set(before) == {work.place.name for work in todo[:2]}
    study("intrinsics", tmp_path, config=two)
    after = adapters(tmp_path)
    assert len(after) == 4 and before.items() <= after.items()
    results = {path: path.stat().st_mtime_ns for path in tmp_path.glob("points/*/*.json")}
    page = study("intrinsics", tmp_path, config=two).read_text()
    assert adapters(tmp_path) == after
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("points/*/*.json")} == results
    _agree(tmp_path, "intrinsics", page)


def _agree(out: Path, name: str, page: str) -> None:
    """CSV, JSON, LaTeX and page of one study say the same, and the page needs nothing else."""
    values = json.loads((out / f"{name}.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    with (out / f"{name}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(values["points"]) == 4
    for row, point in zip(rows, values["points"], strict=True):
        assert list(row) == list(point)
        assert all(row[key] == ("" if value is None else str(value)) for key, value in point.items())
    tex = (out / f"{name}.tex").read_text()
    lines = [line for line in tex.splitlines() if line.endswith(r"\\")][1:]
    assert len(values["cells"]) == 4 and len(lines) == 2  # a line for adapter and random weights together
    for cell, point in zip(values["cells"], values["points"], strict=True):  # one seed: cells are points
        assert cell["error"] == pytest.approx(point["error"]) and cell["share"] == point["share"]
        shown = f"{number(cell['error'])} [{number(cell['low'])}, {number(cell['high'])}]"
        assert shown in tex and shown in page
    assert values["verdict"].split(".")[0] in page
    assert "\\%" in tex and tex.count("{") == tex.count("}")
    assert re.findall(r'(?:src|href)="(?!data:)[^"]*"', page) == [] and "<script" not in page and "url(" not in page
    assert "http" not in re.sub(r'src="data:[^"]*"', "", page).replace("arxiv", "")
    assert (out / f"{name}.svg").read_text().startswith("<?xml")


def test_a_failed_point_is_tried_twice_and_reported_while_the_others_go_on(
    config: StudyConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = config.replace(generators=("nosuch", "toy"))
    page = study("families", tmp_path, config=both).read_text()
    told = capsys.readouterr().err
    assert told.count("no generator 'nosuch'") == 3  # two attempts and the report
    assert "Points that failed" in page and "no generator &#x27;nosuch&#x27;" in page
    first, second = json.loads((tmp_path / "families.json").read_text())["points"]
    assert "nosuch" in first["problem"] and first["error"] is None
    assert second["problem"] == "" and second["error"] > 0
    assert json.loads((tmp_path / "families.json").read_text())["cells"][0]["problems"] == [first["problem"]]


def test_a_point_that_diverges_is_a_problem_in_words(config: StudyConfig, tmp_path: Path) -> None:
    fit = ask(config).fit("toy", "normal", steps=1, lr=1e30, clip=None)
    (work,) = works([Point("a", "1", fit.replace(steps=6))], config.resolved(), tmp_path)
    assert attempt(work).startswith("FloatingPointError: the loss became")
    assert not work.result.is_file()


def test_studies_share_points(config: StudyConfig, tmp_path: Path) -> None:
    study("families", tmp_path, config=config)
    (only,) = adapters(tmp_path).items()
    study("intrinsics", tmp_path, config=config.replace(intrinsics=("normal",)))
    assert len(adapters(tmp_path)) == 2 and only in adapters(tmp_path).items()
    assert "toy: normal" in json.loads((tmp_path / "intrinsics.json").read_text())["verdict"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.mark.parametrize("name", ["rank", "labels", "controls", "layers"])
def test_every_question_ends_in_a_page(config: StudyConfig, shared: Path, name: str) -> None:
    page = study(name, shared, config=config.replace(images=1)).read_text()
    values = json.loads((shared / f"{name}.json").read_text())
    assert [point["problem"] for point in values["points"]] == [""] * len(values["points"])
    assert values["verdict"] and values["findings"]
    assert page.count("data:image/svg") == len(list(shared.glob(f"{name}*.svg")))
    assert "What it looks like" in page


@pytest.mark.parametrize("name", ["preset", "generator", "data", "intrinsic", "name"])
def test_a_change_of_what_is_given_otherwise_is_refused(config: StudyConfig, tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=rf"--set must name fields of a fit other than .*, got {name}; "):
        study("families", tmp_path, config=config.replace(changes=SHORT | {name: "paper"}))


def test_a_dry_run_tells_the_grid_and_its_minutes_and_writes_nothing(
    config: StudyConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert study("rank", out, config=config, dry_run=True) == out
    told = capsys.readouterr().out
    assert re.search(r"9 points, 9 to make: about [\d.e-]+ minutes", told)
    assert told.count("toy-normal-") == 9 and not out.exists()


def test_what_a_study_refuses(config: StudyConfig, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="did you mean 'rank'"):
        study("ranks", tmp_path, config=config)
    with pytest.raises(ValueError, match="rank asks about generators, got checkpoints"):
        study("rank", tmp_path, config=config.replace(checkpoints=("a",)))
    with pytest.raises(ValueError, match=r"quality asks about checkpoints, got generators \('toy',\); give them with"):
        study("quality", tmp_path, config=config, dry_run=True)
    with pytest.raises(ValueError, match="needs checkpoints, got none"):
        study("quality", tmp_path, config=config.replace(generators=()), dry_run=True)
    with pytest.raises(ValueError, match="did you mean 'normal'"):
        study("rank", tmp_path, config=config.replace(intrinsics=("normals",)))
    assert set(NAMES) == {"intrinsics", "families", "rank", "labels", "quality", "controls", "layers", "recipe"}
