"""The benchmark that prints one prediction under all protocols."""

import runpy
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("quantity", ["normal", "disparity", "albedo"])
def test_the_demo_has_a_row_for_every_protocol(quantity):
    script = runpy.run_path(str(SCRIPT))
    told = script["table"](quantity, lambda: script["demo"](quantity, 2), 2)
    assert tuple(rows(told)) == names(quantity)
    assert told == script["table"](quantity, lambda: script["demo"](quantity, 2), 2)


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
