"""Real input: fit on folders of real and film pictures, test on other scenes, then predict on every photograph.

    python benchmarks/real.py --source ../shared/real --out runs/real [--steps 300] [--controls]

Depth and normals are learned on a filmed room or on pictures of transparent objects and tested on the later frames and
on the other folders; albedo and shading are learned on two frames of a film and tested on two others, both ways. Beside
each stand the mean of its training maps and the picture taken for the map. Then all four paint the photographs, some of
which are damaged beyond reading. What is finished is not made again. Everything goes to ``--out``/real.json, and the
table in Markdown to the terminal.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import real_folders

from ilora.evaluate import EvaluateConfig, evaluate
from ilora.evaluation import OURS, Evaluation, ranged
from ilora.fit import fit
from ilora.predict import Predictor, predict
from ilora.presets import preset
from ilora.run import say, write_json

PHOTOS = ("photos", "diode_rgb_only", "hostile_images")
METHODS = {OURS: "adapter", "mean_map": "mean training map", "identity": "picture as map", "codec_ceiling": "ceiling"}


@dataclass(frozen=True)
class Task:
    """One fit and the sets that it is tested on.

    Attributes:
        intrinsic: what is learned.
        learned: folder whose training split is learned from.
        tested: folder and split of each test.
    """

    intrinsic: str
    learned: str
    tested: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """Of its run folder."""
        return f"{self.intrinsic}-{self.learned}"


TASKS = (
    Task("depth", "icl_livingroom", (("icl_livingroom", "test"), ("cleargrasp", "all"), ("motorcycle", "all"))),
    Task("depth", "cleargrasp", (("cleargrasp", "test"), ("icl_livingroom", "all"), ("motorcycle", "all"))),
    Task("normal", "cleargrasp", (("cleargrasp", "test"), ("icl_livingroom", "all"))),
    Task("normal", "icl_livingroom", (("icl_livingroom", "test"), ("cleargrasp", "all"))),
    Task("albedo", "sintel", (("sintel", "test"),)),
    Task("albedo", "sintel_reversed", (("sintel_reversed", "test"),)),
    Task("shading", "sintel", (("sintel", "test"),)),
    Task("shading", "sintel_reversed", (("sintel_reversed", "test"),)),
)
PHOTOGRAPHERS = ("depth-icl_livingroom", "normal-icl_livingroom", "albedo-sintel", "shading-sintel")


def rows_file(out: Path, task: Task, name: str, split: str, *, controls: bool) -> Path:
    """Where the numbers of one fit on one test set are kept."""
    return out / "rows" / f"{task.name}-on-{name}-{split}{'-controls' if controls else ''}.json"


def learn(
    task: Task, folders: dict[str, Path], out: Path, *, steps: int, controls: bool
) -> tuple[Path, dict[tuple[str, str], Evaluation]]:
    """Fit one task and measure it on each of its test sets; the run and the numbers."""
    plan = preset("default", intrinsic=task.intrinsic, data=str(folders[task.learned]), steps=steps)
    run = fit(plan, out / "runs" / task.name, resume=True, on_problem="skip")
    config, found = EvaluateConfig(controls=controls, on_problem="skip"), {}
    for name, split in task.tested:
        place = rows_file(out, task, name, split, controls=controls)
        if not place.is_file():
            html = place.with_suffix(".html")
            evaluate(run, str(folders[name]), split=split, json=place, html=html, config=config)
        found[name, split] = Evaluation.read(place)
    return run, found


def line(task: Task, name: str, split: str, evaluation: Evaluation) -> str:
    """A row of the table in Markdown."""
    cells = [f"{task.intrinsic}, {evaluation.primary.replace('_', ' ')}", task.learned, f"{name} ({split})"]
    cells.append(str(len(evaluation.names)))
    for method in METHODS:
        mean = evaluation.summary(method)
        cells.append(ranged(mean.mean, mean.low, mean.high))
    return f"| {' | '.join(cells)} |"


def main(words: Sequence[str] | None = None) -> None:
    """Run it all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=Path("../shared/real"), help="folder of real pictures")
    parser.add_argument("--out", type=Path, default=Path("runs/real"), help="folder for runs, pages and maps")
    parser.add_argument("--steps", type=int, default=300, help="updates of each fit")
    parser.add_argument("--controls", action="store_true", help="also fit on random weights")
    given = parser.parse_args(words)
    if not given.source.is_dir():
        parser.error(f"--source must be the folder of real pictures, got {given.source}, which does not exist")
    folders = real_folders.arrange(given.source, given.out / "data")
    angles = real_folders.axes(folders["cleargrasp"])
    heads = ["intrinsic", "learned on", "tested on", "images", *METHODS.values()]
    lines, runs, results = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"], {}, []
    for task in TASKS:
        runs[task.name], found = learn(task, folders, given.out, steps=given.steps, controls=given.controls)
        for (name, split), evaluation in found.items():
            lines.append(line(task, name, split, evaluation))
            means = {method: asdict(evaluation.summary(method)) for method in evaluation.errors}
            results.append({"task": asdict(task), "tested": [name, split], "methods": means})
        say("\n".join(lines))
    photos = [given.source / name for name in PHOTOS]
    predictor = Predictor([runs[name] for name in PHOTOGRAPHERS])
    maps = predict(photos, predictor, given.out / "maps", formats=("npy", "preview"), resume=True)
    counts = {
        "predicted": len(maps.files) + len(maps.skipped),
        "failed": sorted(Path(word).name for word in maps.failed),
    }
    print("\n".join(lines))
    print(f"{counts['predicted']} pictures predicted, {len(counts['failed'])} could not be read: {maps.sheet}")
    for name, angle in angles.items():
        print(f"{name}: measured normals {angle:.2f} deg (median) from those of the same frame's depth")
    write_json(given.out / "real.json", {"steps": given.steps, "axes": angles, "results": results, "photos": counts})


if __name__ == "__main__":
    main()
