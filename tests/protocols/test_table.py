"""The benchmark that prints one prediction under all protocols."""

import math
import runpy
from pathlib import Path

import pytest
import torch

from ilora import images
from ilora.data import dataset
from ilora.evaluate import EvaluateConfig, evaluate
from ilora.fit import fit
from ilora.presets import preset
from ilora.protocols import names
from ilora.report import number
from tests import world

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "protocols.py"


def rows(told: str) -> dict[str, list[str]]:
    """Cells of a Markdown table by the protocol that begins its row."""
    cells = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in told.splitlines() if "`" in line]
    return {first: others for first, *others in cells}


def test_the_demo_has_a_row_for_every_protocol_and_repeats_itself():
    script = runpy.run_path(str(SCRIPT))
    truth = 1 + torch.rand(1, 1, 24, 32, generator=torch.Generator().manual_seed(1))
    made = [script["disturbed"]("disparity", truth, 0.5, torch.Generator().manual_seed(0)) for _ in range(2)]
    assert torch.equal(*made)
    cases = [(made[0], truth, torch.ones_like(truth, dtype=torch.bool))]
    told = script["table"]("disparity", lambda: iter(cases), 1)
    assert tuple(rows(told)) == names("disparity")
    assert {cells[-1] for cells in rows(told).values()} > {"768"}  # Eigen's crops leave fewer


def test_the_row_of_an_adapter_is_what_evaluate_says(tmp_path, capsys):
    folder = world.write(tmp_path / "world", train=3, test=2)
    config = preset("default", generator="toy", data=str(folder), targets="all", steps=2, image_share=0.0)
    run = fit(config, tmp_path / "run", device="cpu")
    capsys.readouterr()
    runpy.run_path(str(SCRIPT))["main"](["--adapter", str(run), "--data", str(folder)])
    told = rows(capsys.readouterr().out)
    for name in names("normal"):
        limits = EvaluateConfig(controls=False, resamples=10, device="cpu")
        one = evaluate(run, str(folder), protocol=name, config=limits)
        assert told[name][0] == number(one.summary("adapter").mean)
    assert told["dsine-nyu"][0] != told["marigold-normals"][0]


def test_maps_in_files_are_judged_in_the_axes_that_they_declare(tmp_path, capsys):
    folder, maps = world.write(tmp_path / "world", train=1, test=2), tmp_path / "maps"
    turn = torch.tensor([[1, 0, 0], [0, math.cos(0.2), -math.sin(0.2)], [0, math.sin(0.2), math.cos(0.2)]])
    for example in dataset(str(folder), intrinsic="normal", split="test"):
        tilted = torch.einsum("ij,jhw->ihw", turn, example.map) * torch.tensor([-1, 1, 1])[:, None, None]  # x left
        images.write_npy(maps / f"{example.name}.normal.npy", tilted, about={})
    for example in dataset(str(folder), intrinsic="depth", split="test"):
        images.write_npy(maps / f"{example.name}.npy", 0.006 - 0.02 / example.map, about={})  # 0 inside
    (maps / "meta.toml").write_text('[normals]\naxes = "LUB"\n')
    main = runpy.run_path(str(SCRIPT))["main"]
    words = ["--maps", str(maps), "--data", str(folder), "--quantity"]
    main([*words, "normal"])
    told = rows(capsys.readouterr().out)
    for cells in told.values():  # a turn about x moves no vector by more, and those along x by nothing
        assert 5 < float(cells[0]) < math.degrees(0.2)
    main([*words, "disparity"])
    assert all(float(cells[0]) < 1e-4 and cells[3] == "100" for cells in rows(capsys.readouterr().out).values())
    (maps / "test1.npy").unlink()
    with pytest.raises(ValueError, match="must hold a map of every image, got none of test1"):
        main([*words, "disparity"])
    with pytest.raises(SystemExit):
        main(words[:-1])
