"""What each intrinsic's stored numbers mean, and which of its maps cannot be: one class an intrinsic.

A reader turns a ``StoredMap`` into physical values in ilora's units and axes, and says what it doubts about them.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ilora import checks
from ilora.data import meta
from ilora.images import StoredMap
from ilora.ops import color, geometry

METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001, "relative": 1.0}  # of one unit
NEAREST, FARTHEST = 0.01, 300.0  # m, of a plausible median depth: a fingertip to a valley
USUAL = 3.0  # m, of a median depth indoors
UNIT_LENGTH = 0.1  # largest error of a normal's length that a coding explains
DARKEST = 1e-3  # least plausible maximum of albedo or shading
STRAY = 0.02  # share of wrong pixels that is let through


class Doubt(NamedTuple):
    """Something that cannot be, and what to do about it."""

    what: str
    remedy: str


@dataclass(frozen=True)
class Labels:
    """A map in ilora's units and axes.

    Attributes:
        map: physical values; 0 where not valid.
        valid: where the map holds a measurement.
        doubts: what cannot be.
    """

    map: Float[Tensor, "c h w"]
    valid: Bool[Tensor, "1 h w"]
    doubts: list[Doubt]


class Reader(Protocol):
    """How one intrinsic is read from a folder.

    Attributes:
        folder: name of its folder, plural.
    """

    folder: str

    def read(self, stored: StoredMap, about: meta.Stored) -> Labels:
        """Values, mask and doubts.

        Raises:
            ValueError: the numbers cannot be read at all.
        """
        ...


class NormalReader:
    """Unit vectors in camera axes RUB."""

    folder = "normals"

    def read(self, stored: StoredMap, about: meta.Normals) -> Labels:
        """From components of -1 to 1, or integers (n + 1) / 2."""
        numbers = _three(stored.values)
        scale, offset = about.scale, about.offset
        if scale is None and stored.full_scale:
            scale, offset = 2 / stored.full_scale, -1.0
        vector = numbers * (1.0 if scale is None else scale) + offset
        measured, doubts = _measured(numbers, stored.opaque, about)
        length = vector.square().sum(0, keepdim=True).sqrt()  # [1, h, w]; vector_norm is 25 times slower over channels
        wrong = _share((length - 1).abs() > UNIT_LENGTH, measured)
        if wrong > STRAY:
            what = (
                f"{wrong:.0%} of its normals have another length than 1 (median {float(length[measured].median()):.3g})"
            )
            doubts.append(Doubt(what, "declare scale and offset, or the pixels that are not measured as invalid"))
        valid = measured & (length > 0.5) & (length < 1.5)
        normal = geometry.convert(torch.where(valid, vector / length, 0)[None], about.axes, "RUB")[0]
        return Labels(normal, valid, doubts + self._axes(normal, valid, about.axes))

    def _axes(self, normal: Float[Tensor, "3 h w"], valid: Bool[Tensor, "1 h w"], axes: str) -> list[Doubt]:
        """Signs that visible surfaces cannot have: most face away, or what lies at the bottom faces down."""
        low = valid & (torch.arange(normal.shape[1])[:, None] >= normal.shape[1] * 2 // 3)
        steep = low & (normal[1:2].abs() > 0.5)
        swap = {}
        if _share(normal[2:3] < 0, valid & (normal[2:3].abs() > 0.3)) > 0.5:
            swap |= {"B": "F", "F": "B"}
        if _share(steep, low) > 0.2 and _share(normal[1:2] < 0, steep) > 0.8:
            swap |= {"U": "D", "D": "U"}
        if not swap:
            return []
        seen = " and ".join(["its floor points down"] * ("U" in swap) + ["most surfaces face away"] * ("B" in swap))
        fitting = "".join(swap.get(letter, letter) for letter in axes)
        return [Doubt(f"{seen} if its axes are {axes}", f'axes = "{fitting}" would fit what it shows')]


class DepthReader:
    """Depth along the optical axis [m]."""

    folder = "depths"

    def read(self, stored: StoredMap, about: meta.Depths) -> Labels:
        """From any unit; distances from the camera become depth along its axis."""
        if about.unit is None and about.scale is None and stored.full_scale:
            raise ValueError('integer depth needs its unit, got none; write [depths] unit = "mm" (or m, cm, relative)')
        unit = checks.choice("unit", about.unit or "m", known=tuple(METRES))
        if stored.values.shape[0] == 3 and not _equal_channels(stored.values):
            raise ValueError("depth must have one channel, got 3 that differ; save one, or name it as `channels`")
        numbers = stored.values[:1]
        depth = (numbers * (1.0 if about.scale is None else about.scale) + about.offset) * METRES[unit]
        measured, doubts = _measured(numbers, stored.opaque, about)
        valid = measured & (depth > 0) & (depth <= (about.largest or torch.inf))
        if about.kind == "euclidean":
            depth = geometry.planar_from_euclidean(depth[None], _camera(about.camera))[0]
        depth = torch.where(valid, depth, 0)
        return Labels(depth, valid, doubts + self._size(depth[valid], unit))

    def _size(self, depth: Float[Tensor, " n"], unit: str) -> list[Doubt]:
        """Distances that no photograph has."""
        if not depth.numel():
            return []
        median = float(depth.median())
        if float(depth.min()) == float(depth.max()):
            return [Doubt(f"its depth is {median:.4g} everywhere", "leave it out, or find the right file")]
        if unit == "relative" or NEAREST <= median <= FARTHEST:
            return []
        plain = median / METRES[unit]
        likely = min(("m", "cm", "mm"), key=lambda name: abs(math.log(plain * METRES[name] / USUAL)))
        fits = NEAREST <= plain * METRES[likely] <= FARTHEST
        remedy = f'unit = "{likely}" would fit' if fits else 'declare the unit and scale, or unit = "relative"'
        return [Doubt(f"its median depth is {median:.4g} m", remedy)]


class ColourReader:
    """Albedo or shading: linear RGB."""

    def __init__(self, folder: str, *, brightest: float) -> None:
        """``brightest`` is the largest plausible median of the values."""
        self.folder = folder
        self.brightest = brightest

    def read(self, stored: StoredMap, about: meta.Colours) -> Labels:
        """From sRGB or linear colours or greys."""
        numbers = _three(stored.values.expand(3, -1, -1) if len(stored.values) == 1 else stored.values)
        scale = about.scale if about.scale is not None else 1 / (stored.full_scale or 1.0)
        colour = numbers * scale + about.offset
        measured, doubts = _measured(numbers, stored.opaque, about)
        if (about.space or ("srgb" if stored.full_scale else "linear")) == "srgb":
            colour = color.to_linear(colour)
        colour = torch.where(measured, colour, 0)
        return Labels(colour, measured, doubts + self._light(colour, measured))

    def _light(self, colour: Float[Tensor, "3 h w"], valid: Bool[Tensor, "1 h w"]) -> list[Doubt]:
        """Values that light cannot have."""
        values = colour[valid.expand_as(colour)]
        if not values.numel():
            return []
        doubts, median = [], float(values.median())
        if float((values < -0.01).float().mean()) > STRAY:
            doubts.append(Doubt(f"its values go down to {float(values.min()):.3g}", "declare the offset, or the space"))
        if median > self.brightest:
            doubts.append(Doubt(f"its median is {median:.4g}, above {self.brightest:g}", "declare the scale"))
        if float(values.max()) < DARKEST:
            doubts.append(Doubt(f"it is black up to {float(values.max()):.3g}", "declare the scale, or leave it out"))
        return doubts


READERS: dict[str, Reader] = {
    "normal": NormalReader(),
    "depth": DepthReader(),
    "albedo": ColourReader("albedos", brightest=1.0),
    "shading": ColourReader("shadings", brightest=100.0),
}


def _measured(
    numbers: Float[Tensor, "c h w"], opaque: Bool[Tensor, "1 h w"], about: meta.Stored
) -> tuple[Bool[Tensor, "1 h w"], list[Doubt]]:
    """Pixels that are opaque, finite and not declared invalid; and a doubt where NaN or infinity was not declared.

    A declared pixel is one with all of its numbers, or with NaN or infinity in any channel where that is among them.
    """
    declared = torch.zeros_like(opaque)
    for pixel in about.not_measured(numbers.shape[0]):
        wanted = torch.tensor(pixel, dtype=numbers.dtype)[:, None, None]  # [c, 1, 1]
        declared |= (numbers == wanted).all(0, keepdim=True)
        for number in {x for x in pixel if not math.isfinite(x)}:
            same = numbers.isnan() if math.isnan(number) else numbers == number
            declared |= same.any(0, keepdim=True)
    finite = numbers.isfinite().all(0, keepdim=True)
    measured = opaque & ~declared
    broken = int((measured & ~finite).sum())
    remedy = "declare invalid = [nan, inf, -inf], with what it holds already"
    doubts = [Doubt(f"{broken} of its pixels are NaN or infinite", remedy)] if broken else []
    return measured & finite, doubts


def _three(values: Float[Tensor, "c h w"]) -> Float[Tensor, "3 h w"]:
    """The values, if they have three channels.

    Raises:
        ValueError: another number of channels.
    """
    if values.shape[0] != 3:
        raise ValueError(f"expected 3 channels, got {values.shape[0]}; name those wanted as `channels`")
    return values


def _equal_channels(values: Float[Tensor, "c h w"]) -> bool:
    """Whether every channel repeats the first, NaN included."""
    return bool(((values == values[:1]) | (values.isnan() & values[:1].isnan())).all())


def _share(of: Bool[Tensor, "1 h w"], among: Bool[Tensor, "1 h w"]) -> float:
    """Share of the pixels ``among`` that are ``of``; 0 of none."""
    return float((of & among).sum()) / max(int(among.sum()), 1)


def _camera(camera: dict[str, float]) -> Float[Tensor, "1 3 3"]:
    """Intrinsic matrix [px]."""
    return torch.tensor([[[camera["fx"], 0, camera["cx"]], [0, camera["fy"], camera["cy"]], [0, 0, 1]]])
