"""A folder of teachers' labels in the layout that ``--data`` reads: written whole, added to, gone on with."""

import json
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ilora import checks, images
from ilora.data import generated, meta
from ilora.data.cache import content_hash
from ilora.data.labels import READERS, Labels
from ilora.data.teachers.base import Teacher
from ilora.records import Painted
from ilora.run import append, rows

LOG = "labels.jsonl"  # one line a picture, in the folder
PICTURES = "images"
INVALID = "invalid"  # key of a table in meta.toml that a user may extend


@dataclass(frozen=True)
class Picture:
    """A picture to be labelled.

    Attributes:
        name: unique in the folder; its files are named after it.
        source: where it came from, for people.
        content: hash of what it was made from; labels are made again where it changes.
        picture: sRGB bytes, as they are written.
        painted: of a picture that a generator painted.
        about: who painted it from what.
    """

    name: str
    source: str
    content: str
    picture: UInt8[Tensor, "3 h w"]
    painted: Painted | None = None
    about: Mapping[str, str | int] | None = None

    @property
    def image(self) -> Float[Tensor, "3 h w"]:
        """What ``ilora.images.read`` gives for the file: sRGB in [-1, 1]."""
        return (self.picture.float() / 255).mul(2).sub(1)


class Book:
    """The folder, and which of its labels are done.

    A picture lies in it with all the maps that were asked for, or not at all; only a kill between two files can leave
    maps without their picture, which the next call completes.

    Attributes:
        folder: of the labels.
        teachers: who label now.
        names: of the intrinsics that they label, in order.
    """

    def __init__(self, folder: str | Path, teachers: Sequence[Teacher], *, origin: Mapping[str, str]) -> None:
        """Open or begin a folder.

        Args:
            origin: what all its pictures have in common, by word, such as the generator that painted them.

        Raises:
            ValueError: two teachers for one intrinsic, or the folder was begun with other teachers or pictures.
            FileExistsError: the folder holds something else.
        """
        self.folder = checks.output(folder)
        self.teachers = list(teachers)
        declared = [(name, teacher) for teacher in self.teachers for name in teacher.declares]
        self._teacher = dict(declared)
        self.names = tuple(self._teacher)
        if len(declared) != len(self._teacher) or not declared:
            given = ", ".join(f"{name} from {teacher.name}" for name, teacher in declared) or "none"
            raise ValueError(f"expected one teacher for each intrinsic, got {given}; leave one out")
        taken = [path.name for path in sorted(self.folder.glob("*")) if not path.name.startswith(".")]
        if taken and not (self.folder / LOG).is_file():
            raise FileExistsError(
                f"{self.folder} must be empty or made by ilora label, got {taken[0]} in it; choose another --out"
            )
        self._painted = "generator" in origin
        self._declare(origin)
        (self.folder / LOG).touch()
        self._rows = {row["name"]: row for row in rows(self.folder / LOG)}

    def done(self, name: str, content: str) -> bool:
        """Whether the picture is in the folder with all maps by these teachers."""
        row = self._rows.get(name, {})
        wanted = {kind: teacher.fingerprint for kind, teacher in self._teacher.items()}
        same = row.get("content") == content and wanted.items() <= row.get("labels", {}).items()
        files = [self._image(name), *(self._map(name, kind) for kind in wanted)]
        files += [generated.place(self.folder, name)] if self._painted else []
        return same and all(path.is_file() for path in files)

    def check_name(self, name: str, photo: Path, *, side: int) -> None:
        """Refuse a name whose labels belong to another photo that is still there and shows something else.

        Raises:
            ValueError: they do.
            OSError: one of the two cannot be read.
        """
        source = self._rows.get(name, {}).get("source", str(photo))
        if source == str(photo) or not Path(source).is_file():
            return
        if content_of(Path(source), side=side) != content_of(photo, side=side):
            raise ValueError(f"{name} is taken by {source}; rename it, or choose another --out")

    def write(self, picture: Picture, labels: Mapping[str, Labels]) -> None:
        """Put a picture and its labels into the folder: maps first, picture after them, and the line in the log last.

        Maps are float32 NPY in ilora's units and axes; NaN is not measured. An older picture of that name goes first,
        with all its maps.
        """
        row = self._rows.get(picture.name, {})
        kept = row.get("labels", {}) if row.get("content") == picture.content else {}
        if not kept:
            self._forget(picture.name)
        for name, found in labels.items():
            teacher = self._teacher[name]
            meaning = ", ".join(_pair(key, value) for key, value in written(teacher.declares[name]).items())
            about = {"intrinsic": name, "meaning": meaning, "teacher": teacher.story}
            values = torch.where(found.valid, found.map, math.nan)
            images.write_npy(self._map(picture.name, name), values, about=about)
        if picture.painted is not None:
            generated.write(self.folder, picture.name, picture.painted, dict(picture.about or {}))
        images.write_preview(self._image(picture.name), picture.picture, about={"source": picture.source})
        made = {name: self._teacher[name].fingerprint for name in labels}
        row = {"name": picture.name, "source": picture.source, "content": picture.content, "labels": {**kept, **made}}
        append(self.folder / LOG, row)
        self._rows[picture.name] = row

    def _forget(self, name: str) -> None:
        """Remove a picture and its maps; what is not there is none of them."""
        maps = [self._map(name, kind) for kind in READERS]
        for path in (self._image(name), *maps, *(map.with_suffix(".npy.json") for map in maps)):
            path.unlink(missing_ok=True)

    def _map(self, name: str, kind: str) -> Path:
        return self.folder / READERS[kind].folder / f"{name}.npy"

    def _image(self, name: str) -> Path:
        return self.folder / PICTURES / f"{name}.png"

    def _declare(self, origin: Mapping[str, str]) -> None:
        """Write ``meta.toml``, or add to it what these teachers mean; the user's own tables and keys stay, and what
        the user declares invalid.

        Raises:
            ValueError: it tells another story.
        """
        path = self.folder / meta.FILE
        begun = tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        story = {"made_by": "ilora label", "pictures": "photographs", **origin}
        for name, teacher in self._teacher.items():
            story |= {f"{name}_teacher": teacher.story, f"{name}_fingerprint": teacher.fingerprint}
        for key, value in story.items():
            if begun.get(key, value) != value:
                raise ValueError(
                    f"{self.folder} was begun with {key} = {begun[key]!r}, got {value!r}; choose another --out"
                )
        tables = {}
        for name, teacher in self._teacher.items():
            table, ours = begun.get(READERS[name].folder, {}), written(teacher.declares[name])
            extended = {INVALID: table[INVALID]} if INVALID in table else {}
            tables[READERS[name].folder] = table | ours | extended
        whole = toml({**story, **begun, **tables})
        if whole != toml(begun):
            with images.replacing(path) as draft:
                draft.write_text(whole, encoding="utf-8")


def written(declared: meta.Stored) -> dict[str, Any]:
    """The table of ``meta.toml`` for maps that a teacher declared so, after they were converted."""
    unit = getattr(declared, "unit", None)
    kinds: dict[type[meta.Stored], dict[str, Any]] = {
        meta.Normals: {"axes": "RUB"},
        meta.Depths: {"unit": "relative" if unit == "relative" else "m", "kind": "planar"},
        meta.Colours: {"space": "linear"},
    }
    return {**kinds[type(declared)], INVALID: math.nan}


def toml(content: Mapping[str, Any]) -> str:
    """TOML 1.0 of words, numbers, lists and tables of them; tables come last, as they must."""
    lines = [_pair(key, value) for key, value in content.items() if not isinstance(value, Mapping)]
    for name, table in content.items():
        if isinstance(table, Mapping):
            lines += ["", f"[{name}]", *(_pair(key, value) for key, value in table.items())]
    return "\n".join(lines) + "\n"


def content_of(path: Path, *, side: int) -> str:
    """Hash of a photo and of the size that it is labelled at."""
    return content_hash(path, side)[:32]


def _pair(key: str, value: Any) -> str:
    """One line; keys of other than letters, digits, - and _ are quoted."""
    return f"{key if re.fullmatch(r'[A-Za-z0-9_-]+', key) else _value(key)} = {_value(value)}"


def _value(value: Any) -> str:
    """One value; words as in JSON, which TOML's basic strings understand."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(_pair(key, each) for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # nan, inf, -inf
    return json.dumps(value, ensure_ascii=False)
