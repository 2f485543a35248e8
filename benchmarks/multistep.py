"""Several passes against one: errors of both fits on rooms, and whether the uncertainty of an ensemble knows the error.

    python benchmarks/multistep.py --out runs/multistep [--intrinsics normal depth] [--seeds 1] [--ensemble 8]

Both fits of a pair are made from presets on the same labels; finished ones are kept in ``--out`` and not made again.
For each intrinsic it prints the mean primary error of the single pass, of one sample and of the ensemble's mean; the
ratio of each of the last two to the first, paired by image; and Spearman's rank correlation of uncertainty with error
over the valid pixels, the mean of the images'. They are written to ``multistep.json``, too. What is asked of them: the
ratio at most 1.10, the correlation at least 0.3. A smoke run takes
``--steps 3 --labels 8 --images 2 --passes 2 --ensemble 2``.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ilora.data import dataset
from ilora.evaluation import ranged
from ilora.fit import fit
from ilora.intrinsics import NAMES
from ilora.intrinsics.base import Intrinsic
from ilora.ops import alignment, geometry
from ilora.ops.statistics import Ratio, ratio
from ilora.predict import Predictor
from ilora.presets import preset
from ilora.records import Example
from ilora.run import progress, write_json

PAIR = {"single": "default", "augmented": "augmented"}  # method: preset


@dataclass(frozen=True)
class Row:
    """What one intrinsic gave.

    Attributes:
        intrinsic: its name.
        errors: mean primary error over seeds and images, by method.
        sample: one sample ÷ the single pass.
        mean: the ensemble's mean ÷ the single pass.
        correlation: Spearman's, of uncertainty with error, mean over seeds and images.
    """

    intrinsic: str
    errors: dict[str, float]
    sample: Ratio
    mean: Ratio
    correlation: float


def ranks(values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Places in order, equal values sharing the mean of theirs."""
    _, inverse, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts - 1) / 2)[inverse]


def spearman(first: Float[Tensor, " n"], second: Float[Tensor, " n"]) -> float:
    """Rank correlation; NaN where one of them is constant."""
    return torch.corrcoef(torch.stack([ranks(first), ranks(second)]))[0, 1].item()


def pixel_errors(
    kind: Intrinsic, map: Float[Tensor, "1 c h w"], truth: Float[Tensor, "1 c h w"], valid: Bool[Tensor, "1 1 h w"]
) -> Float[Tensor, " n"]:
    """Error of each valid pixel, in the form in which ``Intrinsic.uncertainty`` is one.

    Angles for unit vectors (the one intrinsic whose values go below 0), else the root mean square over channels, after
    the scale and shift (one channel) or the scale (three) that the map is known up to.
    """
    if kind.range[0] < 0:
        apart = geometry.angle(map, truth)
    else:
        align = alignment.by_scale_and_shift if kind.channels == 1 else alignment.by_scale
        apart = (align(map, truth, valid) - truth).square().mean(1, keepdim=True).sqrt()
    return apart[valid]


def measure(
    examples: Sequence[Example], predictors: dict[str, Predictor], ensemble: int
) -> dict[str, Float[Tensor, " n"]]:
    """Primary errors of each method and rank correlations, one number an image."""
    name = predictors["single"].names[0]
    kind = predictors["single"].intrinsic(name)
    found: dict[str, list[float]] = {"single": [], "sample": [], "mean": [], "correlation": []}
    with progress("measure", len(examples)) as tell:
        for place, example in enumerate(examples):
            size, truth, valid = example.image.shape[-2:], example.map[None], example.valid[None]
            working = {method: predictor.working(example.image)[None] for method, predictor in predictors.items()}
            predictors["augmented"].sampling(ensemble=1)
            painted = {method: predictors[method].paint(working[method])[name] for method in predictors}
            predictors["augmented"].sampling(ensemble=ensemble)
            many = predictors["augmented"].estimate(working["augmented"])[name]
            maps = {"single": painted["single"], "sample": painted["augmented"], "mean": many.map}
            sized = {method: kind.resize(map.cpu(), *size) for method, map in maps.items()}
            for method, map in sized.items():
                found[method].append(kind.metrics(map, truth, valid)[kind.primary].item())
            apart = torch.nn.functional.interpolate(many.uncertainty, size, mode="bilinear")
            found["correlation"].append(spearman(apart[valid], pixel_errors(kind, sized["mean"], truth, valid)))
            tell(place + 1)
    return {method: torch.tensor(values, dtype=torch.float64) for method, values in found.items()}


def row(name: str, words: argparse.Namespace, changes: dict[str, Any]) -> Row:
    """Fit both methods for each seed, and compare."""
    runs: list[dict[str, Tensor]] = []
    for seed in range(words.seeds):
        predictors = {}
        for method, start in PAIR.items():
            place = words.out / f"{name}-{method}-s{seed}"
            fields = {"intrinsic": name, "seed": seed, "data": words.data, "generator": words.generator}
            config = preset(start, **fields, **changes, **({"passes": words.passes} if method == "augmented" else {}))
            fit(config, place, resume=True, device=words.device)
            predictors[method] = Predictor(place, device=words.device)
        examples = dataset(words.data, intrinsic=name, split=words.split)
        chosen = [examples[place] for place in range(min(len(examples), words.images or len(examples)))]
        runs.append(measure(chosen, predictors, words.ensemble))
    table = {method: torch.stack([run[method] for run in runs]) for method in runs[0]}  # [s, n] each
    errors = {method: values.nanmean().item() for method, values in table.items() if method != "correlation"}
    shares = {method: ratio(table[method], table["single"]) for method in ("sample", "mean")}
    return Row(name, errors, shares["sample"], shares["mean"], table["correlation"].nanmean().item())


def show(rows: list[Row]) -> None:
    """Print one line an intrinsic."""
    heads = f"{'sample ÷ single':<24} {'mean ÷ single':<24} {'Spearman':>8}"
    print(f"{'':<8} {'single':>8} {'sample':>8} {'mean':>8}  {heads}")
    for one in rows:
        errors = " ".join(f"{one.errors[method]:>8.4g}" for method in ("single", "sample", "mean"))
        shares = " ".join(f"{ranged(share.value, share.low, share.high):<24}" for share in (one.sample, one.mean))
        print(f"{one.intrinsic:<8} {errors}  {shares} {one.correlation:>8.3f}")


def main() -> None:
    """Make what is missing, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/multistep"))
    parser.add_argument("--generator", default="rooms-diffusion")
    parser.add_argument("--data", default="rooms")
    parser.add_argument("--split", default="test")
    parser.add_argument("--intrinsics", nargs="*", default=list(NAMES), choices=NAMES)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--ensemble", type=int, default=8, help="samples of each image, at least 2")
    parser.add_argument("--passes", type=int, default=25, help="of the denoiser for one sample")
    parser.add_argument("--images", type=int, help="the first so many of the split; default: all")
    parser.add_argument("--steps", type=int, help="updates of both fits; default: their presets'")
    parser.add_argument("--labels", type=int, help="default: all")
    parser.add_argument("--device", help="default: the accelerator, if there is one")
    words = parser.parse_args()
    if words.ensemble < 2:
        parser.error(f"--ensemble must be at least 2, got {words.ensemble}: one sample has no uncertainty")
    given = {"steps": words.steps, "labels": words.labels}
    changes = {name: value for name, value in given.items() if value is not None}
    rows = [row(name, words, changes) for name in words.intrinsics]
    show(rows)
    write_json(words.out / "multistep.json", {"rows": [asdict(one) for one in rows], "ensemble": words.ensemble})


if __name__ == "__main__":
    main()
