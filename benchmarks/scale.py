"""Pictures a second of one Ray worker and of several, and the ratio; beside it that of as many processes without Ray.

    python benchmarks/scale.py [--adapter RUN] [--pictures 192] [--workers 2] [--side 64] [--shard 8]

Without ``--adapter`` one of rank 8 with its starting weights is attached to ``rooms-diffusion``, which costs what a
fitted one does. Pictures are noise. Workers have one thread each. Nothing else should run: the cores are compared.

A rate is what workers do while all of them work: from the moment when each has finished its first shard, into which
the loading of its model falls, to the moment when the first of them has finished its last. Each worker's rate is that
of its own shards between the two, and the rates are added. One worker is measured in the same way. Seconds before and
after are in the time of the whole call, which is printed, too.

The processes without Ray share nothing, not even a queue. Their ratio is what memory and clock of this machine allow;
what Ray's is below it, Ray's own processes and ours cost.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ilora import cluster, images
from ilora.adapters import file, lora
from ilora.adapters.file import About
from ilora.config import AdapterConfig
from ilora.generators import load
from ilora.intrinsics import intrinsic
from ilora.scale.bulk import Crew, PredictJob, predict
from ilora.scale.jobs import Command


@dataclass(frozen=True)
class Timed(PredictJob):
    """``PredictJob`` that notes in a folder, a file a process, when each shard ended."""

    notes: str = ""

    def open(self) -> Command:
        """See ``Job``."""
        command = PredictJob.open(self)

        def timed(photos: dict[str, Path], out: Path) -> dict[str, str]:
            failed = command(photos, out)
            row = {"end": time.time(), "cpu": time.process_time(), "pictures": len(photos)}
            with (Path(self.notes) / f"{os.getpid()}.jsonl").open("a") as notes:
                notes.write(f"{json.dumps(row)}\n")
            return failed

        return timed


@dataclass(frozen=True)
class Rate:
    """Pictures a second of all workers together, and CPU seconds a picture inside them."""

    pictures: float
    cpu: float


def rate(notes: Path) -> Rate:
    """See the module.

    Raises:
        ValueError: a worker finished fewer than two shards while all worked.
    """
    rows = [[json.loads(line) for line in path.read_text().splitlines()] for path in sorted(notes.iterdir())]
    begin, end = max(each[0]["end"] for each in rows), min(each[-1]["end"] for each in rows)
    inside = [[row for row in each if begin <= row["end"] <= end] for each in rows]
    if min(map(len, inside)) < 2:
        raise ValueError(f"workers must work together for two shards each, got {[*map(len, inside)]}; more --pictures")
    done = [sum(row["pictures"] for row in each[1:]) for each in inside]
    pictures = sum(count / (each[-1]["end"] - each[0]["end"]) for count, each in zip(done, inside, strict=True))
    return Rate(pictures, sum(each[-1]["cpu"] - each[0]["cpu"] for each in inside) / sum(done))


def untrained(folder: Path, generator: str) -> Path:
    """An adapter for normals with the weights that a fit begins with."""
    base, config = load(generator), AdapterConfig()
    lora.attach(base.network, config, base.targets[config.targets])
    kind = intrinsic("normal")
    about = About(
        generator=generator, fingerprint=base.fingerprint, intrinsic=kind.name, units=kind.units, adapter=config
    )
    file.write(folder / file.FILE, lora.state(base.network), about)
    return folder


def alone(job: Timed, shards: Sequence[dict[str, Path]], out: Path) -> None:
    """One process without Ray: the same command on its share of the shards."""
    torch.set_num_threads(1)
    command = job.open()
    for number, shard in enumerate(shards):
        command(shard, out / str(number))


def without_ray(job: Timed, photos: Sequence[Path], out: Path, *, workers: int, shard: int) -> None:
    """As many processes, which get the shards in turn."""
    shards = [{path.stem: path for path in photos[start : start + shard]} for start in range(0, len(photos), shard)]
    spawn = multiprocessing.get_context("spawn")
    team = [spawn.Process(target=alone, args=(job, shards[part::workers], out / str(part))) for part in range(workers)]
    for process in team:
        process.start()
    for process in team:
        process.join()
    if any(process.exitcode for process in team):
        raise RuntimeError(f"every process must end well, got exit codes {[process.exitcode for process in team]}")


def with_ray(job: Timed, photos: Sequence[Path], out: Path, *, workers: int, shard: int) -> None:
    """``ilora predict --ray``."""
    predict(photos, job, out, crew=Crew(workers=workers, shard=shard))


def asked(words: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapter", type=Path, help="run folder or adapter file")
    parser.add_argument("--generator", default="rooms-diffusion", help="where there is no adapter")
    parser.add_argument("--pictures", type=int, default=192)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--side", type=int, default=64, help="of the pictures [px]")
    parser.add_argument("--shard", type=int, default=8, help="pictures that are done together")
    given = parser.parse_args(words)
    if given.pictures < 4 * given.shard * given.workers:
        parser.error(f"--pictures must be four shards a worker or more, got {given.pictures} by {given.shard}")
    return given


def main(words: Sequence[str] | None = None) -> None:
    """Print the rates and their ratios."""
    given = asked(words)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place, cluster.joined("auto"):
        folder, draws = Path(place), torch.Generator().manual_seed(0)
        for number in range(given.pictures):
            pixels = torch.randint(256, (3, given.side, given.side), generator=draws, dtype=torch.uint8)
            images.write_preview(folder / "photos" / f"{number:05d}.png", pixels, about={})
        photos = sorted((folder / "photos").iterdir())
        adapter = str(given.adapter or untrained(folder / "run", given.generator))
        for way, work in (("without Ray", without_ray), ("Ray", with_ray)):
            rates = {}
            for workers in (1, given.workers):
                notes = folder / f"{way} {workers}"
                notes.mkdir()
                job, begun = Timed((adapter,), formats=("npy",), notes=str(notes)), time.perf_counter()
                work(job, photos, folder / f"out {way} {workers}", workers=workers, shard=given.shard)
                whole, rates[workers] = time.perf_counter() - begun, rate(notes)
                each = f"{rates[workers].pictures:.2f} pictures a second, {rates[workers].cpu:.3f} CPU s each"
                print(f"{way}, {workers}: {each}; {len(photos)} in {whole:.1f} s with starting", flush=True)
            print(f"{way}: ratio {rates[given.workers].pictures / rates[1].pictures:.2f}", flush=True)


if __name__ == "__main__":
    main()
