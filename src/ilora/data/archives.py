"""Webdataset tars and Parquet files: which encoded files they hold, by record, and the bytes of one of them."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ilora import checks

TAR, PARQUET = ".tar", ".parquet"
NAMES = ("name", "key", "__key__", "id")  # columns of a Parquet file that name a row, the first of them that there is
OPEN = 4  # columns of row groups that are kept in memory


@dataclass(frozen=True)
class Member:
    """One encoded file.

    Attributes:
        shard: the tar or Parquet file that holds it.
        key: of its record, unique in the shard.
        ending: what comes behind the key and its dot, such as ``normal.npy``; in Parquet the column's name.
        place: first byte and number of bytes in a tar; row group and row in it.
    """

    shard: Path
    key: str
    ending: str
    place: tuple[int, int]

    def read(self) -> bytes:
        """Its bytes; none where a row has nothing in the column.

        Raises:
            ValueError: the shard cannot be read any more.
        """
        try:
            if self.shard.suffix.lower() == PARQUET:
                cell = _column(self.shard, self.shard.stat().st_mtime_ns, self.place[0], self.ending)[self.place[1]]
                value = cell.as_py()
                return (value["bytes"] if isinstance(value, dict) else value) or b""
            with self.shard.open("rb") as file:
                file.seek(self.place[0])
                return file.read(self.place[1])
        except (OSError, ValueError) as error:
            raise ValueError(_damaged(self.shard, error)) from error


def shards(folder: Path) -> list[Path]:
    """The tar and Parquet files in a folder, sorted; hidden ones are left out."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in (TAR, PARQUET) and path.name[0] != ".")


def members(shard: Path) -> list[Member]:
    """Every file of every record; of Parquet the columns of bytes, or of structs with ``bytes``.

    Raises:
        ValueError: the shard is damaged, or a compressed tar, in which no file can be reached alone.
        ImportError: pyarrow is missing.
    """
    checks.file(shard, "shard")
    try:
        return list(_rows(shard) if shard.suffix.lower() == PARQUET else _files(shard))
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:  # pyarrow's errors are of the last two kinds
        raise ValueError(_damaged(shard, error)) from error


def split(member: str) -> tuple[str, str]:
    """Key and ending of a tar's member, the ending with its dot: cut at the first dot of the file's name."""
    folder, slash, file = member.rpartition("/")
    stem, dot, extension = file.partition(".")
    return f"{folder}{slash}{stem}", dot + extension


def suffix(data: bytes) -> str:
    """The suffix that ``images.read`` and ``images.read_map`` need to see; Pillow looks at the content itself."""
    begins = ((b"\x93NUMPY", ".npy"), (b"PK", ".npz"), (b"v/1\x01", ".exr"), (b"\xff\xd8", ".jpg"),
              (b"II*\x00", ".tif"), (b"MM\x00*", ".tif"))  # fmt: skip
    return next((found for magic, found in begins if data.startswith(magic)), ".png")


def encoded(schema: Any) -> list[str]:
    """Columns of a ``pyarrow.Schema`` that hold encoded files: bytes, or structs with ``bytes``."""
    import pyarrow

    binary = (pyarrow.types.is_binary, pyarrow.types.is_large_binary)
    kinds = {field.name: field.type for field in schema}
    kinds |= {name: kind.field("bytes").type for name, kind in kinds.items()
              if pyarrow.types.is_struct(kind) and kind.get_field_index("bytes") >= 0}  # fmt: skip
    return [name for name, kind in kinds.items() if any(test(kind) for test in binary)]


def _files(shard: Path) -> Iterator[Member]:
    """Of a tar that is not compressed."""
    with tarfile.open(shard, "r:") as archive:
        for info in archive:
            key, ending = split(info.name)
            if info.isfile() and ending:
                yield Member(shard, key, ending[1:], (info.offset_data, info.size))


def _rows(shard: Path) -> Iterator[Member]:
    """Of a Parquet file; rows without a name are counted from 0."""
    file = _parquet(shard)
    columns, names = encoded(file.schema_arrow), file.schema_arrow.names
    label, number = next((name for name in NAMES if name in names and name not in columns), None), 0
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        given = file.read_row_group(group, columns=[label])[label].to_pylist() if label else [None] * count
        for row, name in enumerate(given):
            key = f"{number:08d}" if name is None else str(name)
            yield from (Member(shard, key, column, (group, row)) for column in columns)
            number += 1


@lru_cache(maxsize=OPEN)
def _column(shard: Path, changed: int, group: int, column: str) -> Any:
    """A column of a row group; ``changed`` [ns] tells the file from an older one of its name."""
    return _parquet(shard).read_row_group(group, columns=[column])[column]


def _parquet(shard: Path) -> Any:
    """The open Parquet file."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError("Parquet files need pyarrow: pip install 'ilora[ray]'") from error
    return pyarrow.parquet.ParquetFile(shard)


def _damaged(shard: Path, error: Exception) -> str:
    """One line about a shard that cannot be read."""
    return f"{shard} cannot be read: {' '.join(str(error).split())[:200]}; download or write it again, uncompressed"
