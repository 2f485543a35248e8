"""Inputs cut into shards: so many pictures of a folder, one webdataset tar or Parquet file, or so many seeds."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ilora import checks, images
from ilora.data.cache import content_hash
from ilora.predict import gather, named

SHARD = 64  # pictures of a folder that are done, and lost, together
PICTURES = "pictures"
SEEDS = "seeds"
PACKED = {".tar": "tar", ".parquet": "parquet"}  # suffix to layout


@dataclass(frozen=True)
class Shard:
    """What one worker does in one go.

    Attributes:
        name: unique; its record and its packed output are named after it.
        layout: ``pictures``, ``tar``, ``parquet`` or ``seeds``.
        files: path by name: the pictures, or the one packed file; of seeds, words for people.
        column: of the encoded pictures in a Parquet file; None: the only one that there is.
    """

    name: str
    layout: str
    files: dict[str, str]
    column: str | None = None

    @property
    def path(self) -> Path:
        """The packed file, or the first picture."""
        return Path(next(iter(self.files.values())))

    @property
    def packed(self) -> bool:
        """Whether it is one file of many pictures, and what is made of it one, too."""
        return self.layout in PACKED.values()

    def content(self) -> str:
        """Hash of names and bytes; a file that is gone counts as such, and so does a seed, which is its name."""
        there = {name: Path(path) for name, path in self.files.items() if self.layout != SEEDS and Path(path).is_file()}
        found = {name: there.get(name) for name in self.files}
        return content_hash(self.layout, self.column, list(found), list(found.values()))

    def write(self) -> str:
        """JSON that ``read`` takes back."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> "Shard":
        """The shard that ``write`` wrote."""
        return cls(**json.loads(text))


def cut(
    words: Sequence[str | Path], *, failed: dict[str, str], size: int = SHARD, column: str | None = None
) -> list[Shard]:
    """The shards behind files, folders and patterns; in a folder, tar and Parquet files count beside the pictures.

    Args:
        failed: words without any file are added to it, with the reason.
        size: pictures a shard, of those that are in no packed file.
        column: see ``Shard``.
    """
    checks.positive("size", size)
    paths = gather([inner for word in words for inner in _inside(word)], failed=failed)
    packed = named([path for path in paths if path.suffix.lower() in PACKED])
    loose = list(named([path for path in paths if path.suffix.lower() not in PACKED]).items())
    shards = [
        Shard(
            f"{PICTURES}-{start // size:06d}", PICTURES, {name: str(path) for name, path in loose[start : start + size]}
        )
        for start in range(0, len(loose), size)
    ]
    return shards + [
        Shard(name, PACKED[path.suffix.lower()], {name: str(path)}, column) for name, path in packed.items()
    ]


def sow(seeds: range, *, size: int = SHARD, batch: int) -> list[Shard]:
    """Shards of seeds, in order; more seeds behind the last add shards and complete the last one.

    Args:
        size: seeds a shard, made a multiple of ``batch`` so that pictures are painted in the groups of one process.
        batch: seeds that are painted together.
    """
    checks.positive("size", size)
    size = max(size // checks.positive("batch", batch), 1) * batch
    parts = [seeds[start : start + size] for start in range(0, len(seeds), size)]
    return [
        Shard(f"{SEEDS}-{number:06d}", SEEDS, {f"{seed:05d}": f"seed {seed}" for seed in part})
        for number, part in enumerate(parts)
    ]


def _inside(word: str | Path) -> list[Path | str]:
    """A folder's packed files, and the folder itself where it also holds pictures; else the word."""
    folder = Path(word).expanduser()
    if not folder.is_dir():
        return [word]
    packed = sorted(path for path in folder.iterdir() if path.suffix.lower() in PACKED and path.name[0] != ".")
    return [*([folder] if images.find(folder) or not packed else []), *packed]
