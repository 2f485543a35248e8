"""Generators of the user's own: found by the name that is given, and by nothing else."""

import sys
from pathlib import Path

import pytest

from ilora.config import FitConfig
from ilora.fit import fit
from ilora.generators import load
from ilora.generators.base import Generator
from ilora.generators.foreign import is_code
from ilora.plan import configure
from ilora.predict import Predictor
from ilora.presets import preset
from tests import world

MODULE = """
import torch
from ilora.generators.toy import Toy

LOADED = True

class Mine(Toy):
    name = "mine"
    def __init__(self, *, device, dtype, readout):
        super().__init__(readout, device, dtype)

class Half:
    def __init__(self, device, dtype, readout):
        self.name, self.fingerprint, self.readout = "half", "0", readout

class Odd:
    def __init__(self, path): ...

value = 3
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with modules in it, which is not on Python's path."""
    (tmp_path / "ilora_test_mine.py").write_text(MODULE)
    (tmp_path / "ilora_test_broken.py").write_text("import ilora_test_absent\n")
    (tmp_path / "ilora_test_package").mkdir()
    (tmp_path / "ilora_test_package" / "inner.py").write_text("from ilora_test_mine import Mine\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", ".")])
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("ilora_test_")]:
        del sys.modules[name]


def test_what_is_code() -> None:
    assert is_code("mine:Mine") and is_code("my.package:make")
    names = ("toy", "rooms-diffusion", "owner/model", "runs/a:b/c", "C:\\models", "os:", ":Mine", "a-b:C", "a:b:c")
    assert not any(map(is_code, names))


@pytest.mark.parametrize("name", ["ilora_test_mine:Mine", "ilora_test_package.inner:Mine"])
def test_a_module_of_the_working_directory(here: Path, name: str) -> None:
    before = list(sys.path)
    generator = load(name)
    assert isinstance(generator, Generator)
    assert generator.name == "mine"
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ilora_test_nowhere:Mine", "'ilora_test_nowhere' must be installed or lie in the working directory, got no"),
        ("ilora_test_mine.deeper:Mine", "'ilora_test_mine.deeper' must be installed"),
        (
            "ilora_test_mine:Mein",
            r"class or function in .*mine\.py, got None; classes there: Mine, Half, Odd",
        ),
        ("ilora_test_mine:value", "must name a class or function .* got 3"),
        ("ilora_test_mine:Odd", r"must take the keywords device, dtype, readout, got Odd\(path\)"),
        (
            "ilora_test_mine:Half",
            r"got none of resolution, network, .*; ilora check-generator ilora_test_mine:Half",
        ),
    ],
)
def test_what_is_wrong_is_said(here: Path, name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        load(name)


def test_an_error_inside_the_module_is_the_modules(here: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match="ilora_test_absent"):
        load("ilora_test_broken:Mine")


def test_a_name_in_a_file_imports_nothing(here: Path) -> None:
    data = world.write(here / "world", train=2, test=1)
    fields = {"generator": "ilora_test_mine:Mine", "data": str(data), "steps": 1, "batch": 2, "rank": 2}
    run = fit(preset("default", **fields), here / "run", device="cpu")
    del sys.modules["ilora_test_mine"]
    with pytest.raises(ValueError, match=r"whose code would run; .* --generator ilora_test_mine:Mine"):
        Predictor(run)
    with pytest.raises(ValueError, match=r"whose code would run; .* --generator ilora_test_mine:Mine"):
        configure(run, {}, resume=True)
    assert "ilora_test_mine" not in sys.modules
    assert Predictor(run, generator="ilora_test_mine:Mine").names == ("normal",)
    assert isinstance(configure(run, {"generator": "ilora_test_mine:Mine"}, resume=True), FitConfig)
