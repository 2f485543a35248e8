"""What a study is asked, the points of its grid, and the folders of their results."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ilora import checks
from ilora.config import Configuration, FitConfig
from ilora.data import dataset
from ilora.data.cache import content_hash
from ilora.evaluate import EvaluateConfig
from ilora.generators import embedded, load
from ilora.generators.foreign import is_code
from ilora.intrinsics import NAMES, intrinsic
from ilora.presets import preset
from ilora.run import Run
from ilora.studies.cost import Clock

SEEDS, QUICK_SEEDS = 3, 1
QUICK_IMAGES = 32  # of the test split
QUICK_STEPS = 100  # updates of a fit with the preset default
QUICK_GENERATOR = "rooms-nano"  # the embedded one that learns fastest on two cores
GIVEN = {  # fields of a fit that no change may name, and where they come from
    "generator": "--generator names generators",
    "data": "--data names the data",
    "intrinsic": "--intrinsics names intrinsics",
    "preset": "the question takes its own presets",
    "name": "the question takes its own presets",
}


@dataclass(frozen=True, kw_only=True)
class StudyConfig(Configuration):
    """What a question is asked about."""

    generators: tuple[str, ...] = ()  # names, folders, files or hub ids; none: see Ask.generators
    intrinsics: tuple[str, ...] = ()  # none: those that the question takes by itself
    checkpoints: tuple[str, ...] = ()  # of one or several trainings, for the question of quality
    data: str = "rooms"
    split: str = "test"  # that every point is evaluated on
    images: int | None = None  # of the split; None: all, with quick the first 32
    seeds: int | None = None  # fits of each point; None: 3, with quick 1
    quick: bool = False  # the small grid with short fits
    changes: dict[str, Any] = field(default_factory=dict)  # fields of every fit but GIVEN; the question's own win
    device: str | None = None  # None: the accelerator if there is one
    resamples: int = 10_000  # bootstrap draws

    def resolved(self) -> "StudyConfig":
        """With the values that stand for None.

        Raises:
            ValueError: an unknown intrinsic, a count below 1, or a change of what is given otherwise.
        """
        if taken := [name for name in GIVEN if name in self.changes]:
            remedy = "; ".join(dict.fromkeys(GIVEN[name] for name in taken))
            raise ValueError(
                f"--set must name fields of a fit other than {', '.join(GIVEN)}, got {', '.join(taken)}; {remedy}"
            )
        for name in self.intrinsics:
            intrinsic(name)
        found = {
            "seeds": (QUICK_SEEDS if self.quick else SEEDS) if self.seeds is None else self.seeds,
            "images": QUICK_IMAGES if self.quick and self.images is None else self.images,
        }
        checks.positive("seeds", found["seeds"])
        return self.replace(**found)


@dataclass(frozen=True)
class Point:
    """One fit of a grid, and what it is called there.

    Attributes:
        series: the curve, the row or the kind of bar that it belongs to.
        at: its place along that, in words.
        fit: everything that the result depends on; a question gives seed 0, the study the others.
        mirror: whether its maps are averaged with those of the mirrored pictures.
    """

    series: str
    at: str
    fit: FitConfig
    mirror: bool = False


@dataclass(frozen=True)
class Ask:
    """A question's surroundings while it lays out its grid.

    Attributes:
        config: resolved.
        out: the study's folder.
        clock: how long updates take.
        dry_run: nothing may be made.
    """

    config: StudyConfig
    out: Path
    clock: Clock
    dry_run: bool = False

    def generators(self, *, across: bool = False) -> tuple[str, ...]:
        """Those that were named; else the embedded ones, with quick the fastest alone.

        Args:
            across: the question compares generators, so that the quick grid has them all.
        """
        alone = self.config.quick and not across
        return self.config.generators or ((QUICK_GENERATOR,) if alone else tuple(embedded()))

    def intrinsics(self, quick: int = 1) -> tuple[str, ...]:
        """Those that were named; else all four, with quick the first ``quick`` of them."""
        return self.config.intrinsics or (NAMES[:quick] if self.config.quick else NAMES)

    def fit(self, generator: str, kind: str, *, name: str = "default", steps: int, **fields: Any) -> FitConfig:
        """The fit of one point.

        Args:
            generator, kind: what learns what.
            name: of the preset.
            steps: updates of the quick grid; the preset's otherwise.
            fields: that the question varies; they win over ``config.changes``, which win over the preset.
        """
        short = {"steps": steps} if self.config.quick else {}
        about = {"generator": generator, "intrinsic": kind, "data": self.config.data}
        return preset(name, **{**short, **self.config.changes, **about, **fields})


@dataclass(frozen=True)
class Work:
    """One fit and its evaluation, in a folder that their content names.

    Attributes:
        fit: what is fitted.
        place: the folder; shared by all studies with the same ``--out``.
        split: that it is evaluated on.
        examples: fingerprint of that.
        evaluation: how.
    """

    fit: FitConfig
    place: Path
    split: str
    examples: str
    evaluation: EvaluateConfig

    @property
    def run(self) -> Run:
        """The run folder of the fit."""
        return Run(self.place / "run")

    @property
    def result(self) -> Path:
        """All numbers of the evaluation, JSON; there once the point is finished."""
        how = content_hash(self.evaluation.replace(device=None).write(), self.examples)[:8]
        return self.place / f"{self.split}-{how}.json"


@dataclass(frozen=True)
class Look:
    """What a study must know of a generator: its fingerprint and the weights of its network."""

    fingerprint: str
    weights: int


@lru_cache
def look(generator: str) -> Look:
    """Open a generator and close it again; once a process."""
    opened = load(generator)
    return Look(opened.fingerprint, sum(weight.numel() for weight in opened.network.parameters()))


def points(grid: Sequence[Point], seeds: int) -> list[Point]:
    """The grid for every seed; the whole grid of one seed before the next."""
    return [
        replace(point, fit=point.fit.replace(seed=point.fit.seed + seed)) for seed in range(seeds) for point in grid
    ]


def works(grid: Sequence[Point], config: StudyConfig, out: Path) -> list[Work]:
    """What is to be done for each point; points of equal content share one."""
    contents.cache_clear()  # files may have changed since the last study of this process
    return [_work(point, config, out) for point in grid]


def _work(point: Point, config: StudyConfig, out: Path) -> Work:
    """See ``works``. Test data that cannot be read hash by their name; evaluating will say what is wrong with them."""
    fit = point.fit
    try:
        examples = contents(fit.data, fit.intrinsic, config.split)
    except (ValueError, OSError, ImportError):
        examples = fit.data
    how = EvaluateConfig(
        controls=False,
        mirror=point.mirror,
        images=config.images,
        resamples=config.resamples,
        on_problem="skip",
        device=config.device,
        generator=fit.generator if is_code(fit.generator) else None,  # who asked named it
    )
    return Work(fit, out / "points" / identity(fit), config.split, examples, how)


def identity(fit: FitConfig) -> str:
    """Name of a point's folder: generator, intrinsic, and a hash of the fit, the generator's weights and the labels.

    A generator or data that cannot be read hash by their names; fitting will say what is wrong with them.
    """
    try:
        content = (look(fit.generator).fingerprint, contents(fit.data, fit.intrinsic, "train"))
    except (ValueError, OSError, ImportError):
        content = (fit.generator, fit.data)
    return f"{Path(fit.generator).name}-{fit.intrinsic}-{content_hash(fit.write(), *content)[:12]}"


@lru_cache
def contents(data: str, kind: str, split: str) -> str:
    """Fingerprint of a split's pictures and of their maps of one intrinsic."""
    return dataset(data, intrinsic=kind, split=split, on_problem="skip").fingerprint
