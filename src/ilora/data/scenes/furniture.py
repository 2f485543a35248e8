"""Furniture and free objects, composed of primitives.

Every builder draws one piece in its own frame: standing on z = 0, its back towards +y, its middle over the origin.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from ilora.data.scenes import palette
from ilora.data.scenes.scene import Material, Part

Vector = tuple[float, float, float]
Footprint = tuple[float, float, float | None]  # width and depth, height of a top that objects may stand on [m]


def turn(yaw: float) -> Float[np.ndarray, "3 3"]:
    """Rotation [3, 3] about z [rad]."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def lean(tilt: float) -> Float[np.ndarray, "3 3"]:
    """Rotation [3, 3] about x [rad]; positive leans +z towards -y."""
    c, s = np.cos(tilt), np.sin(tilt)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


@dataclass
class Kit:
    """Collects the parts and materials of one piece while it is drawn."""

    rng: np.random.Generator
    colour: str  # the piece's named colour
    light: float = 1.0  # flux of a lamp
    tint: Vector = (1.0, 1.0, 1.0)  # colour of a lamp's light, mean 1
    first: int = 0  # index of the first material
    materials: list[Material] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)

    def mix(self, material: Material) -> int:
        """Take a material in; its index among the whole scene's."""
        self.materials.append(material)
        return self.first + len(self.materials) - 1

    def add(
        self,
        shape: str,
        centre: Sequence[float],
        size: Sequence[float],
        material: int,
        **more: str | float | Float[np.ndarray, "3 3"],
    ) -> None:
        """A part at `centre` with `size` along its own axes [m]; `rotation`: own axes to the piece's."""
        rotation = tuple(map(tuple, np.asarray(more.pop("rotation", np.eye(3))).tolist()))
        self.parts.append(Part(shape, tuple(centre), tuple(size), material, rotation, **more))

    def between(self, low: float, high: float) -> float:
        """A uniform draw from [low, high)."""
        return float(self.rng.uniform(low, high))

    def chance(self, p: float) -> bool:
        """True with probability p."""
        return bool(self.rng.random() < p)

    def main(self) -> int:
        """Body material in the piece's colour: painted, or wood for brown and beige."""
        if self.colour in ("brown", "beige") and self.chance(0.7):
            return self.mix(palette.timber(self.rng))
        return self.mix(palette.painted(self.rng, self.colour))

    def side(self) -> int:
        """Frame or leg material: wood or a dull metal grey."""
        if self.chance(0.5):
            return self.mix(palette.timber(self.rng))
        return self.mix(palette.painted(self.rng, str(self.rng.choice(["black", "grey", "white"])), 0.5))

    def legs(self, width: float, depth: float, height: float, material: int) -> None:
        """Four legs under the corners of a width x depth rectangle, from the floor to `height` [m]."""
        thick, round_ = self.between(0.03, 0.08), self.chance(0.4)
        for x in (-1, 1):
            for y in (-1, 1):
                centre = (x * (width / 2 - thick), y * (depth / 2 - thick), height / 2)
                self.add("cylinder" if round_ else "box", centre, (thick, thick, height), material)


def table(kit: Kit) -> Footprint:
    """Dining or coffee table, square or round; its top carries objects."""
    width, depth, height = kit.between(0.7, 1.9), kit.between(0.6, 1.0), kit.between(0.65, 0.8)
    if kit.chance(0.3):  # coffee table
        height = kit.between(0.3, 0.48)
    top, leg, thick = kit.main(), kit.side(), kit.between(0.03, 0.07)
    if kit.chance(0.3):
        depth = width = kit.between(0.6, 1.3)
        kit.add("cylinder", (0, 0, height - thick / 2), (width, width, thick), top)
        kit.add("cylinder", (0, 0, height / 2), (0.09, 0.09, height - thick), leg)
        kit.add("cylinder", (0, 0, 0.02), (width * 0.5, width * 0.5, 0.04), leg)
    else:
        kit.add("box", (0, 0, height - thick / 2), (width, depth, thick), top)
        kit.legs(width, depth, height - thick, leg)
    return width, depth, height


def chair(kit: Kit) -> Footprint:
    """Four legs, a seat, and a back of slats or one board."""
    width, depth, seat, back = (
        kit.between(0.4, 0.52),
        kit.between(0.4, 0.52),
        kit.between(0.42, 0.5),
        kit.between(0.35, 0.6),
    )
    body, leg = kit.main(), kit.side()
    kit.legs(width, depth, seat, leg)
    kit.add("cushion" if kit.chance(0.5) else "box", (0, 0, seat), (width, depth, 0.07), body)
    if kit.chance(0.4):  # slats
        for x in np.linspace(-0.42, 0.42, int(kit.rng.integers(3, 6))) * width:
            kit.add("box", (float(x), depth / 2 - 0.03, seat + back / 2), (0.04, 0.03, back), body)
        kit.add("box", (0, depth / 2 - 0.03, seat + back), (width, 0.04, 0.08), body)
    else:
        kit.add("box", (0, depth / 2 - 0.03, seat + back / 2 + 0.05), (width, 0.05, back), body, rotation=lean(-0.12))
    return width, depth, None


def sofa(kit: Kit, seats: int | None = None) -> Footprint:
    """Seat cushions side by side between two arms; two or three unless told, sometimes with pillows."""
    seats = seats or int(kit.rng.integers(2, 4))
    seat_width, depth, arm = kit.between(0.55, 0.75), kit.between(0.8, 1.0), kit.between(0.12, 0.24)
    width, seat, back = seats * seat_width + 2 * arm, kit.between(0.38, 0.46), kit.between(0.72, 0.95)
    body, leg = kit.mix(palette.cloth(kit.rng, kit.colour)), kit.side()
    kit.legs(width, depth, 0.12, leg)
    kit.add("box", (0, 0, 0.12 + (seat - 0.24) / 2), (width, depth, seat - 0.24), body)
    kit.add("cushion", (0, depth / 2 - 0.12, (back + 0.1) / 2), (width, 0.24, back - 0.1), body)
    for x in (-1, 1):
        kit.add("cushion", (x * (width - arm) / 2, 0, seat / 2 + 0.14), (arm, depth, seat + 0.06), body)
    for i in range(seats):
        x = (i - (seats - 1) / 2) * seat_width
        kit.add("cushion", (x, -0.08, seat - 0.08), (seat_width, depth - 0.24, 0.2), body)
        kit.add("cushion", (x, depth / 2 - 0.27, seat + 0.2), (seat_width, 0.2, 0.42), body, rotation=lean(-0.2))
    for _ in range(int(kit.rng.integers(0, 3))):
        pillow = kit.mix(palette.cloth(kit.rng, palette.any_name(kit.rng)))
        x = kit.between(-0.4, 0.4) * (width - 2 * arm)
        kit.add("cushion", (x, depth / 2 - 0.42, seat + 0.2), (0.4, 0.14, 0.4), pillow, rotation=lean(-0.35))
    return width, depth, None


def armchair(kit: Kit) -> Footprint:
    """A sofa of one seat."""
    return sofa(kit, 1)


def bed(kit: Kit) -> Footprint:
    """Mattress, headboard, blanket and one or two pillows (wider than 1.3 m)."""
    width, length, height = kit.between(0.95, 1.9), kit.between(1.95, 2.15), kit.between(0.4, 0.58)
    frame, sheet = kit.side(), kit.mix(palette.painted(kit.rng, "white", 0))
    blanket = kit.mix(palette.cloth(kit.rng, kit.colour))
    kit.add("box", (0, 0, height / 2 - 0.1), (width, length, height - 0.24), frame)
    kit.add(
        "box", (0, length / 2 - 0.03, height / 2 + 0.2), (width + 0.06, 0.06, height + kit.between(0.2, 0.7)), frame
    )
    kit.add("cushion", (0, 0, height - 0.1), (width * 0.98, length * 0.97, 0.26), sheet)
    cover = kit.between(0.5, 0.72) * length
    kit.add("cushion", (0, (cover - length) / 2, height - 0.07), (width * 1.04, cover, 0.3), blanket)
    for x in (-0.25, 0.25) if width > 1.3 else (0.0,):
        kit.add("cushion", (x * width, length / 2 - 0.32, height + 0.08), (0.55, 0.38, 0.16), sheet)
    return width, length, None


def shelf(kit: Kit) -> Footprint:
    """Open shelf whose rows hold books and single objects."""
    width, depth, height = kit.between(0.6, 1.6), kit.between(0.25, 0.4), kit.between(0.9, 2.1)
    body, rows = kit.main(), max(2, int(height / kit.between(0.32, 0.45)))
    for x in (-1, 1):
        kit.add("box", (x * (width / 2 - 0.0125), 0, height / 2), (0.025, depth, height), body)
    kit.add("box", (0, depth / 2 - 0.01, height / 2), (width, 0.02, height), body)
    gap = (height - 0.06) / rows
    books = [kit.mix(palette.painted(kit.rng, palette.any_name(kit.rng))) for _ in range(5)]
    for row in range(rows + 1):
        kit.add("box", (0, 0, 0.03 + row * gap), (width, depth, 0.025), body)
    for row in range(rows):
        _books(kit, books, width - 0.06, depth, 0.045 + row * gap, gap - 0.05)
    return width, depth, None


def _books(kit: Kit, books: list[int], width: float, depth: float, floor: float, room: float) -> None:
    """One row of a shelf: books from the left, then nothing or one object."""
    x, end = -width / 2, width * kit.between(-0.2, 0.5)
    while x < end:
        thick, tall = kit.between(0.03, 0.09), room * kit.between(0.6, 0.95)
        material = books[int(kit.rng.integers(len(books)))]
        kit.add("box", (x + thick / 2, -0.02, floor + tall / 2), (thick * 0.94, depth * 0.75, tall), material)
        x += thick
    left = width / 2 - x
    if left > 0.2 and kit.chance(0.6):
        side = min(left * 0.6, room * 0.8, depth * 0.8)
        form = str(kit.rng.choice(["box", "sphere", "cylinder"]))
        kit.add(form, (x + left / 2, -0.02, floor + side / 2), (side,) * 3, books[int(kit.rng.integers(len(books)))])


def _shade(kit: Kit, centre: Vector, width: float, height: float) -> None:
    """A glowing lampshade or globe of the kit's flux."""
    globe = kit.chance(0.35)
    height = width if globe else height
    area = np.pi * width * (width if globe else height)
    glow = tuple((kit.light / (np.pi * area) * np.asarray(kit.tint)).tolist())
    material = kit.mix(Material((0.0, 0.0, 0.0), emission=glow))
    if globe:
        kit.add("sphere", centre, (width,) * 3, material)
    else:
        kit.add("cylinder", centre, (width, width, height), material, taper=round(kit.between(0.5, 1.0), 1))


def lamp(kit: Kit) -> Footprint:
    """Floor lamp."""
    height, foot, stand = kit.between(1.2, 1.75), kit.between(0.22, 0.36), kit.main()
    shade_width, shade_height = kit.between(0.22, 0.45), kit.between(0.2, 0.35)
    kit.add("cylinder", (0, 0, 0.02), (foot, foot, 0.04), stand)
    kit.add("cylinder", (0, 0, height / 2), (0.035, 0.035, height), stand)
    _shade(kit, (0, 0, height + shade_height / 2), shade_width, shade_height)
    return max(foot, shade_width), max(foot, shade_width), None


def pendant(kit: Kit, drop: float = 0.7) -> Footprint:
    """A lamp on a cord of `drop` metres: it hangs from z = 0 downwards."""
    cord = kit.main()
    kit.add("cylinder", (0, 0, -drop / 2), (0.02, 0.02, drop), cord)
    width = kit.between(0.2, 0.45)
    _shade(kit, (0, 0, -drop), width, width * kit.between(0.4, 0.8))
    return width, width, None


def plant(kit: Kit) -> Footprint:
    """A pot with a stem and leaves all around it."""
    pot_width, pot_height, height = kit.between(0.22, 0.42), kit.between(0.2, 0.4), kit.between(0.5, 1.3)
    pot, stem = kit.main(), kit.mix(palette.painted(kit.rng, "brown", 0))
    leaves = [kit.mix(palette.painted(kit.rng, "green", 0.3)) for _ in range(2)]
    kit.add(
        "cylinder", (0, 0, pot_height / 2), (pot_width, pot_width, pot_height), pot, rotation=lean(np.pi), taper=0.7
    )
    kit.add("cylinder", (0, 0, pot_height + height * 0.25), (0.03, 0.03, height * 0.5), stem)
    count, long = int(kit.rng.integers(10, 22)), kit.between(0.3, 0.55)
    bushy = kit.chance(0.3)
    for i in range(count):
        yaw, tilt = 2.4 * i + kit.between(-0.3, 0.3), kit.between(0.1, 1.3)
        rotation = turn(yaw) @ lean(tilt)
        root = np.array([0, 0, pot_height + height * kit.between(0.1, 0.5)])
        centre = tuple((root + rotation @ [0, 0, long / 2]).tolist())
        size = (long * 0.5,) * 3 if bushy else (long * 0.3, 0.02, long)
        kit.add("sphere", centre, size, leaves[i % 2], rotation=rotation)
    return pot_width * 1.6, pot_width * 1.6, None


def boxes(kit: Kit) -> Footprint:
    """A few cartons, some of them stacked."""
    width = kit.between(0.35, 0.7)
    height = width * kit.between(0.5, 1)
    kit.add("box", (0, 0, height / 2), (width, width * 0.8, height), kit.main(), rotation=turn(kit.between(-0.3, 0.3)))
    if kit.chance(0.7):
        small = width * kit.between(0.5, 0.8)
        material = kit.mix(palette.painted(kit.rng, palette.any_name(kit.rng)))
        kit.add(
            "box",
            (0, 0, height + small * 0.35),
            (small, small, small * 0.7),
            material,
            rotation=turn(kit.between(0, 1.5)),
        )
    return width * 1.2, width * 1.1, None


def cabinet(kit: Kit, wide: tuple[float, float] = (0.6, 1.8), tall: tuple[float, float] = (0.5, 1.1)) -> Footprint:
    """Doors or drawers with knobs; `wide` and `tall` are the ranges of its size [m]. Its top carries objects."""
    width, depth, height = kit.between(*wide), kit.between(0.38, 0.55), kit.between(*tall)
    body, front, knob = kit.main(), kit.main(), kit.side()
    kit.add("box", (0, 0, height / 2 + 0.03), (width, depth, height - 0.06), body)
    columns, rows = max(1, round(width / 0.5)), max(1, int(kit.rng.integers(1, 4)) if height < 1.3 else 1)
    w, h = width / columns, (height - 0.06) / rows
    for i in range(columns):
        for j in range(rows):
            x, z = (i + 0.5) * w - width / 2, 0.06 + (j + 0.5) * h
            kit.add("box", (x, -depth / 2 - 0.01, z), (w - 0.03, 0.025, h - 0.03), front)
            kit.add("sphere", (x + w * 0.32, -depth / 2 - 0.035, z), (0.04, 0.04, 0.04), knob)
    return width, depth + 0.05, height


def wardrobe(kit: Kit) -> Footprint:
    """A cabinet of a person's height."""
    width, depth, _ = cabinet(kit, (0.9, 1.8), (1.7, 2.15))
    return width, depth, None


def stool(kit: Kit) -> Footprint:
    """Stool with four legs, or a round pouf."""
    width, height = kit.between(0.3, 0.45), kit.between(0.4, 0.7)
    if kit.chance(0.4):  # pouf
        kit.add(
            "cylinder",
            (0, 0, height * 0.35),
            (width * 1.2, width * 1.2, height * 0.7),
            kit.mix(palette.cloth(kit.rng, kit.colour)),
        )
        return width * 1.2, width * 1.2, None
    kit.legs(width * 0.8, width * 0.8, height, kit.side())
    kit.add("cylinder", (0, 0, height), (width, width, 0.06), kit.main())
    return width, width, None


def television(kit: Kit) -> Footprint:
    """A screen on a low board."""
    board, _, height = cabinet(kit, (1.0, 1.8), (0.35, 0.55))
    width = board * kit.between(0.6, 0.95)
    screen = kit.mix(Material((0.015, 0.015, 0.02), specular=0.06, roughness=0.1))
    kit.add("box", (0, 0.05, height + 0.05 + width * 0.28), (width, 0.05, width * 0.56), screen)
    kit.add("box", (0, 0.05, height + 0.03), (width * 0.3, 0.15, 0.06), screen)
    return board, 0.5, None


def desk(kit: Kit) -> Footprint:
    """Table with a drawer block on one side."""
    width, depth, height = kit.between(1.1, 1.7), kit.between(0.55, 0.8), kit.between(0.7, 0.78)
    top, side, block = kit.main(), kit.side(), kit.main()
    kit.add("box", (0, 0, height - 0.02), (width, depth, 0.04), top)
    kit.add("box", (-width / 2 + 0.03, 0, height / 2), (0.04, depth, height - 0.04), side)
    kit.add("box", (width / 2 - 0.2, 0, height / 2), (0.38, depth * 0.9, height - 0.06), block)
    for i in range(3):
        z = (i + 0.5) * (height - 0.08) / 3
        kit.add("box", (width / 2 - 0.2, -depth * 0.45 - 0.01, z), (0.34, 0.02, height / 3 - 0.05), side)
    return width, depth, height


# kind: builder, whether its back stands against a wall
FURNITURE = {
    "table": (table, False),
    "chair": (chair, False),
    "sofa": (sofa, True),
    "armchair": (armchair, False),
    "bed": (bed, True),
    "shelf": (shelf, True),
    "lamp": (lamp, False),
    "plant": (plant, False),
    "boxes": (boxes, False),
    "cabinet": (cabinet, True),
    "wardrobe": (wardrobe, True),
    "stool": (stool, False),
    "television": (television, True),
    "desk": (desk, True),
}
OBJECTS = {"ball": "sphere", "cone": "cylinder", "cylinder": "cylinder", "ring": "torus", "cube": "box"}


def free_object(kit: Kit, kind: str, side: float) -> tuple[float, float, None]:
    """One of OBJECTS, about `side` metres wide."""
    material = kit.mix(
        palette.cloth(kit.rng, kit.colour) if kit.chance(0.3) else palette.painted(kit.rng, kit.colour, 0.4)
    )
    height = side * (1 if kind in ("ball", "cube") else 0.3 if kind == "ring" else kit.between(0.8, 1.6))
    more = {"taper": 0.0} if kind == "cone" else {}
    kit.add(
        OBJECTS[kind], (0, 0, height / 2), (side, side, height), material, rotation=turn(kit.between(0, 1.5)), **more
    )
    return side, side, None
