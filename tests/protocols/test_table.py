"""The benchmark that prints one prediction under all protocols."""

import runpy
from pathlib import Path

import torch

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
