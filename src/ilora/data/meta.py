"""``meta.toml`` of a folder: what its numbers mean and which examples belong to which split."""

import hashlib
import tomllib
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ilora import checks
from ilora.config import Configuration

FILE = "meta.toml"
SPLITS = ("train", "validation", "test")
ALL = "all"  # every example, whatever its split
FRACTIONS = (0.8, 0.1, 0.1)  # of SPLITS, where a folder declares none


@dataclass(frozen=True, kw_only=True)
class Stored(Configuration):
    """How the numbers in a folder's files become values: value = stored * scale + offset.

    Without ``scale`` floats are values already, and integers are fractions of the largest one that their bits can hold
    (twice that less one for normals, so that 0 is -1).
    """

    scale: float | None = None
    offset: float = 0.0
    invalid: Any = field(default_factory=list)  # stored number, list of them, or of pixels, that mean "not measured"
    channels: list[str] | None = None  # of EXR files, in order; or the one array of NPZ files

    def not_measured(self, channels: int) -> list[list[float]]:
        """The pixels that mean "not measured", each with its ``channels`` stored numbers.

        Raises:
            ValueError: a pixel has another number of channels.
        """
        entries = self.invalid if isinstance(self.invalid, list) else [self.invalid]
        if channels > 1 and len(entries) == channels and not any(isinstance(entry, list) for entry in entries):
            entries = [entries]  # one pixel
        pixels = [entry if isinstance(entry, list) else [entry] * channels for entry in entries]
        if any(len(pixel) != channels or not all(isinstance(x, (int, float)) for x in pixel) for pixel in pixels):
            raise ValueError(f"invalid must hold pixels of {channels} numbers, got {self.invalid!r}; correct {FILE}")
        return [[float(x) for x in pixel] for pixel in pixels]


@dataclass(frozen=True, kw_only=True)
class Normals(Stored):
    """Of normal maps."""

    axes: str = "RUB"  # directions in which x, y and z grow: RUB (OpenGL), LUB (DSINE), RDF (OpenCV), ...


@dataclass(frozen=True, kw_only=True)
class Depths(Stored):
    """Of depth maps."""

    unit: str | None = None  # m | cm | mm | relative; floats are metres where it is not declared, integers need it
    kind: str = "planar"  # planar: along the optical axis; euclidean: distance from the camera, which needs ``camera``
    camera: dict[str, float] | None = None  # fx, fy, cx, cy [px], the first pixel's centre at (0.5, 0.5)
    largest: float | None = None  # m; farther is not measured


@dataclass(frozen=True, kw_only=True)
class Colours(Stored):
    """Of albedo and shading."""

    space: str | None = None  # srgb | linear; integers are sRGB and floats linear where it is not declared


@dataclass(frozen=True, kw_only=True)
class Images(Configuration):
    """Of pictures."""

    space: str = "srgb"


@dataclass(frozen=True, kw_only=True)
class Valids(Configuration):
    """Of mask files."""

    invalid: float = 0  # stored number of pixels that are not measured


@dataclass(frozen=True, kw_only=True)
class Split(Configuration):
    """Which examples belong where: names or patterns (``room-*``) for each split, or fractions drawn by the names."""

    train: list[str] | None = None
    validation: list[str] | None = None
    test: list[str] | None = None
    fractions: list[float] | None = None  # of train, validation and test
    seed: int = 0  # of the draw

    @property
    def listed(self) -> dict[str, list[str]]:
        """The splits that are given by names."""
        return {name: getattr(self, name) for name in SPLITS if getattr(self, name) is not None}

    def of(self, name: str) -> str | None:
        """The split of an example, which follows from its name and this table alone; None where the lists leave it out.

        Raises:
            ValueError: the lists put it into two splits.
        """
        if self.listed:
            found = [split for split, patterns in self.listed.items() if any(fnmatchcase(name, p) for p in patterns)]
            if len(found) > 1:
                raise ValueError(f"an example must be in one split, got {name!r} in {found}; correct {FILE}")
            return found[0] if found else None
        drawn = int.from_bytes(hashlib.sha256(f"{self.seed}:{name}".encode()).digest()[:8]) / 2**64  # [0, 1)
        train, validation, _ = self.fractions or FRACTIONS
        return SPLITS[int(drawn >= train) + int(drawn >= train + validation)]


MAPS: dict[str, type[Stored]] = {"normals": Normals, "depths": Depths, "albedos": Colours, "shadings": Colours}
TABLES: dict[str, type[Configuration]] = {**MAPS, "images": Images, "valids": Valids, "split": Split}


@dataclass(frozen=True)
class Meta:
    """A parsed ``meta.toml``.

    Attributes:
        tables: one configuration for each of ``TABLES``.
        declared: names of the tables that the file has.
    """

    tables: dict[str, Configuration]
    declared: frozenset[str]


def read(folder: Path) -> Meta:
    """The folder's ``meta.toml``; the defaults where there is none.

    Tables are called after the folders, singular or plural. Numbers and words outside tables are remarks.

    Raises:
        ValueError: no TOML, an unknown table or key (the message names the nearest), or a value that cannot be.
    """
    path = folder / FILE
    try:
        parsed = tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be TOML, got {' '.join(str(error).split())}; correct that line") from error
    given: dict[str, dict[str, Any]] = {}
    for key, value in parsed.items():
        if isinstance(value, dict):
            name = key if key in TABLES else f"{key}s"
            given[checks.choice(f"a table of {path}", name, known=tuple(TABLES))] = value
    try:
        tables = {name: kind.read(given.get(name, {})) for name, kind in TABLES.items()}
        _check(tables)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return Meta(tables, frozenset(given))


def _check(tables: dict[str, Configuration]) -> None:
    """Refuse values that cannot be."""
    split, depths = tables["split"], tables["depths"]
    shares = split.fractions or list(FRACTIONS)
    if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"fractions must be three shares that sum to 1, got {shares}; for example {list(FRACTIONS)}")
    if split.fractions and split.listed:
        raise ValueError(f"a split is made of lists or of fractions, got {list(split.listed)} and fractions; keep one")
    checks.choice("kind", depths.kind, known=("planar", "euclidean"))
    if depths.kind == "euclidean" and set(depths.camera or {}) != {"fx", "fy", "cx", "cy"}:
        raise ValueError(f"euclidean depth needs camera = {{fx, fy, cx, cy}} [px], got {depths.camera}; add it")
    checks.choice("space of images", tables["images"].space, known=("srgb",))
    for name in ("albedos", "shadings"):
        checks.choice(f"space of {name}", tables[name].space or "srgb", known=("srgb", "linear"))
