"""How shards are laid out: pictures as files in, the files that a command made of them out, in the shard's own form."""

import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable
from urllib.parse import quote

from ilora import images
from ilora.data import archives
from ilora.data.labels import READERS
from ilora.labelling import PICTURES
from ilora.predict import LONGEST
from ilora.scale.shards import Shard

KINDS = {PICTURES: "", **{reader.folder: f"{kind}." for kind, reader in READERS.items()}}  # of a labels' folder


@dataclass(frozen=True)
class Unpacked:
    """The pictures of a shard as files.

    Attributes:
        photos: path by the name of its outputs; relative paths lie in the folder that they were unpacked to. Of seeds
            their words.
        keys: what the shard calls each, by that name.
        failed: why, for each record that could not be unpacked.
    """

    photos: dict[str, Path] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def add(self, key: str, data: bytes, *, suffix: str, folder: Path) -> None:
        """One encoded picture; an empty one, and a second one under a key, fail."""
        if not data or key in self.keys.values():
            self.failed.setdefault(key, "holds no bytes" if not data else "a second picture under this key")
            return
        name = quote(key, safe=" ")
        name = name if len(name) <= LONGEST else f"{len(self.keys):08d}"
        (folder / f"{name}{suffix}").write_bytes(data)
        self.photos[name], self.keys[name] = Path(f"{name}{suffix}"), key


class Made(NamedTuple):
    """A file that a command made.

    Attributes:
        path: of the file.
        name: of the picture that it belongs to.
        ending: such as ``normal.npy``; what comes behind the name, the map's kind included.
    """

    path: Path
    name: str
    ending: str


@runtime_checkable
class Layout(Protocol):
    """One form of shards."""

    def unpack(self, shard: Shard, folder: Path) -> Unpacked:
        """The pictures as files.

        Raises:
            ValueError, OSError: the shard cannot be read at all.
        """
        ...

    def pack(self, shard: Shard, found: Unpacked, *, made: Path, out: Path) -> list[str]:
        """Put the files in the folder ``made`` into ``out``, each whole; returns their paths relative to it."""
        ...


class Pictures:
    """Files as they are, or seeds; outputs are those of the command without Ray."""

    def unpack(self, shard: Shard, folder: Path) -> Unpacked:
        """See ``Layout``."""
        return Unpacked({name: Path(path) for name, path in shard.files.items()}, dict(shard.files))

    def pack(self, shard: Shard, found: Unpacked, *, made: Path, out: Path) -> list[str]:
        """See ``Layout``."""
        files = [file.path.relative_to(made) for file in outputs(made, found.keys)]
        for file in files:
            (out / file).parent.mkdir(parents=True, exist_ok=True)
            (made / file).replace(out / file)
        return [file.as_posix() for file in files]


class Tar:
    """Webdataset: members ``KEY.EXTENSION``, the key up to the first dot behind the last slash."""

    def unpack(self, shard: Shard, folder: Path) -> Unpacked:
        """See ``Layout``; of a damaged archive what comes before the damage."""
        found, suffixes = Unpacked(), images.suffixes()
        try:
            with tarfile.open(shard.path) as archive:
                for member in archive:
                    key, suffix = archives.split(member.name)
                    if member.isfile() and suffix.lower() in suffixes:
                        found.add(key, archive.extractfile(member).read(), suffix=suffix.lower(), folder=folder)
        except (tarfile.TarError, EOFError) as error:
            found.failed[shard.path.name] = f"damaged after {len(found.keys)} pictures: {error}"
        return found

    def pack(self, shard: Shard, found: Unpacked, *, made: Path, out: Path) -> list[str]:
        """See ``Layout``."""
        target = out / f"{shard.name}.tar"
        with images.replacing(target) as partial, tarfile.open(partial, "w", format=tarfile.PAX_FORMAT) as archive:
            for file in outputs(made, found.keys):
                member = tarfile.TarInfo(f"{found.keys[file.name]}.{file.ending}")
                member.size = file.path.stat().st_size
                with file.path.open("rb") as stream:
                    archive.addfile(member, stream)
        return [target.name]


class Parquet:
    """A column of encoded pictures (bytes, or a struct with ``bytes``), and one of names if there is one."""

    rows = 64  # in memory at a time

    def unpack(self, shard: Shard, folder: Path) -> Unpacked:
        """See ``Layout``; rows without a name are counted from 0."""
        import pyarrow.parquet

        file, found = pyarrow.parquet.ParquetFile(shard.path), Unpacked()
        column = _column(file.schema_arrow, shard)
        label = next((name for name in archives.NAMES if name in file.schema_arrow.names and name != column), None)
        number = 0
        for batch in file.iter_batches(self.rows, columns=[column, *([label] if label else [])]):
            for row in batch.to_pylist():
                data = row[column]["bytes"] if isinstance(row[column], dict) else row[column]
                key = f"{number:08d}" if label is None or row[label] is None else str(row[label])
                found.add(key, data or b"", suffix=archives.suffix(data or b""), folder=folder)
                number += 1
        return found

    def pack(self, shard: Shard, found: Unpacked, *, made: Path, out: Path) -> list[str]:
        """See ``Layout``; a column an ending, whose metadata says what its numbers mean."""
        import pyarrow
        import pyarrow.parquet

        files: dict[str, dict[str, Path]] = {}
        for file in outputs(made, found.keys):
            files.setdefault(file.name, {})[file.ending] = file.path
        endings = list(dict.fromkeys(ending for row in files.values() for ending in row))
        stories = {ending: _story(next(row[ending] for row in files.values() if ending in row)) for ending in endings}
        schema = pyarrow.schema([
            pyarrow.field("name", pyarrow.string()),
            *(pyarrow.field(ending, pyarrow.large_binary(), metadata=stories[ending]) for ending in endings),
        ])  # fmt: skip
        target, names = out / f"{shard.name}.parquet", list(files)
        with images.replacing(target) as partial, pyarrow.parquet.ParquetWriter(partial, schema) as writer:
            for start in range(0, len(names), self.rows):
                rows = [
                    {"name": found.keys[name]} | {ending: path.read_bytes() for ending, path in files[name].items()}
                    for name in names[start : start + self.rows]
                ]
                writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
        return [target.name]


LAYOUTS: dict[str, Layout] = {"pictures": Pictures(), "seeds": Pictures(), "tar": Tar(), "parquet": Parquet()}


def outputs(made: Path, names: Mapping[str, str]) -> Iterator[Made]:
    """The files that belong to pictures, in the order of ``names``; logs, sheets and the like are left out."""
    found: dict[str, list[Made]] = {name: [] for name in names}
    for path in sorted(path for path in made.rglob("*") if path.is_file()):
        name, ending = _split(path.name, names)
        if name:
            found[name].append(Made(path, name, KINDS.get(path.relative_to(made).parts[0], "") + ending))
    for files in found.values():
        yield from files


def _split(file: str, names: Mapping[str, str]) -> tuple[str, str]:
    """The longest of the names that a file's begins with, and what comes behind its dot; empty where there is none."""
    parts = file.split(".")
    for count in range(len(parts) - 1, 0, -1):
        if (name := ".".join(parts[:count])) in names:
            return name, ".".join(parts[count:])
    return "", ""


def _column(schema: Any, shard: Shard) -> str:
    """The column of encoded pictures of a ``pyarrow.Schema``.

    Raises:
        ValueError: it is not there, or several could be meant.
    """
    able = archives.encoded(schema)
    wanted = [name for name in able if shard.column in (None, name)]
    if len(wanted) != 1:
        raise ValueError(
            f"{shard.path} must have one column of encoded pictures{f' {shard.column!r}' if shard.column else ''}, got "
            f"{', '.join(able) or 'none'} among {', '.join(schema.names)}; name it with --column"
        )
    return wanted[0]


def _story(path: Path) -> dict[str, str]:
    """What a file of the column says of itself that holds for the whole column."""
    own = ("input", "range", "source", "residual", "lost", "low", "high", "Software")
    if path.suffix == ".npy":
        about = json.loads(path.with_name(f"{path.name}.json").read_text(encoding="utf-8"))
    else:
        about = images.read_map(path).about if path.suffix != ".json" else {}
    return {word: str(value) for word, value in about.items() if word not in own}
