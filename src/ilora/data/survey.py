"""What a data set holds, at a glance: ranges, the valid share, and a sheet on which floors can be seen to point up."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ilora import checks, data, images
from ilora.data import benchmarks, labels, meta, packed, rooms_benchmark, transforms
from ilora.intrinsics import intrinsic as defined
from ilora.intrinsics.base import Intrinsic
from ilora.ops import color, geometry, resample
from ilora.records import Example

SHOWN = 8  # rows of the sheet
SIDE = 192  # px, height of its cells
SAMPLE = 4096  # values of each map that quantiles are taken of
QUANTILES = (0.01, 0.5, 0.99)
FLOORS = {"normal": geometry.upward}  # by intrinsic: share of a map's floor that points up

Tile = UInt8[Tensor, "3 _ _"]


@dataclass
class Survey:
    """Of one intrinsic; filled by ``add``, example by example.

    Attributes:
        kind: the intrinsic.
        total: number of examples that there are, of which some are looked at.
        sizes: height and width [px] of each picture.
        shares: of each map that is valid.
        least, greatest: of all valid values.
        sample: valid values of each map, evenly spread.
        upward: of each map of normals: share of its floor that points up; NaN where it shows none.
    """

    kind: Intrinsic
    total: int
    sizes: list[tuple[int, int]] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    least: float = math.inf
    greatest: float = -math.inf
    sample: list[Float[Tensor, " n"]] = field(default_factory=list)
    upward: list[float] = field(default_factory=list)

    def add(self, example: Example) -> None:
        """Count one example in."""
        map, valid = example.map, example.valid
        values = map[valid.expand_as(map)]
        self.sizes.append((map.shape[1], map.shape[2]))
        self.shares.append(float(valid.float().mean()))
        if values.numel():
            self.least, self.greatest = min(self.least, float(values.min())), max(self.greatest, float(values.max()))
            self.sample.append(values[:: max(1, values.numel() // SAMPLE)])
        self.upward.append(upward(example, self.kind))

    @property
    def lines(self) -> list[str]:
        """In words."""
        name, looked = self.kind.name, len(self.sizes)
        some = f"{looked} of {self.total}, evenly spread" if looked < self.total else f"all {looked}"
        (low, wide), (high, broad) = (pick(self.sizes, key=math.prod) for pick in (min, max))
        size = f"{wide} x {low}" if (low, wide) == (high, broad) else f"{wide} x {low} to {broad} x {high}"
        share = sum(self.shares) / looked
        told = [
            f"{name}: {some} examples, {size} px, {share:.1%} of the pixels valid ({min(self.shares):.1%} at least)",
            f"  {self.kind.units}",
        ]
        if not self.sample:
            return [*told, "  no pixel is valid"]
        middle = torch.quantile(torch.cat(self.sample).double()[: 2**24], torch.tensor(QUANTILES).double()).tolist()
        marks = zip(("least", "1 %", "median", "99 %", "greatest"), (self.least, *middle, self.greatest), strict=True)
        told.append("  " + ", ".join(f"{mark} {value:.4g}" for mark, value in marks))
        floors = [share for share in self.upward if not math.isnan(share)]
        if floors:
            up, mean = sum(share > 0.5 for share in floors), sum(floors) / len(floors)
            told.append(f"  floors point up in {up} of {len(floors)} maps that show one, in {mean:.1%} of their pixels")
        return told


@dataclass
class Sheet:
    """Pictures beside previews of their maps, up to ``SHOWN`` rows.

    Attributes:
        rows: tiles of each example, the picture's under "picture", the maps' under their intrinsics.
        notes: of each example, for the caption.
    """

    rows: dict[str, dict[str, Tile]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def add(self, example: Example, kind: Intrinsic) -> None:
        """Show one map; a new row only while there is room."""
        if example.name not in self.rows and len(self.rows) == SHOWN:
            return
        row = self.rows.setdefault(example.name, {"picture": _picture(example)})
        row[kind.name] = _preview(example, kind)
        up = upward(example, kind)
        if not math.isnan(up):
            self.notes[example.name] = f"floor up {up:.0%}"

    def save(self, path: Path, *, kinds: list[str], about: dict[str, str]) -> None:
        """Write it as a PNG; what an example lacks stays empty."""
        columns = ["picture", *kinds]
        cells = [[row.get(column) for column in columns] for row in self.rows.values()]
        names = [f"{name} {self.notes.get(name, '')}".strip() for name in self.rows]
        images.write_preview(path, images.contact_sheet(cells, columns, names=names, side=SIDE), about=about)


def survey(
    words: str, *, intrinsic: str | None = None, split: str | None = None, count: int = 100, out: Path | None = None
) -> list[Survey]:
    """Statistics of a data set, one for each of its intrinsics or for the one that is named.

    Args:
        words: as ``ilora.data.dataset`` takes them.
        intrinsic: default: every one that the data set has.
        split: default: all of it; the training split of "rooms".
        count: examples to look at, evenly spread.
        out: file for a contact sheet of up to ``SHOWN`` of them.

    Raises:
        ValueError: no such data, intrinsic or split.
    """
    checks.positive("images", count)
    split = split or ("train" if words == rooms_benchmark.NAME else meta.ALL)
    surveys, sheet = [], Sheet()
    for kind in [defined(name) for name in ([intrinsic] if intrinsic else offered(words))]:
        examples = data.dataset(words, intrinsic=kind.name, split=split, on_problem="skip")
        found, chosen = Survey(kind, len(examples)), _spread(len(examples), count)
        shown = {chosen[place] for place in _spread(len(chosen), SHOWN)}
        for index in chosen:
            example = examples[index]
            found.add(example)
            if index in shown:
                sheet.add(example, kind)
        surveys.append(found)
    if out is not None:
        sheet.save(out, kinds=[found.kind.name for found in surveys], about={"data": words, "split": split})
    return surveys


def upward(example: Example, kind: Intrinsic) -> float:
    """Share of the floor in a map of normals that points up; NaN where it shows none, and for other intrinsics."""
    measure = FLOORS.get(kind.name)
    return float(measure(example.map[None], example.valid[None])) if measure else math.nan


def offered(words: str) -> list[str]:
    """Names of the intrinsics that a data set has maps of.

    Raises:
        ValueError: it is no data set, or a folder without maps.
    """
    published = benchmarks.named(words)
    if words == rooms_benchmark.NAME:
        return list(rooms_benchmark.INTRINSICS)
    if published is not None:
        return _readable(*published)
    if packed.holds(words):
        return packed.offered(words)
    path = checks.folder(words, 'data ("rooms", NAME:PATH or a folder)')
    there = {entry.name.removesuffix("s") for entry in path.iterdir() if entry.is_dir()}
    names = [name for name, reader in labels.READERS.items() if reader.folder.removesuffix("s") in there]
    if not names:
        wanted = ", ".join(f"{reader.folder}/" for reader in labels.READERS.values())
        raise ValueError(f"{path} must hold one of {wanted}, got {sorted(there)}; add it")
    return names


def _readable(name: str, path: str) -> list[str]:
    """The intrinsics of a published data set of which some examples are whole; all of them where there are none."""
    found = benchmarks.check(name, path, split=meta.ALL)
    return [one.intrinsic for one in found if one.whole] or [one.intrinsic for one in found]


def _spread(total: int, count: int) -> list[int]:
    """Up to ``count`` of ``total`` places, evenly spread, the first among them."""
    chosen = min(total, count)
    return [place * total // chosen for place in range(chosen)]


def _picture(example: Example) -> Tile:
    """The picture as bytes, no higher than a cell."""
    return color.to_uint8((resample.resize(example.image[None], *_fitting(example)) + 1) / 2)[0]


def _preview(example: Example, kind: Intrinsic) -> Tile:
    """The map's picture, no higher than a cell; black where it is not valid."""
    height, width = _fitting(example)
    small = transforms.resize(example, kind, height=height, width=width)
    if not small.valid.any():
        return torch.zeros(3, height, width, dtype=torch.uint8)
    return torch.where(small.valid, kind.show(small.map[None])[0], 0)


def _fitting(example: Example) -> tuple[int, int]:
    """Height and width [px] of the picture in a cell; small ones stay as they are."""
    height, width = example.image.shape[1:]
    scale = min(1.0, SIDE / height)
    return max(1, round(height * scale)), max(1, round(width * scale))
