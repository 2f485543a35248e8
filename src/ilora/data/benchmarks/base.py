"""What every reader of a published data set shares: its card, the files of each example, the last steps to a map."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ilora import checks
from ilora.data import meta
from ilora.data.cache import content_hash
from ilora.data.problems import Problem
from ilora.ops import geometry
from ilora.records import Example

Files = dict[str, Path]  # of one example, each under what it is: picture, depth, mask, ...
ENDS = 2**16  # bytes at either end of a file that stand for its contents, with its size
SHORTEST = 0.5  # length of a stored normal that is still a direction


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a data set holds and how its files say it, in words.

    Attributes:
        title: its name, as papers write it.
        intrinsics: of which it has maps.
        splits: that it has; "all" is every example of them, and those that are in none.
        units: of the stored numbers.
        axes: of stored normals, or what stored depth is measured along.
        invalid: how a file says "not measured".
        licence: of the data.
        home: where it is published.
        layout: the files that are read.
    """

    title: str
    intrinsics: tuple[str, ...]
    splits: tuple[str, ...]
    units: str
    axes: str
    invalid: str
    licence: str
    home: str
    layout: str


class Stored(NamedTuple):
    """One example as its files mean it, before what is not finite, or no direction, is taken out of the mask.

    Attributes:
        image: sRGB in [-1, 1].
        map: in ilora's units and axes; normals of any length.
        valid: what the files call measured.
    """

    image: Float[Tensor, "3 h w"]
    map: Float[Tensor, "c h w"]
    valid: Bool[Tensor, "1 h w"]


class Benchmark:
    """The pictures of one split of a published data set with one of its intrinsics, read when they are asked for.

    A reader defines ``card``, ``find`` and ``read``.

    Attributes:
        note: what whoever opens the data set must be told; empty for most.
        judged: its examples are ``Judged``: people's judgements take the place of maps.
        path: folder that holds the data set.
        intrinsic: normal, depth, albedo or shading.
        split: one of the card's, or all.
        files: of the examples that are whole, by name.
        names: of these.
        missing: files that other examples lack.
    """

    card: ClassVar[Card]
    note: ClassVar[str] = ""
    judged: ClassVar[bool] = False

    def __init__(self, path: str | Path, *, intrinsic: str, split: str = "train") -> None:
        """List the files; none is opened but lists.

        Raises:
            ValueError: no such folder, intrinsic or split, a list of the split is absent, or there are no examples.
        """
        title, path = self.card.title, Path(path).expanduser()
        self.path = checks.folder(path.parent if path.is_file() else path, f"folder of {title}")
        self.intrinsic = checks.choice(f"intrinsic of {title}", intrinsic, known=self.card.intrinsics)
        self.split = checks.choice(f"split of {title}", split, known=(*self.card.splits, meta.ALL))
        found = dict(sorted(self.find().items()))
        if not found:
            raise ValueError(
                f"split {split!r} of {title} must have examples with {intrinsic}, got none in {self.path}; "
                f"expected: {self.card.layout}"
            )
        self.missing = [problem for name in found for problem in self._missing(name, found[name])]
        lacking = {problem.name for problem in self.missing}
        self.files = {name: files for name, files in found.items() if name not in lacking}
        self.names = list(self.files)

    def find(self) -> dict[str, Files]:
        """The files that each example of the split should have, by its name; they need not be there.

        Raises:
            ValueError: the folder, or a list that says which examples belong to the split, is absent.
        """
        raise NotImplementedError

    def read(self, name: str, files: Files) -> Stored:
        """The example ``name``, of which all files are there.

        Raises:
            ValueError: a file cannot be read; the message names it.
        """
        raise NotImplementedError

    @property
    def parts(self) -> tuple[str, ...]:
        """The card's splits that are read: the one chosen, or every one."""
        return self.card.splits if self.split == meta.ALL else (self.split,)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the card, the names, and every file's place, size and two ends; see ``ENDS``.

        Published files do not change, and hashing hundreds of gigabytes takes hours.
        """
        paths = sorted({path for files in self.files.values() for path in files.values()})
        marks = [f"{self._place(path)} {_mark(path)}" for path in paths]
        return content_hash(repr(self.card), self.intrinsic, self.names, marks)

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.names)

    def __getitem__(self, index: int) -> Example:
        """The example at ``index``; its map is 0 where it is not valid.

        Raises:
            ValueError: one of its files cannot be read, or their sizes differ.
        """
        name = self.names[index]
        return Example(name, *self.finish(name, self.read(name, self.files[name])))

    def finish(self, name: str, stored: Stored) -> Stored:
        """Sizes checked, and nothing valid that cannot be.

        Raises:
            ValueError: map or mask are not of the picture's size.
        """
        image, map, valid = stored
        sizes = {tuple(field.shape[-2:]) for field in stored}
        if len(sizes) != 1:
            shapes = ", ".join(f"{field.shape[-1]} x {field.shape[-2]}" for field in stored)
            raise ValueError(
                f"picture, map and mask of {name} in {self.path} must have one size, got {shapes} px; "
                "find the pictures that the maps were made for"
            )
        valid = valid & map.isfinite().all(0, keepdim=True)
        map, possible = _FINISH[self.intrinsic](torch.where(valid, map, 0))
        valid = valid & possible
        return Stored(image, torch.where(valid, map, 0), valid)

    def _missing(self, name: str, files: Files) -> list[Problem]:
        """A line for each file that is not there."""
        return [
            Problem(name, self._place(path), f"the {role} of {name} is missing", "download or unpack it again")
            for role, path in files.items()
            if not path.is_file()
        ]

    def _place(self, path: Path) -> str:
        """Where a file lies in the data set."""
        return path.relative_to(self.path).as_posix() if path.is_relative_to(self.path) else path.name


def _unit(map: Float[Tensor, "3 h w"]) -> tuple[Float[Tensor, "3 h w"], Bool[Tensor, "1 h w"]]:
    """Vectors of length 1, and where there was a direction."""
    length = map.square().sum(0, keepdim=True).sqrt()  # [1, h, w]
    return geometry.normalize(map[None])[0], length > SHORTEST


def _ahead(map: Float[Tensor, "1 h w"]) -> tuple[Float[Tensor, "1 h w"], Bool[Tensor, "1 h w"]]:
    """Depth, and where it lies in front of the camera."""
    return map, map > 0


def _light(map: Float[Tensor, "3 h w"]) -> tuple[Float[Tensor, "3 h w"], Bool[Tensor, "1 h w"]]:
    """Colours, and where no channel is negative."""
    return map, (map >= 0).all(0, keepdim=True)


_FINISH = {"normal": _unit, "depth": _ahead, "albedo": _light, "shading": _light}


def _mark(path: Path) -> str:
    """Size of a file and a hash of its two ends."""
    size = path.stat().st_size
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(ENDS))
        file.seek(max(0, size - ENDS))
        digest.update(file.read(ENDS))
    return f"{size} {digest.hexdigest()}"
