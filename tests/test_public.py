"""The public surface: what ``import ilora`` offers, and that every public name says what it is."""

import ast
import importlib.metadata
import inspect
import re
import tomllib
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

import ilora

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src" / "ilora").rglob("*.py"))
VALUES = ("__version__",)  # public names that are neither modules, classes nor functions

Definition = ast.FunctionDef | ast.ClassDef


def definitions(tree: ast.Module | ast.ClassDef, place: str) -> Iterator[tuple[str, Definition]]:
    """Public functions, classes and their public methods, each with where it stands."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield f"{place}:{node.lineno} {node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from definitions(node, place)


def bare(function: ast.FunctionDef) -> list[str]:
    """Parameters without an annotation, and ``return``."""
    spec = function.args
    every = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs, *filter(None, (spec.vararg, spec.kwarg))]
    missing = [each.arg for each in every if each.annotation is None and each.arg not in ("self", "cls")]
    return missing + ([] if function.returns else ["return"])


def surface() -> list[tuple[str, Definition]]:
    """All public definitions of the package."""
    found = ((str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))) for path in SOURCES)
    return [definition for place, tree in found for definition in definitions(tree, place)]


@pytest.mark.parametrize("name", ilora.__all__)
def test_a_public_name_explains_itself(name: str) -> None:
    value = getattr(ilora, name)
    if name in VALUES:
        return
    words = (inspect.getdoc(value) or "nothing").splitlines()[0]
    assert len(words.split()) > 2 and not words.startswith(f"{name}(")  # a dataclass without one gets its signature
    if isinstance(value, types.FunctionType):
        signature = inspect.signature(value)
        hints = [parameter.annotation for parameter in signature.parameters.values()]
        assert inspect.Parameter.empty not in (*hints, signature.return_annotation)


def test_every_file_says_what_it_is_for() -> None:
    silent = [
        path.name for path in SOURCES if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def test_every_public_definition_has_a_docstring() -> None:
    assert [place for place, node in surface() if not ast.get_docstring(node)] == []


def test_every_public_function_is_annotated_throughout() -> None:
    found = [(place, bare(node)) for place, node in surface() if isinstance(node, ast.FunctionDef)]
    assert [f"{place}: {', '.join(missing)}" for place, missing in found if missing] == []


def test_the_searches_find_what_is_missing() -> None:
    source = 'class A:\n    """Something."""\n    def b(self, c, *, d: int = 0): ...\n    def _e(self): ...\n'
    found = dict(definitions(ast.parse(source), "x.py"))
    assert list(found) == ["x.py:1 A", "x.py:3 b"]
    assert ast.get_docstring(found["x.py:3 b"]) is None
    assert bare(found["x.py:3 b"]) == ["c", "return"]


def test_one_version_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert ilora.__version__ == importlib.metadata.version("ilora") == version
    assert re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1] == version
    assert re.findall(r"^## \[(\d.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0] == version
