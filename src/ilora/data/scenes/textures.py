"""Texture tiles: a material's pattern as a small square of linear albedo that repeats without a seam."""

import numpy as np
from jaxtyping import Float, UInt32

from ilora.data.scenes.scene import Material

TILE = 64  # texels a side
Tile = Float[np.ndarray, "n n 3"]  # linear RGB; rows are v, columns u


def _mix(material: Material, weight: np.ndarray) -> np.ndarray:
    """[n, n, 3] between the first colour (0) and the second (1)."""
    return np.asarray(material.colour) * (1 - weight[..., None]) + np.asarray(material.second) * weight[..., None]


def _smooth(rng: np.random.Generator, power: float, stretch: float = 1.0) -> np.ndarray:
    """Seamless noise [n, n] in 0..1 with spectrum 1/f^power, longer along u by `stretch`."""
    fy, fx = np.fft.fftfreq(TILE)[:, None] * TILE, np.fft.fftfreq(TILE)[None] * TILE
    frequency = np.maximum(np.hypot(fy, fx * stretch), 1)
    field = np.fft.ifft2(np.fft.fft2(rng.standard_normal((TILE, TILE))) / frequency**power).real
    low, high = field.min(), field.max()
    return (field - low) / (high - low + 1e-12)


def _axes() -> tuple[np.ndarray, np.ndarray]:
    v, u = np.mgrid[:TILE, :TILE]
    return u, v


def checker(material: Material, rng: np.random.Generator) -> Tile:
    """Two by two squares."""
    u, v = _axes()
    half = TILE // 2
    return _mix(material, ((u // half + v // half) % 2).astype(float))


def stripes(material: Material, rng: np.random.Generator) -> Tile:
    """Even stripes along u or v, 2, 4 or 8 to a tile."""
    u, v = _axes()
    period, share = int(rng.choice([8, 16, 32])), rng.uniform(0.25, 0.6)
    return _mix(material, (((u if rng.random() < 0.7 else v) % period) < share * period).astype(float))


def bricks(material: Material, rng: np.random.Generator) -> Tile:
    """Four rows of two bricks, each in a tone of its own; the second colour is the mortar."""
    u, v = _axes()
    row = v // 16
    shifted = (u + 16 * (row % 2)) % TILE
    tone = rng.uniform(0.75, 1.15, (4, 2))[row, shifted // 32]
    mortar = ((v % 16) < 2) | ((shifted % 32) < 2)
    return np.where(mortar[..., None], material.second, np.asarray(material.colour) * tone[..., None])


def planks(material: Material, rng: np.random.Generator) -> Tile:
    """Four rows of floor boards with shifted ends, dark gaps and a little grain."""
    u, v = _axes()
    row = v // 16
    shifted = (u + rng.integers(0, TILE, 4)[row]) % TILE
    tone = rng.uniform(0.7, 1.15, (4, 1))[row, 0] * (0.8 + 0.4 * _smooth(rng, 1.2, stretch=6))
    gap = ((v % 16) < 1) | (shifted < 1)
    return np.asarray(material.colour) * (tone * np.where(gap, 0.45, 1))[..., None]


def grain(material: Material, rng: np.random.Generator) -> Tile:
    """Wavy lines of wood along u."""
    wave = 0.5 + 0.5 * np.sin(2 * np.pi * (4 * _axes()[1] / TILE + 2.5 * _smooth(rng, 2.0, stretch=5)))
    return np.asarray(material.colour) * (0.7 + 0.4 * wave)[..., None]


def tiles(material: Material, rng: np.random.Generator) -> Tile:
    """Two by two tiles in slightly different tones; the second colour is the joint."""
    u, v = _axes()
    joint = ((u % 32) < 2) | ((v % 32) < 2)
    tone = rng.uniform(0.85, 1.1, (2, 2))[v // 32, u // 32]
    return np.where(joint[..., None], material.second, np.asarray(material.colour) * tone[..., None])


def noise(material: Material, rng: np.random.Generator) -> Tile:
    """Soft clouds between both colours."""
    return _mix(material, _smooth(rng, rng.uniform(0.8, 2.0)))


def dots(material: Material, rng: np.random.Generator) -> Tile:
    """Discs of the first colour on the second, 2 or 4 to a side."""
    u, v = _axes()
    period = int(rng.choice([16, 32]))
    far = np.hypot((u % period) - period / 2 + 0.5, (v % period) - period / 2 + 0.5)
    return _mix(material, (far < period * rng.uniform(0.2, 0.4)).astype(float))


def plaid(material: Material, rng: np.random.Generator) -> Tile:
    """Crossed bands; where they cross, the second colour is full."""
    u, v = _axes()
    width = int(rng.integers(4, 12))
    return _mix(material, 0.5 * ((u % 32) < width) + 0.5 * ((v % 32) < width))


def zigzag(material: Material, rng: np.random.Generator) -> Tile:
    """Even zigzag bands along u."""
    u, v = _axes()
    return _mix(material, (((v + np.abs((u % 32) - 16)) % 16) < 8).astype(float))


def painting(material: Material, rng: np.random.Generator) -> Tile:
    """A landscape or a few shapes in a light margin: what hangs on walls."""
    u, v = _axes()
    picture = _mix(material, v / TILE)
    if rng.random() < 0.5:
        hills = TILE * (0.45 + 0.2 * np.sin(u / TILE * rng.uniform(4, 12) + rng.uniform(0, 6)))
        picture = np.where((v < hills)[..., None], rng.uniform(0.05, 0.6, 3), picture)
    for _ in range(int(rng.integers(1, 6))):
        cu, cv, radius = *rng.uniform(0, TILE, 2), rng.uniform(4, 18)
        inside = np.hypot(u - cu, v - cv) < radius
        if rng.random() < 0.5:
            inside = (np.abs(u - cu) < radius) & (np.abs(v - cv) < radius * rng.uniform(0.3, 1))
        picture = np.where(inside[..., None], rng.uniform(0.03, 0.8, 3), picture)
    margin = (np.minimum(u, v) < 5) | (np.maximum(u, v) >= TILE - 5)
    return np.where(margin[..., None], 0.75, picture)


def rug(material: Material, rng: np.random.Generator) -> Tile:
    """Nested square rings under soft noise."""
    u, v = _axes()
    ring = np.minimum(np.minimum(u, TILE - 1 - u), np.minimum(v, TILE - 1 - v))
    step = int(rng.integers(4, 11))
    return _mix(material, (ring // step % 2).astype(float)) * (0.85 + 0.3 * _smooth(rng, 0.6))[..., None]


PATTERNS = {
    f.__name__: f for f in (checker, stripes, bricks, planks, grain, tiles, noise, dots, plaid, zigzag, painting, rug)
}


def bake(material: Material) -> Tile:
    """Linear albedo [n, n, 3] in 0..0.9 of one tile; a plain material is a single texel."""
    if material.pattern == "plain":
        return np.clip(np.asarray(material.colour, np.float32), 0, 0.9).reshape(1, 1, 3)
    if material.pattern not in PATTERNS:
        raise ValueError(f"pattern must be plain or one of {', '.join(PATTERNS)}, got {material.pattern!r}")
    tile = PATTERNS[material.pattern](material, np.random.Generator(np.random.PCG64(material.seed)))
    return np.clip(tile, 0, 0.9).astype(np.float32)


def atlas(
    materials: tuple[Material, ...],
) -> tuple[Float[np.ndarray, "t 3"], UInt32[np.ndarray, " m"], UInt32[np.ndarray, " m"]]:
    """All tiles one after another: texels [t, 3], and for each material its first texel [m] and its side [m]."""
    tiles_ = [bake(m) for m in materials]
    sides = np.array([t.shape[0] for t in tiles_], np.uint32)
    starts = np.concatenate([[0], np.cumsum(sides.astype(np.int64) ** 2)[:-1]]).astype(np.uint32)
    return np.concatenate([t.reshape(-1, 3) for t in tiles_]), starts, sides
