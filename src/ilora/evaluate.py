"""Predictions of a run against the truth, beside the baselines that say what a number means."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ilora import checks, tables
from ilora.adapters.controls import PROBES
from ilora.adapters.file import FILE
from ilora.config import Configuration, FitConfig
from ilora.data import dataset
from ilora.data.base import Dataset
from ilora.data.problems import SHOWN
from ilora.evaluation import OURS, Evaluation, ratio_of, show
from ilora.fit import control
from ilora.generators.base import Generator
from ilora.intrinsics import ALL, chosen
from ilora.intrinsics.base import Intrinsic
from ilora.ops import resample
from ilora.predict import grouped
from ilora.predictor import Predictor, find
from ilora.protocols import DEFAULT, Protocol, Tally, Verdict, disagreement, judge, matched, primary
from ilora.protocols import protocol as named
from ilora.protocols.words import facts
from ilora.records import Example, Image, Judged, Map, Valid
from ilora.report import write
from ilora.run import Run, progress, read_json, say
from ilora.showcase import Measured, Painter, page
from ilora.showcase import table as summary_table

__all__ = ["EvaluateConfig", "Evaluation", "evaluate", "evaluate_each", "measure", "ratio_of", "show"]

CONTROL = "random-weights"  # the control that is fitted where it is missing


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(Configuration):
    """How a run is evaluated."""

    controls: bool = True  # fit the same on random weights first, if that is not there
    mirror: bool = False  # average with the prediction for the mirrored picture
    images: int | None = None  # evaluate the first so many; None: all of the split
    batch: int = 16  # images of one size that are painted together
    resamples: int = 10_000  # bootstrap draws
    seed: int = 0  # of the draws
    on_problem: str = "refuse"  # or skip: leave out faulty examples, and note those that cannot be read
    device: str | None = None  # None: the accelerator if there is one
    generator: str | None = None  # None: what the adapter names; code of the user's own must be named here
    intrinsic: str | None = None  # of an adapter for several, the one that is evaluated


@dataclass(frozen=True)
class Bench:
    """All that an evaluation needs before the first picture is painted.

    Attributes:
        predictor: with the one adapter that is judged.
        painters: the run and its baselines, in the order of the table.
        notes: about those that are left out.
        examples: the data set.
        count: the first so many of it are evaluated.
        protocol: how.
        on_problem: "skip" to leave out and note examples that cannot be read, else they are an error.
        unread: why, by the names of those that were left out.
    """

    predictor: Predictor
    painters: dict[str, Painter]
    notes: tuple[str, ...]
    examples: Dataset
    count: int
    protocol: Protocol
    on_problem: str = "refuse"
    unread: dict[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> Intrinsic:
        """What is judged."""
        return self.predictor.intrinsic(self.predictor.names[0])

    def items(self) -> Iterator[tuple[int, Example]]:
        """Examples with their places, read one after the other.

        Raises:
            ValueError: one cannot be read, unless it is to be skipped; or none can be.
        """
        for place in range(self.count):
            try:
                example = self.examples[place]
            except ValueError as error:
                self.unread[self.examples.names[place]] = " ".join(str(error).split())
                if self.on_problem != "skip" or len(self.unread) == self.count:
                    raise
                continue
            yield place, example

    def judge(self, group: Sequence[Example]) -> dict[str, Verdict]:
        """Numbers of every method for examples of one size, which are painted together."""
        image, map, valid = (torch.stack([getattr(x, part) for x in group]) for part in ("image", "map", "valid"))
        painted = {method: paint(image, map, valid).cpu() for method, paint in self.painters.items()}
        said = [x.judgements for x in group if isinstance(x, Judged)]
        if said:
            return {name: disagreement(self.protocol, self.kind.name, found, said) for name, found in painted.items()}
        return {name: judge(self.protocol, self.kind.name, found, map, valid) for name, found in painted.items()}


Tallier = Callable[[Bench, EvaluateConfig], dict[str, Tally]]  # numbers of every method for all examples


def evaluate(
    adapter: str | Path,
    data: str = "rooms",
    *,
    protocol: str | Protocol = DEFAULT,
    split: str = "test",
    json: str | Path | None = None,
    html: str | Path | None = None,
    table: str | Path | None = None,
    config: EvaluateConfig | None = None,
    tally: Tallier | None = None,
) -> Evaluation:
    """Errors of a run's predictions at the data set's own size, beside its baselines.

    Baselines: the codec's ceiling (the true map, drawn by the frozen decoder), the identical fit on random weights and
    every other run in ``controls/``, the mean of the training maps, the untouched generator, the picture taken for it.

    Args:
        adapter: run folder; an adapter file does too, without the baselines that need the run.
        data: name or folder.
        protocol: its name, or one of your own; ``ilora protocols`` lists them.
        split: of the data set.
        json: file for all numbers, NAME.json; NAME.csv with a row an image and method is written beside it.
        html: file for a page with tables and pictures; the page carries the numbers too.
        table: file for the table of all methods, .md for Markdown or .tex for LaTeX.
        config: default: ``EvaluateConfig()``.
        tally: who does the work; default: ``in_process``, in this process.

    Raises:
        ValueError: no such run, data, split or protocol, one that does not judge the adapter's intrinsic,
            ``images`` is below 1, or a file's name that is not of its kind.
    """
    _check_files(json, table)
    measured = measure(adapter, data, protocol=protocol, split=split, config=config, tally=tally)
    if json is not None:
        measured.evaluation.save(Path(json))
    if html is not None:
        write(Path(html), page(measured))
    if table is not None:
        tables.save(Path(table), summary_table(measured.evaluation))
    return measured.evaluation


def evaluate_each(
    adapter: str | Path,
    data: str = "rooms",
    *,
    intrinsics: str = ALL,
    config: EvaluateConfig | None = None,
    run: Callable[..., Evaluation] = evaluate,
    **asked: Any,
) -> list[Evaluation]:
    """``evaluate`` for every intrinsic that a run paints, or for those that are named, one after the other.

    Args:
        adapter: what ``evaluate`` takes; or a folder of run folders, each of which is evaluated for what it paints.
        intrinsics: ``all``, or names with commas between.
        run: what evaluates one; it takes the arguments of ``evaluate``.
        asked: its other arguments. Of several intrinsics, files get the name of theirs: ``rows.json`` is
            ``rows.normal.json``, and so on.

    Raises:
        FileNotFoundError: the run paints none of them.
        ValueError: as ``evaluate``.
    """
    config, results = config or EvaluateConfig(), []
    _check_files(asked.get("json"), asked.get("table"))
    sources = find([adapter], intrinsics=chosen(intrinsics))
    for source in sources:
        name, whole = source.intrinsic, Path(adapter).expanduser().is_dir() and source.path.name == FILE
        given = dict(asked)
        for file in ("json", "html", "table"):
            if len(sources) > 1 and given.get(file) is not None:
                path = Path(given[file])
                given[file] = path.with_suffix(f".{name}{path.suffix}")
        place = source.path.parent if whole else adapter
        results.append(run(place, data, config=config.replace(intrinsic=name), **given))
    return results


def _check_files(json: str | Path | None, table: str | Path | None) -> None:
    """Refuse names of files that would be written over each other or in no known form, before any work."""
    if table is not None:
        tables.check(Path(table))
    if json is not None and Path(json).suffix != ".json":
        raise ValueError(f"a CSV is written beside the file of all numbers, got {json} for the latter; end it in .json")


def measure(
    adapter: str | Path,
    data: str = "rooms",
    *,
    protocol: str | Protocol = DEFAULT,
    split: str = "test",
    config: EvaluateConfig | None = None,
    tally: Tallier | None = None,
) -> Measured:
    """What ``evaluate`` computes, together with what its page is made from; see there."""
    config = config or EvaluateConfig()
    bench = prepare(adapter, data, protocol=protocol, split=split, config=config)
    rule, expected = bench.protocol.rule(bench.kind.name), bench.notes
    if rule.metrics:
        expected += (f"{bench.protocol.name} expects {rule.expects}; these maps are {bench.kind.units}",)
    tallies = (tally or in_process)(bench, config)
    evaluation = Evaluation(
        names=tuple(bench.examples.names[: bench.count]),
        errors={method: tally.errors for method, tally in tallies.items()},
        primary=primary(bench.protocol, bench.kind.name),
        protocol=_protocol(bench, data=data, split=split, config=config),
        notes=expected + _left_out(bench.unread),
        resamples=config.resamples,
        seed=config.seed,
        **_pooled(tallies, config),
    )
    return Measured(evaluation, bench.examples, bench.painters, bench.kind, bench.protocol)


def prepare(adapter: str | Path, data: str, *, protocol: str | Protocol, split: str, config: EvaluateConfig) -> Bench:
    """Load the run, its baselines and the data; fits the control first where that is missing and wanted.

    Raises:
        ValueError: as ``evaluate``.
    """
    rules = named(protocol) if isinstance(protocol, str) else protocol
    run, given = Run(Path(adapter).expanduser()), {"generator": config.generator, "mirror": config.mirror}
    kinds = {} if config.intrinsic is None else {"intrinsics": (config.intrinsic,)}
    predictor = Predictor(adapter, device=config.device, **given, **kinds)
    if len(predictor.names) != 1:
        names = ", ".join(predictor.names)
        raise ValueError(f"expected one adapter, got those for {names} in {adapter}; evaluate each: --intrinsic NAME")
    name = predictor.names[0]
    rules.rule(name)  # refuses what the protocol does not judge, before anything is read
    examples = dataset(data, intrinsic=name, split=split, on_problem=config.on_problem)
    rule = matched(rules, name, judged=getattr(examples, "judged", False))  # and before anything is fitted
    count = len(examples) if config.images is None else min(len(examples), checks.positive("images", config.images))
    painters, notes = _painters(run, predictor, config)
    if rule.judged:
        del painters["codec_ceiling"]  # of a true map
    return Bench(predictor, painters, tuple(notes), examples, count, rules, config.on_problem)


def _painters(run: Run, predictor: Predictor, config: EvaluateConfig) -> tuple[dict[str, Painter], list[str]]:
    """The run and its baselines, in the order of the table, and notes about those that are left out."""
    name = predictor.names[0]
    kind, generator = predictor.intrinsic(name), predictor.generator
    painters: dict[str, Painter] = {
        OURS: partial(_predicted, predictor, name),
        "codec_ceiling": lambda image, map, valid: through_codec(generator, kind, map, valid),
    }
    notes = [] if run.config.is_file() else [f"{run.path} is no run folder: no fit on random weights, no mean map"]
    if run.config.is_file():
        notes += _control(run, config)
        painters |= _controls(run, predictor)
        painters["mean_map"] = _mean(run, kind)
    painters["untouched"] = lambda image, map, valid: predictor.maps(image, adapted=False)[name]
    painters["identity"] = lambda image, map, valid: kind.from_image(image)
    return painters, notes


def through_codec(generator: Generator, kind: Intrinsic, map: Map, valid: Valid) -> Map:
    """The true map as the frozen decoder draws it: no adapter can do better."""
    height, width = map.shape[-2:]
    image = resample.resize(kind.to_image(map, valid), *generator.size(height, width))
    with torch.no_grad():
        drawn = generator.decode(generator.target(image))
    return kind.resize(kind.from_image(drawn), height, width)


def _control(run: Run, config: EvaluateConfig) -> list[str]:
    """Fit the same on random weights where that is missing and wanted; otherwise a note."""
    fitted = FitConfig.read(read_json(run.config))
    if fitted.random_weights or fitted.method in ("scratch", *PROBES):
        return ["this run is a control itself: no fit on random weights beside it"]
    if config.controls:
        if not run.control(CONTROL).adapter.is_file():
            say(f"fitting the control, the same on random weights, in {run.control(CONTROL).path}")
        control(run.path, device=config.device)
    elif not run.control(CONTROL).adapter.is_file():
        return ["the fit on random weights was left out, as asked"]
    return []


def _controls(run: Run, predictor: Predictor) -> dict[str, Painter]:
    """Every finished control of a run, painted by the same generator in memory."""
    name, painters = predictor.names[0], {}
    for path in sorted((run.path / "controls").glob(f"*/{run.adapter.name}")):
        other = Predictor(path, generator=predictor.generator, intrinsics=(name,), mirror=predictor.mirror)
        painters[path.parent.name.replace("-", "_")] = partial(_predicted, other, name)
    return painters


def _predicted(predictor: Predictor, name: str, image: Image, map: Map, valid: Valid) -> Map:
    return predictor.maps(image)[name]


def _mean(run: Run, kind: Intrinsic) -> Painter:
    """The mean of the training maps, whatever the picture."""
    stored = load_file(run.mean)
    mean = stored.get("mean", stored.get(f"mean.{kind.name}"))[None]  # [1, c, h, w]
    return lambda image, map, valid: kind.resize(mean, *map.shape[-2:]).expand_as(map)


def _pooled(tallies: dict[str, Tally], config: EvaluateConfig) -> dict[str, Any]:
    """Fields of an evaluation whose protocol pools pixels; nothing for another."""
    if tallies[OURS].angles is None:
        return {}
    draws = {"resamples": config.resamples, "seed": config.seed}
    return {"pixels": tallies[OURS].pixels, "pooled": {name: one.summaries(**draws) for name, one in tallies.items()}}


def in_process(bench: Bench, config: EvaluateConfig) -> dict[str, Tally]:
    """Numbers of every method for all examples; those of one size are painted together."""
    tallies = {method: Tally(bench.count) for method in bench.painters}
    done = 0
    with progress("evaluate", bench.count) as tell:
        for group in grouped(bench.items(), key=lambda item: item[1].image.shape, batch=config.batch):
            note(tallies, [place for place, _ in group], bench.judge([example for _, example in group]))
            done += len(group)
            tell(done, "")
    return tallies


def note(tallies: dict[str, Tally], places: Sequence[int], verdicts: dict[str, Verdict]) -> None:
    """Add the numbers of a group to the tallies, in place."""
    for method, verdict in verdicts.items():
        tallies[method].add(torch.tensor(places), verdict)


def _left_out(unread: dict[str, str]) -> tuple[str, ...]:
    """Notes about examples that could not be read, the first ``SHOWN`` of them one by one."""
    if not unread:
        return ()
    lines = [f"left out, because it cannot be read: {name}: {reason}" for name, reason in unread.items()]
    more = [f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return (f"images without a number: {len(lines)}", *lines[:SHOWN], *more)


def _protocol(bench: Bench, *, data: str, split: str, config: EvaluateConfig) -> dict[str, Any]:
    """What the numbers depend on, in words and values."""
    rules, predictor, kind = bench.protocol, bench.predictor, bench.kind
    name, about = kind.name, predictor.sources[kind.name].about
    return {
        "name": rules.name,
        "source": rules.source,
        **facts(rules, name),
        "intrinsic": name,
        "units": kind.units,
        "generator": predictor.generator.name,
        "generator_fingerprint": predictor.generator.fingerprint,
        "adapter": predictor.digest(name),
        "data": data,
        "split": split,
        "data_fingerprint": bench.examples.fingerprint,
        "interval": f"95 % percentile bootstrap over images, {config.resamples} resamples, seed {config.seed}",
        "mirror": config.mirror,
        "fit": about.fit if about else {},
        "labels": len(about.data.get("labels", [])) if about else 0,
    }
