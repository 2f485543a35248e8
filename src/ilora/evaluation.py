"""Errors of a run and of its baselines on the same images: summaries, files, tables, and ratios between runs."""

import csv
import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ilora import checks
from ilora.ops import pooling
from ilora.ops.statistics import Ratio, Summary, ratio, summarise
from ilora.protocols import DEFAULT
from ilora.report import number
from ilora.run import replacing, write_json

OURS = "adapter"  # the run itself, among its baselines
LABELS = {
    OURS: "adapter",
    "codec_ceiling": "codec ceiling",
    "random_weights": "same, random weights",
    "mean_map": "mean training map",
    "untouched": "untouched generator",
    "identity": "picture as map",
}
KEYS = {"images", "baseline_images", "primary", "protocol", "notes", "resamples", "seed"}  # of a file of results
BOUNDS = ("codec_ceiling",)  # what no adapter can pass

Errors = dict[str, Float[Tensor, " n"]]  # metric: one number an image


def label(method: str) -> str:
    """A method in words."""
    return LABELS.get(method, method.replace("_", " "))


@dataclass(frozen=True)
class Evaluation:
    """One number an image, metric and method.

    Attributes:
        names: of the images.
        errors: method (``OURS`` and baselines) to metric to numbers in the order of ``names``; NaN where undefined.
        primary: the metric that methods are compared by; lower is better.
        protocol: what the numbers depend on: the protocol's ``name``, its steps in words, data, generator; ``fit`` is
            the run's configuration.
        notes: what was left out, and why.
        resamples: bootstrap draws of every interval.
        seed: of the draws.
        pixels: how many of each image count, where the protocol pools them; else None.
        pooled: method to metric to summary over all pixels, where the protocol pools them.

    Raises:
        ValueError: the protocol has no name; a number without one says nothing.
    """

    names: tuple[str, ...]
    errors: dict[str, Errors]
    primary: str
    protocol: dict[str, Any]
    notes: tuple[str, ...] = ()
    resamples: int = 10_000
    seed: int = 0
    pixels: Float[Tensor, " n"] | None = None
    pooled: dict[str, dict[str, Summary]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.protocol.get("name"):
            raise ValueError(f"results must name their protocol, got {', '.join(self.protocol) or 'nothing'} without "
                             "'name'; 'ilora protocols' lists the names")  # fmt: skip

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics, the primary one first."""
        return (self.primary, *(name for name in self.errors[OURS] if name != self.primary))

    @property
    def baselines(self) -> tuple[str, ...]:
        """Names of the methods that the run is compared with."""
        return tuple(name for name in self.errors if name != OURS)

    def summary(self, method: str, metric: str | None = None) -> Summary:
        """Mean, median and interval of a metric (default: the primary one), aggregated as the protocol says."""
        if self.pooled:
            return self.pooled[method][metric or self.primary]
        return self.by_image(method, metric)

    def by_image(self, method: str, metric: str | None = None) -> Summary:
        """The same with one vote an image, whatever the protocol says."""
        return summarise(self.errors[method][metric or self.primary], resamples=self.resamples, seed=self.seed)

    def ratio(self, baseline: str, metric: str | None = None) -> Ratio:
        """The run's mean error divided by a baseline's, paired by image."""
        return ratio_of([self], [self], methods=(OURS, baseline), metric=metric)

    def order(self) -> list[int]:
        """Places of the images from the least to the greatest primary error; images without one are left out."""
        errors = self.errors[OURS][self.primary]
        return [place for place in errors.argsort().tolist() if not math.isnan(errors[place])]

    def write(self) -> dict[str, Any]:
        """Plain values for a JSON file; NaN and infinities are null."""
        tables = {method: self._table(method, self.summary) for method in self.errors}
        rows = {method: self._rows(method) for method in self.errors}
        alone = {method: self._table(method, self.by_image) for method in self.pooled}
        return {
            "metrics": tables.pop(OURS),
            "baselines": tables,
            "ratios": {name: _plain(self.ratio(name)) for name in self.baselines if self.comparable(name)},
            "protocol": self.protocol,
            "primary": self.primary,
            "notes": list(self.notes),
            "resamples": self.resamples,
            "seed": self.seed,
            "images": rows.pop(OURS),
            "baseline_images": rows,
        } | ({"per_image": alone} if alone else {})

    @classmethod
    def read(cls, path: Path) -> "Evaluation":
        """An evaluation that ``save`` wrote; what is older than protocols' names was measured under ``rooms``.

        Raises:
            ValueError: no file, or another kind of file.
        """
        path = checks.file(path, "file of results")
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:  # no JSON, or no text
            raise ValueError(f"{path} must come from ilora evaluate --json, got no JSON: {error}") from error
        if not isinstance(values, dict) or not values.keys() >= KEYS or not values["images"]:
            keys = (
                f"the keys {', '.join(list(values)[:5])}" if isinstance(values, dict) else f"a {type(values).__name__}"
            )
            raise ValueError(f"{path} must come from ilora evaluate --json, with images, got {keys}; evaluate again")
        rows = {OURS: values["images"], **values["baseline_images"]}
        tables = {OURS: values["metrics"], **values["baselines"]} if "per_image" in values else {}
        return cls(
            names=tuple(row["name"] for row in values["images"]),
            errors={method: _columns(table) for method, table in rows.items()},
            primary=values["primary"],
            protocol={"name": DEFAULT} | values["protocol"],
            notes=tuple(values["notes"]),
            resamples=values["resamples"],
            seed=values["seed"],
            pixels=torch.tensor([row["pixels"] for row in rows[OURS]]).double() if tables else None,
            pooled={method: {name: _summary(row) for name, row in table.items()} for method, table in tables.items()},
        )

    def save(self, path: Path) -> None:
        """Write JSON, and beside it a CSV with a row an image and method."""
        write_json(path, self.write())
        with replacing(path.with_suffix(".csv")) as partial:
            partial.write_text(self.csv(), encoding="utf-8")

    def csv(self) -> str:
        """A row an image and method under the names of the metrics."""
        keys, text = ("name", *(("pixels",) if self.pooled else ()), *self.metrics), io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["method", *keys])
        for method in self.errors:
            table.writerows([method, *(row[key] for key in keys)] for row in self._rows(method))
        return text.getvalue()

    def _table(self, method: str, summary: Callable[[str, str], Summary]) -> dict[str, dict[str, float | None]]:
        return {metric: _plain(summary(method, metric)) for metric in self.metrics}

    def _rows(self, method: str) -> list[dict[str, Any]]:
        """One dictionary an image."""
        columns = {metric: self.errors[method][metric].tolist() for metric in self.metrics}
        columns = ({"pixels": self.pixels.tolist()} if self.pooled else {}) | columns
        return [
            {"name": name} | {metric: _number(values[place]) for metric, values in columns.items()}
            for place, name in enumerate(self.names)
        ]

    def comparable(self, baseline: str) -> bool:
        """Whether some image has the primary error of both."""
        ours, theirs = (self.errors[method][self.primary] for method in (OURS, baseline))
        return bool((ours.isfinite() & theirs.isfinite()).any())


def ratio_of(
    first: Sequence[Evaluation],
    second: Sequence[Evaluation],
    *,
    methods: tuple[str, str] = (OURS, OURS),
    metric: str | None = None,
    level: float = 0.95,
) -> Ratio:
    """Mean error of one set of runs divided by another's, paired by image and by place in the sequences.

    Args:
        first, second: evaluations on the same images; give runs of the same seed the same place.
        methods: of each, whose errors count.
        metric: default: the primary one.
        level: share of the bootstrap draws inside the interval.

    Raises:
        ValueError: other images, another number of runs, different protocols, or a pooled median, whose ratio no
            image's own number leads to.
    """
    same_protocol((*first, *second))
    names = first[0].names
    if len(first) != len(second) or any(one.names != names for one in (*first, *second)):
        counts = [len(one.names) for one in (*first, *second)]
        raise ValueError(
            f"a ratio needs as many runs on either side, on the same images, got {len(first)} and {len(second)} with "
            f"{counts} images; evaluate all of them on the same split"
        )
    metric, pixels = metric or first[0].primary, first[0].pixels
    if pixels is not None and metric in pooling.MEDIANS:
        raise ValueError(f"a ratio under a pooled protocol needs a mean or a share, got {metric!r}; take mean_angle")
    power = 2 if pixels is not None and metric in pooling.ROOTS else 1
    a, b = (
        torch.stack([one.errors[method][metric] for one in side]) ** power
        for side, method in zip((first, second), methods, strict=True)
    )
    found = ratio(a, b, weights=pixels, resamples=first[0].resamples, seed=first[0].seed, level=level)
    return replace(found, **{name: getattr(found, name) ** (1 / power) for name in ("value", "low", "high")})


def same_protocol(evaluations: Sequence[Evaluation]) -> str:
    """The name of the protocol that all were made under.

    Raises:
        ValueError: there are several; the message names them.
    """
    found = sorted({one.protocol["name"] for one in evaluations})
    if len(found) > 1:
        raise ValueError(f"results of different protocols do not compare, got {' and '.join(found)}; "
                         "evaluate all under one of them, with --protocol")  # fmt: skip
    return found[0]


def show(evaluation: Evaluation) -> None:
    """Print two tables: the primary metric with intervals and ratios, and the means of all metrics."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    protocol, primary = evaluation.protocol, evaluation.primary.replace("_", " ")
    title = f"{protocol['intrinsic']} from {protocol['generator']} on {protocol['data']} {protocol['split']}"
    first = Table(title=f"{title}, {len(evaluation.names)} images, protocol {protocol['name']}", box=box.SIMPLE_HEAD)
    for heading in ("method", primary, "95 % interval", "median", "adapter ÷ it"):
        first.add_column(heading, justify="left" if heading == "method" else "right")
    for method in evaluation.errors:
        summary = evaluation.summary(method)
        interval = f"{number(summary.low)} to {number(summary.high)}"
        share = number(evaluation.ratio(method).value) if method != OURS and evaluation.comparable(method) else ""
        cells = (label(method), number(summary.mean), interval, number(summary.median), share)
        first.add_row(*cells, style="bold" if method == OURS else None)
    how = "pooled over all pixels" if evaluation.pooled else "means over images"
    others = Table(title=f"all metrics, {how}", box=box.SIMPLE_HEAD)
    for heading in ("metric", *evaluation.errors):
        others.add_column(heading.replace("_", " "), justify="left" if heading == "metric" else "right")
    for metric in evaluation.metrics:
        means = [number(evaluation.summary(method, metric).mean) for method in evaluation.errors]
        others.add_row(metric.replace("_", " "), *means)
    Console().print(first, others, *evaluation.notes, sep="\n")


def ranged(value: float, low: float, high: float) -> str:
    """A number with its interval."""
    return f"{number(value)} [{number(low)}, {number(high)}]"


def _plain(result: Summary | Ratio) -> dict[str, float | None]:
    """A summary or ratio as a dictionary for JSON."""
    return {name: _number(value) for name, value in asdict(result).items()}


def _number(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if math.isfinite(value) else None


def _summary(row: dict[str, Any]) -> Summary:
    """A summary as ``_plain`` wrote it."""
    return Summary(**{name: math.nan if value is None else value for name, value in row.items()})


def _columns(rows: list[dict[str, Any]]) -> Errors:
    """Rows of a JSON file as columns."""
    metrics = [name for name in rows[0] if name not in ("name", "pixels")]
    values = {name: [math.nan if row[name] is None else row[name] for row in rows] for name in metrics}
    return {name: torch.tensor(column, dtype=torch.float64) for name, column in values.items()}
