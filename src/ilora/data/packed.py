"""Labelled pictures in webdataset tars and Parquet files, as ``ilora label --ray`` and other tools write them.

A record has a picture (``KEY.png``, ``KEY.image.jpg``), a map (``KEY.normal.npy``, ``KEY.depth.png``) and perhaps a
mask (``KEY.valid.png``); in Parquet these are columns, with or without a suffix. ``meta.toml`` beside the shards says
what the numbers mean, as it does in a folder.
"""

import tempfile
from collections.abc import Iterable
from functools import cache, cached_property
from pathlib import Path
from urllib.parse import quote

from jaxtyping import Float
from torch import Tensor

from ilora import images
from ilora.data import archives, meta
from ilora.data.archives import Member
from ilora.data.cache import content_hash
from ilora.data.folder import Files, Folder, short
from ilora.data.labels import READERS, Labels
from ilora.data.problems import Problem, Unusable
from ilora.images.maps import SUFFIXES

PICTURE = ("", "image", "images")  # what stands between a record's key and its suffix
MASK = ("valid", "valids")
CODED = "about.json"  # beside the shards of ``ilora scenes render``


def holds(path: str | Path) -> bool:
    """Whether this is a shard, or a folder of shards without a folder of pictures beside them."""
    path = Path(path).expanduser()
    if not path.is_dir():
        return path.is_file() and path.suffix.lower() in (archives.TAR, archives.PARQUET)
    return bool(archives.shards(path)) and not any((path / name).is_dir() for name in PICTURE[1:])


def offered(path: str | Path) -> list[str]:
    """Names of the intrinsics that some record has a map of.

    Raises:
        ValueError: a shard cannot be read, or none has a map.
    """
    path = Path(path).expanduser()
    found = [one for shard in ([path] if path.is_file() else archives.shards(path)) for one in archives.members(shard)]
    words = {_word(ending) for ending in {one.ending for one in found}}
    names = [name for name, reader in READERS.items() if {name, reader.folder} & words]
    if not names:
        wanted, there = ", ".join(f"KEY.{name}.npy" for name in READERS), {one.ending for one in found}
        raise ValueError(f"shards of {path} must hold one of {wanted}, got {', '.join(sorted(there)) or 'nothing'}; "
                         "add it")  # fmt: skip
    return names


class Packed(Folder):
    """The labelled pictures of one intrinsic and split in shards; each is called SHARD/KEY.

    A file of an example is named by a path that leads into its shard, ``SHARD.tar/KEY.normal.npy``.

    Attributes:
        shards: the tar and Parquet files.
        members: by these paths.
    """

    def __init__(
        self, path: str | Path, *, intrinsic: str, split: str = "train", without: Iterable[str] = frozenset()
    ) -> None:
        """List the shards' files, leaving out the examples named in ``without``; none is unpacked yet.

        Args:
            path: folder of shards, or one of them, beside which ``meta.toml`` may lie.

        Raises:
            ValueError: as ``Folder``; no record has such a map; or shards whose maps are coded in another way.
        """
        path = Path(path).expanduser()
        self.shards = [path] if path.is_file() else archives.shards(path)
        self.members: dict[Path, Member] = {}
        super().__init__(path.parent if path.is_file() else path, intrinsic=intrinsic, split=split, without=without)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the declared meaning of the numbers, the names, and the contents of the shards."""
        about = repr((self.meta.tables[self.reader.folder], self.meta.tables["valids"]))
        return content_hash(self.intrinsic, about, self.names, self.shards)

    def _match(self) -> tuple[dict[str, Files], list[Problem]]:
        """Files by name, for the names of this split that have a picture and a map, and the others' problems."""
        if (self.path / CODED).is_file() and not (self.path / meta.FILE).is_file():
            raise ValueError(f"{self.path} must hold plain maps, got shards of ilora scenes, which have codings of "
                             "their own; render them with --format folder")  # fmt: skip
        files, problems, endings = dict[str, Files](), list[Problem](), set[str]()
        for shard in self.shards:
            try:
                found = archives.members(shard)
            except ValueError as error:
                what, _, remedy = str(error).removeprefix(f"{shard} ").rpartition("; ")
                problems.append(Problem(shard.stem, shard.name, what, remedy))
                continue
            endings |= {member.ending for member in found}
            rows, wrong = self._records(found)
            twice = rows.keys() & files.keys()  # a tar and a Parquet file of one name
            problems += [
                Problem(name, shard.name, f"{name} stands in two shards", "rename one of them") for name in twice
            ]
            files, problems = files | rows, problems + wrong
        if endings and not any(_word(ending) in self._words for ending in endings):
            wanted = f"KEY.{self.intrinsic}.SUFFIX, one of {', '.join(SUFFIXES)}"
            raise ValueError(f"shards of {self.path} must hold {wanted}, got {', '.join(sorted(endings))}; add it")
        return files, problems

    @property
    def _words(self) -> tuple[str, str]:
        """What the map is called."""
        return self.intrinsic, self.reader.folder

    def _records(self, members: list[Member]) -> tuple[dict[str, Files], list[Problem]]:
        """The whole records of one shard by name, and what is wrong with the others."""
        roles = {word: role for role, words in enumerate((PICTURE, self._words, MASK)) for word in words}
        records: dict[str, list[Path | None]] = {}
        problems = []
        for member in members:
            name, role = f"{member.shard.stem}/{member.key}", roles.get(_word(member.ending))
            if role is None or self.split not in (meta.ALL, self.meta.tables["split"].of(name)):
                continue
            path = member.shard / f"{quote(member.key, safe=' ')}.{member.ending}"
            record = records.setdefault(name, [None, None, None])
            if record[role] is not None:
                what = f"the record also has {record[role].name}"
                problems.append(Problem(name, short(path), what, "leave one of them out"))
            record[role], self.members[path] = path, member
        for name, (picture, map, _) in records.items():
            if picture is None or map is None:
                what = f"its record has no {'picture' if picture is None else self.intrinsic}"
                lone = next(path for path in records[name] if path is not None)
                problems.append(Problem(name, short(lone), what, "add it, or leave the record out"))
        whole = {name: Files(*record) for name, record in records.items() if record[0] and record[1]}
        return whole, problems

    def _read(self, files: Files) -> tuple[Float[Tensor, "3 h w"], Labels]:
        """Picture and labels of one size, from files that are unpacked for as long as it takes."""
        roles = {"image": files.image, "map": files.map} | ({"valid": files.valid} if files.valid else {})
        found = {role: self._bytes(path) for role, path in roles.items()}
        with tempfile.TemporaryDirectory() as place:
            there = {}
            for role, data in found.items():
                if data or role != "valid":  # a row may have no mask
                    there[role] = Path(place, f"{role}{_suffix(self.members[roles[role]].ending, data)}")
                    there[role].write_bytes(data)
            try:
                return super()._read(Files(there["image"], there["map"], there.get("valid")))
            except Unusable as error:
                role = next(role for role, path in there.items() if path == error.file)
                what = error.what.replace(str(error.file), roles[role].name)  # the file is gone by now
                raise Unusable(roles[role], what, error.remedy) from error

    def _bytes(self, path: Path) -> bytes:
        """A file of a shard."""
        try:
            return self.members[path].read()
        except ValueError as error:
            raise Unusable(path, str(error), "download or write the shard again") from error


@cache
def _suffixes() -> set[str]:
    """Of pictures and maps."""
    return images.suffixes() | set(SUFFIXES)


def _word(ending: str) -> str:
    """What a member or column holds: its ending without the suffix of a picture or a map."""
    word, _, suffix = ending.rpartition(".")
    return word if f".{suffix.lower()}" in _suffixes() else ending


def _suffix(ending: str, data: bytes) -> str:
    """The suffix in the name of a member or column, else what its content begins like."""
    return archives.suffix(data) if _word(ending) == ending else f".{ending.rpartition('.')[2].lower()}"
