"""Inputs cut into shards: so many pictures of a folder, or one webdataset tar or Parquet file."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ilora import checks, images
from ilora.data.cache import content_hash
from ilora.predict import gather, named

SHARD = 64  # pictures of a folder that are done, and lost, together
PICTURES = "pictures"
PACKED = {".tar": "tar", ".parquet": "parquet"}  # suffix to layout


@dataclass(frozen=True)
class Shard:
    """What one worker does in one go.

    Attributes:
        name: unique; its record and its packed output are named after it.
        layout: ``pictures``, ``tar`` or ``parquet``.
        files: path by name: the pictures, or the one packed file.
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

    def content(self) -> str:
        """Hash of names and bytes; a file that is gone counts as such."""
        found = {name: Path(path) if Path(path).is_file() else None for name, path in self.files.items()}
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


def _inside(word: str | Path) -> list[Path | str]:
    """A folder's packed files, and the folder itself where it also holds pictures; else the word."""
    folder = Path(word).expanduser()
    if not folder.is_dir():
        return [word]
    packed = sorted(path for path in folder.iterdir() if path.suffix.lower() in PACKED and path.name[0] != ".")
    return [*([folder] if images.find(folder) or not packed else []), *packed]
