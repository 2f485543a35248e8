"""Labels from teachers: of photos, or of the pictures that a generator paints, as a folder that ``fit`` learns from."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ilora import checks, images, run
from ilora.data.cache import content_hash
from ilora.data.labels import Labels
from ilora.data.teachers.base import Teacher, ask
from ilora.generators import load
from ilora.generators.base import Generator
from ilora.intrinsics import intrinsic
from ilora.labelling import Book, Picture, content_of
from ilora.ops import color, resample
from ilora.predict import SHEET, find_photos, grouped
from ilora.records import Painted
from ilora.teacher import teacher
from ilora.team import default_device

SIDE = 1024  # px, of the longer side of a photo in the folder
TRIAL = 8  # pictures in a row whose labels cannot be true, after which their teacher is given up


@dataclass(frozen=True)
class Draw:
    """Pictures that a generator paints.

    Attributes:
        generator: one that is loaded, or what ``ilora.generators.load`` takes.
        count: of pictures.
        prompt: what to paint; families without text ignore it.
        seed: of the first picture; the next ones count up.
    """

    generator: str | Generator
    count: int
    prompt: str = ""
    seed: int = 0


@dataclass(frozen=True)
class Labelled:
    """What became of the pictures.

    Attributes:
        folder: in the layout that ``--data`` reads.
        names: of the pictures that were labelled now.
        skipped: names of those that were labelled before.
        failed: why, for each that is not in the folder.
        sheet: picture of the first ones that were labelled now, with their labels; None without any.
    """

    folder: Path
    names: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    sheet: Path | None = None


def label(
    source: Draw | str | Path | Sequence[str | Path] | Mapping[str, Path],
    by: Sequence[str | Teacher],
    out: str | Path,
    *,
    batch: int = 8,
    side: int = SIDE,
    device: str | None = None,
) -> Labelled:
    """Let teachers label pictures, and write a folder with ``meta.toml`` that ``fit`` and ``evaluate`` read.

    Labels that are there already, for the same content by the same teachers, stay. Pictures whose labels cannot be true
    are reported and left out; so is what cannot be read, and a photo whose name the labels of another one have. The
    folder also gets ``labels.jsonl``, a line a picture, and ``sheet.png``. Pictures of a generator come with the codes
    that they were painted from, which fits of that generator then begin at.

    Args:
        source: photos, folders and patterns of them, or files by name, or what a generator shall paint.
        by: teachers, or the names that ``ilora.teacher.teacher`` takes; one for each intrinsic.
        out: folder to write to, or to add to.
        batch: most pictures of one size that are labelled together.
        side: photos whose longer side is larger are made smaller [px]. Pictures of a generator keep their size.
        device: of teachers given by name and of the generator; None: the accelerator, if there is one.

    Raises:
        ValueError: no teacher, two for one intrinsic, a folder that was begun otherwise, or a teacher whose first
            ``TRIAL`` labels all cannot be true.
        FileNotFoundError: no such teacher or generator.
        FileExistsError: ``out`` holds something else.
    """
    checks.positive("batch", batch)
    checks.positive("side", side)
    teachers = [teacher(each, device=device) if isinstance(each, str) else each for each in by]
    if isinstance(source, Draw):
        checks.positive("count", source.count)
        painter = source.generator
        painter = load(painter, device=device or default_device()) if isinstance(painter, str) else painter
        book = Book(out, teachers, origin=origin(painter, source.prompt))
        result = Labelled(book.folder)
        pictures, total = _painted(source, painter, book=book, result=result, batch=batch), source.count
    else:
        book = Book(out, teachers, origin={})
        result = Labelled(book.folder)
        names = source if isinstance(source, Mapping) else find_photos(source, failed=result.failed)
        pictures, total = _photos(names, book=book, result=result, side=side), len(names)
    rows = _write(pictures, book, result, batch=batch, total=total)
    return Labelled(book.folder, result.names, result.skipped, result.failed, _sheet(rows, book) if rows else None)


def origin(painter: Generator, prompt: str) -> dict[str, str]:
    """What the pictures of a generator have in common, by word; see ``ilora.labelling.Book``."""
    return {"pictures": f"painted by {painter.name}, prompt {prompt!r}", "generator": painter.fingerprint}


def _write(
    pictures: Iterator[Picture], book: Book, result: Labelled, *, batch: int, total: int
) -> list[tuple[Picture, dict[str, Labels]]]:
    """Label and write picture after picture; the first ``SHEET`` of them, with their labels."""
    rows: list[tuple[Picture, dict[str, Labels]]] = []
    doubtful = 0
    groups = grouped(pictures, key=lambda picture: picture.picture.shape, batch=batch)
    with run.progress("label", total) as tell:
        for picture, labels, doubts in (row for group in groups for row in _answers(group, book, result)):
            if doubts:
                doubtful += 1
                run.fail(result.failed, picture.source, "; ".join(doubts))
                _give_up(doubtful, book, result)
            else:
                book.write(picture, labels)
                result.names.append(picture.name)
                rows += [(picture, labels)] if len(rows) < SHEET else []
            tell(len(result.names) + len(result.skipped) + len(result.failed), picture.name)
    return rows


def _give_up(doubtful: int, book: Book, result: Labelled) -> None:
    """Refuse teachers whose every label cannot be true, before they are asked for thousands."""
    if doubtful < TRIAL or result.names or result.skipped:
        return
    names = ", ".join(each.name for each in book.teachers)
    last = list(result.failed.values())[-1]
    raise ValueError(f"the first {doubtful} labels by {names} should be possible, got none that is; the last: {last}")


def _answers(
    group: list[Picture], book: Book, result: Labelled
) -> Iterator[tuple[Picture, dict[str, Labels], list[str]]]:
    """Each picture of one size with all labels and what cannot be true; a group that a teacher refuses is reported."""
    batch = torch.stack([picture.image for picture in group])
    try:
        answers = [ask(each, batch) for each in book.teachers]
    except ValueError as error:
        for picture in group:
            run.fail(result.failed, picture.source, str(error))
        return
    for picture, given in zip(group, zip(*answers, strict=True), strict=True):
        labels = {name: label for answer in given for name, label in answer.labels.items()}
        yield picture, labels, [doubt for answer in given for doubt in answer.doubts]


def _photos(names: Mapping[str, Path], *, book: Book, result: Labelled, side: int) -> Iterator[Picture]:
    """Photos one after the other; those that are done or cannot be read go to ``result``."""
    for name, path in names.items():
        try:
            content = content_of(path, side=side)
            if book.done(name, content):
                result.skipped.append(name)
                continue
            book.check_name(name, path, side=side)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                image = images.read(path)[None]
        except images.UNREADABLE as error:
            run.fail(result.failed, str(path), str(error))
            continue
        for line in dict.fromkeys(" ".join(str(warning.message).split()) for warning in caught):
            run.say(f"{path}: {line.removeprefix(f'{path} ')}")
        scale = min(1.0, side / max(image.shape[-2:]))
        height, width = (max(1, round(length * scale)) for length in image.shape[-2:])
        yield Picture(name, str(path), content, color.to_uint8((resample.resize(image, height, width) + 1) / 2)[0])


def _painted(draw: Draw, painter: Generator, *, book: Book, result: Labelled, batch: int) -> Iterator[Picture]:
    """Pictures that a generator paints, with their codes; those that are done go to ``result``."""
    contents = {
        checks.seed(draw.seed) + number: content_hash(painter.fingerprint, draw.prompt, draw.seed + number)[:32]
        for number in range(draw.count)
    }
    wanted = []
    for seed, content in contents.items():
        if book.done(f"{seed:05d}", content):
            result.skipped.append(f"{seed:05d}")
        else:
            wanted.append(seed)
    for start in range(0, len(wanted), batch):
        seeds = wanted[start : start + batch]
        drawn, codes = painter.sample(seeds, draw.prompt)
        for seed, picture, code in zip(seeds, color.to_uint8((drawn.float().cpu() + 1) / 2), codes.cpu(), strict=True):
            yield Picture(
                name=f"{seed:05d}",
                source=f"seed {seed}",
                content=contents[seed],
                picture=picture,
                painted=Painted(code.contiguous(), painter.fingerprint),
                about={"generator": painter.name, "prompt": draw.prompt, "seed": seed},
            )


def _sheet(rows: Sequence[tuple[Picture, dict[str, Labels]]], book: Book) -> Path:
    """Pictures beside their labels, a row each; what is not valid is black."""
    cells = []
    for picture, labels in rows:
        shown = [
            torch.where(labels[name].valid, intrinsic(name).show(labels[name].map[None])[0], 0) for name in book.names
        ]
        cells.append([picture.picture, *shown])
    sheet = images.contact_sheet(cells, ["picture", *book.names], names=[picture.name for picture, _ in rows])
    return images.write_preview(book.folder / "sheet.png", sheet, about={"labels": ", ".join(book.names)})
