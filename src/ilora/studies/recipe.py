"""What does each choice of the recipe bring? ``default`` with one thing changed at a time, and ``paper`` beside it."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ilora.config import FitConfig
from ilora.evaluation import OURS
from ilora.presets import PRESETS
from ilora.report import Section, Table, number
from ilora.studies.answer import COMMON, Answer, Figure, common, plain, words
from ilora.studies.cells import Cell, compared, difference, only
from ilora.studies.figures import Bar, Curve, Mark, Panel, bars, panels
from ilora.studies.layers import anatomy
from ilora.studies.plan import Ask, Point
from ilora.studies.sweep import finished, pairs, unit_of

STEPS = {"default": 40, "paper": 160}  # preset: updates of its quick fits, which see 320 and 640 pictures
CHANGE, SHORTER = "change", "shorter"  # series, after that of the preset itself
CHANGES: dict[str, dict[str, Any]] = {
    "no masks": {"masked": False},
    "no mirror images": {"mirror": False},
    "other light": {"jitter": 1},
    "no decoder loss": {"image_share": 0.0},
    "decoder loss, half of the updates": {"image_share": 0.5},
    "decoder loss alone": {"image_share": 1.0},
    "constant schedule": {"schedule": "constant"},
    "averaged weights": {"ema": 0.98},
    "timestep 300": {"timestep": 300},
    "timestep 999": {"timestep": 999},
    "readout native": {"readout_image": None, "readout_output": None},
    "readout auto": {"readout_auto": True},
    "attention alone": {"targets": "attention"},
    "every layer": {"targets": "all"},
    "DoRA": {"method": "dora"},
    "rsLoRA": {"method": "rslora"},
    "EVA": {"method": "eva"},
    "LoRA+ 16": {"lr_ratio": 16.0},
}
MIRRORED = "test-time mirroring"
TIMED = {"timestep", "readout_image", "readout_output", "readout_auto"}  # nothing to a network without time steps
SHARES = {"default": (1 / 8, 1 / 4, 1 / 2), "paper": (1 / 64, 1 / 16, 1 / 4)}  # of the updates: error against time
LEVEL = 0.95  # of all intervals of one generator and intrinsic together (Bonferroni)
RULE = (
    "Error minus that of default in percent of default's, paired by seed and image. The interval covers a bootstrap "
    "over both and, over two seeds or more, Student's t over the seeds' differences; the intervals of one intrinsic "
    f"hold together with {100 * LEVEL:g} %. Helps: the interval lies below 0. Harms: it lies above 0. No difference: "
    "it holds 0. With one seed only images are drawn, and the luck of a seed may pass for an effect."
)


class Recipe:
    """See ``ilora.studies.answer.Question``."""

    name = "recipe"
    of_checkpoints = False
    asks = "What does each choice of the recipe bring?"
    shows = (
        "The preset default with one thing changed at a time, and the published recipe, each against default; then "
        "both presets with ever fewer updates, error against time. A choice earns its place where leaving it out "
        f"harms; one that helps should be taken up. {RULE}"
    )

    def points(self, ask: Ask) -> list[Point]:
        """Both presets, every change that means something to the generator, and both presets with fewer updates."""
        grid = []
        for generator in ask.generators():
            seen = anatomy(generator)
            for kind in ask.intrinsics():
                fits = {name: _whole(ask, generator, kind, name) for name in STEPS}
                grid += [Point(name, name, fit) for name, fit in fits.items()]
                for name, fields in CHANGES.items():
                    known = fields.get("targets", "attention") in seen.types
                    if known and (seen.timed or not TIMED & fields.keys()):
                        grid.append(Point(CHANGE, name, fits["default"].replace(**fields)))
                grid.append(Point(CHANGE, MIRRORED, fits["default"], mirror=True))
                for name, fit in fits.items():
                    less = [shortened(fit, share) for share in SHARES[name]]
                    grid += [Point(f"{name}, {SHORTER}", f"{one.steps} updates", one) for one in less]
        return grid

    def answer(self, ask: Ask, cells: Sequence[Cell]) -> Answer:
        """A verdict for every change, and how soon ``default`` is as good as ``paper``."""
        findings, figures, sentences, effects = {}, [], [], {}
        for generator, kind in pairs(cells):
            group = only(cells, generator=generator, intrinsic=kind)
            own = effects[generator, kind] = Effects(group)
            time, told = _time(group)
            findings[f"{generator} {kind}"] = own.findings() | {"time": time}
            sentences.append(f"{kind} of {generator}: {own.sentence()} {told}")
            name = f"{Path(generator).name}-{kind}" if figures else ""
            figures += [Figure(name, own.drawing(), "Error against that of default; left of 0 is better.")]
            caption = "Error over the time of a fit's updates, with ever fewer updates. Dotted: where paper ends."
            figures += [Figure("-".join(filter(None, ("time", name))), _curves(group), caption)]
        return Answer(" ".join(sentences), _table(effects), tuple(figures), findings, (_every(cells),))


def _whole(ask: Ask, generator: str, kind: str, name: str) -> FitConfig:
    """The fit of a preset; where it is short, the warm-up is short in proportion, unless somebody asked for another."""
    fit = ask.fit(generator, kind, name=name, steps=STEPS[name])
    share = 1 if "warmup" in ask.config.changes else min(1, fit.steps / PRESETS[name].fields["steps"])
    return fit.replace(warmup=round(share * fit.warmup))


def shortened(fit: FitConfig, share: float) -> FitConfig:
    """The same with a share of the updates, of which the warm-up takes as large a part."""
    return fit.replace(steps=max(1, round(share * fit.steps)), warmup=round(share * fit.warmup))


class Effects:
    """What changes do to the error of ``default``, for one generator and intrinsic.

    Attributes:
        cells: of ``paper`` and of every change, by name.
        shown: their differences in percent of the error of ``default``: value, low, high; NaN where not measured.
    """

    def __init__(self, group: Sequence[Cell]) -> None:
        self.base = only(group, series="default")[0]
        self.cells = {cell.at: cell for cell in group if cell.series in ("paper", CHANGE)}
        level = 1 - (1 - LEVEL) / len(self.cells)
        found = {name: difference(cell, self.base, level=level) for name, cell in self.cells.items()}
        unit = 100 / self.base.error().mean
        self.shown = {name: (unit * d.mean, unit * d.low, unit * d.high) for name, d in found.items()}

    def verdict(self, name: str) -> str:
        """helps, harms, no difference or – by ``RULE``."""
        _, low, high = self.shown[name]
        if math.isnan(low):
            return "–"
        return "helps" if high < 0 else "harms" if low > 0 else "no difference"

    def words(self, name: str) -> str:
        """The difference in percent, its interval and its verdict."""
        value, low, high = self.shown[name]
        return "–" if math.isnan(value) else f"{value:+.1f} [{low:+.1f}, {high:+.1f}] {self.verdict(name)}"

    def sentence(self) -> str:
        """Who helps, who harms."""
        if not self.base.runs:
            return "not measured."
        names = {verdict: [one for one in self.cells if one != "paper" and self.verdict(one) == verdict]
                 for verdict in ("helps", "harms", "no difference")}  # fmt: skip
        told = "; ".join(f"{verdict}: {', '.join(found) or 'nothing'}" for verdict, found in names.items())
        share = compared(self.base, self.cells["paper"])
        return f"default has {words(share)} times the error of paper. Changed, {told}."

    def findings(self) -> dict[str, Any]:
        """Plain values: in percent of default's error, and of each seed."""
        result: dict[str, Any] = {"default ÷ paper": plain(compared(self.base, self.cells["paper"]))}
        for name, (value, low, high) in self.shown.items():
            numbers = {"percent": value, "low": low, "high": high}
            seeds = {str(seed): run.summary(OURS).mean - self.base.runs[seed].summary(OURS).mean
                     for seed, run in self.cells[name].runs.items() if seed in self.base.runs}  # fmt: skip
            known = {key: None if math.isnan(number) else number for key, number in numbers.items()}
            result[name] = known | {"difference by seed": seeds, "verdict": self.verdict(name)}
        return result

    def drawing(self) -> str:
        """A bar a change, coloured by its verdict."""
        shown = [Bar(name, self.verdict(name), *self.shown[name]) for name in self.cells]
        axis, title = (
            f"{self.base.metric} against default's [%]",
            f"{self.base.fit.intrinsic}, {self.base.fit.generator}",
        )
        return bars(shown, x=axis, title=title, lines={"default": 0.0})


def _every(cells: Sequence[Cell]) -> Section:
    """All points with their own errors."""
    rows = [(cell.fit.intrinsic, cell.fit.generator, cell.series, cell.at, *common(cell)) for cell in cells]
    table = Table(("intrinsic", "generator", "fit", "at", *COMMON), tuple(rows))
    return Section("Every point", "Errors themselves, each with its 95 % interval.", (table,))


def _table(effects: dict[tuple[str, str], Effects]) -> Table:
    """A row a change, a column an intrinsic."""
    kinds = list(dict.fromkeys(kind for _, kind in effects))
    rows: list[tuple[str, ...]] = []
    for generator in dict.fromkeys(generator for generator, _ in effects):
        own = {kind: effects[generator, kind] for kind in kinds if (generator, kind) in effects}
        names = dict.fromkeys(name for one in own.values() for name in one.cells)
        base = [words(own[kind].base.error()) if kind in own else "" for kind in kinds]
        rows.append(("default", generator, *base))
        for name in names:
            found = (own[kind].words(name) if kind in own and name in own[kind].cells else "" for kind in kinds)
            rows.append((name, generator, *found))
    strong = frozenset(place for place, row in enumerate(rows) if row[0] == "default")
    return Table(("fit", "generator", *kinds), tuple(rows), f"default: its error. All others: {RULE}", strong)


def _ladder(group: Sequence[Cell], name: str) -> list[Cell]:
    """Finished fits of a preset, from the shortest to the whole one."""
    found = [cell for cell in group if cell.series in (name, f"{name}, {SHORTER}")]
    return sorted(finished(found), key=lambda cell: cell.fit.steps)


def _time(group: Sequence[Cell]) -> tuple[dict[str, Any] | None, str]:
    """How soon ``default`` is as good as ``paper`` in the end: findings and a sentence."""
    end = only(group, series="paper")[0]
    if not end.runs:
        return None, "How soon default is as good as paper was not measured."
    enough = next((cell for cell in _ladder(group, "default") if compared(cell, end).value <= 1), None)
    if enough is None:
        return None, f"default is not as good as paper after {end.fit.steps} updates."
    share = enough.seconds / end.seconds
    numbers = {"updates": enough.fit.steps, "updates of paper": end.fit.steps, "seconds": enough.seconds}
    told = (
        f"default is as good as paper after {end.fit.steps} updates with {enough.fit.steps} updates, in "
        f"{number(share)} of its time ({number(enough.seconds)} of {number(end.seconds)} s)."
    )
    return numbers | {"seconds of paper": end.seconds, "share": share}, told


def _curves(group: Sequence[Cell]) -> str:
    """Error of both presets over the seconds of their updates."""
    curves = []
    for name in STEPS:
        errors = [(cell.seconds, cell.error()) for cell in _ladder(group, name)]
        curves.append(Curve(name, tuple(Mark(at, one.mean, one.low, one.high) for at, one in errors)))
    first, end = group[0], only(group, series="paper")[0]
    title, axis = f"{first.fit.intrinsic}, {first.fit.generator}", f"{first.metric}{unit_of(first.metric)}"
    lines = {"paper in the end": end.error().mean}
    return panels([[Panel(title, "updates, time [s]", axis, tuple(curves), lines, log=True)]])
