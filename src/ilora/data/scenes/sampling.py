"""A furnished room from a seed: layout, pieces, lights and camera."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from ilora.data.scenes import architecture, furniture, palette
from ilora.data.scenes.architecture import Draft, Room
from ilora.data.scenes.scene import SPLITS, Camera, Scene

TALL = ("shelf", "wardrobe")  # never in front of a window
WALLS = {"back": 0.0, "left": np.pi / 2, "right": -np.pi / 2}  # yaw of a piece whose back stands against it


def sample_scene(seed: int) -> Scene:
    """The room of that absolute seed: the same seed gives the same scene, on any machine.

    Raises:
        ValueError: the seed lies in no split (see scene.SPLITS).
    """
    if not any(seed in seeds for seeds in SPLITS.values()):
        raise ValueError(f"seed must lie in one of the splits {SPLITS}, got {seed}; split_seeds() gives valid ones")
    rng = np.random.Generator(np.random.PCG64(seed))
    room = Room.sample(rng)
    draft = Draft(rng, room, _camera(rng, room))
    walls = architecture.build(draft)
    draft.lit = walls.lit
    light = architecture.lights(draft, walls)
    _furnish(draft)
    _place_objects(draft)
    factors = _factors(draft, walls, light)
    return Scene(
        seed=seed,
        camera=draft.camera,
        materials=tuple(draft.materials),
        parts=tuple(draft.parts),
        pieces=tuple(draft.pieces),
        windows=tuple(walls.windows),
        sun=light.sun,
        brightness=float(np.exp(rng.normal(0, 0.18))),
        words=(("wall", walls.wall_word), ("floor", walls.floor_word), ("light", light.word)),
        factors=tuple(factors.items()),
    )


def look_at(
    position: Sequence[float] | Float[np.ndarray, "3"], target: Sequence[float] | Float[np.ndarray, "3"], fov: float
) -> Camera:
    """A camera without roll; both points in metres, fov horizontal in degrees."""
    back = np.asarray(position, float) - target
    back /= np.linalg.norm(back)
    right = np.cross([0, 0, 1], back)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(back, right), back], 1)
    return Camera(tuple(map(float, position)), tuple(map(tuple, rotation.tolist())), float(fov))


def _camera(rng: np.random.Generator, room: Room) -> Camera:
    """Near the front wall, looking into the room."""
    x = room.width * rng.uniform(0.15, 0.85)
    y = max(0.25, room.length - rng.uniform(3.0, 6.5)) if rng.random() < 0.6 else room.length * rng.uniform(0.05, 0.2)
    y = min(y, room.length * 0.4)
    z = float(np.clip(rng.normal(1.45, 0.4), 0.6, room.height - 0.3))
    target_y = max(room.length * rng.uniform(0.5, 1.0), min(y + 1.3, room.length))
    target = (room.width * rng.uniform(0.02, 0.98), target_y, rng.uniform(0.25, 1.3))
    wide = np.clip((4.2 - (room.length - y)) / 3, 0, 1)  # short rooms need a wide view
    return look_at((x, y, z), target, rng.uniform(45 + 25 * wide, 68 + 17 * wide))


def _seen(draft: Draft, x: float, y: float, margin: float = 0.95) -> bool:
    """Whether the floor position lies in the camera's horizontal view."""
    view = np.asarray(draft.camera.rotation).T @ (np.array([x, y, 0.5]) - draft.camera.position)
    return bool(-view[2] > 0.8 and abs(view[0]) < -view[2] * np.tan(np.radians(draft.camera.fov) / 2) * margin)


def _free(draft: Draft, box: tuple[float, float, float, float], gap: float = 0.03) -> bool:
    """Whether a floor rectangle lies in the room, off everything placed so far and away from the camera."""
    x0, y0, x1, y1 = box
    if x0 < 0 or y0 < 0 or x1 > draft.room.width or y1 > draft.room.length:
        return False
    cx, cy, _ = draft.camera.position
    if np.hypot(max(x0 - cx, 0, cx - x1), max(y0 - cy, 0, cy - y1)) < 0.75:
        return False
    return all(x1 + gap < a or c + gap < x0 or y1 + gap < b or d + gap < y0 for a, b, c, d in draft.taken)


def _spot(draft: Draft, width: float, depth: float, at_wall: bool, tall: bool = False):
    """A free place (x, y, yaw) for a footprint, or None after some tries."""
    rng, room = draft.rng, draft.room
    for _ in range(24):
        if at_wall or rng.random() < 0.25:
            wall = str(rng.choice(list(WALLS), p=[0.5, 0.25, 0.25]))
            yaw, off = WALLS[wall], depth / 2 + rng.uniform(0.01, 0.08)
            x = {"back": rng.uniform(0, room.width), "left": off, "right": room.width - off}[wall]
            y = room.length - off if wall == "back" else rng.uniform(0, room.length)
        else:
            x, y = rng.uniform(0, room.width), rng.uniform(0, room.length)
            yaw = rng.uniform(-np.pi, np.pi) if rng.random() < 0.6 else float(rng.integers(4)) * np.pi / 2
        c, s = abs(np.cos(yaw)), abs(np.sin(yaw))
        hx, hy = (c * width + s * depth) / 2, (s * width + c * depth) / 2
        if tall and wall in draft.lit:
            continue
        if _seen(draft, x, y) and _free(draft, (x - hx, y - hy, x + hx, y + hy)):
            draft.taken.append((x - hx, y - hy, x + hx, y + hy))
            return x, y, yaw
    return None


def _furnish(draft: Draft) -> None:
    """Pieces until the room is full enough: large ones first."""
    rng = draft.rng
    kinds = list(furniture.FURNITURE)
    large = ["sofa", "bed", "table", "shelf", "cabinet", "wardrobe", "desk", "television"]
    area = draft.room.width * draft.room.length
    wanted = [str(rng.choice(large)) for _ in range(int(rng.integers(1, 3)) + (area > 14))]
    wanted += [str(rng.choice(kinds)) for _ in range(int(rng.integers(2, 5)) + int(area > 25))]
    for kind in wanted:
        _add(draft, kind)
        if kind == "table" and rng.random() < 0.7:
            for _ in range(int(rng.integers(1, 4))):
                _add(draft, "chair")


def _add(draft: Draft, kind: str) -> None:
    build, at_wall = furniture.FURNITURE[kind]
    colours = (
        ["brown", "beige", "white"]
        if kind in ("table", "shelf", "desk", "wardrobe") and draft.rng.random() < 0.5
        else None
    )
    temperature = draft.rng.uniform(2500, 4500)
    kit = draft.kit(
        str(draft.rng.choice(colours)) if colours else None,
        light=float(draft.rng.uniform(6, 25)),
        tint=tuple(palette.kelvin(temperature).tolist()),
    )
    width, depth, top = build(kit)
    spot = _spot(draft, width, depth, at_wall, kind in TALL)
    if spot is None:
        return
    x, y, yaw = spot
    draft.put(kit, (x, y, 0.0), yaw, kind)
    draft.lamps += kind == "lamp"
    if top is not None:
        draft.tops.append((np.array([x, y, top]), width, depth))


def _place_objects(draft: Draft) -> None:
    """Free objects on table tops and on the floor."""
    rng = draft.rng
    kinds = list(furniture.OBJECTS)
    for centre, width, depth in draft.tops:
        for _ in range(int(rng.integers(0, 4))):
            kit = draft.kit()
            furniture.free_object(kit, kind := str(rng.choice(kinds)), float(rng.uniform(0.1, 0.28)))
            reach = min(width, depth) * 0.33
            draft.put(kit, centre + np.array([*rng.uniform(-reach, reach, 2), 0.0]), 0.0, kind)
    for _ in range(int(rng.integers(0, 4))):
        kit = draft.kit()
        kind, side = str(rng.choice(kinds)), float(rng.uniform(0.15, 0.55))
        furniture.free_object(kit, kind, side)
        spot = _spot(draft, side, side, False)
        if spot is not None:
            draft.put(kit, (spot[0], spot[1], 0.0), spot[2], kind)


def _factors(draft: Draft, walls, light) -> dict[str, float]:
    """What the renderer knows about the whole room; the pieces that are seen are counted when it is rendered."""
    back = np.asarray(draft.camera.rotation)[:, 2]
    wall, floor = (np.asarray(draft.materials[i].colour) for i in (walls.wall, walls.floor))
    return {
        "room_width": draft.room.width,
        "room_length": draft.room.length,
        "room_height": draft.room.height,
        "camera_height": draft.camera.position[2],
        "camera_tilt": float(np.degrees(np.arcsin(back[2]))),
        "camera_fov": draft.camera.fov,
        **{f"wall_{c}": float(v) for c, v in zip("rgb", wall, strict=True)},
        **{f"floor_{c}": float(v) for c, v in zip("rgb", floor, strict=True)},
        "light_area": float(light.areas),
        "light_lamp": float(light.pendants + draft.lamps),
        "light_window": float(len(walls.windows)),
        "light_sun": float(light.sun is not None),
        "light_temperature": light.temperature,
    }
