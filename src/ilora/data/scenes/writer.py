"""Scenes to disk: webdataset shards or a plain folder, in parallel, resumable, with whole files only."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import signal
import tarfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path

from ilora.data.scenes import files
from ilora.data.scenes.scene import split_seeds

SHARD = 250  # scenes a shard
FORMATS, PRODUCTS = ("webdataset", "folder"), ("picture", "all")


@dataclass(frozen=True)
class Written:
    """What a call of write() did."""

    rendered: int
    skipped: int  # scenes that an earlier call had finished
    failed: tuple[tuple[int, str], ...]  # absolute seed, message


def write(
    out: str | Path,
    count: int,
    *,
    size: int = 128,
    seed: int = 0,
    split: str = "pictures",
    format: str = "webdataset",
    products: str = "picture",
    samples: int | None = None,
    workers: int | None = None,
    shard: int = SHARD,
    progress: bool = True,
) -> Written:
    """Render `count` scenes into the folder `out`; what an interrupted call finished is kept and not made again.

    Args:
        seed: number of the first scene inside its split; file names carry the absolute seed.
        split: "pictures", "labelled", "validation" or "test" (disjoint: see scene.SPLITS).
        format: "webdataset" (tar shards) or "folder" (images/, normals/, ... with meta.toml, always with all maps).
        products: "picture" (image, caption, factors) or "all" (and the maps).
        samples: paths a pixel; 4 for pictures (33 dB from the converged picture), 64 with maps (42 dB).
        workers: processes, each of one thread; one for every core of this process (of the machine before Python 3.13).

    Raises:
        ValueError: a request that leaves its split, an unknown format or product, or a folder begun otherwise.
        ImportError: the extra `scenes` is not installed.
    """
    seeds = split_seeds(split, seed, count)
    _check(format, products, shard, workers)
    maps = format == "folder" or products == "all"
    samples = samples or (64 if maps else 4)
    out = Path(out)
    _same_settings(out / "about.json", {"format": format, "maps": maps, "size": size, "samples": samples})
    job = partial(files.scene_files, size=size, samples=samples, maps=maps, layout=format)
    sink = _Shards(out, seeds, shard) if format == "webdataset" else _Folder(out, seeds, size=size, samples=samples)
    return _run(sink, job, workers or _cores(), len(seeds), progress)


def _cores() -> int:
    """Cores that this process may use; before Python 3.13 those of the machine."""
    return getattr(os, "process_cpu_count", os.cpu_count)() or 1


def _check(format: str, products: str, shard: int, workers: int | None) -> None:
    """Refuse what cannot be done, and say once what is missing, not once a scene."""
    if format not in FORMATS or products not in PRODUCTS:
        raise ValueError(
            f"format must be one of {FORMATS} and products one of {PRODUCTS}, got {format!r} and {products!r}; "
            "choose among these"
        )
    if shard < 1 or (workers is not None and workers < 1):
        raise ValueError(f"shard and workers must be at least 1, got {shard} and {workers}; leave them out")
    missing = [name for name in ("mitsuba", "pyoidn") if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"rendering scenes needs {' and '.join(missing)}: pip install 'ilora[scenes]'")


def _same_settings(path: Path, about: dict) -> None:
    """Scenes of different settings must not mix in one folder."""
    if path.exists() and (before := json.loads(path.read_text())) != about:
        raise ValueError(f"{path.parent} was begun with {before}, got {about}; use the same settings or another folder")
    save(path, (json.dumps(about) + "\n").encode())


def _run(sink, job: Callable, workers: int, total: int, progress: bool) -> Written:
    """Render what the sink lacks, in order, and hand it over."""
    missing, failed = sink.missing(), []
    with _bar(progress) as bar:
        task = bar.add_task("scenes", total=total, completed=total - len(missing))
        for seed, result in parallel(job, missing, workers):
            if isinstance(result, str):
                failed.append((seed, result))
                bar.console.print(f"scene {seed} failed: {result}")
            sink.take(seed, None if isinstance(result, str) else result)
            bar.advance(task)
    sink.close()
    return Written(len(missing) - len(failed), total - len(missing), tuple(failed))


def _bar(show: bool):
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, disable=not show)


def parallel(job: Callable, seeds: Iterable[int], workers: int) -> Iterator[tuple[int, object]]:
    """(seed, job(seed)) in order; a failed scene gives its message as a string instead. One process runs here."""
    attempt, seeds = partial(_attempt, job), list(seeds)
    if workers == 1 or len(seeds) < 2:
        yield from ((seed, attempt(seed)) for seed in seeds)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin) as pool:
        try:
            yield from zip(seeds, pool.map(attempt, seeds), strict=True)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _begin() -> None:
    """One thread a process: on two cores, two such give 8.9 pictures/s, one of two threads 7.4 (8 paths a pixel)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops them
    os.environ["OIDN_NUM_THREADS"] = "1"
    import drjit

    drjit.set_thread_count(1)


def _attempt(job: Callable, seed: int):
    try:
        return job(seed)
    except Exception as error:  # one bad scene must not end a night's work
        return f"{type(error).__name__}: {error}"


def save(path: Path, data: bytes) -> None:
    """A whole file or none: written beside its place, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def tar(entries: Iterable[tuple[str, bytes]]) -> bytes:
    """Tar archive whose bytes depend on names and contents only."""
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in entries:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, BytesIO(data))
    return buffer.getvalue()


class _Shards:
    """rooms-{first seed:08d}.tar, `shard` scenes each."""

    def __init__(self, out: Path, seeds: range, shard: int) -> None:
        self.out, self.entries, self.total = out, [], len(seeds)
        self.shards = {s[0]: s for s in (seeds[i : i + shard] for i in range(0, len(seeds), shard))}
        self.last = {s[-1]: first for first, s in self.shards.items()}

    def _path(self, first: int) -> Path:
        return self.out / f"rooms-{first:08d}-{len(self.shards[first]):05d}.tar"

    def missing(self) -> list[int]:
        return [seed for first, seeds in self.shards.items() if not self._path(first).exists() for seed in seeds]

    def take(self, seed: int, scene: dict[str, bytes] | None) -> None:
        self.entries += [(f"{seed:08d}.{name}", data) for name, data in (scene or {}).items()]
        if seed in self.last:
            path = self._path(self.last[seed])
            save(path, tar(self.entries))
            self.entries = []
            for other in path.parent.glob(path.name[:15] + "*.tar"):  # the shorter end of a smaller request
                if other != path:
                    other.unlink()

    def close(self) -> None:
        """Every shard was saved when its last scene came."""


class _Folder:
    """images/, normals/, ... matched by name, meta.toml and captions.json."""

    def __init__(self, out: Path, seeds: range, **about) -> None:
        self.out, self.seeds = out, seeds
        save(out / "meta.toml", files.meta(**about).encode())

    def _record(self, seed: int) -> Path:
        return self.out / "scenes" / f"{seed:08d}.json"  # written last: the scene is complete when it is there

    def missing(self) -> list[int]:
        return [seed for seed in self.seeds if not self._record(seed).exists()]

    def take(self, seed: int, scene: dict[str, bytes] | None) -> None:
        for name, data in (scene or {}).items():
            folder, suffix = name.split(".")
            save(self.out / folder / f"{seed:08d}.{suffix}", data)

    def close(self) -> None:
        records = sorted((self.out / "scenes").glob("*.json"))
        captions = {path.stem: json.loads(path.read_text())["caption"] for path in records}
        save(self.out / "captions.json", (json.dumps(captions, indent=1) + "\n").encode())
