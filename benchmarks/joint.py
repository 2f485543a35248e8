"""One adapter for all four intrinsics against four adapters.

    python benchmarks/joint.py --out runs/joint [--quick] [--seeds 3] [--labels 250] [--steps 300] [--print]

Four adapters learn for ``--steps`` updates each. One adapter learns as many, a quarter of the rows for each task
(equal updates per task), and four times as many, as many rows for each task as its own adapter had (equal updates in
total); the latter also with the picture as a fifth task, with the tie of albedo and shading, and with both. All are
judged on the test split. Every fit and every evaluation is kept in ``--out`` and not made again, so the command may be
stopped at any time. At the end, and with ``--print`` at once, it prints the table of what is there and writes
``joint.json``. With few labels (``--labels 25``) the tie sees ten times as many pictures as the labels do.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from ilora import tensors
from ilora.evaluate import EvaluateConfig, evaluate_each
from ilora.evaluation import Evaluation, ranged, ratio_of
from ilora.fit import fit
from ilora.intrinsics import ALL, NAMES
from ilora.ops.statistics import pooled
from ilora.presets import preset
from ilora.run import Run, write_json

QUICK = {"seeds": 1, "steps": 40, "labels": 16, "images": 16}
FOUR = "four adapters"


@dataclass(frozen=True)
class Recipe:
    """One way to learn all four intrinsics."""

    name: str
    folder: str
    times: int  # updates, in those of a single adapter
    apart: bool = False  # an adapter each
    fields: dict[str, float] = field(default_factory=dict)


RECIPES = (
    Recipe(FOUR, "four", 1, apart=True),
    Recipe("one, equal updates per task", "one-short", 1),
    Recipe("one, equal updates in total", "one", 4),
    Recipe("the same + picture, a tenth of the rows", "one-picture", 4, fields={"reconstruction": 0.1}),
    Recipe("the same + tie 0.1", "one-tie", 4, fields={"tie": 0.1}),
    Recipe("the same + both", "one-both", 4, fields={"reconstruction": 0.1, "tie": 0.1}),
)


@dataclass(frozen=True)
class Row:
    """A recipe on one intrinsic, seeds pooled."""

    recipe: str
    intrinsic: str
    metric: str
    error: float
    low: float
    high: float
    ratio: float  # of its error to that of four adapters, with its interval
    ratio_low: float
    ratio_high: float
    seeds: int
    weights: int  # of all adapters of the recipe together
    seconds: float  # of their updates, mean over seeds


def places(recipe: Recipe, out: Path, seed: int) -> dict[str, Path]:
    """Run folders of a recipe by what ``--intrinsic`` is."""
    kinds = NAMES if recipe.apart else (ALL,)
    return {kind: out / f"{recipe.folder}-{kind}-s{seed}" for kind in kinds}


def rows_file(place: Path, kind: str, images: int | None) -> Path:
    """Where the evaluation of one intrinsic of a run on so many images is kept."""
    return place.parent / f"{place.name}-{kind}{'' if images is None else f'-{images}-images'}.json"


def make(recipe: Recipe, seed: int, arguments: argparse.Namespace) -> None:
    """Fit and evaluate, unless that is done."""
    for kind, place in places(recipe, arguments.out, seed).items():
        fields = {"seed": seed, "labels": arguments.labels, "generator": arguments.generator, "intrinsic": kind}
        fit(preset("default", **fields, steps=recipe.times * arguments.steps, **recipe.fields), place, resume=True)
        for name in NAMES if kind == ALL else (kind,):
            file = rows_file(place, name, arguments.images)
            if not file.is_file():
                limits = EvaluateConfig(controls=False, images=arguments.images)
                evaluate_each(place, intrinsics=name, json=file, config=limits)


def evaluations(recipe: Recipe, name: str, arguments: argparse.Namespace) -> dict[int, Evaluation]:
    """Those of one intrinsic that are there, by seed."""
    kind = name if recipe.apart else ALL
    runs = {seed: places(recipe, arguments.out, seed)[kind] for seed in range(arguments.seeds)}
    files = {seed: rows_file(place, name, arguments.images) for seed, place in runs.items()}
    return {seed: Evaluation.read(path) for seed, path in files.items() if path.is_file()}


def cost(recipe: Recipe, arguments: argparse.Namespace) -> tuple[int, float]:
    """Weights of all adapters of a recipe, and the seconds of their updates: the mean over seeds."""
    weights, seconds, done = 0, 0.0, 0
    for seed in range(arguments.seeds):
        runs = [Run(place) for place in places(recipe, arguments.out, seed).values()]
        if all(run.adapter.is_file() for run in runs):
            weights = sum(value.numel() for run in runs for value in tensors.read(run.adapter)[0].values())
            seconds += sum(json.loads(run.log.read_text().splitlines()[-1])["seconds"] for run in runs)
            done += 1
    return weights, seconds / max(done, 1)


def table(arguments: argparse.Namespace) -> list[Row]:
    """A row a recipe and intrinsic, over the seeds that both it and four adapters have."""
    rows = []
    for recipe in RECIPES:
        weights, seconds = cost(recipe, arguments)
        for name in NAMES:
            mine, four = evaluations(recipe, name, arguments), evaluations(RECIPES[0], name, arguments)
            seeds = sorted(mine.keys() & four.keys())
            if not seeds:
                continue
            found, base = [mine[seed] for seed in seeds], [four[seed] for seed in seeds]
            primary = found[0].primary
            mean = pooled(stacked(found), resamples=found[0].resamples, seed=found[0].seed)
            share = ratio_of(found, base)
            rows.append(Row(recipe.name, name, primary, mean.mean, mean.low, mean.high, share.value, share.low,
                            share.high, len(found), weights, seconds))  # fmt: skip
    return rows


def stacked(runs: Sequence[Evaluation]) -> torch.Tensor:
    """Primary errors [s, n] of several seeds."""
    return torch.stack([run.errors["adapter"][run.primary] for run in runs])


def markdown(rows: Sequence[Row]) -> str:
    """The table, a line a recipe."""
    metrics = {row.intrinsic: row.metric.replace("_", " ") for row in rows}
    head = ["", *(f"{name}: {metric} (÷ four)" for name, metric in metrics.items()), "weights", "seconds"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for recipe in dict.fromkeys(row.recipe for row in rows):
        own = {row.intrinsic: row for row in rows if row.recipe == recipe}
        cells = [cell(own[name]) if name in own else "not measured" for name in metrics]
        some = next(iter(own.values()))
        lines.append(f"| {recipe} | {' | '.join(cells)} | {some.weights:,} | {some.seconds:.0f} |")
    return "\n".join(lines)


def cell(row: Row) -> str:
    """Error and interval, and the ratio to four adapters with its own."""
    error = ranged(row.error, row.low, row.high)
    return error if row.recipe == FOUR else f"{error} ({ranged(row.ratio, row.ratio_low, row.ratio_high)})"


def main() -> None:
    """Make what is missing, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of runs and results")
    parser.add_argument("--generator", default="rooms-diffusion")
    parser.add_argument("--seeds", type=int, help="fits of each recipe; default: 3")
    parser.add_argument("--steps", type=int, help="updates of a single adapter; default: 300")
    parser.add_argument("--labels", type=int, help="labelled images; default: 250")
    parser.add_argument("--images", type=int, help="test images; default: all")
    parser.add_argument("--quick", action="store_true", help=f"smaller: {QUICK}")
    parser.add_argument("--print", action="store_true", dest="only_print", help="make nothing")
    arguments = parser.parse_args()
    defaults = QUICK if arguments.quick else {"seeds": 3, "steps": 300, "labels": 250, "images": None}
    for name, value in defaults.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    for seed in range(0 if arguments.only_print else arguments.seeds):
        for recipe in RECIPES:
            make(recipe, seed, arguments)
    rows = table(arguments)
    print(markdown(rows))
    asked = {name: getattr(arguments, name) for name in ("generator", "seeds", "steps", "labels", "images")}
    write_json(arguments.out / "joint.json", {"asked": asked, "rows": [asdict(row) for row in rows]})


if __name__ == "__main__":
    main()
