"""Several evaluations side by side: seeds pooled, and which differences are more than chance."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ilora.evaluation import BOUNDS, OURS, Evaluation, label, ranged, ratio_of, same_protocol
from ilora.ops.statistics import Ratio, Summary, pooled
from ilora.report import Bar, Bars, Page, Section, Table
from ilora.tables import latex, markdown

LEVEL = 0.95  # of all intervals between runs together: with k pairs each one's is 1 - (1 - LEVEL) / k (Bonferroni)


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed.

    Attributes:
        label: what sets them apart from the other groups.
        runs: sorted by seed.
    """

    label: str
    runs: tuple[Evaluation, ...] = field(repr=False)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the fits."""
        return tuple(map(_seed, self.runs))

    def summary(self, method: str) -> Summary:
        """Primary error over seeds and images; both are drawn again for the interval."""
        values, first = torch.stack([run.errors[method][run.primary] for run in self.runs]), self.runs[0]  # [s, n]
        return pooled(values, weights=first.pixels, resamples=first.resamples, seed=first.seed)

    def ratio(self, baseline: str) -> Ratio:
        """The adapters' error divided by their own baseline's."""
        return ratio_of(self.runs, self.runs, methods=(OURS, baseline))


def compare(evaluations: Sequence[Evaluation]) -> list[Group]:
    """Groups of runs with their seeds pooled, in the order of their first members.

    Raises:
        ValueError: no evaluation, other intrinsics, data or images, different protocols, or the same seed twice in a
            group.
    """
    for key, words in (("intrinsic", "intrinsic"), ("data_fingerprint", "data set (data_fingerprint)")):
        found = sorted({str(one.protocol.get(key, "none")) for one in evaluations})
        if len(found) > 1:
            raise ValueError(f"expected evaluations of one {words}, got {', '.join(found)}; compare each by itself")
    if not evaluations or any(one.names != evaluations[0].names for one in evaluations):
        raise ValueError(f"expected evaluations of one split, got {[len(one.names) for one in evaluations]} images")
    same_protocol(evaluations)
    fits = [_fit(one) for one in evaluations]
    groups: dict[str, list[Evaluation]] = {}
    for one, fit in zip(evaluations, fits, strict=True):
        groups.setdefault(json.dumps(fit, sort_keys=True), []).append(one)
    varied = [key for key in fits[0] if len({json.dumps(fit.get(key)) for fit in fits}) > 1]
    result = []
    for key, runs in groups.items():
        label = ", ".join(f"{name} {json.loads(key).get(name)}" for name in varied) or runs[0].protocol["intrinsic"]
        group = Group(label, tuple(sorted(runs, key=_seed)))
        if len(set(group.seeds)) < len(group.seeds):
            raise ValueError(
                f"expected one run a seed, got seeds {group.seeds} of {label!r}; leave the repetitions out"
            )
        result.append(group)
    return result


@dataclass(frozen=True)
class Difference:
    """How the adapters of two groups compare.

    Attributes:
        first, second: labels of the groups.
        ratio: mean error of the first divided by that of the second, paired by image and seed.
    """

    first: str
    second: str
    ratio: Ratio

    @property
    def verdict(self) -> str:
        """Which one has the lower error, if that is more than chance."""
        if self.ratio.low <= 1 <= self.ratio.high:
            return "undecided"
        return f"{self.first if self.ratio.high < 1 else self.second} is better"


def differences(groups: Sequence[Group]) -> list[Difference]:
    """Every pair of groups with the same seeds, in order; with several pairs each interval is wider.

    The chance that any of the intervals misses its ratio is at most 1 - ``LEVEL`` (Bonferroni), as far as the
    bootstrap holds: paired, over seeds and images at once.
    """
    pairs = [(a, b) for a, b in itertools.combinations(groups, 2) if a.seeds == b.seeds]
    level = 1 - (1 - LEVEL) / max(1, len(pairs))
    return [Difference(a.label, b.label, ratio_of(a.runs, b.runs, level=level)) for a, b in pairs]


def table(groups: Sequence[Group]) -> Table:
    """The primary error of each group and its baselines over the seeds, and what the adapter's is of theirs."""
    one, rows, strong = groups[0].runs[0], [], set()
    for group in groups:
        for method in _methods(group):
            mean = group.summary(method)
            share = group.ratio(method) if method != OURS else None
            cells = ["" if share is None else ranged(share.value, share.low, share.high)]
            head = (group.label, ", ".join(map(str, group.seeds))) if method == OURS else ("", "")
            strong |= {len(rows)} if method == OURS else set()
            rows.append((*head, label(method), ranged(mean.mean, mean.low, mean.high), *cells))
    caption = f"{one.primary.replace('_', ' ')}, {len(one.names)} images, protocol {one.protocol['name']}"
    header = ("runs", "seeds", "method", "error [95 %]", "adapter ÷ it [95 %]")
    return Table(header, tuple(rows), caption, frozenset(strong))


def difference_table(found: Sequence[Difference]) -> Table:
    """A row a pair of groups: the ratio of their adapters' errors and whether it is more than chance."""
    rows = [
        (one.first, one.second, ranged(one.ratio.value, one.ratio.low, one.ratio.high), one.verdict) for one in found
    ]
    caption = (
        f"Error of the first divided by that of the second, paired by image and seed. All {len(found)} intervals hold "
        f"together with {100 * LEVEL:g} %."
    )
    return Table(("first", "second", "first ÷ second", "verdict"), tuple(rows), caption)


def page(groups: Sequence[Group]) -> Page:
    """All groups as bars and tables, with the numbers of every run to save."""
    one = groups[0].runs[0]
    bars = []
    for group in groups:
        for method in _methods(group):
            mean = group.summary(method)
            kind = "ours" if method == OURS else "bound" if method in BOUNDS else "baseline"
            name = group.label if method == OURS else f"· {label(method)}"
            bars.append(Bar(name, mean.mean, low=mean.low, high=mean.high, kind=kind))
    metric, found, files = one.primary.replace("_", " "), differences(groups), {"table.md": markdown(table(groups))}
    files |= {"table.tex": latex(table(groups))}
    for group in groups:
        files |= {
            f"{_file(group.label)}-seed{seed}.csv": run.csv() for seed, run in zip(group.seeds, group.runs, strict=True)
        }
    sections = [
        Section("Errors", blocks=(Bars(tuple(bars), metric, f"{metric}; lower is better"), table(groups))),
        *([Section("Which differences are real", blocks=(difference_table(found),))] if found else []),
    ]
    facts = {key: str(one.protocol.get(key, "?")) for key in ("intrinsic", "data", "split", "metrics", "interval")}
    facts = {"protocol": one.protocol["name"], **facts}
    real = [one.verdict for one in found if one.verdict != "undecided"]
    headline = "; ".join(real) if real else f"{len(groups)} kinds of run, {metric}"
    return Page(f"{one.protocol['intrinsic']}: {len(groups)} compared", headline, facts, tuple(sections), files)


def show(groups: Sequence[Group]) -> None:
    """Print the table, and the differences between groups."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as Printed

    found = differences(groups)
    for one in (table(groups), *([difference_table(found)] if found else [])):
        printed = Printed(title=one.caption, box=box.SIMPLE_HEAD)
        for heading in one.header:
            printed.add_column(heading, justify="right" if "÷" in heading or "%" in heading else "left")
        for place, row in enumerate(one.rows):
            printed.add_row(*row, style="bold" if place in one.strong else None)
        Console().print(printed)


def _seed(run: Evaluation) -> int:
    """Of the fit; 0 where the adapter does not tell of one."""
    return run.protocol["fit"].get("seed", 0)


def _fit(run: Evaluation) -> dict[str, Any]:
    """What sets a run apart besides its seed: the fit's configuration, or the adapter that does not tell of one."""
    told = {key: value for key, value in run.protocol["fit"].items() if key != "seed"}
    return told or {"adapter": run.protocol.get("adapter")}


def _methods(group: Group) -> list[str]:
    """Methods that every run of the group has."""
    return [name for name in group.runs[0].errors if all(name in run.errors for run in group.runs)]


def _file(words: str) -> str:
    """A file's name from a label."""
    return "-".join("".join(letter if letter.isalnum() else " " for letter in words).split()) or "run"
