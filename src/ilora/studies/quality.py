"""Does a better generator know more?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ilora.data import dataset
from ilora.generators import WEIGHTS, embedded, load
from ilora.ops import resample
from ilora.ops.statistics import Correlation, spearman
from ilora.report import Table, number
from ilora.run import read_json, say, write_json
from ilora.studies.answer import COMMON, Answer, Figure, common
from ilora.studies.cells import Cell
from ilora.studies.figures import Curve, Mark, Panel, panels
from ilora.studies.plan import QUICK_STEPS, Ask, Point, contents, look
from ilora.studies.sweep import finished, unit_of
from ilora.zoo.quality import sliced_wasserstein
from ilora.zoo.scene_encoder import VERSION

PAINTED, BATCH = 128, 16  # pictures that quality is measured on, where nobody has measured it
RECIPE = "rooms-nano"  # the ladder that --quick trains, if no checkpoints are given
MEASURES = {"frechet": "Fréchet distance", "kernel": "kernel distance", "sliced_wasserstein": "sliced Wasserstein",
            "bits_per_token": "bits a token"}  # fmt: skip
FEATURES = ("frechet", "kernel")  # those in the features of a scene encoder
POOLED = "all"
FEWEST = 5  # checkpoints that say something: four are in perfect order by chance once in twelve, five once in sixty


class Quality:
    """See ``ilora.studies.answer.Question``."""

    name = "quality"
    of_checkpoints = True
    asks = "Does a better generator know more?"
    shows = (
        "The same fit on checkpoints of one training or of several: distance of a checkpoint's pictures from real ones "
        "against the error of its intrinsics. Rho is Spearman's rank correlation of distance and accuracy (the "
        "negative error); -1 says that every better checkpoint knows more. Its interval is a bootstrap over them."
    )

    def points(self, ask: Ask) -> list[Point]:
        """The default fit of every checkpoint and intrinsic."""
        return [
            Point(one.family, one.label, ask.fit(str(one.path), kind, steps=QUICK_STEPS))
            for one in checkpoints(ask)
            for kind in ask.intrinsics()
        ]

    def answer(self, ask: Ask, cells: Sequence[Cell]) -> Answer:
        """Correlations of every measure of quality with every intrinsic, by family and pooled."""
        ones = {cell.fit.generator: cell for cell in reversed(finished(cells))}
        distances = {generator: quality(cell, ask) for generator, cell in ones.items()}
        families = tuple(dict.fromkeys(cell.series for cell in cells))
        alone = len(families) == 1  # other measures are of a family's own codebook, or of one training's own protocol
        known = [name for name in MEASURES if any(name in row for row in distances.values())]
        found = {
            (kind, measure, family): _correlation(cells, distances, kind=kind, measure=measure, family=family)
            for kind in dict.fromkeys(cell.fit.intrinsic for cell in cells)
            for measure in known
            for family in (*families, *((POOLED,) if alone or measure in FEATURES else ()))
        }
        rows = [
            (cell.fit.intrinsic, cell.series, cell.at,
             *(number(distances.get(cell.fit.generator, {}).get(name, math.nan)) for name in known), *common(cell))
            for cell in cells
        ]  # fmt: skip
        header = ("intrinsic", "family", "checkpoint", *(MEASURES[name] for name in known), *COMMON)
        findings = {f"{kind} {measure} {family}": vars(rho) for (kind, measure, family), rho in found.items()}
        findings = {name: {k: None if v != v else v for k, v in row.items()} for name, row in findings.items()}
        table = Table(header, tuple(rows), "Distances and errors: lower is better.")
        figures = (Figure("", _figure(cells, distances, found, known), "Every mark is a checkpoint."),) if known else ()
        return Answer(_sentence(found), table, figures, findings)


@dataclass(frozen=True)
class Checkpoint:
    """One state of a training, as a generator.

    Attributes:
        path: what ``--generator`` takes.
        family: the training that it belongs to, or its own name.
        label: its place in the training.
    """

    path: str
    family: str
    label: str


def checkpoints(ask: Ask) -> list[Checkpoint]:
    """The checkpoints that were named; the folder of a training stands for its whole ladder, in the mode after its @.

    Raises:
        ValueError: none were named, and this is not the quick study, which trains a ladder itself.
    """
    found = []
    for given in ask.config.checkpoints or (str(_trained(ask)),):
        path, mode = _parted(given)
        ladder = sorted(folder for folder in (path / "ladder").glob("*") if folder.is_dir())
        named = [Checkpoint(f"{rung}{mode}", f"{path.name}{mode}", rung.name) for rung in ladder]
        found += named or [Checkpoint(given, f"{path.parent.name or path.name}{mode}", path.name)]
    return found


def _parted(name: str) -> tuple[Path, str]:
    """Where a generator lies, and its mode with the @ before it."""
    place, at, mode = (name, "", "") if Path(name).exists() else name.partition("@")
    return Path(place), at + mode


def _trained(ask: Ask) -> Path:
    """The folder of the quick study's own ladder, trained if it is not there."""
    place = ask.out / "zoo" / RECIPE
    done = any((place / "ladder").glob("*/model_index.json")) and (place / "generator" / "card.json").is_file()
    if not done and (ask.dry_run or not ask.config.quick):
        raise ValueError(
            "the question of quality needs checkpoints, got none: name generators, or trainings that "
            f"'ilora zoo train {RECIPE} --snapshots --out DIR' left, with --checkpoints; --quick trains {RECIPE} itself"
        )
    if not done:
        from ilora.zoo.make import make

        say(f"training the ladder of {RECIPE} in {place}; about half an hour on two cores, and resumable")
        make(RECIPE, place, resume=True, snapshots=True, device=ask.config.device)
    return place


def quality(cell: Cell, ask: Ask) -> dict[str, float]:
    """Distances of a checkpoint's pictures from real ones.

    Those that the training left beside the rung (``ladder/NAME.json``); else the last rung of the card inside the
    folder; else sliced Wasserstein distance from the labelled pictures, which is measured once.
    """
    name = cell.fit.generator
    path, _ = _parted(name)
    path = WEIGHTS / path if str(path) in embedded() else path
    beside, card = path.with_name(f"{path.name}.json"), path / "card.json"
    if beside.is_file():
        return _numbers(read_json(beside))
    if card.is_file() and (rungs := read_json(card).get("ladder")):
        return _numbers(rungs[-1])
    pictures = contents(cell.fit.data, cell.fit.intrinsic, "train")
    kept = ask.out / "quality" / f"{look(name).fingerprint}-{pictures[:12]}.json"
    if not kept.is_file():
        write_json(kept, measure(name, cell.fit.data, kind=cell.fit.intrinsic, device=ask.config.device))
    return _numbers(read_json(kept))


def _numbers(row: dict[str, Any]) -> dict[str, float]:
    """Distances of a row; those in the features of another scene encoder than today's do not compare."""
    stale = FEATURES if row.get("encoder", VERSION) != VERSION else ()
    return {name: float(row[name]) for name in MEASURES if name not in stale and row.get(name) is not None}


def measure(name: str, data: str, *, kind: str, device: str | None) -> dict[str, float]:
    """Sliced Wasserstein distance between a generator's pictures and the labelled pictures, at its resolution."""
    generator = load(name, device=device or "cpu")
    real = dataset(data, intrinsic=kind, split="train", on_problem="skip")
    side, count = generator.resolution, min(PAINTED, len(real))
    shown = torch.cat([resample.resize(real[place].image[None], side, side) for place in range(count)])
    painted = [generator.sample(range(first, min(first + BATCH, count)))[0] for first in range(0, count, BATCH)]
    return {"sliced_wasserstein": sliced_wasserstein(torch.cat(painted).cpu().clamp(-1, 1), shown)}


def _correlation(
    cells: Sequence[Cell], distances: dict[str, dict[str, float]], *, kind: str, measure: str, family: str
) -> Correlation:
    """Of distance and accuracy over the checkpoints of a family, or over all."""
    group = [cell for cell in finished(cells) if cell.fit.intrinsic == kind and family in (POOLED, cell.series)]
    far = torch.tensor([distances[cell.fit.generator].get(measure, math.nan) for cell in group])
    return spearman(far, torch.tensor([-cell.error().mean for cell in group]))


def _sentence(found: dict[tuple[str, str, str], Correlation]) -> str:
    """The pooled correlations; those of each family where families do not compare."""
    clauses = []
    for (kind, measure, family), rho in found.items():
        if rho.value != rho.value or (family != POOLED and (kind, measure, POOLED) in found):
            continue
        clear = "clear of 0" if max(rho.low, -rho.high) > 0 else "not clear of 0"
        clauses.append(
            f"{kind} and {MEASURES[measure]}{'' if family == POOLED else f' of {family}'}: rho {rho.value:.2f} "
            f"[{rho.low:.2f}, {rho.high:.2f}] over {rho.count} checkpoints, "
            f"{clear if rho.count >= FEWEST else 'too few to say'}."
        )
    return " ".join(clauses) or "Not measured."


def _figure(
    cells: Sequence[Cell],
    distances: dict[str, dict[str, float]],
    found: dict[tuple[str, str, str], Correlation],
    known: Sequence[str],
) -> str:
    """A row an intrinsic, a column a measure of quality, a colour a family."""
    rows = []
    for kind in dict.fromkeys(cell.fit.intrinsic for cell in cells):
        group = [cell for cell in finished(cells) if cell.fit.intrinsic == kind]
        metric = group[0].metric if group else "error"
        row = []
        for name in known:
            curves = []
            for family in dict.fromkeys(cell.series for cell in group):
                marks = [(distances[cell.fit.generator].get(name, math.nan), cell.error()) for cell in group
                         if cell.series == family]  # fmt: skip
                curves.append(Curve(family, tuple(Mark(x, e.mean, e.low, e.high) for x, e in marks if x == x)))
            rho = found.get((kind, name, POOLED))
            title = f"{kind}: rho {rho.value:.2f}" if rho and rho.value == rho.value else kind
            axes = (title, MEASURES[name], f"{metric}{unit_of(metric)}")
            row.append(Panel(*axes, tuple(curves), joined=False))
        rows.append(row)
    return panels(rows)
