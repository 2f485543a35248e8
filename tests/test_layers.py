"""The plan of the package, read off its source: who may import whom, and what nobody else may know by name."""

import ast
import graphlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src" / "ilora"

# An import may only point down this list, or stay on its line.
LAYERS = (
    ("__main__", "cli", "commands"),
    ("demo", "zoo", "studies"),
    (
        "fit",
        "plan",
        "codes",
        "lessons",
        "tie",
        "validation",
        "predict",
        "predictor",
        "sample",
        "evaluate",
        "evaluation",
        "comparison",
        "showcase",
        "label",
        "labelling",
        "teacher",
        "scale",
    ),
    ("run", "team", "cluster", "report", "tables", "protocols"),
    ("generators", "intrinsics", "adapters", "data"),
    ("images", "tensors", "checks", "config", "presets"),
    ("records", "ops"),
)
RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}
OPTIONAL = ("OpenEXR", "diffusers", "drjit", "gradio", "h5py", "huggingface_hub", "matplotlib", "mitsuba", "pyoidn",
            "pandas", "pyarrow", "ray", "scipy")  # fmt: skip
HEAVY = (*OPTIONAL, "accelerate", "peft", "safetensors", "tokenizers", "torch", "transformers")


@dataclass(frozen=True)
class Import:
    """One imported module.

    Attributes:
        module: dotted name; of a ``from`` import the module that is meant, not the name taken from it.
        late: inside a function, or for type checkers only.
        line: in the file that imports it.
    """

    module: str
    late: bool
    line: int


@cache
def trees() -> dict[str, ast.Module]:
    """The parsed modules of the package by dotted name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = ("ilora", *path.relative_to(ROOT).with_suffix("").parts)
        found[".".join(parts).removesuffix(".__init__")] = ast.parse(path.read_text(encoding="utf-8"))
    return found


@cache
def imports(module: str) -> tuple[Import, ...]:
    """Every import of a module, wherever in it."""
    return tuple(_imports(trees()[module], late=False))


def _imports(node: ast.AST, *, late: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(name.name, late, child.lineno) for name in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"absolute imports only, got a relative one in line {child.lineno}"
            inner = [f"{child.module}.{name.name}" for name in child.names]
            yield from (Import(name if name in trees() else child.module, late, child.lineno) for name in inner)
        else:
            later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or _for_checkers(child)
            yield from _imports(child, late=late or later)


def _for_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def part(module: str) -> str:
    """The file or folder directly in the package that a module belongs to."""
    return module.split(".")[1]


def inside(module: str) -> list[str]:
    """The modules of a package, itself left out."""
    return [name for name in trees() if name.startswith(f"{module}.")]


def families() -> set[str]:
    """The files of ``generators/`` that define a family, which is what has a ``load`` of its own."""
    found = inside("ilora.generators")
    return {name for name in found if any(getattr(node, "name", "") == "load" for node in trees()[name].body)}


def kinds() -> set[str]:
    """The files of ``intrinsics/`` that define one."""
    return set(inside("ilora.intrinsics")) - {"ilora.intrinsics.base"}


def registered(module: str, table: str) -> dict[str, str]:
    """A dictionary of words that a module assigns to the name ``table``."""
    for node in trees()[module].body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == table:
            return ast.literal_eval(node.value)
    raise KeyError(table)


def test_the_parser_sees_late_and_early_imports() -> None:
    source = "import torch\nfrom ilora import checks\ndef f():\n    import peft\nclass A:\n    import numpy\n"
    seen = [(found.module, found.late, found.line) for found in _imports(ast.parse(source), late=False)]
    assert seen == [("torch", False, 1), ("ilora.checks", False, 2), ("peft", True, 4), ("numpy", False, 6)]


def test_every_part_stands_on_one_layer() -> None:
    parts = {part(module) for module in trees() if module != "ilora"}
    assert sorted(parts - RANK.keys()) == []
    assert len(RANK) == sum(map(len, LAYERS))


def test_imports_only_point_down() -> None:
    assert upward(module for module in trees() if module != "ilora") == []


def upward(modules: Iterable[str]) -> list[str]:
    """Imports that point to a layer further up."""
    return [
        f"{module}:{found.line} imports {found.module}"
        for module in modules
        for found in imports(module)
        if found.module.startswith("ilora.") and RANK[part(found.module)] < RANK[part(module)]
    ]


def test_an_import_that_points_up_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RANK, "images", 0)
    assert any(
        line.startswith("ilora.run:") and line.endswith("imports ilora.images") for line in upward(["ilora.run"])
    )


def test_no_module_imports_itself_through_others() -> None:
    early = {
        module: {found.module for found in imports(module) if found.module in trees() and not found.late}
        for module in trees()
    }
    order = list(graphlib.TopologicalSorter(early).static_order())  # raises CycleError, which names the circle
    assert len(order) == len(trees())


def test_the_package_itself_imports_nothing_heavy() -> None:
    for module in ("ilora", "ilora.cli", "ilora.config", "ilora.zoo.cards"):
        assert [found for found in imports(module) if not found.late and found.module.split(".")[0] in HEAVY] == []


def test_ops_import_torch_and_each_other_only() -> None:
    known = {"jaxtyping", "torch", "math", "dataclasses", "collections", "functools", "typing", "ilora"}
    for module in inside("ilora.ops"):
        assert {found.module.split(".")[0] for found in imports(module)} <= known, module
        assert all(found.module.startswith("ilora.ops.") for found in imports(module) if "ilora" in found.module)


def test_families_and_intrinsics_are_reached_by_name_only() -> None:
    """So that ``fit``, ``predict`` and ``evaluate`` know none of them, and no family knows another."""
    assert {"ilora.generators.toy", "ilora.generators.latent_diffusion"} <= families()
    apart = families() | kinds()
    wrong = [f"{module} imports {found.module}" for module in trees() for found in imports(module)
             if found.module in apart]  # fmt: skip
    assert wrong == []


def test_every_family_and_every_intrinsic_is_in_its_registry() -> None:
    loaded = set(registered("ilora.generators", "FAMILIES").values()) | {"latent_diffusion"}
    assert {f"ilora.generators.{name}" for name in loaded} == families()
    assert {f"ilora.intrinsics.{name}" for name in registered("ilora.intrinsics", "_CLASSES")} == kinds()


def test_no_branch_asks_for_the_name_of_a_family_or_an_intrinsic() -> None:
    own = {name: f"ilora.intrinsics.{name}" for name in registered("ilora.intrinsics", "_CLASSES")}
    own |= {name: f"ilora.generators.{file}" for name, file in registered("ilora.generators", "FAMILIES").items()}
    own |= {"latent_diffusion": "ilora.generators.latent_diffusion", "rooms-diffusion": "", "rooms-nano": ""}
    wrong = [
        f"{module}:{line} asks for {word!r}"
        for module, tree in trees().items()
        for line, word in compared(tree)
        if word in own and own[word] != module
    ]
    assert wrong == []


def compared(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and word of every comparison with a literal word, or with a literal collection that holds it."""
    for node in ast.walk(tree):
        sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        sides += [node.value] if isinstance(node, ast.MatchValue) else []
        for side in sides:
            for literal in side.elts if isinstance(side, ast.Tuple | ast.List | ast.Set) else [side]:
                if isinstance(literal, ast.Constant) and isinstance(literal.value, str):
                    yield node.lineno, literal.value


def test_the_search_for_branches_finds_them() -> None:
    source = "if name == 'depth':\n    pass\nmatch kind:\n    case 'normal':\n        pass\nx = y in ('toy', z)\n"
    assert sorted(compared(ast.parse(source))) == [(1, "depth"), (4, "normal"), (6, "toy")]


def test_optional_libraries_are_imported_late() -> None:
    """At the top of a file only in the path tracer's, which are themselves imported late."""
    tracer = {f"ilora.data.scenes.{name}" for name in ("world", "tracing", "rendering")}
    wrong = []
    for module in trees():
        for found in imports(module):
            optional = found.module.split(".")[0] in OPTIONAL or found.module in tracer
            if optional and not found.late and module not in tracer:
                wrong.append(f"{module}:{found.line} imports {found.module}")
    assert wrong == []
