"""Named colours, and materials drawn from them."""

import numpy as np
from jaxtyping import Float

from ilora.data.scenes.scene import Material

# sRGB, as one would name them.
COLOURS = {
    "red": (0.76, 0.13, 0.12),
    "orange": (0.90, 0.48, 0.10),
    "yellow": (0.93, 0.80, 0.20),
    "green": (0.22, 0.55, 0.22),
    "teal": (0.10, 0.52, 0.52),
    "blue": (0.16, 0.32, 0.76),
    "purple": (0.48, 0.22, 0.62),
    "pink": (0.93, 0.56, 0.70),
    "brown": (0.45, 0.28, 0.15),
    "beige": (0.84, 0.75, 0.60),
    "white": (0.90, 0.90, 0.88),
    "grey": (0.52, 0.52, 0.53),
    "black": (0.13, 0.13, 0.14),
}
WOODS = ((0.75, 0.56, 0.36), (0.60, 0.38, 0.20), (0.42, 0.25, 0.14), (0.30, 0.18, 0.11), (0.83, 0.70, 0.52))
CLOTHS = ("plain", "plain", "plain", "plain", "stripes", "checker", "noise", "dots", "plaid", "zigzag")


def linear(srgb: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """sRGB in 0..1 to linear light (IEC 61966-2-1)."""
    srgb = np.asarray(srgb, float)
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def shade(rng: np.random.Generator, name: str, spread: float = 0.07) -> tuple[float, float, float]:
    """A linear colour that bears that name."""
    srgb = np.asarray(COLOURS[name]) * rng.uniform(0.88, 1.08) + rng.uniform(-spread, spread, 3)
    return tuple(linear(np.clip(srgb, 0.06, 0.95)).tolist())


def wood(rng: np.random.Generator) -> tuple[float, float, float]:
    """A linear wood colour between two of the listed ones."""
    a, b = (np.asarray(WOODS[i]) for i in rng.integers(0, len(WOODS), 2))
    return tuple(linear(np.clip(a + (b - a) * rng.random() + rng.uniform(-0.03, 0.03, 3), 0.05, 0.95)).tolist())


def any_name(rng: np.random.Generator) -> str:
    """One of COLOURS, each as likely as the others."""
    return str(rng.choice(list(COLOURS)))


def gloss(rng: np.random.Generator, chance: float = 0.2) -> dict:
    """Specular fields of a material: glossy with that chance."""
    if rng.random() >= chance:
        return {}
    return {"specular": float(rng.uniform(0.04, 0.25)), "roughness": float(rng.uniform(0.08, 0.4))}


def painted(rng: np.random.Generator, name: str, chance: float = 0.2) -> Material:
    """A plain lacquer or plastic of that colour."""
    return Material(shade(rng, name), **gloss(rng, chance))


def cloth(rng: np.random.Generator, name: str) -> Material:
    """Upholstery of that colour: plain, or with a pattern in a second colour."""
    pattern = str(rng.choice(CLOTHS))
    second = shade(rng, any_name(rng))
    if pattern == "noise":
        second = tuple((np.asarray(shade(rng, name)) * rng.uniform(0.4, 0.8)).tolist())
    return Material(shade(rng, name), second, pattern, float(rng.uniform(0.25, 0.9)), seed=int(rng.integers(2**31)))


def timber(rng: np.random.Generator, chance: float = 0.3) -> Material:
    """Bare wood with its grain."""
    return Material(
        wood(rng),
        pattern="grain",
        scale=float(rng.uniform(0.3, 0.8)),
        seed=int(rng.integers(2**31)),
        **gloss(rng, chance),
    )


def kelvin(temperature: float) -> Float[np.ndarray, "3"]:
    """Light colour [3], linear RGB of mean 1, from 2500 K (warm) to 10000 K (cold)."""
    # Linear interpolation between blackbody colours, half way to white: a camera balances most of the tint away.
    table = np.array(
        [[2500, 1.0, 0.60, 0.30], [4000, 1.0, 0.80, 0.62], [6500, 1.0, 0.98, 0.97], [10000, 0.76, 0.86, 1.0]]
    )
    colour = np.array([np.interp(temperature, table[:, 0], table[:, i]) for i in (1, 2, 3)])
    return colour / colour.mean()
