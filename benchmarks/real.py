"""Real input: fit and evaluate on folders of real and film pictures, then predict on every photograph there is.

    python benchmarks/real.py --source ../shared/real --out runs/real [--steps 300] [--controls]

Depth on a filmed room, normals on pictures of transparent objects, albedo and shading on frames of a film, each beside
the mean of its training maps and the picture taken for the map; then all four on the photographs, of which eight are
damaged beyond reading. Finished fits are not made again. The results go to ``--out``/real.json.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import real_folders

from ilora.evaluate import EvaluateConfig, evaluate, show
from ilora.evaluation import Evaluation
from ilora.fit import fit
from ilora.predict import Predictor, predict
from ilora.presets import preset
from ilora.run import say, write_json

TASKS = {  # intrinsic: the folder that it is learned and measured on
    "depth": real_folders.icl_livingroom,
    "normal": real_folders.cleargrasp,
    "albedo": real_folders.sintel,
    "shading": real_folders.sintel,
}
PHOTOS = ("photos", "diode_rgb_only", "hostile_images")


def learn(name: str, source: Path, out: Path, *, steps: int, controls: bool) -> tuple[Path, Evaluation]:
    """Fit one intrinsic on its folder and measure it on the folder's test split; the run and the numbers."""
    data = TASKS[name](source, out / "data" / TASKS[name].__name__)
    plan = preset("default", intrinsic=name, data=str(data), steps=steps)
    run = fit(plan, out / "runs" / name, resume=True, on_problem="skip")
    config = EvaluateConfig(controls=controls, on_problem="skip")
    evaluation = evaluate(run, str(data), json=out / f"{name}.json", html=out / f"{name}.html", config=config)
    return run, evaluation


def row(evaluation: Evaluation) -> dict[str, Any]:
    """The primary error of every method, over the test images."""
    means = {method: asdict(evaluation.summary(method)) for method in evaluation.errors}
    return {"metric": evaluation.primary, "images": len(evaluation.names), "methods": means}


def main(words: Sequence[str] | None = None) -> None:
    """Run it all and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=Path("../shared/real"), help="folder of real pictures")
    parser.add_argument("--out", type=Path, default=Path("runs/real"), help="folder for runs, pages and maps")
    parser.add_argument("--steps", type=int, default=300, help="updates of each fit")
    parser.add_argument("--controls", action="store_true", help="also fit on random weights")
    given = parser.parse_args(words)
    if not given.source.is_dir():
        parser.error(f"--source must be the folder of real pictures, got {given.source}, which does not exist")
    runs, results = [], {}
    for name in TASKS:
        run, evaluation = learn(name, given.source, given.out, steps=given.steps, controls=given.controls)
        show(evaluation)
        runs.append(run)
        results[name] = row(evaluation)
    predictions = predict(
        [given.source / name for name in PHOTOS], Predictor(runs), given.out / "maps", formats=("npy", "preview")
    )
    say(
        f"{len(predictions.files)} pictures predicted, {len(predictions.failed)} could not be read: {predictions.sheet}"
    )
    counts = {"predicted": len(predictions.files), "failed": sorted(Path(word).name for word in predictions.failed)}
    write_json(given.out / "real.json", {"steps": given.steps, "results": results, "photos": counts})


if __name__ == "__main__":
    main()
