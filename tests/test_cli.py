"""The command line: every command of it runs, and what the user can mend is one line."""

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open

from ilora.cli import main
from tests import world
from tests.data.benchmarks import test_sintel

COMMANDS = (
    "demo",
    "fit",
    "predict",
    "evaluate",
    "compare",
    "study",
    "protocols",
    "sample",
    "label",
    "export",
    "convert",
    "check-generator",
    "zoo",
    "scenes",
    "data",
)
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ilora(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command in this process: exit code, what it printed, what it told on stderr."""
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # main sets its own

    def command(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ilora", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        return (ended.value.code or 0, *capsys.readouterr())

    return command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.write(tmp_path_factory.mktemp("world"), train=3, test=2)


def test_help_names_every_command(ilora: Command) -> None:
    code, told, _ = ilora("--help")
    assert code == 0
    assert all(f" {command} " in told for command in COMMANDS)
    for words in (["list"], ["show"], ["train"], ["encoder"]):
        assert ilora("zoo", *words, "--help")[0] == 0
    assert ilora("scenes", "render", "--help")[0] == 0
    for words in (["list"], ["check"], ["stats"]):
        assert ilora("data", *words, "--help")[0] == 0


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("zoo", "scenes", "data")])
def test_every_command_has_help(ilora: Command, command: str) -> None:
    code, told, _ = ilora(command, "--help")
    assert code == 0
    assert f"ilora {command}" in told


def test_the_words_of_a_fit_to_its_adapter_in_another_tool(ilora: Command, folder: Path, tmp_path: Path) -> None:
    run, rows = tmp_path / "run", tmp_path / "rows.json"
    words = ["--generator", "toy", "--data", folder, "--intrinsic", "depth", "--rank", 2, "--labels", 3, "--seed", 1]
    code, _, told = ilora("fit", *words, "--preset", "paper", "--set", "batch=2", "--steps", 4, "--out", run)
    assert (code, "2,048 of 101,488 weights move (2.02 %)" in told) == (0, True)
    config = json.loads((run / "config.json").read_text())
    assert (config["rank"], config["labels"], config["seed"], config["lr"]) == (2, 3, 1, 1e-4)

    assert ilora("fit", "--resume", "--out", run)[0] == 0
    code, _, told = ilora("fit", "--resume", "--rank", 8, "--out", run)
    assert (code, "was begun with rank = 2, got 8" in told) == (2, True)

    code, told, _ = ilora("evaluate", "--adapter", run, "--data", folder, "--json", rows, "--no-controls")
    assert (code, "mean training map" in told) == (0, True)
    assert {"mean", "low", "high"} <= json.loads(rows.read_text())["metrics"]["abs_rel"].keys()
    assert ilora("compare", rows)[0] == 0
    other = tmp_path / "other.json"
    words = ["--adapter", run, "--data", folder, "--protocol", "median", "--json", other, "--no-controls"]
    code, told, _ = ilora("evaluate", *words)
    assert (code, "protocol median" in told, "median expects depth, known up to scale" in told) == (0, True, True)
    code, _, told = ilora("compare", rows, other)
    assert (code, "got median and rooms" in told) == (2, True)

    photo = folder / "images" / "test1.png"
    code, told, _ = ilora("predict", photo, tmp_path / "absent.png", "--adapter", run, "--out", tmp_path / "maps")
    assert (code, "1 predicted, 0 left out, 1 failed" in told) == (1, True)
    assert (tmp_path / "maps" / "test1.depth.npy").is_file()

    code, told, _ = ilora("export", run, "--to", "peft", "--out", tmp_path / "peft")
    with safe_open(told.strip(), "pt") as file:
        assert (code, len(list(file.keys()))) == (0, 16)  # A and B of 4 projections in 2 blocks


def test_protocols_are_listed_and_told(ilora: Command) -> None:
    code, told, _ = ilora("protocols")
    assert code == 0 and {"rooms", "marigold-nyu", "dsine-nyu"} <= {line.split()[0] for line in told.splitlines()}
    code, told, _ = ilora("protocols", "dsine-nyu")
    assert code == 0 and "pooled over the pixels of all images" in told and "marigold" not in told
    code, _, told = ilora("protocols", "dsine")
    assert (code, "did you mean 'dsine-nyu'?" in told) == (2, True)


def test_check_generator(ilora: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, told, _ = ilora("check-generator", "toy", "--intrinsic", "depth")
    assert (code, told.count("\n"), told.splitlines()[-1]) == (0, 14, "toy keeps the contract")
    (tmp_path / "ilora_cli_mine.py").write_text("class Mine:\n    def __init__(self, device, dtype, readout): ...\n")
    code, told, _ = ilora("check-generator", "ilora_cli_mine:Mine")
    assert (code, "expected the whole protocol, got no name, fingerprint" in told) == (1, True)
    assert told.splitlines()[-1] == "ilora_cli_mine:Mine breaks the contract (1 found)"
    assert ilora("check-generator", "ilora_cli_absent:Mine")[0] == 2


def test_sample(ilora: Command, tmp_path: Path) -> None:
    code, told, _ = ilora("sample", "--generator", "toy", "--count", 2, "--prompt", "a room", "--out", tmp_path)
    assert (code, told.strip()) == (0, str(tmp_path / "sheet.png"))
    assert sorted(path.name for path in tmp_path.glob("0*.png")) == ["00000.png", "00001.png"]


def test_label(ilora: Command, folder: Path, tmp_path: Path) -> None:
    words = ["--teacher", "tests.toy_teachers:Device", "--device", "cpu", "--out"]
    code, told, errors = ilora("label", folder / "images", folder / "absent.png", *words, tmp_path / "photos")
    assert (code, told.strip()) == (1, f"5 labelled, 0 there already, 1 failed: {tmp_path / 'photos'}")
    assert "absent.png: no such file" in errors
    code, told, _ = ilora("label", "--generator", "toy", "--count", 2, *words, tmp_path / "drawn")
    assert (code, told.startswith("2 labelled")) == (0, True)
    code, _, errors = ilora("label", *words, tmp_path / "none")
    assert (code, "expected photos or --generator, got neither" in errors) == (2, True)


def test_a_published_data_set_from_its_check_to_a_table(ilora: Command, tmp_path: Path) -> None:
    place = tmp_path / "films"
    for name in ("alley_1", "bamboo_1", "cave_2", "alley_2"):
        test_sintel.write(place, name)
    assert "shading" in ilora("data", "list")[1] and "sky" in ilora("data", "list", "sintel")[1]

    code, told, _ = ilora("data", "check", "sintel", place)
    assert (code, "depth, train: 3 of 3 examples are whole" in told) == (0, True)
    code, told, _ = ilora("data", "stats", f"sintel:{place}", "--split", "test", "--out", tmp_path / "sheet.png")
    assert (code, "depth: all 1 examples, 80 x 48 px" in told, (tmp_path / "sheet.png").is_file()) == (0, True, True)

    data, run = f"sintel:{place}", tmp_path / "run"
    words = ["--generator", "toy", "--data", data, "--intrinsic", "depth", "--preset", "paper", "--steps", 1]
    assert ilora("fit", *words, "--set", "batch=2", "--out", run)[0] == 0
    code, told, _ = ilora("evaluate", "--adapter", run, "--data", data, "--no-controls")
    assert (code, "mean training map" in told) == (0, True)

    (place / "training/depth/alley_1/frame_0001.dpt").unlink()
    code, told, _ = ilora("data", "check", "sintel", place, "--intrinsic", "depth", "--split", "train")
    assert (code, "  training/depth/alley_1/frame_0001.dpt: the depth of" in told) == (1, True)
    code, _, told = ilora("fit", *words, "--out", tmp_path / "other", "--dry-run")
    assert (code, "1 of the 3 examples" in told) == (2, True)
    with pytest.warns(UserWarning, match="are left out"):
        assert ilora("fit", *words, "--out", tmp_path / "other", "--dry-run", "--on-problem", "skip")[0] == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["fit", "--preset", "fast"], "expected a preset among paper, default, augmented, got 'fast'"),
        (["fit", "--set", "lrr=1"], "FitConfig has no option 'lrr'; did you mean 'lr'?"),
        (["fit", "--set", "lr"], "expected NAME=VALUE, got 'lr'"),
        (["fit", "--resume"], "expected a run to go on with, got no config.json"),
        (["fit", "--rank", "0"], "rank must be in [1, 4096], got 0"),
        (["fit", "--intrinsic", "normals"], "did you mean 'normal'?"),
        (["fit", "--data", "nowhere/photos"], "nowhere/photos"),
        (["sample", "--generator", "nosuch"], "no generator 'nosuch'"),
        (["label", "nowhere", "--teacher", "zoedpeth"], "no teacher 'zoedpeth'"),
        (["export", "nowhere", "--to", "peft"], "no adapter at nowhere"),
    ],
)
def test_a_mistake_is_one_line(ilora: Command, tmp_path: Path, words: list[str], told: str) -> None:
    code, _, error = ilora(*words, "--out", tmp_path / "out")
    assert code == 2
    assert error.startswith("ilora: ")
    assert told in error
    assert error.count("\n") == 1


def test_an_unknown_word_is_a_usage_error(ilora: Command) -> None:
    assert ilora("fitt")[0] == 2
    assert ilora("fit", "--out", "x", "--rank", "many")[0] == 2


def test_a_traceback_can_be_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ILORA_DEBUG", "1")
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setattr(sys, "argv", ["ilora", "fit", "--preset", "fast", "--out", str(tmp_path / "out")])
    with pytest.raises(ValueError, match="expected a preset"):
        main()
