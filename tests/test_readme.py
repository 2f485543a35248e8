"""What the pages say is so: marked blocks run, other commands exist, trees and links are right."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import typer

from ilora.cli import app
from ilora.config import FitConfig
from ilora.data import meta
from ilora.presets import PRESETS
from tests import stage, world

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "ilora"
WEIGHTS = PACKAGE / "zoo" / "weights" / "rooms-diffusion"
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
]
FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

Run = Callable[..., int]


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        place: page and line, for messages.
        language: the first word behind the fence.
        marks: the other words: ``run``, ``embedded``, ``file=PATH``.
        code: between the fences.
    """

    place: str
    language: str
    marks: tuple[str, ...]
    code: str

    @property
    def file(self) -> str | None:
        """Path of the file that the block is or changes."""
        return next((mark.removeprefix("file=") for mark in self.marks if mark.startswith("file=")), None)

    @property
    def commands(self) -> list[list[str]]:
        """Words of each ``ilora`` command; every command of a shell block that is run is one."""
        lines = self.code.replace("\\\n", " ").splitlines() if self.language == "sh" else []
        commands = [shlex.split(line, comments=True) for line in lines]
        return [words for words in commands if words and ("run" in self.marks or words[0] == "ilora")]


def text(page: str) -> str:
    """A page as it stands."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    source = text(page)
    return [
        Block(f"{page}:{source.count(chr(10), 0, found.start()) + 1}", found[1], tuple(found[2].split()), found[3])
        for found in FENCE.finditer(source)
    ]


def runnable(page: str, *, embedded: bool) -> list[Block]:
    """The blocks of a page that are marked to run, with or without the embedded generator."""
    return [block for block in blocks(page) if "run" in block.marks and ("embedded" in block.marks) == embedded]


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Do one job on the stage (``tests/stage.py``), without a network, on one thread; its exit code."""
    quiet = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": quiet}
    with subprocess.Popen([sys.executable, stage.__file__], **pipes) as process:

        def one(**job: object) -> int:
            process.stdin.write(f"{json.dumps(job)}\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield one
        process.stdin.close()


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of somebody who follows a page: labels in ``my-data``, pictures in ``photos``."""
    folder = tmp_path / "reader"
    world.write(folder / "my-data", train=6, test=3)
    (folder / "photos").mkdir()
    for name, number in (("kitchen", 0), ("hall", 1)):
        shutil.copy(folder / f"my-data/images/test{number}.png", folder / f"photos/{name}.png")
    return folder


def follow(page: str, chosen: list[Block], *, folder: Path, run: Run) -> None:
    """Do what the blocks say, one after the other; fails with what the first one that fails said."""
    place = {"folder": str(folder), "package": str(edited(page, folder).parent), "told": str(folder / "told.txt")}
    for block in chosen:
        code = {"place": block.place, "code": block.code}
        jobs = [{"words": words} for words in block.commands] if block.language == "sh" else [code]
        for job in jobs:
            status = run(**place, **job)
            assert status == 0, f"{block.place} {job.get('words', '')}\n{(folder / 'told.txt').read_text()}"


def edited(page: str, folder: Path) -> Path:
    """The package, or a copy of its code in which the files of a page were written and its changes made."""
    changes = [block for block in blocks(page) if block.file]
    if not changes:
        return PACKAGE
    copy = folder / "src" / "ilora"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "*.npz", "weights"))
    for block in changes:
        path = folder / block.file
        path.write_text(block.code if block.language == "python" else patched(path.read_text(), block))
    return copy


def patched(source: str, block: Block) -> str:
    """A file after a block of lines that stay (blank in front), go (-) and come (+); they must be there once."""
    lines = block.code.splitlines()
    before, after = ("\n".join(line[1:] for line in lines if line[0] != sign) for sign in "+-")
    assert source.count(before) == 1, f"{block.place}: expected once in {block.file}:\n{before}"
    return source.replace(before, after)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the stage forks, which this system cannot")
@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page, embedded=False)])
def test_the_blocks_of_a_page_run(page: str, reader: Path, run: Run) -> None:
    follow(page, runnable(page, embedded=False), folder=reader, run=run)


@pytest.mark.skipif(not (WEIGHTS / "model_index.json").is_file(), reason="the weights of rooms-diffusion are absent")
@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page, embedded=True)])
def test_the_blocks_with_the_embedded_generator_run(page: str, reader: Path, run: Run) -> None:
    follow(page, runnable(page, embedded=True), folder=reader, run=run)


def test_a_command_that_fails_and_code_that_fails_are_noticed(tmp_path: Path, run: Run) -> None:
    place = {"folder": str(tmp_path), "package": str(PACKAGE.parent), "told": str(tmp_path / "told.txt")}
    assert run(**place, words=["ilora", "fit", "--data", "nowhere", "--generator", "toy", "--out", "r"]) == 2
    assert run(**place, code="assert 1 == 2", place="here") == 1
    assert run(**place, code="assert 1 == 1", place="here") == 0
    told = (tmp_path / "told.txt").read_text()
    assert "must exist, got nowhere" in told and "AssertionError" in told


def test_the_command_that_is_written_is_the_command_that_is_installed() -> None:
    """The stage runs ``python -m ilora`` for ``ilora``; both are ``ilora.cli:main``."""
    assert 'ilora = "ilora.cli:main"' in text("pyproject.toml")
    assert "from ilora.cli import main" in (PACKAGE / "__main__.py").read_text()


COMMANDS = [(block.place, words) for page in PAGES for block in blocks(page) for words in block.commands]


@pytest.mark.parametrize(("place", "words"), COMMANDS, ids=[f"{place} {' '.join(words)}" for place, words in COMMANDS])
def test_every_command_and_its_options_exist(place: str, words: list[str]) -> None:
    command = typer.main.get_command(app)
    rest = iter(words[1:])
    while hasattr(command, "commands"):
        name = next(rest)
        assert name in command.commands, f"{place}: no command {name!r}"
        command = command.commands[name]
    used = {word for word in rest if word.startswith("--")}
    options = {name: each.required for each in command.params for name in [*each.opts, *each.secondary_opts]}
    assert used <= options.keys(), place
    assert {name for name, required in options.items() if required and name.startswith("--")} <= used, place


def test_every_script_and_its_options_exist() -> None:
    shell = "\n".join(block.code for page in PAGES for block in blocks(page) if block.language == "sh")
    scripts = re.findall(r"^python (\S+\.py)([^#\n]*)", shell, re.MULTILINE)
    assert scripts
    for script, words in scripts:
        source = text(script)
        assert [option for option in re.findall(r"--\w+", words) if f'"{option}"' not in source] == [], script


def test_make_targets_and_pip_commands_are_those_of_the_makefile() -> None:
    makefile = text("Makefile")
    shell = "\n".join(block.code for page in PAGES for block in blocks(page) if block.language == "sh")
    for target in re.findall(r"^make (\w+)", shell, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    installs = re.findall(r"pip install (-c .*?'\S+')", shell)
    assert installs and all(f"pip install --quiet {words}" in makefile for words in installs)


def test_the_tree_names_what_is_there() -> None:
    tree = next(block.code for block in blocks("README.md") if block.code.startswith("src/ilora/"))
    named = re.findall(r"^  (\w+(?:\.py|/))  ", tree, re.MULTILINE)
    there = [entry for entry in PACKAGE.iterdir() if entry.suffix == ".py" or (entry / "__init__.py").is_file()]
    assert sorted(named) == sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in there)
    assert all((ROOT / name).is_dir() for name in re.findall(r"^(\w+)/ ", tree, re.MULTILINE))


def test_contributing_draws_the_layers_that_the_test_holds() -> None:
    from tests.test_layers import LAYERS

    drawn = next(block.code for block in blocks("CONTRIBUTING.md") if block.code.startswith("cli "))
    layers = [set(layer) - {"__main__"} for layer in LAYERS]
    assert [set(line.split()) for line in drawn.splitlines()] == layers


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", text(page)):
        file = (ROOT / page).parent / target if target else ROOT / page
        assert file.exists(), f"{page}: no {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, anchor


@pytest.mark.parametrize("page", PAGES)
def test_blocks_to_fill_in_begin_and_end(page: str) -> None:
    marks = re.findall(r"^<!-- ([\w-]+):(begin|end) -->$", text(page), re.MULTILINE)
    names = [name for name, side in marks if side == "begin"]
    assert marks == [(name, side) for name in names for side in ("begin", "end")]
    assert len(set(names)) == len(names)


def test_every_field_of_a_fit_and_every_preset_is_explained() -> None:
    page = text("docs/method.md")
    rows = " ".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| `"))
    assert {name for name in FitConfig.__dataclass_fields__ if f"`{name}`" not in rows} == set()
    assert [name for name in PRESETS if f"`{name}`" not in page] == []


def test_every_key_of_meta_toml_is_explained(tmp_path: Path) -> None:
    page = text("docs/your-own-data.md")
    rows = [line.split("|")[1:3] for line in page.splitlines() if line.startswith("| ") and "`" in line]
    explained = {table: set() for table in meta.TABLES}
    for tables, keys in rows:
        chosen = re.findall(r"`\[(\w+)\]`", tables) or meta.MAPS
        for table in chosen:
            explained[table] |= set(re.findall(r"`(\w+)`", keys))
    assert explained == {table: set(kind.__dataclass_fields__) for table, kind in meta.TABLES.items()}
    example = next(block.code for block in blocks("docs/your-own-data.md") if block.language == "toml")
    (tmp_path / meta.FILE).write_text(example)
    assert meta.read(tmp_path).tables["split"].of("room-31") == "test"
    assert torch.tensor(meta.read(tmp_path).tables["depths"].not_measured(1)).isnan().any()
