"""Many pictures by many workers: what is written is whole and there once, what is finished is never done again."""

import contextlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from ilora import checks, cluster, run
from ilora.data.cache import content_hash
from ilora.images import replacing
from ilora.label import Draw, origin
from ilora.labelling import Book
from ilora.scale.jobs import Command, DrawJob, Job, LabelJob, PredictJob
from ilora.scale.layouts import LAYOUTS, Unpacked
from ilora.scale.pool import Act, spread
from ilora.scale.shards import PICTURES, SEEDS, SHARD, Shard, cut, sow

RECORDS = ".shards"  # in the output folder: a record a finished shard, and what is not finished
FAILURES = "failures.jsonl"  # in the output folder: a line a record that could not be used
SHEET = "sheet.png"
TOLD = 20  # failures that are also told to the person at the terminal


@dataclass(frozen=True)
class Bulk:
    """What became of the shards.

    Attributes:
        folder: of the files, the command's log, ``failures.jsonl`` and ``sheet.png``.
        done: names of the shards that were finished now.
        skipped: of those that were finished before.
        pictures: how many have files.
        failed: rows of ``failures.jsonl``: shard, tar or Parquet file, input and reason each.
    """

    folder: Path
    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    pictures: int = 0
    failed: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Crew:
    """Who works.

    Attributes:
        address: of the cluster; see ``ilora.cluster.joined``.
        workers: processes, each with the model of its own.
        shard: pictures of a folder that are done together.
        column: of the encoded pictures in Parquet files.
    """

    address: str = "auto"
    workers: int = 1
    shard: int = SHARD
    column: str | None = None


def predict(photos: Sequence[str | Path], job: PredictJob, out: str | Path, *, crew: Crew | None = None) -> Bulk:
    """Maps of pictures in folders, webdataset tars and Parquet files, by Ray's workers.

    Pictures in folders get the files of ``ilora.predict.predict``; a tar or Parquet file gets one of its kind, of its
    name. A shard whose pictures, adapters and formats are those of a record in ``out`` is not done again. What cannot
    be read or predicted goes to ``failures.jsonl`` and the rest goes on.

    Args:
        photos: files, folders and patterns.
        job: what is done with them.
        out: folder to write to; all machines must see it, and the inputs, under the same path.
        crew: who works; default: one worker on this machine.

    Raises:
        ValueError: no adapter, or an output that would replace an input.
        ImportError: Ray or pyarrow is missing.
        ConnectionError: no cluster at the address.
    """
    crew, out, lost = crew or Crew(), checks.output(out).absolute(), {}
    shards = cut(photos, failed=lost, size=crew.shard, column=crew.column)
    return _all(shards, job, Bulk(out, failed=_lost(lost)), identity=job.identity(), crew=crew)


def label(source: Draw | Sequence[str | Path], job: LabelJob, out: str | Path, *, crew: Crew | None = None) -> Bulk:
    """Teachers' labels of pictures in folders, webdataset tars and Parquet files, by Ray's workers; see ``predict``.

    Or of what a generator paints: then each worker also holds the generator, shards are seeds, and the files, codes
    too, are those of ``ilora.label.label`` with as many threads. More pictures may be added by a larger ``count``.
    The folder belongs to these teachers, and to this generator, prompt and first seed: it must be empty, or begun by
    the same call.

    Raises:
        FileExistsError: the folder holds something else.
        ValueError, ImportError, ConnectionError: as ``predict`` and ``ilora.label.label``; or the name of a photo is
            taken by the labels of another one.
    """
    crew, folder, lost = crew or Crew(), checks.output(out).absolute(), {}
    teachers = job.load("cpu")
    if isinstance(source, Draw):
        drawn = DrawJob(source, job)
        painter = drawn.load("cpu")
        seeds = range(checks.seed(source.seed), source.seed + checks.positive("count", source.count))
        shards = sow(seeds, size=crew.shard, batch=job.batch)
        work, identity, common = drawn, drawn.identity(teachers, painter), origin(painter, source.prompt)
    else:
        shards = cut(source, failed=lost, size=crew.shard, column=crew.column)
        work, identity, common = job, job.identity(teachers), {}
    _own(folder, identity)
    book = Book(folder, teachers, origin=common)  # writes meta.toml
    for shard in (shard for shard in shards if shard.layout == PICTURES):
        for name, path in shard.files.items():
            book.check_name(name, Path(path), side=job.side)
    return _all(shards, work, Bulk(folder, failed=_lost(lost)), identity=identity, crew=crew)


def told(found: Bulk) -> str:
    """One line about what became of the shards."""
    shards = f"{len(found.done) + len(found.skipped)} shards ({len(found.skipped)} there already)"
    return f"{found.pictures} pictures in {shards}, {len(found.failed)} failed: {found.folder}"


def _own(folder: Path, identity: str) -> None:
    """Begin a folder of labels, or go on with it, if it was begun for the same."""
    owner = folder / RECORDS / ".owner.json"
    begun = run.read_json(owner)["job"] if owner.is_file() else None
    if begun != identity and any(folder.iterdir()):
        raise FileExistsError(f"{folder} must be empty or begun by the same teachers (and generator, prompt and seed) "
                              "with --ray, got other files; choose another --out")  # fmt: skip
    run.write_json(owner, {"job": identity})


def _all(shards: Sequence[Shard], job: Job, result: Bulk, *, identity: str, crew: Crew) -> Bulk:
    """Every shard, then the files that are made of all of them; ``result`` knows what was lost before."""
    cluster.need("pyarrow", "pandas")
    checks.positive("workers", crew.workers)
    out = result.folder
    checks.apart(out, (path for shard in shards if shard.layout != SEEDS for path in shard.files.values()))
    _sweep(out)
    answers = spread(
        [shard.write() for shard in shards],
        partial(start, job, identity, str(out)),
        address=crew.address,
        workers=crew.workers,
        device=job.device,
    )
    with run.progress(job.verb, len(shards)) as tell:
        for count, answer in enumerate(answers, start=1):
            shard = shards[answer.number]
            if answer.problem:
                result.failed.append(_failure(shard, shard.name, answer.problem))
            else:
                (result.skipped if answer.value == b"skipped" else result.done).append(shard.name)
            tell(count, shard.name)
    _sweep(out)
    return _merged(shards, job, result)


def start(job: Job, identity: str, out: str) -> Act:
    """What a worker does with shards; nothing is loaded before the first one that is not finished."""
    loaded: list[Command] = []

    def act(task: str) -> bytes:
        shard, folder = Shard.read(task), Path(out)
        key = content_hash(identity, shard.content())
        if finished(folder, shard, key):
            return b"skipped"
        if not loaded:
            loaded.append(job.open())
        record = _make(shard, loaded[0], folder, job.log)
        run.write_json(_record(folder, shard), {"key": key} | record)
        return b"done"

    return act


def finished(out: Path, shard: Shard, key: str) -> bool:
    """Whether a record says that these pictures were done so, and all that it names is there."""
    path = _record(out, shard)
    if not path.is_file():
        return False
    record = run.read_json(path)
    return record["key"] == key and all((out / file).is_file() for file in record["files"])


def _make(shard: Shard, command: Command, out: Path, log: str) -> dict[str, Any]:
    """Do a shard aside, then put what came of it in its place; the record's rows, files and failures."""
    layout, made = LAYOUTS[shard.layout], out / RECORDS / f"{shard.name}.{uuid4().hex}.partial"
    try:
        with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):  # so that no file tells of the folder
            found = layout.unpack(shard, Path(place))
            made.mkdir(parents=True)
            failed = command(found.photos, made) if found.photos else {}
        files = layout.pack(shard, found, made=made, out=out)
        if (made / SHEET).is_file():
            (made / SHEET).replace(_record(out, shard).with_suffix(".png"))
        rows = [_row(json.loads(line), shard, found) for line in _lines(made / log)]
    finally:
        shutil.rmtree(made, ignore_errors=True)
    named = {str(path): found.keys[name] for name, path in found.photos.items()}
    failed = found.failed | {named.get(word, word): reason for word, reason in failed.items()}
    return {"files": files, "rows": rows, "failed": [_failure(shard, *each) for each in failed.items()]}


def _row(row: dict[str, Any], shard: Shard, found: Unpacked) -> dict[str, Any]:
    """A line of the command's log; of a packed shard under the record's own key, and with the shard."""
    if not shard.packed:
        return row
    row = {word: value for word, value in row.items() if word not in ("files", "input", "source")}
    return row | {"name": found.keys[row["name"]], "shard": shard.path.name}


def _merged(shards: Sequence[Shard], job: Job, result: Bulk) -> Bulk:
    """Log, report and sheet of the whole, from the records of the shards."""
    out, rows, failed, sheet = result.folder, [], list(result.failed), None
    finished = {*result.done, *result.skipped}
    for shard in (shard for shard in shards if shard.name in finished):
        record, picture = run.read_json(_record(out, shard)), _record(out, shard).with_suffix(".png")
        rows, failed = rows + record["rows"], failed + record["failed"]
        sheet = sheet or (picture if picture.is_file() else None)
    for row in failed[:TOLD]:
        run.say(f"{row['input']}: {row['reason']}")
    if len(failed) > TOLD:
        run.say(f"and {len(failed) - TOLD} more: {out / FAILURES}")
    for name, lines in ((job.log, rows), (FAILURES, failed)):
        with replacing(out / name) as partial_:
            partial_.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    if sheet is not None:
        with replacing(out / SHEET) as partial_:
            shutil.copyfile(sheet, partial_)
    return Bulk(out, result.done, result.skipped, len(rows), failed)


def _sweep(out: Path) -> None:
    """Remove what workers that were lost had begun."""
    for path in (out / RECORDS).glob("*.partial"):
        shutil.rmtree(path, ignore_errors=True)


def _record(out: Path, shard: Shard) -> Path:
    return out / RECORDS / f"{shard.name}.json"


def _lost(words: dict[str, str]) -> list[dict[str, str]]:
    """Lines of the report about words without any file."""
    return [_failure(None, *row) for row in words.items()]


def _failure(shard: Shard | None, word: str, reason: str) -> dict[str, str]:
    """A line of the report."""
    where = {} if shard is None else {"shard": shard.name}
    where |= {"file": shard.path.name} if shard is not None and shard.packed else {}
    return where | {"input": word, "reason": reason}


def _lines(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
