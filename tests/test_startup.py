"""Nothing heavy is loaded before it is needed: which modules a fresh interpreter holds after light work."""

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "numpy", "PIL", "peft", "safetensors", "diffusers", "transformers", "accelerate", "mitsuba"}
TELL = "import json, sys; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"


def loaded(code: str) -> set[str]:
    """Top-level names of the modules that a fresh interpreter holds after ``code``."""
    done = subprocess.run([sys.executable, "-c", f"{code}\n{TELL}"], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import ilora; assert ilora.__all__; assert dir(ilora)",
        "import ilora; assert ilora.preset('paper', rank=2).rank == 2 and ilora.FitConfig.read({'seed': 3}).seed == 3",
        "import ilora.intrinsics; assert 'normal' in ilora.intrinsics.NAMES",
    ],
    ids=["import", "configurations", "names of intrinsics"],
)
def test_light_work_loads_nothing_heavy(code: str) -> None:
    assert loaded(code) & HEAVY == set()


@pytest.mark.parametrize("words", ["--help", "fit --help", "scenes render --help", "zoo list"])
def test_a_command_that_only_talks_loads_nothing_heavy(words: str) -> None:
    code = f"""
import sys
from ilora.cli import main
sys.argv = ["ilora", *{words.split()!r}]
try:
    main()
except SystemExit as end:
    assert end.code in (0, None), end.code
"""
    assert loaded(code) & HEAVY == set()


def test_what_needs_torch_loads_it() -> None:
    assert "torch" in loaded("import ilora; ilora.Example")
