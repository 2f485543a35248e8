"""How the embedded GAN is built and trained. Every number that its weights depend on is here."""

from dataclasses import dataclass, field

from ilora.config import Configuration
from ilora.zoo.recipes import Training

LADDER = (150, 600, 2400, 3400, 4300)  # the end of the training is its last rung


@dataclass(frozen=True, kw_only=True)
class Adversarial(Configuration):
    """One resumable training of a generator against a discriminator, both with Adam (betas 0 and 0.99).

    The loss is the non-saturating one (Goodfellow et al. 2014, sec. 3), with R1 (Mescheder et al. 2018, arXiv
    1801.04406) at every ``lazy``-th update (Karras et al. 2020, arXiv 1912.04958, sec. 3.1).
    """

    steps: int
    growth: tuple[int, ...] = ()  # updates after which the side doubles (Karras et al. 2018); it begins so much smaller
    batch: int = 16
    lr: float = 2e-3  # of a layer whose weights have unit variance: equalised for the others
    r1: float = 1.0  # weight gamma at the full side; at a smaller one as much less as that has fewer pixels
    lazy: int = 4  # updates between two that count R1, then ``lazy``-fold
    mixing: float = 0.5  # share of the images whose fine layers get another style
    ema: float = 0.9978  # decay of the averaged weights that are shipped: half in 5,000 images at a batch of 16
    seed: int = 0
    snapshots: tuple[int, ...] = ()  # steps after which the averaged weights are kept; the last step's always are


@dataclass(frozen=True, kw_only=True)
class GanRecipe(Configuration):
    """A StyleGAN 2 in miniature, with the encoder that finds the styles of real pictures."""

    name: str
    description: str
    size: int = 64  # side of the pictures [px]
    pictures: int = 5500  # at most, in the order of their seeds
    held_out: int = 500  # pictures that only the quality numbers see

    noise: int = 256  # numbers that an image is drawn from
    style: int = 256
    mapping: int = 4  # layers
    widths: tuple[int, ...] = (128, 128, 80, 48, 24)  # channels at 4 px, 8 px, ..., of generator and discriminator
    group: int = 4  # images that the discriminator compares with each other
    gan: Adversarial = field(default_factory=lambda: Adversarial(steps=5300, growth=(2400, 4300), snapshots=LADDER))

    encoder_width: int = 24
    encoder_features: int = 192
    encoder: Training = field(default_factory=lambda: Training(steps=1200, batch=16, lr=1e-3, warmup=100, ema=0.995))
    refinement: int = 50  # steps of descent after the encoder, when a picture is encoded


RECIPES = {
    "rooms-gan": GanRecipe(
        name="rooms-gan",
        description="a StyleGAN 2 in miniature that paints furnished rooms",
    ),
}


def recipe(name: str) -> GanRecipe:
    """The recipe of an embedded GAN.

    Raises:
        ValueError: there is no recipe of that name.
    """
    if name not in RECIPES:
        raise ValueError(f"expected a recipe among {', '.join(RECIPES)}, got {name!r}")
    return RECIPES[name]
