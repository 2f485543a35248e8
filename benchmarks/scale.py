"""Pictures a second of one Ray worker and of several, and the ratio.

    python benchmarks/scale.py [--adapter RUN] [--pictures 64] [--workers 2] [--side 128] [--shard 8]

Without ``--adapter`` one of rank 8 with its starting weights is attached to ``rooms-diffusion``, which costs what a
fitted one does. Pictures are noise. Workers have one thread each. A first call with one picture a worker, which is not
counted, starts Ray. Each counted call begins with the loading of the model in every worker; the rate is that of the
shards after the first of each worker.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from ilora import cluster, images
from ilora.adapters import file, lora
from ilora.adapters.file import About
from ilora.config import AdapterConfig
from ilora.generators import load
from ilora.intrinsics import intrinsic
from ilora.scale.bulk import RECORDS, Crew, PredictJob, predict


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


def main(words: Sequence[str] | None = None) -> None:
    """Print the rates of both and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapter", type=Path, help="run folder or adapter file")
    parser.add_argument("--generator", default="rooms-diffusion", help="where there is no adapter")
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--side", type=int, default=128, help="of the pictures [px]")
    parser.add_argument("--shard", type=int, default=8, help="pictures that are done together")
    given = parser.parse_args(words)
    if given.pictures % given.shard or given.pictures // given.shard < 2 * given.workers:
        parser.error(f"--pictures must be whole shards, two or more a worker, got {given.pictures} of {given.shard}")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place, cluster.joined("auto"):
        folder, draws = Path(place), torch.Generator().manual_seed(0)
        for number in range(given.pictures):
            pixels = torch.randint(256, (3, given.side, given.side), generator=draws, dtype=torch.uint8)
            images.write_preview(folder / "photos" / f"{number:05d}.png", pixels, about={})
        job = PredictJob((str(given.adapter or untrained(folder / "run", given.generator)),), formats=("npy",))
        first = sorted((folder / "photos").iterdir())[: given.workers]
        predict(first, job, folder / "warm", crew=Crew(workers=given.workers, shard=1))
        rates = {}
        for workers in (1, given.workers):
            begun, out = time.perf_counter(), folder / f"by-{workers}"
            found = predict([folder / "photos"], job, out, crew=Crew(workers=workers, shard=given.shard))
            whole = time.perf_counter() - begun
            ends = sorted(path.stat().st_mtime for path in (out / RECORDS).glob("*.json"))[workers - 1 :]
            rates[workers] = given.shard * (len(ends) - 1) / (ends[-1] - ends[0])
            print(f"{workers} workers: {found.pictures} pictures in {whole:.1f} s; then {rates[workers]:.2f} a second")
    print(f"ratio {rates[given.workers] / rates[1]:.2f}")


if __name__ == "__main__":
    main()
