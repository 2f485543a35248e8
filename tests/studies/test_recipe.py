"""The recipe: one thing changed at a time, differences and verdicts by hand, and the page end to end on the toy."""

import csv
import json
from pathlib import Path

import pytest

from ilora.presets import preset
from ilora.run import read_json
from ilora.studies import recipe
from ilora.studies.cells import Cell, cells, difference
from ilora.studies.cost import Clock
from ilora.studies.plan import Ask, StudyConfig, points, works
from ilora.studies.recipe import CHANGE, CHANGES, MIRRORED, Effects, Recipe, shortened
from ilora.studies.study import study
from tests import world
from tests.studies.test_cells import failed, made


def ask(**fields: object) -> Ask:
    config = StudyConfig(generators=("toy",), intrinsics=("normal",), **fields).resolved()
    return Ask(config, Path("out"), Clock(None, "cpu"), dry_run=True)


def test_each_change_changes_one_thing() -> None:
    """The toy has no time steps, so those points are left out for it; all others differ in what their row says."""
    grid = Recipe().points(ask())
    default = next(point.fit for point in grid if point.series == "default")
    assert default == preset("default", generator="toy", intrinsic="normal")
    changed = {point.at: point for point in grid if point.series == CHANGE}
    timed = {"timestep 300", "timestep 999", "readout native", "readout auto"}
    assert changed.keys() == (CHANGES.keys() | {MIRRORED}) - timed
    for name, point in changed.items():
        before, after = default.write(), point.fit.write()
        differs = {key: after[key] for key in after if after[key] != before[key]}
        assert differs == ({} if name == MIRRORED else CHANGES[name])
        assert point.mirror == (name == MIRRORED)
    assert not [name for name, fields in CHANGES.items() for key in fields if getattr(default, key) == fields[key]]


def test_both_presets_run_with_fewer_updates_and_warm_up_as_much_sooner() -> None:
    steps = {point.series: [] for point in Recipe().points(ask())}
    for point in Recipe().points(ask()):
        steps[point.series].append((point.fit.steps, point.fit.warmup))
    assert steps["default"] == [(300, 20)] and steps["default, shorter"] == [(38, 2), (75, 5), (150, 10)]
    assert steps["paper"] == [(20_000, 0)] and steps["paper, shorter"] == [(312, 0), (1250, 0), (5000, 0)]
    assert shortened(preset("default", steps=3), 0.01).steps == 1
    quick = Recipe().points(ask(quick=True))
    assert {point.fit.steps for point in quick} == {40, 20, 10, 5, 160, 2}
    assert (quick[0].fit.warmup, quick[1].fit.warmup) == (round(20 * 40 / 300), 0)
    asked = ask(quick=True, changes={"warmup": 7, "steps": 12})
    assert [(point.fit.steps, point.fit.warmup) for point in Recipe().points(asked)[:2]] == [(12, 7), (12, 7)]
    assert len({(point.fit.write().__repr__(), point.mirror) for point in quick}) == len(quick) <= 30


def test_a_mirrored_evaluation_shares_the_fit_and_not_the_result() -> None:
    grid = points(Recipe().points(ask(quick=True)), 2)
    todo = works(grid, ask(quick=True).config, Path("out"))
    pair = [work for point, work in zip(grid, todo, strict=True)
            if point.fit.seed == 1 and (point.series == "default" or point.at == MIRRORED)]  # fmt: skip
    assert len(pair) == 2 and pair[0].place == pair[1].place and pair[0].result != pair[1].result
    assert [work.evaluation.mirror for work in pair] == [False, True]


def group(**errors: list[float]) -> list[Cell]:
    """Cells of two seeds with these errors on four images: that of seed 1 is larger by 1 in all."""
    series = {"default": "default", "paper": "paper"}
    return cells(
        made([error + seed for error in row], seed=seed, series=series.get(name, CHANGE), at=name.replace("_", " "),
             **({} if name == "default" else {"rank": 20 + place}))
        for place, (name, row) in enumerate(errors.items()) for seed in (0, 1)
    )  # fmt: skip


def test_differences_are_paired_by_hand() -> None:
    """Images differ by 30, recipes by 1: paired, the interval is the point itself."""
    worse, base = (group(**{name: row})[0] for name, row in
                   (("no masks", [11.0, 41.0, 21.0, 31.0]), ("default", [10.0, 40.0, 20.0, 30.0])))  # fmt: skip
    found = difference(worse, base)
    assert (found.mean, found.low, found.high, found.count) == (1.0, 1.0, 1.0, 4)
    assert difference(base, worse).mean == -1.0
    assert difference(worse, cells([failed()])[0]).count == 0 == difference(None, base).count


def test_verdicts_and_words_by_hand() -> None:
    """Default's mean is 25.5, so 2.55 is 10 %."""
    base = [10.0, 40.0, 20.0, 30.0]
    found = Effects(group(
        default=base, paper=[2 * error for error in base], no_masks=[error + 2.55 for error in base],
        DoRA=[error - 2.55 for error in base], EVA=[13.0, 37.0, 20.0, 30.0],
    ))  # fmt: skip
    verdicts = {name: found.verdict(name) for name in found.cells}
    assert verdicts == {"paper": "harms", "no masks": "harms", "DoRA": "helps", "EVA": "no difference"}
    assert found.words("no masks") == "+10.0 [+10.0, +10.0] harms"
    assert "helps: DoRA; harms: no masks; no difference: EVA" in found.sentence()
    assert found.findings()["DoRA"]["percent"] == pytest.approx(-10.0)
    assert found.findings()["DoRA"]["difference by seed"] == pytest.approx({"0": -2.55, "1": -2.55})
    assert {"helps", "harms", "no difference", "no masks"} <= set(found.drawing().replace("<", ">").split(">"))


def test_how_soon_default_is_as_good_as_paper() -> None:
    """Of fits that took 2 s each, that of 75 updates is the first one whose error is at most paper's, in 2 of 2 s."""
    outcomes = [
        made([30.0], series="default", at="default"), made([40.0], series="paper", at="paper", steps=20_000),
        made([50.0], series="default, shorter", at="38 updates", steps=38),
        made([35.0], series="default, shorter", at="75 updates", steps=75),
    ]  # fmt: skip
    answer = Recipe().answer(ask(), cells(outcomes))
    time = answer.findings["toy normal"]["time"]
    assert (time["updates"], time["updates of paper"], time["share"]) == (75, 20_000, 1.0)
    assert "as good as paper after 20000 updates with 75 updates, in 1.00 of its time" in answer.verdict
    late = Recipe().answer(ask(), cells([made([50.0], series="default", at="default"), *outcomes[1:2]]))
    assert "default is not as good as paper after 20000 updates" in late.verdict


def test_what_failed_says_nothing() -> None:
    lost = failed(series="paper", at="paper", rank=2)
    answer = Recipe().answer(ask(), cells([made([30.0], series="default", at="default"), lost]))
    assert answer.table.rows[1][:3] == ("paper", "toy", "–") and "was not measured" in answer.verdict
    nothing = Recipe().answer(ask(), cells([failed(series="default", at="default"), lost]))
    assert "normal of toy: not measured." in nothing.verdict


def test_the_page_and_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few of the changes, with fits of four updates; the table for pages says what the JSON says."""
    few = {name: CHANGES[name] for name in ("no masks", "other light", "EVA")}
    monkeypatch.setattr(recipe, "CHANGES", few)
    monkeypatch.setattr(recipe, "SHARES", {"default": (1 / 4,), "paper": (1 / 2,)})
    data = str(world.write(tmp_path / "world", train=4, test=3))
    short = {"steps": 4, "batch": 2, "warmup": 0, "rank": 2, "checkpoint_every": 1}
    config = StudyConfig(generators=("toy",), data=data, quick=True, resamples=100, device="cpu", changes=short)
    out = tmp_path / "out"
    page = study("recipe", out, config=config).read_text()
    values = read_json(out / "recipe.json")
    assert [point["problem"] for point in values["points"]] == [""] * len(values["points"])
    names = {"paper", MIRRORED, *few}
    findings = values["findings"]["toy normal"]
    assert findings.keys() == names | {"default ÷ paper", "time"}
    rows = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in
            (out / "recipe.md").read_text().splitlines() if line.startswith("|")][2:]  # fmt: skip
    assert [row[0] for row in rows][:2] == ["default", "paper"] and {row[0] for row in rows[1:]} == names
    for name, _, told in rows[1:]:
        assert told.endswith(findings[name]["verdict"]) and told.startswith(f"{findings[name]['percent']:+.1f} ")
    assert page.count("data:image/svg") == len(list(out.glob("recipe*.svg"))) == 2
    with (out / "recipe.csv").open(newline="") as file:
        by_name = {(row["series"], row["at"]): row for row in csv.DictReader(file)}
    assert by_name["default", "default"]["error"] != by_name[CHANGE, MIRRORED]["error"]
    fits = {json.loads(path.read_text())["steps"] for path in out.glob("points/*/run/config.json")}
    assert fits == {4, 2, 1}
    assert sum(1 for _ in out.glob("points/*/run/adapter.safetensors")) < len(values["points"])
