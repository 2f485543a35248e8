"""The machine end to end on the toy: grid, resume, failures, executors, and files that agree with each other."""

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from ilora.report import number
from ilora.studies import NAMES, question
from ilora.studies.cost import Clock, Times
from ilora.studies.layers import anatomy
from ilora.studies.plan import Ask, Point, StudyConfig, Work, identity, points, works
from ilora.studies.study import study
from ilora.studies.work import attempt, local
from tests import world

SHORT = {"steps": 2, "batch": 2, "targets": "attention", "warmup": 0, "checkpoint_every": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.write(tmp_path_factory.mktemp("world"), train=9, test=2)


@pytest.fixture
def config(folder: Path) -> StudyConfig:
    """A quick study of the toy with two updates a fit."""
    fields = {"generators": ("toy",), "data": str(folder), "quick": True, "resamples": 100, "device": "cpu"}
    return StudyConfig(**fields, changes=SHORT)


def ask(config: StudyConfig, times: dict[str, Times] | None = None) -> Ask:
    clock = Clock(None, "cpu")
    clock._known.update(times or {})
    return Ask(config.resolved(), Path("out"), clock, dry_run=True)


def adapters(out: Path) -> dict[str, int]:
    """When each finished fit ended."""
    return {path.parts[-3]: path.stat().st_mtime_ns for path in out.glob("points/*/run/adapter.safetensors")}


def named(grid: Sequence[Point]) -> list[tuple[str, str]]:
    return [(point.series, point.at) for point in grid]


def test_quick_questions_take_one_generator_unless_they_compare_them() -> None:
    quick, whole = ask(StudyConfig(quick=True)), ask(StudyConfig())
    assert quick.generators() == ("rooms-diffusion",)
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


def test_equal_time_by_hand(config: StudyConfig) -> None:
    """An adapter's update takes 1 s (2 through the decoder): 10 updates at a share of 0.5 are 15 s."""
    changes = SHORT | {"steps": 10, "image_share": 0.5}
    times = {f"toy {method} 2 auto": Times(*pair, 0.0, 0.0)
             for method, pair in {"lora": (1.0, 2.0), "head": (0.2, 0.3), "full": (2.0, 4.0),
                                  "scratch": (2.0, 4.0)}.items()}  # fmt: skip
    grid = question("controls").points(ask(config.replace(changes=changes), times))
    steps = {(point.series, point.at): point.fit.steps for point in grid}
    assert steps["full fine-tune", "equal labels"] == 10 and steps["full fine-tune", "equal time"] == 5
    assert steps["probe of the network, trained", "equal time"] == 60
    assert ("probe of the decoder, ridge", "equal labels") not in steps  # the toy's decoder has no layers
    assert ("random weights", "equal time") not in steps


def test_minutes_by_hand(config: StudyConfig) -> None:
    fit = ask(config).fit("toy", "normal", steps=1).replace(labels=6, steps=100, image_share=0.25, mirror=True)
    clock = Clock(None)
    clock._known["toy lora 2 auto"] = Times(native=1.0, image=3.0, encode=0.5, paint=0.1)
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
    assert Clock(path, "cpu").times(fit.replace(rank=2, seed=5)) == first  # read, not measured again
    assert list(json.loads(path.read_text())) == ["toy lora 2 auto"]


def test_a_folder_is_named_by_its_content(config: StudyConfig, folder: Path) -> None:
    fit = ask(config).fit("toy", "normal", steps=1)
    assert identity(fit) == identity(fit.replace(rank=8)) != identity(fit.replace(seed=1))
    other = world.write(folder.parent / "other", train=8, test=1)
    assert identity(fit.replace(data=str(other))) != identity(fit)
    first, second = (works([Point(name, "1", fit)], config.resolved(), Path("out"))[0] for name in ("a", "b"))
    assert first == second and first.result.name.startswith("test-")
    shorter = works([Point("a", "1", fit)], config.resolved().replace(images=1), Path("out"))[0]
    assert shorter.place == first.place and shorter.result != first.result  # evaluated again, not fitted again


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
    with pytest.raises(ValueError, match="needs checkpoints, got none"):
        study("quality", tmp_path, config=config, dry_run=True)
    with pytest.raises(ValueError, match="did you mean 'normal'"):
        study("rank", tmp_path, config=config.replace(intrinsics=("normals",)))
    assert set(NAMES) == {"intrinsics", "families", "rank", "labels", "quality", "controls", "layers", "recipe"}
