"""The files of a study: one HTML page that needs nothing else, CSV, JSON, LaTeX and SVG."""

import csv
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ilora import tables
from ilora.config import unparse
from ilora.data import dataset
from ilora.evaluation import OURS
from ilora.images import replacing
from ilora.ops import color
from ilora.predictor import Predictor
from ilora.report import Drawing, Gallery, Page, Picture, Section, Table, number, write
from ilora.run import versions, write_json
from ilora.studies.answer import Answer, Question
from ilora.studies.cells import Cell, Outcome
from ilora.studies.plan import StudyConfig
from ilora.studies.sweep import finished

SHOWN = 3  # test pictures of the gallery
SERIES = 5  # points in it


def save(
    question: Question,
    config: StudyConfig,
    *,
    out: Path,
    outcomes: Sequence[Outcome],
    cells: Sequence[Cell],
    answer: Answer,
) -> Path:
    """Write everything that a study says beside each other in ``out``.

    Args:
        config: resolved.
        out: the study's folder.
        outcomes: a row of the CSV each.
        cells: the same with seeds pooled.

    Returns:
        The page.
    """
    name = question.name
    rows = [one.row() for one in outcomes]
    _write_csv(out / f"{name}.csv", rows)
    write_json(
        out / f"{name}.json",
        {
            "study": name,
            "asks": question.asks,
            "verdict": answer.verdict,
            "findings": answer.findings,
            "cells": [cell.row() for cell in cells],
            "points": rows,
            "config": config.write(),
            "command": command(name, config),
            "versions": versions(),
        },
    )
    for suffix in tables.FORMATS:
        tables.save(out / f"{name}{suffix}", answer.table)
    for figure in answer.figures:
        with replacing(out / f"{'-'.join(filter(None, (name, figure.name)))}.svg".replace("/", "_")) as partial:
            partial.write_text(figure.svg, encoding="utf-8")
    return write(out / f"{name}.html", _page(question, config, cells=cells, answer=answer))


def _write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def command(name: str, config: StudyConfig) -> str:
    """The words that ask the same again."""
    words = ["ilora", "study", name, "--out", "DIR"]
    for option, values in (("--generator", config.generators), ("--intrinsics", config.intrinsics)):
        words += [word for value in values for word in (option, value)]
    words += ["--checkpoints", *config.checkpoints] if config.checkpoints else []
    words += ["--data", config.data, "--seeds", str(config.seeds)] + ["--quick"] * config.quick
    words += ["--images", str(config.images)] if config.images else []
    words += [word for change in unparse(config.changes) for word in ("--set", change)]
    return shlex.join(words)


def _page(question: Question, config: StudyConfig, *, cells: Sequence[Cell], answer: Answer) -> Page:
    """The answer first, then what it looks like, what failed, and how it was made."""
    done = finished(cells)
    runs = [run for cell in done for run in cell.runs.values()]
    facts = {
        "generators": ", ".join(dict.fromkeys(Path(cell.fit.generator).name for cell in cells)),
        "data": f"{Path(config.data).name}, {config.split}, {len(runs[0].names) if runs else 0} images",
        "seeds": str(config.seeds),
        "updates": ", ".join(f"{name} {steps}" for name, steps in sorted({(c.fit.preset, c.fit.steps) for c in cells})),
        "points": f"{sum(len(cell.runs) for cell in cells)} of {sum(len(cell.outcomes) for cell in cells)} finished",
    }
    drawings = tuple(Drawing(figure.svg, figure.caption) for figure in answer.figures)
    sections = [Section("The answer", question.shows, (*drawings, answer.table)), *answer.sections]
    sections += [_gallery(done)] if done else []
    failed = [(f"{cell.series} {cell.at}", *_place(cell), problem) for cell in cells for problem in cell.problems]
    if failed:
        table = Table(("point", "generator", "intrinsic", "problem"), tuple(failed))
        sections.append(Section("Points that failed", "Tried twice; the same command tries them again.", (table,)))
    sections.append(_story(question.name, config, done))
    return Page(question.asks, answer.verdict, facts, tuple(sections))


def _place(cell: Cell) -> tuple[str, str]:
    return cell.fit.generator, cell.fit.intrinsic


def _gallery(done: Sequence[Cell]) -> Section:
    """A few test pictures, the truth, and the maps of the best point of each series with the first one's intrinsic."""
    kind, data = done[0].fit.intrinsic, done[0].fit.data
    best: dict[str, Cell] = {}
    for cell in (cell for cell in done if cell.fit.intrinsic == kind):
        if cell.series not in best or cell.error().mean < best[cell.series].error().mean:
            best[cell.series] = cell
    chosen = list(best.values())[:SERIES]
    run = next(iter(chosen[0].runs.values()))
    count = len(run.names)
    places = sorted({index * count // SHOWN for index in range(SHOWN)})
    examples = dataset(data, intrinsic=kind, split=run.protocol["split"], on_problem="skip")
    columns = [[_photo(examples[place].image, examples[place].name) for place in places]]
    columns += [[]]
    for cell in chosen:
        columns.append([])
        first = next(one for one in cell.outcomes if one.evaluation)
        how = first.work.evaluation
        predictor = Predictor(first.work.run.path, generator=how.generator, device=how.device, mirror=how.mirror)
        intrinsic = predictor.intrinsic(kind)
        for place in places:
            map = predictor(examples[place].image)[kind][None]
            error = first.evaluation.errors[OURS][first.evaluation.primary][place].item()
            columns[-1].append(Picture(intrinsic.show(map)[0], number(error)))
    for place in places:
        example = examples[place]
        truth = torch.where(example.valid, example.map, torch.nan)[None]
        columns[1].append(Picture(intrinsic.show(truth)[0], "truth"))
    heads = ("photo", "truth", *(f"{cell.series}, {cell.at}" for cell in chosen))
    gallery = Gallery(heads, tuple(zip(*columns, strict=True)), f"Below each map its {chosen[0].metric}.")
    return Section("What it looks like", f"Test pictures and {kind}: the best point of each kind.", (gallery,))


def _photo(image: torch.Tensor, name: str) -> Picture:
    return Picture(color.to_uint8((image[None] + 1) / 2)[0], name)


def _story(name: str, config: StudyConfig, done: Sequence[Cell]) -> Section:
    """The command, the protocol of the numbers, the versions."""
    protocol = next(iter(done[0].runs.values())).protocol if done else {}
    facts = {key: protocol[key] for key in ("metrics", "aggregation", "size") if key in protocol}
    facts |= {"intervals": f"95 % percentile bootstrap over seeds and images, {config.resamples} resamples"}
    facts |= {"versions": ", ".join(f"{library} {version}" for library, version in versions().items())}
    rows = tuple((key, str(value)) for key, value in facts.items())
    text = f"{command(name, config)}\nBeside this page: {name}.csv, {name}.json, {name}.md, {name}.tex, {name}.svg."
    return Section("How it was made", text, (Table(("", ""), rows),))
