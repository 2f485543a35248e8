"""The scripts of ``benchmarks/``, grids of fits too: what they keep, and what they refuse."""

import argparse
import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ilora.fit import fit
from ilora.presets import preset
from tests import world
from tests.studies.test_cells import made

FOLDER = Path(__file__).parents[2] / "benchmarks"


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """One of the scripts, as a module."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module(name)


def test_a_finished_claim_is_not_that_of_another_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claims = script("claims", monkeypatch)
    point = claims.Point("few", "normal", 0, labels=2)
    data = str(world.write(tmp_path / "world", train=2, test=1))
    changes = {"generator": "toy", "data": data, "steps": 1, "batch": 2}
    fit(preset("default", **changes, labels=2), tmp_path / point.name, device="cpu")
    result = tmp_path / f"{point.name}.json"
    result.write_text("made before")
    claims.make(point, tmp_path, changes)
    assert result.read_text() == "made before"
    with pytest.raises(ValueError, match="was begun with steps = 1, got 2"):
        claims.make(point, tmp_path, changes | {"steps": 2})


def test_one_adapter_is_paired_with_four_by_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four adapters have seeds 0 and 1 with errors 40 and 20, one has seeds 1 and 2 with 10 and 70: 10 ÷ 20."""
    joint = script("joint", monkeypatch)
    four, one = joint.RECIPES[:2]
    arguments = argparse.Namespace(out=tmp_path, seeds=3, images=None)
    for recipe, errors in ((four, {0: 40.0, 1: 20.0}), (one, {1: 10.0, 2: 70.0})):
        for seed, error in errors.items():
            place = joint.places(recipe, tmp_path, seed)["normal" if recipe.apart else "all"]
            made([error, error], seed=seed).evaluation.save(joint.rows_file(place, "normal", None))
    rows = {row.recipe: row for row in joint.table(arguments)}
    assert rows.keys() == {four.name, one.name} and rows[four.name].seeds == 2
    assert (rows[one.name].seeds, rows[one.name].error, rows[one.name].ratio) == (1, 10.0, 0.5)
    assert joint.table(argparse.Namespace(out=tmp_path, seeds=3, images=16)) == []  # other images: not measured


def test_rows_on_real_pictures_with_controls_are_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = script("real", monkeypatch)
    files = [real.rows_file(tmp_path, real.TASKS[0], "motorcycle", "all", controls=asked) for asked in (False, True)]
    assert [path.name for path in files] == [
        "depth-icl_livingroom-on-motorcycle-all.json",
        "depth-icl_livingroom-on-motorcycle-all-controls.json",
    ]


def test_an_ensemble_of_one_has_no_uncertainty(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    multistep = script("multistep", monkeypatch)
    monkeypatch.setattr(sys, "argv", ["multistep.py", "--ensemble", "1"])
    with pytest.raises(SystemExit) as ended:
        multistep.main()
    assert ended.value.code == 2 and "--ensemble must be at least 2, got 1" in capsys.readouterr().err
