"""The room itself: walls with openings, floor, ceiling, what hangs on them, and the lights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float

from ilora.data.scenes import furniture, palette
from ilora.data.scenes.furniture import Kit
from ilora.data.scenes.scene import Camera, Material, Part, Piece, Sun, Window

# Wall name: its horizontal direction, its inward normal; the origin is the corner from which the direction starts.
FRAMES = {
    "back": ((1, 0, 0), (0, -1, 0)),
    "left": ((0, 1, 0), (1, 0, 0)),
    "right": ((0, 1, 0), (-1, 0, 0)),
    "front": ((1, 0, 0), (0, 1, 0)),
}
REVEAL = 0.14  # depth of a window opening [m]
Vec = Float[np.ndarray, " 3"]


@dataclass(frozen=True)
class Room:
    """Inner size of an empty room with one corner at the origin."""

    width: float  # x [m]
    length: float  # y [m]
    height: float  # z [m]

    @staticmethod
    def sample(rng: np.random.Generator) -> Room:
        """A room 2.5 to 8 m wide and long, 2.3 to 3.4 m high; small ones are as frequent as large ones."""
        width = float(np.exp(rng.uniform(np.log(2.5), np.log(8))))
        length = float(np.clip(width * np.exp(rng.normal(0.1, 0.3)), 2.5, 8))
        return Room(width, length, float(rng.uniform(2.3, 3.4)))

    def wall(self, name: str) -> tuple[Vec, Vec, Vec, float]:
        """Origin [m], direction, inward normal and length [m] of a wall of FRAMES."""
        direction, normal = (np.asarray(v, float) for v in FRAMES[name])
        origin = np.array([self.width if name == "right" else 0, self.length if name == "back" else 0, 0], float)
        return origin, direction, normal, self.width if direction[0] else self.length


@dataclass
class Draft:
    """A scene while it is being drawn."""

    rng: np.random.Generator
    room: Room
    camera: Camera
    materials: list[Material] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    taken: list[tuple[float, float, float, float]] = field(default_factory=list)  # x0, y0, x1, y1 of the floor [m]
    tops: list[tuple[Vec, float, float]] = field(default_factory=list)  # centre, width, depth
    lamps: int = 0
    lit: list[str] = field(default_factory=list)  # walls with a window

    def kit(self, colour: str | None = None, **more: float | tuple[float, float, float]) -> Kit:
        """An empty kit of that colour, or of a random one; `more` is the light and tint of a lamp."""
        return Kit(self.rng, colour or palette.any_name(self.rng), first=len(self.materials), **more)

    def put(self, kit: Kit, position: Sequence[float] | Vec, yaw: float, kind: str | None = None) -> None:
        """Move a kit's parts to a position in the room [m], turned about z [rad]; with a kind it becomes a piece."""
        if kind is not None:
            self.pieces.append(Piece(kind, kit.colour))
        rotation = furniture.turn(yaw)
        for part in kit.parts:
            self.parts.append(
                replace(
                    part,
                    centre=tuple((rotation @ np.asarray(part.centre) + position).tolist()),
                    rotation=tuple(map(tuple, (rotation @ np.asarray(part.rotation)).tolist())),
                    piece=-1 if kind is None else len(self.pieces) - 1,
                )
            )
        self.materials += kit.materials


@dataclass
class Walls:
    """What building the walls decided."""

    wall: int  # index of the back wall's material
    floor: int
    wall_word: str
    floor_word: str
    lit: list[str] = field(default_factory=list)  # walls with a window
    windows: list[Window] = field(default_factory=list)
    skies: list[int] = field(default_factory=list)  # materials of what is seen through the windows


@dataclass
class Lights:
    """What lighting the room decided; the caption and the factors are made from it."""

    sun: Sun | None
    areas: int
    pendants: int
    temperature: float  # mean of all lights [K]
    word: str


def _frame(direction, normal) -> np.ndarray:
    """Rotation [3, 3] of a quad that spans `direction` and z and faces `normal`."""
    up = np.array([0.0, 0.0, 1.0])
    side = np.cross(up, normal)  # own x, so that own x, own y = up and own z = normal turn right-handed
    return np.stack([side, up, np.asarray(normal, float)], 1)


def _wall_material(rng: np.random.Generator) -> tuple[Material, str]:
    """Mostly pale paint, sometimes a strong colour or a pattern."""
    pale = ["white", "white", "white", "beige", "beige", "grey"]
    name = str(rng.choice(pale)) if rng.random() < 0.45 else palette.any_name(rng)
    colour = np.asarray(palette.shade(rng, name))
    if name in ("blue", "green", "teal", "yellow", "purple") and rng.random() < 0.5:
        colour = 0.45 * colour + 0.4
    pattern = str(
        rng.choice(
            ["plain"] * 10 + ["bricks", "bricks", "stripes", "stripes", "tiles", "dots", "noise", "zigzag", "planks"]
        )
    )
    second = {"bricks": (0.55, 0.53, 0.5), "tiles": (0.5, 0.5, 0.5)}.get(pattern)
    if second is None:
        second = (
            tuple((colour * rng.uniform(0.5, 0.9)).tolist())
            if rng.random() < 0.6
            else palette.shade(rng, palette.any_name(rng))
        )
    scale = {"bricks": 1.0, "tiles": 0.8, "planks": 1.2, "noise": 2.0}.get(pattern, 0.8) * rng.uniform(0.7, 1.3)
    material = Material(tuple(colour.tolist()), second, pattern, float(scale), seed=int(rng.integers(2**31)))
    return material, {"bricks": "brick", "stripes": "striped", "tiles": "tiled", "planks": "wooden"}.get(pattern, name)


def _floor_material(rng: np.random.Generator) -> tuple[Material, str]:
    kind = str(rng.choice(["planks", "planks", "planks", "checker", "tiles", "carpet", "carpet", "plain", "noise"]))
    name, seed = palette.any_name(rng), int(rng.integers(2**31))
    if kind == "planks":
        return Material(
            palette.wood(rng), pattern=kind, scale=float(rng.uniform(0.4, 1.2)), seed=seed, **palette.gloss(rng)
        ), "wooden"
    first, second = palette.shade(rng, name), palette.shade(rng, palette.any_name(rng))
    if kind == "checker":
        return Material(first, second, kind, float(rng.uniform(0.5, 1.6)), seed=seed, **palette.gloss(rng)), "checkered"
    if kind == "tiles":
        return Material(
            first, (0.25, 0.25, 0.25), kind, float(rng.uniform(0.5, 1.3)), seed=seed, **palette.gloss(rng, 0.4)
        ), "tiled"
    if kind == "plain":
        return Material(first, **palette.gloss(rng, 0.3)), name
    second = tuple((np.asarray(first) * rng.uniform(0.6, 0.9)).tolist())
    return Material(first, second, "noise", float(rng.uniform(0.5, 1.5)), seed=seed), name


def _panel(kit: Kit, room: Room, wall: str, span: tuple[float, float, float, float], material: int) -> None:
    """A rectangle u0, v0, u1, v1 of a wall, textured by the room's coordinates."""
    origin, direction, normal, _ = room.wall(wall)
    u0, v0, u1, v1 = span
    if u1 - u0 < 1e-6 or v1 - v0 < 1e-6:
        return
    centre = origin + direction * (u0 + u1) / 2 + [0, 0, (v0 + v1) / 2]
    kit.add("quad", centre.tolist(), (u1 - u0, v1 - v0, 1), material, rotation=_frame(direction, normal), uv="world")


def build(draft: Draft) -> Walls:
    """Floor, ceiling, four walls with windows, a door, pictures and a rug."""
    rng, room, kit = draft.rng, draft.room, draft.kit()
    wall_material, wall_word = _wall_material(rng)
    floor_material, floor_word = _floor_material(rng)
    walls = Walls(kit.mix(wall_material), kit.mix(floor_material), wall_word, floor_word)
    accent = kit.mix(_wall_material(rng)[0]) if rng.random() < 0.35 else walls.wall
    pale = np.clip(np.asarray(palette.shade(rng, "white")) * rng.uniform(0.75, 1), 0, 0.85)
    ceiling = kit.mix(Material(tuple(pale.tolist())))
    size, middle = (room.width, room.length, 1.0), (room.width / 2, room.length / 2)
    kit.add("quad", (*middle, 0.0), size, walls.floor, uv="world")
    kit.add("quad", (*middle, room.height), size, ceiling, rotation=np.diag([1.0, -1.0, -1.0]), uv="world")
    lit = [w for w in ("back", "left", "right") if rng.random() < 0.3][:2]
    base = kit.mix(palette.painted(rng, str(rng.choice(["white", "brown", "black"])), 0))
    for wall in FRAMES:
        material = accent if wall == str(rng.choice(["left", "right"])) else walls.wall
        if wall in lit:
            _windowed(kit, room, wall, walls, material)
        else:
            _panel(kit, room, wall, (0, 0, room.wall(wall)[3], room.height), material)
            if wall != "front":
                _decorate(kit, room, wall)
        _strip(kit, room, wall, base)
    _rug(kit, draft)
    draft.put(kit, (0, 0, 0), 0.0)
    return walls


def _strip(kit: Kit, room: Room, wall: str, material: int) -> None:
    """Skirting board."""
    origin, direction, normal, length = room.wall(wall)
    centre = origin + direction * length / 2 + normal * 0.008 + [0, 0, 0.05]
    kit.add("box", centre.tolist(), (length, 0.1, 0.016), material, rotation=_frame(direction, normal))


def _windowed(kit: Kit, room: Room, wall: str, walls: Walls, material: int) -> None:
    """A wall with one window: the wall around it, its reveal, the bars and the sky behind."""
    origin, direction, normal, length = room.wall(wall)
    width, height = min(kit.between(0.8, 2.2), length - 0.5), kit.between(0.9, 1.5)
    sill = min(kit.between(0.5, 1.0), room.height - height - 0.15)
    u0 = kit.between(0.2, length - width - 0.2)
    u1, v0, v1 = u0 + width, sill, sill + height
    for span in ((0, 0, length, v0), (0, v1, length, room.height), (0, v0, u0, v1), (u1, v0, length, v1)):
        _panel(kit, room, wall, span, material)
    trim = kit.mix(palette.painted(kit.rng, str(kit.rng.choice(["white", "white", "brown", "grey"])), 0))
    frame, middle = _frame(direction, normal), origin + direction * (u0 + u1) / 2 + [0, 0, (v0 + v1) / 2]
    deep = middle - normal * REVEAL
    for (du, dv), size in (
        ((0, 1), (width + 0.1, 0.05)),
        ((0, -1), (width + 0.1, 0.05)),
        ((1, 0), (0.05, height)),
        ((-1, 0), (0.05, height)),
    ):
        at = (
            middle
            - normal * (REVEAL / 2 - 0.02)
            + direction * du * (width / 2 + 0.025)
            + [0, 0, dv * (height / 2 + 0.025)]
        )
        kit.add("box", at.tolist(), (*size, REVEAL + 0.04), trim, rotation=frame)
    for i in range(1, int(kit.rng.integers(1, 4))):
        at = deep + direction * (i / 3 - 0.5 if width > 1.2 else 0) * width + normal * 0.03
        kit.add("box", at.tolist(), (0.045, height, 0.04), trim, rotation=frame)
    if kit.chance(0.5):
        kit.add("box", (deep + normal * 0.03).tolist(), (width, 0.045, 0.04), trim, rotation=frame)
    sky = kit.mix(Material((0.0, 0.0, 0.0), emission=(1.0, 1.0, 1.0)))  # its radiance is set with the other lights
    kit.add("quad", deep.tolist(), (width, height, 1), sky, rotation=frame)
    walls.skies.append(sky)
    walls.lit.append(wall)
    walls.windows.append(Window(tuple(deep.tolist()), tuple((direction * width / 2).tolist()), (0.0, 0.0, height / 2)))
    if kit.chance(0.5):
        _curtains(kit, middle + normal * 0.08, direction, frame, (width, height))


def _curtains(
    kit: Kit, middle: np.ndarray, direction: np.ndarray, frame: np.ndarray, size: tuple[float, float]
) -> None:
    material, (width, height) = kit.mix(palette.cloth(kit.rng, palette.any_name(kit.rng))), size
    for side in (-1, 1):
        at = middle + direction * side * (width / 2 + 0.02)
        kit.add("cushion", at.tolist(), (width * 0.28, height + 0.3, 0.08), material, rotation=frame)


def _decorate(kit: Kit, room: Room, wall: str) -> None:
    """A door, or pictures, or a mounted board, or nothing."""
    origin, direction, normal, length = room.wall(wall)
    frame, what = _frame(direction, normal), kit.rng.random()
    if what < 0.2 and length > 1.6:
        width, height = kit.between(0.75, 1.0), min(kit.between(1.95, 2.15), room.height - 0.1)
        at = origin + direction * kit.between(width / 2 + 0.1, length - width / 2 - 0.1) + [0, 0, height / 2]
        door, trim = kit.main(), kit.mix(palette.painted(kit.rng, "white", 0))
        kit.add("box", at.tolist(), (width + 0.14, height, 0.05), trim, rotation=frame)
        kit.add("box", (at - [0, 0, 0.04]).tolist(), (width, height - 0.08, 0.08), door, rotation=frame)
        for dz in (-0.24, 0.24):
            panel = (width * 0.65, height * 0.36, 0.1)
            kit.add("box", (at + np.array([0, 0, dz * height])).tolist(), panel, door, rotation=frame)
        kit.add("sphere", (at + direction * width * 0.4 + normal * 0.06).tolist(), (0.06, 0.06, 0.06), trim)
    elif what < 0.75:
        for _ in range(int(kit.rng.integers(1, 4))):
            _picture(kit, room, wall)


def _picture(kit: Kit, room: Room, wall: str) -> None:
    origin, direction, normal, length = room.wall(wall)
    width, height = kit.between(0.3, 1.1), kit.between(0.3, 0.9)
    at = origin + direction * kit.between(0.6, length - 0.6) + normal * 0.02 + [0, 0, kit.between(1.45, 1.75)]
    rim = kit.mix(palette.painted(kit.rng, str(kit.rng.choice(["black", "white", "brown", "yellow"]))))
    colours = [palette.shade(kit.rng, palette.any_name(kit.rng)) for _ in range(2)]
    picture = kit.mix(Material(*colours, "painting", seed=int(kit.rng.integers(2**31))))
    frame = _frame(direction, normal)
    kit.add("box", at.tolist(), (width + 0.07, height + 0.07, 0.03), rim, rotation=frame)
    kit.add("quad", (at + normal * 0.017).tolist(), (width, height, 1), picture, rotation=frame, uv="unit")


def _rug(kit: Kit, draft: Draft) -> None:
    if not kit.chance(0.45):
        return
    room = draft.room
    width, length = kit.between(1.2, 2.8), kit.between(1.0, 2.2)
    width, length = min(width, room.width * 0.7), min(length, room.length * 0.5)
    colours = [palette.shade(kit.rng, palette.any_name(kit.rng)) for _ in range(2)]
    pattern = str(kit.rng.choice(["rug", "rug", "rug", "stripes", "zigzag", "noise"]))
    material = kit.mix(Material(*colours, pattern, seed=int(kit.rng.integers(2**31))))
    at = (kit.between(0.4, 0.6) * room.width, kit.between(0.45, 0.7) * room.length, 0.006)
    round_ = kit.chance(0.25)
    size = (width, width if round_ else length, 0.012)
    kit.add(
        "cylinder" if round_ else "box", at, size, material, rotation=furniture.turn(kit.between(-0.4, 0.4)), uv="unit"
    )


def lights(draft: Draft, walls: Walls) -> Lights:
    """Sky and sun through the windows, panels and pendants at the ceiling: never none at all."""
    rng, room = draft.rng, draft.room
    temperatures = [_sky(draft, i) for i in walls.skies]
    sun = _sun(draft, walls.lit[0]) if walls.lit and rng.random() < 0.65 else None
    areas = pendants = 0
    wanted = int(rng.integers(0, 3)) if walls.lit else int(rng.integers(1, 4))
    base = rng.uniform(2600, 8500)
    for _ in range(wanted):
        temperature = float(np.clip(base * np.exp(rng.normal(0, 0.15)), 2500, 10000))
        temperatures.append(temperature)
        if rng.random() < 0.65:
            areas += 1
            _ceiling_panel(draft, temperature)
        else:
            pendants += 1
            drop = float(rng.uniform(0.35, min(0.9, room.height - 1.7)))
            kit = draft.kit(light=float(rng.uniform(15, 50)), tint=tuple(palette.kelvin(temperature).tolist()))
            furniture.pendant(kit, drop)
            at = (room.width * rng.uniform(0.3, 0.7), room.length * rng.uniform(0.4, 0.75), room.height)
            draft.put(kit, at, 0.0, "lamp")
    mean = float(np.mean(temperatures))
    word = "sunny" if sun else "warm" if mean < 3800 else "cold" if mean > 6800 else "bright"
    return Lights(sun, areas, pendants, mean, word)


def _sky(draft: Draft, material: int) -> float:
    """Set the radiance seen through a window; its temperature [K]."""
    temperature = float(draft.rng.uniform(5000, 9500))
    glow = palette.kelvin(temperature) * draft.rng.uniform(4, 14)
    draft.materials[material] = Material((0.0, 0.0, 0.0), emission=tuple(glow.tolist()))
    return temperature


def _sun(draft: Draft, wall: str) -> Sun:
    """Sunlight that comes in at that wall's window, 15 to 55 degrees high."""
    rng = draft.rng
    normal = draft.room.wall(wall)[2]
    side = np.cross([0, 0, 1], normal)
    height, across = np.radians(rng.uniform(15, 55)), rng.uniform(-0.9, 0.9)
    flat = -normal * np.cos(across) + side * np.sin(across)
    direction = flat * np.cos(height) + np.array([0, 0, np.sin(height)])
    irradiance = palette.kelvin(rng.uniform(3600, 6500)) * rng.uniform(40, 160)
    return Sun(tuple(direction.tolist()), tuple(irradiance.tolist()), float(rng.uniform(0.3, 2.0)))


def _ceiling_panel(draft: Draft, temperature: float) -> None:
    rng, room, kit = draft.rng, draft.room, draft.kit()
    long, wide = float(rng.uniform(0.3, 1.4)), float(rng.uniform(0.2, 0.7))
    round_ = rng.random() < 0.4
    wide = long if round_ else wide
    area = np.pi / 4 * long**2 if round_ else long * wide
    glow = palette.kelvin(temperature) * rng.uniform(25, 70) / (np.pi * area)
    rim, material = (
        kit.mix(palette.painted(rng, "white", 0)),
        kit.mix(Material((0.0, 0.0, 0.0), emission=tuple(glow.tolist()))),
    )
    at = np.array([room.width * rng.uniform(0.25, 0.75), room.length * rng.uniform(0.3, 0.8), room.height])
    kit.add("cylinder" if round_ else "box", (0, 0, -0.02), (long + 0.08, wide + 0.08, 0.04), rim)
    if round_:
        kit.add("cylinder", (0, 0, -0.03), (long, long, 0.04), material)
    else:
        kit.add("quad", (0, 0, -0.045), (long, wide, 1), material, rotation=np.diag([1.0, -1.0, -1.0]))
    draft.put(kit, at, float(rng.choice([0.0, np.pi / 2])))
