"""What a rendered room is made of: plain dataclasses in metres, and the seed ranges of the four splits.

World axes: x to the right of the room, y into it, z up; the floor is z = 0. Colours are linear RGB.
"""

from dataclasses import dataclass

import numpy as np

# Absolute seeds. A seed belongs to exactly one split, so that no picture that the generator trains on is ever a label.
PICTURES = range(0, 10_000_000)
LABELLED = range(10_000_000, 20_000_000)
VALIDATION = range(20_000_000, 30_000_000)
TEST = range(30_000_000, 40_000_000)
SPLITS = {"pictures": PICTURES, "labelled": LABELLED, "validation": VALIDATION, "test": TEST}


@dataclass(frozen=True)
class Material:
    """Look of a surface. Colours and radiance are linear RGB (Rec. 709); albedos lie in 0..1."""

    colour: tuple[float, float, float]  # linear diffuse albedo
    second: tuple[float, float, float] = (0.0, 0.0, 0.0)  # other colour of the pattern, linear
    pattern: str = "plain"  # a name in textures.PATTERNS
    scale: float = 1.0  # metres that one texture tile covers
    specular: float = 0.0  # reflectance at normal incidence; 0 is purely diffuse
    roughness: float = 1.0  # GGX alpha
    emission: tuple[float, float, float] = (0.0, 0.0, 0.0)  # radiance, leaves on the side of the normal
    seed: int = 0  # of the pattern


@dataclass(frozen=True)
class Part:
    """One primitive of the scene: a shape in the unit cube, scaled, turned and moved to its place [m]."""

    shape: str  # a name in geometry.SHAPES
    centre: tuple[float, float, float]  # m
    size: tuple[float, float, float]  # m, along the part's own axes
    material: int  # index into Scene.materials
    rotation: tuple[tuple[float, ...], ...] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))  # own axes to world
    taper: float = 1.0  # top radius over bottom radius of a cylinder; 0 is a cone
    uv: str = (
        "metres"  # "metres": texture in the part's own metres; "unit": one tile a face; "world": metres of the room
    )
    piece: int = -1  # index into Scene.pieces; -1 belongs to the room


@dataclass(frozen=True)
class Piece:
    """What a caption can name: one piece of furniture or one object, made of several parts."""

    kind: str  # "sofa", "lamp", ...
    colour: str  # a name in palette.COLOURS


@dataclass(frozen=True)
class Camera:
    """Pinhole camera without distortion, in world axes (x right of the room, y into it, z up)."""

    position: tuple[float, float, float]  # m
    rotation: tuple[tuple[float, ...], ...]  # columns: right, up, backward (RUB) in world axes
    fov: float  # horizontal field of view [deg]

    def matrix(self, size: int) -> np.ndarray:
        """Intrinsic matrix [3, 3] in pixels of a size x size picture; the centre of pixel (0, 0) is (0.5, 0.5)."""
        focal = size / 2 / np.tan(np.radians(self.fov) / 2)
        return np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]], np.float64)


@dataclass(frozen=True)
class Window:
    """The rectangle through which sunlight may enter."""

    centre: tuple[float, float, float]
    half_u: tuple[float, float, float]  # half of one side, world axes [m]
    half_v: tuple[float, float, float]


@dataclass(frozen=True)
class Sun:
    """Sunlight from far away, as a disc of even brightness; it enters through windows only."""

    direction: tuple[float, float, float]  # unit, towards the sun
    irradiance: tuple[float, float, float]  # on a surface that faces the sun, linear RGB
    radius: float = 0.5  # of the disc [deg]


@dataclass(frozen=True)
class Scene:
    """All that is rendered, and what is known about it without rendering it; equal scenes compare equal."""

    seed: int
    camera: Camera
    materials: tuple[Material, ...]
    parts: tuple[Part, ...]
    pieces: tuple[Piece, ...] = ()
    windows: tuple[Window, ...] = ()
    sun: Sun | None = None
    brightness: float = 1.0  # of the exposure, 1 is the automatic one
    words: tuple[tuple[str, str], ...] = ()  # ("wall", "blue"), ("floor", "wooden"), ("light", "warm"), ...
    factors: tuple[tuple[str, float], ...] = ()  # what the renderer knows, for a scene encoder


def split_seeds(split: str, first: int, count: int) -> range:
    """Absolute seeds of `count` scenes from number `first` of a split; a request that leaves the split is an error."""
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}; choose one of these")
    whole = SPLITS[split]
    if count < 1 or first < 0 or first + count > len(whole):
        raise ValueError(
            f"split {split!r} holds scenes 0 to {len(whole) - 1}, got first {first} and count {count}; "
            "ask for a positive count inside the split, so that splits stay disjoint"
        )
    return range(whole.start + first, whole.start + first + count)
