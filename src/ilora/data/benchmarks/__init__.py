"""Published data sets, read as they are published; each is one file here and one line in ``READERS``.

``"NAME:PATH"`` stands for one wherever data can be named: ``nyuv2:/data/nyu``.
"""

import dataclasses
import difflib
import importlib
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ilora import checks

if TYPE_CHECKING:
    from ilora.data.benchmarks.base import Benchmark
    from ilora.data.problems import Problem

READERS = {  # name: file and class
    "nyuv2": ("nyuv2", "NYUv2"),
    "diode": ("diode", "Diode"),
    "scannet": ("scannet", "ScanNet"),
    "ibims1": ("ibims1", "Ibims1"),
    "kitti": ("kitti", "Kitti"),
    "eth3d": ("eth3d", "ETH3D"),
    "sintel": ("sintel", "Sintel"),
    "hypersim": ("hypersim", "Hypersim"),
    "interiorverse": ("interiorverse", "InteriorVerse"),
    "mit-intrinsic": ("mit_intrinsic", "MITIntrinsic"),
    "iiw": ("iiw", "IIW"),
    "oasis": ("oasis", "Oasis"),
    "dsine": ("dsine", "DsineNormals"),
}
NAMES = tuple(READERS)


class Checked(NamedTuple):
    """What is there of one intrinsic of one split.

    Attributes:
        intrinsic: of the maps.
        split: one of the data set's.
        whole: number of examples that have all their files.
        problem: why there are none at all, in words; None where there are some.
        missing: files that are not there.
    """

    intrinsic: str
    split: str
    whole: int
    problem: str | None
    missing: "list[Problem]"

    @property
    def lines(self) -> list[str]:
        """In words: how many examples are whole, and every file that is missing, as far as a message lists them."""
        from ilora.data import problems

        lacking = len({problem.name for problem in self.missing})
        told = f"{self.intrinsic}, {self.split}: {self.whole} of {self.whole + lacking} examples are whole"
        if self.problem is not None:
            return [f"{self.intrinsic}, {self.split}: {self.problem}"]
        return [told, *(f"  {line}" for line in problems.listing(self.missing).splitlines())]


def reader(name: str) -> "type[Benchmark]":
    """The class that reads the data set of that name.

    Raises:
        ValueError: there is none; the message names the nearest one.
    """
    file, kind = READERS[checks.choice("data set", name, known=NAMES)]
    return getattr(importlib.import_module(f"{__name__}.{file}"), kind)


def listing() -> list[str]:
    """A line for each data set: its name, intrinsics, splits and title."""
    cards = {name: reader(name).card for name in NAMES}
    columns = [(name, ", ".join(card.intrinsics), ", ".join(card.splits), card.title) for name, card in cards.items()]
    widths = [max(len(row[column]) for row in columns) for column in range(3)]
    return [
        "  ".join([*(f"{word:{width}}" for word, width in zip(row, widths, strict=False)), row[3]]) for row in columns
    ]


def described(name: str) -> list[str]:
    """The card of a data set, a line each."""
    card = reader(name).card
    words = {field.name: getattr(card, field.name) for field in dataclasses.fields(card)}
    return [f"{key}: {word if isinstance(word, str) else ', '.join(word)}" for key, word in words.items()]


def named(words: str) -> tuple[str, str] | None:
    """Name and path that ``"NAME:PATH"`` stands for; None where it is something else, such as a folder.

    Raises:
        ValueError: a name that is nearly one of a data set, and no such folder.
    """
    match = re.fullmatch(r"([A-Za-z][\w-]+):(.+)", words)  # two letters and more: C:\ is a drive
    if match is None or Path(words).exists():
        return None
    name, path = match.groups()
    if name not in READERS and not difflib.get_close_matches(name.lower(), NAMES, n=1):
        return None
    return checks.choice("data set", name, known=NAMES), path


def opened(name: str, path: str | Path, *, intrinsic: str, split: str, on_problem: str) -> "Benchmark":
    """A data set; examples that lack a file are refused, or left out with a warning.

    Raises:
        ValueError: see ``Benchmark``; or files are missing, listed one by one.
    """
    from ilora.data import problems

    examples = reader(name)(path, intrinsic=intrinsic, split=split)
    if examples.note:
        warnings.warn(f"{examples.card.title}: {examples.note}", stacklevel=3)
    if not examples.missing:
        return examples
    lacking = {problem.name for problem in examples.missing}
    summary = f"{len(lacking)} of the {len(lacking) + len(examples)} examples in {examples.path} lack files"
    if on_problem == "refuse" or not examples.names:
        remedy = 'add them, or leave these out with on_problem="skip"' if examples.names else "add them"
        raise ValueError(f"{summary}; {remedy}:\n{problems.listing(examples.missing)}")
    warnings.warn(f"{summary} and are left out:\n{problems.listing(examples.missing)}", stacklevel=3)
    return examples


def check(name: str, path: str | Path, *, intrinsic: str | None = None, split: str | None = None) -> list[Checked]:
    """What is there and what is missing, for each intrinsic and split, or for those that are named.

    Raises:
        ValueError: no such data set, folder, intrinsic or split.
    """
    kind = reader(name)
    place = Path(path).expanduser()
    checks.folder(place.parent if place.is_file() else place, f"folder of {kind.card.title}")
    chosen = kind.card.intrinsics if intrinsic is None else (intrinsic,)
    known = [checks.choice(f"intrinsic of {kind.card.title}", one, known=kind.card.intrinsics) for one in chosen]
    parts = kind.card.splits if split is None else (split,)
    parts = [checks.choice(f"split of {kind.card.title}", one, known=(*kind.card.splits, "all")) for one in parts]
    return [_checked(kind, place, one, part) for one in known for part in parts]


def _checked(kind: "type[Benchmark]", path: Path, intrinsic: str, split: str) -> Checked:
    """One intrinsic of one split."""
    try:
        examples = kind(path, intrinsic=intrinsic, split=split)
    except ValueError as error:
        return Checked(intrinsic, split, 0, str(error), [])
    return Checked(intrinsic, split, len(examples), None, examples.missing)
