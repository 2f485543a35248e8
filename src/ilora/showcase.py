"""The page of an evaluation: the result, its table, how it is spread over the images, and pictures good and bad."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ilora.data.base import Dataset
from ilora.evaluation import BOUNDS, OURS, Evaluation, label, ranged
from ilora.intrinsics.base import Intrinsic
from ilora.ops import color, resample
from ilora.protocols import Protocol, apart, gap
from ilora.records import Example, Image, Map, Valid
from ilora.report import Bar, Bars, Gallery, Histogram, Page, Picture, Section, Table, number
from ilora.tables import latex, markdown

SIDE = 256  # longest side of a picture on the page [px]
EACH = 2  # images shown from each end and from the middle
SHEET = 24  # images on the contact sheet
MEANINGS = {
    OURS: "this run.",
    "codec_ceiling": "the true map, drawn by the frozen decoder; no adapter can do better.",
    "random_weights": "the identical fit on a network of random weights: what the labels alone give.",
    "mean_map": "one answer for all pictures.",
    "untouched": "the generator's own answer when asked for the map.",
    "identity": "the photo itself, taken for the map.",
}
CITED = ("random_weights", "mean_map")  # baselines that the headline names

Painter = Callable[[Image, Map, Valid], Map]  # pictures, true maps and masks in; maps at the truth's size out


@dataclass(frozen=True)
class Measured:
    """An evaluation, and what pictures of it are made from.

    Attributes:
        evaluation: the numbers.
        examples: the data set; its first ones were evaluated.
        painters: every method, by the names in ``evaluation``.
        kind: the intrinsic.
        rules: the protocol.
    """

    evaluation: Evaluation
    examples: Dataset
    painters: Mapping[str, Painter]
    kind: Intrinsic
    rules: Protocol


def page(measured: Measured) -> Page:
    """The page of one evaluation."""
    evaluation = measured.evaluation
    protocol, fit = evaluation.protocol, evaluation.protocol["fit"]
    facts = {
        "protocol": f"{protocol['name']}: {protocol['aggregation']}",
        "generator": protocol["generator"],
        "data": f"{Path(protocol['data']).name}, {protocol['split']}, {len(evaluation.names)} images",
        "adapter": f"{fit.get('method', '?')}, rank {fit.get('rank', '?')}, {fit.get('targets', '?')}",
        "labels": str(protocol["labels"]),
        "seed": str(fit.get("seed", "?")),
        "metrics": protocol["metrics"],
        "interval": protocol["interval"],
        "units": protocol["units"],
    }
    sections = (result(evaluation), extremes(measured), sheet(measured))
    title = f"{measured.kind.name} from {protocol['generator']}"
    return Page(title, headline(evaluation), facts, sections, files(evaluation))


def files(evaluation: Evaluation) -> dict[str, str]:
    """The numbers behind the page: all of them, a row an image, and the table for a README or a paper."""
    shown = table(evaluation)
    return {
        "evaluation.json": json.dumps(evaluation.write(), indent=1),
        "rows.csv": evaluation.csv(),
        "table.md": markdown(shown),
        "table.tex": latex(shown),
    }


def headline(evaluation: Evaluation) -> str:
    """The result in a sentence: the error, and what share of the baselines' errors that is."""
    cited = [name for name in CITED if name in evaluation.errors]
    shares = [f"{number(evaluation.ratio(name).value)} × {label(name)}" for name in cited]
    result = f"{_words(evaluation.primary)} {number(evaluation.summary(OURS).mean)}"
    return f"{result}: {', '.join(shares)}" if shares else result


def result(evaluation: Evaluation) -> Section:
    """Bars of the primary metric, the table of all metrics, and how the primary one is spread over the images."""
    kinds = {OURS: "ours"} | dict.fromkeys(BOUNDS, "bound")
    bars = []
    for method in evaluation.errors:
        summary = evaluation.summary(method)
        kind = kinds.get(method, "baseline")
        bars.append(Bar(label(method), summary.mean, low=summary.low, high=summary.high, kind=kind))
    primary = _words(evaluation.primary)
    spread = tuple(evaluation.errors[OURS][evaluation.primary].tolist())
    words = [f"{label(name)}: {meaning}" for name, meaning in MEANINGS.items() if name in evaluation.errors]
    how = evaluation.protocol["aggregation"]
    blocks = (
        Bars(tuple(bars), primary, f"{primary}, {how}, with its 95 % interval; lower is better"),
        table(evaluation),
        Histogram(spread, primary, f"{primary} of each image"),
    )
    return Section("Result", "\n".join([*words, *evaluation.notes]), blocks)


def table(evaluation: Evaluation) -> Table:
    """Means of all metrics for all methods, with the interval of the primary one."""
    rows = []
    for method in evaluation.errors:
        first, *others = (evaluation.summary(method, metric) for metric in evaluation.metrics)
        cells = [ranged(first.mean, first.low, first.high), *(number(summary.mean) for summary in others)]
        rows.append((label(method), *cells))
    names = [_words(metric) for metric in evaluation.metrics]
    how, protocol = "Pooled over the pixels of" if evaluation.pooled else "Means over", evaluation.protocol
    caption = f"{how} {len(evaluation.names)} images, protocol {protocol['name']}. {protocol['metrics']}"
    strong = frozenset({list(evaluation.errors).index(OURS)})
    return Table(("method", f"{names[0]} [95 %]", *names[1:]), tuple(rows), caption, strong)


def extremes(measured: Measured) -> Section:
    """The best, middle and worst images with the maps of all methods and the error of the adapter."""
    evaluation, order = measured.evaluation, measured.evaluation.order()
    middle = max(0, len(order) // 2 - EACH // 2)
    chosen = dict.fromkeys([*order[:EACH], *order[middle : middle + EACH], *order[-EACH:]])
    rows = tuple(_row(measured, place) for place in chosen)
    columns = ("photo", "truth", "adapter", "error", *(label(name) for name in evaluation.baselines))
    scale = gap(measured.rules, measured.kind.name)
    caption = (
        f"Error of the adapter: {scale.words}, as {measured.rules.name} aligns and compares, from violet, 0, to pale "
        f"yellow, {scale.most:g} and more; black does not count."
    )
    text = f"Ordered by {_words(evaluation.primary)}, which stands below each photo and each method's map."
    return Section("Best, middle, worst", text, (Gallery(columns, rows, caption),))


def sheet(measured: Measured) -> Section:
    """The first images that have a number, each with the truth and the adapter's map, two in a row."""
    kind, cells = measured.kind, list[tuple[Picture, ...]]()
    for example in (measured.examples[place] for place in sorted(measured.evaluation.order())[:SHEET]):
        map = _painted(measured.painters[OURS], example)
        cells.append((_photo(example), _shown(kind, example.map, "truth"), _shown(kind, map, "adapter")))
    rows = tuple(sum(cells[first : first + 2], ()) for first in range(0, len(cells), 2))
    gallery = Gallery(("photo", "truth", "adapter") * 2, rows)
    return Section("Sheet", f"The first {len(cells)} images of the split that have a number.", (gallery,))


def _row(measured: Measured, place: int) -> tuple[Picture, ...]:
    """Photo, truth, the adapter's map and its error, and the baselines' maps of one image."""
    evaluation, kind, example = measured.evaluation, measured.kind, measured.examples[place]
    maps = {method: _painted(paint, example) for method, paint in measured.painters.items()}
    errors = {method: number(evaluation.errors[method][evaluation.primary][place].item()) for method in maps}
    wrong = _wrong(measured, maps[OURS], example)
    return (
        _photo(example),
        _shown(kind, torch.where(example.valid, example.map, torch.nan), "truth"),
        _shown(kind, maps[OURS], errors[OURS]),
        Picture(_small(wrong)[0], "error"),
        *(_shown(kind, maps[method], errors[method]) for method in evaluation.baselines),
    )


def _painted(paint: Painter, example: Example) -> Float[Tensor, "c h w"]:
    """A method's map of one example."""
    return paint(example.image[None], example.map[None], example.valid[None])[0].cpu()


def _wrong(measured: Measured, map: Float[Tensor, "c h w"], example: Example) -> UInt8[Tensor, "1 3 h w"]:
    """How far a map is off under the protocol, in colour; black where a pixel does not count."""
    rules, name = measured.rules, measured.kind.name
    error, counted = apart(rules, name, map[None], example.map[None], example.valid[None])
    return color.to_uint8(torch.where(counted, color.heat(error.float() / gap(rules, name).most), 0))


def _photo(example: Example) -> Picture:
    """The picture under its name."""
    return Picture(_small(color.to_uint8((example.image[None] + 1) / 2))[0], example.name)


def _shown(kind: Intrinsic, map: Float[Tensor, "c h w"], words: str) -> Picture:
    """A map as people see it."""
    return Picture(_small(kind.show(map[None]))[0], words)


def _small(pixels: UInt8[Tensor, "b 3 h w"]) -> UInt8[Tensor, "b 3 rows columns"]:
    """Pictures no larger than ``SIDE``."""
    height, width = pixels.shape[-2:]
    scale = min(1.0, SIDE / max(height, width))
    sized = resample.resize(pixels / 255, max(1, round(height * scale)), max(1, round(width * scale)))
    return color.to_uint8(sized)


def _words(metric: str) -> str:
    return metric.replace("_", " ")
