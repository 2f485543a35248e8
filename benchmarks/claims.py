"""What the embedded generator must show: adapter against random weights, mean map, scratch, and rank 2 against rank 8.

    python benchmarks/claims.py --out runs/claims --seeds 3 [--only main rank scratch few] [--intrinsics normal depth]

Every fit and every evaluation is kept in ``--out`` and not made again, so the command may be stopped at any time; two
copies of it may share the work with ``--part 0/2`` and ``--part 1/2``. At the end, and with ``--print`` at once, it
prints the claims that the finished points allow, and writes them to ``claims.json``.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from ilora.comparison import Group
from ilora.evaluate import EvaluateConfig, evaluate
from ilora.evaluation import OURS, Evaluation, ranged, ratio_of
from ilora.fit import fit
from ilora.intrinsics import NAMES
from ilora.presets import preset
from ilora.run import write_json

BOUNDS = {"normal": 0.5, "depth": 0.5, "albedo": 0.6, "shading": 0.6}  # of the adapter ÷ random weights
SCRATCHED = ("normal", "depth")
ROWS = {
    "codec ceiling": "codec_ceiling",
    "**adapter on the trained generator**": OURS,
    "the same fit on random weights": "random_weights",
    "mean of the training maps": "mean_map",
    "all weights, from scratch": "scratch",
}


@dataclass(frozen=True)
class Point:
    """One fit to make and evaluate."""

    group: str
    intrinsic: str
    seed: int
    method: str = "lora"
    rank: int = 8
    labels: int = 250
    random: bool = False  # with the identical fit on random weights

    @property
    def name(self) -> str:
        """Of its run folder."""
        return f"{self.intrinsic}-{self.method}-r{self.rank}-n{self.labels}-s{self.seed}"


@dataclass(frozen=True)
class Claim:
    """A ratio of errors with its interval, and what is asked of it."""

    what: str
    intrinsic: str
    value: float
    low: float
    high: float
    seeds: int
    bound: float
    first: float  # mean error above the line
    second: float  # below it


def points(seeds: int, intrinsics: Sequence[str]) -> list[Point]:
    """All points, those first that the others are compared with."""
    grid = [Point("main", kind, seed, random=True) for seed in range(seeds) for kind in intrinsics]
    for seed in range(seeds):
        some = [kind for kind in SCRATCHED if kind in intrinsics]
        grid += [Point("scratch", kind, seed, method="scratch") for kind in some]
        grid += [Point("few", kind, seed, labels=25) for kind in some]
        grid += [Point("few", kind, seed, method="scratch", labels=25) for kind in some]
        grid += [Point("rank", kind, seed, rank=2) for kind in intrinsics]
    return grid


def make(point: Point, out: Path, changes: dict[str, object]) -> None:
    """Fit and evaluate one point, unless that is done."""
    place, result = out / point.name, out / f"{point.name}.json"
    fields = {"intrinsic": point.intrinsic, "seed": point.seed, "method": point.method, "rank": point.rank}
    fit(preset("default", **{**changes, **fields, "labels": point.labels}), place, resume=True)  # refuses another fit
    if not result.is_file():
        evaluate(place, json=result, config=EvaluateConfig(controls=point.random))


def finished(out: Path, seeds: int, **fields: object) -> dict[int, Evaluation]:
    """Evaluations of the points with these fields that are there, by seed."""
    wanted = [Point("", seed=seed, **fields) for seed in range(seeds)]
    return {p.seed: Evaluation.read(path) for p in wanted if (path := out / f"{p.name}.json").is_file()}


def table(out: Path, seeds: int) -> str:
    """The README's table in Markdown: primary error of each method, pooled over the seeds that are there."""
    head = "| rooms, test split | normals: mean angle [deg] | depth: AbsRel | albedo: si-RMSE | shading: si-RMSE |"
    lines = [head, "|---|---|---|---|---|"]
    for label, method in ROWS.items():
        cells = []
        for kind in NAMES:
            own = {"method": "scratch"} if method == "scratch" else {}
            runs = list(finished(out, seeds, intrinsic=kind, **own).values())
            name = OURS if method == "scratch" else method
            mean = Group("", tuple(runs)).summary(name) if runs else None
            cells.append(ranged(mean.mean, mean.low, mean.high) if mean else "not measured")
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def fill(page: Path, text: str) -> None:
    """Put the table between the page's ``results`` marks."""
    before, begin, rest = page.read_text().partition("<!-- results:begin -->\n")
    _, end, after = rest.partition("<!-- results:end -->")
    if not begin or not end:
        raise ValueError(f"expected the marks <!-- results:begin --> and <!-- results:end -->, got none in {page}")
    page.write_text(f"{before}{begin}{text}\n{end}{after}")


def claims(out: Path, intrinsics: Sequence[str], seeds: int) -> list[Claim]:
    """The claims whose points are there for at least one seed."""

    done = partial(finished, out, seeds)
    found = []
    for kind in intrinsics:
        main, few = done(intrinsic=kind), done(intrinsic=kind, labels=25)
        found += _claim("adapter ÷ the same on random weights", kind, main, main, BOUNDS[kind], "random_weights")
        found += _claim("adapter ÷ mean training map", kind, main, main, 0.7, "mean_map")
        scratch, scratch_few = done(intrinsic=kind, method="scratch"), done(intrinsic=kind, method="scratch", labels=25)
        found += _claim("adapter ÷ scratch, 250 labels", kind, main, scratch, 0.8)
        found += _claim("adapter ÷ scratch, 25 labels", kind, few, scratch_few, 0.7)
        found += _claim("rank 2 ÷ rank 8", kind, done(intrinsic=kind, rank=2), main, 1.15)
    return found


def _claim(
    what: str, kind: str, first: dict[int, Evaluation], second: dict[int, Evaluation], bound: float, method: str = OURS
) -> list[Claim]:
    """The ratio over the seeds that both sides have; nothing where there are none."""
    seeds = sorted(seed for seed in first.keys() & second.keys() if method in second[seed].errors)
    if not seeds:
        return []
    above, below = [first[seed] for seed in seeds], [second[seed] for seed in seeds]
    share = ratio_of(above, below, methods=(OURS, method))
    means = [sum(one.summary(m).mean for one in side) / len(side) for side, m in ((above, OURS), (below, method))]
    return [Claim(what, kind, share.value, share.low, share.high, len(seeds), bound, *means)]


def show(found: Sequence[Claim]) -> None:
    """Print one line a claim."""
    print(f"{'claim':<40} {'':<8} {'ratio':>6} {'95 % interval':>18} {'reach':>6} {'':>4} {'errors':>18} {'seeds':>6}")
    for claim in found:
        interval = f"{claim.low:.3f} to {claim.high:.3f}"
        verdict = "yes" if claim.value <= claim.bound else "no"
        errors = f"{claim.first:.4g} ÷ {claim.second:.4g}"
        print(
            f"{claim.what:<40} {claim.intrinsic:<8} {claim.value:>6.3f} {interval:>18} {claim.bound:>6.2f} "
            f"{verdict:>4} {errors:>18} {claim.seeds:>6}"
        )


def main() -> None:
    """Run what is missing and print what is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/claims"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=["main", "scratch", "few", "rank"])
    parser.add_argument("--intrinsics", nargs="*", default=list(NAMES), choices=NAMES)
    parser.add_argument("--part", default="0/1", help="this process's share of the points, as INDEX/COUNT")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=JSON", help="fields of the fit to change")
    parser.add_argument("--print", action="store_true", help="only print what is finished")
    parser.add_argument("--readme", type=Path, help="page whose table of results is written anew")
    words = parser.parse_args()
    index, count = map(int, words.part.split("/"))
    changes = {name: json.loads(value) for name, value in (pair.split("=") for pair in words.set)}
    chosen = [point for point in points(words.seeds, words.intrinsics) if point.group in words.only]
    if not words.print:
        for point in chosen[index::count]:
            make(point, words.out, changes)
    found = claims(words.out, words.intrinsics, words.seeds)
    show(found)
    if words.readme:
        fill(words.readme, table(words.out, words.seeds))
    write_json(words.out / "claims.json", {"claims": [asdict(claim) for claim in found]})


if __name__ == "__main__":
    main()
