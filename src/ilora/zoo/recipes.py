"""How each embedded generator is built and trained. Every number that its weights depend on is here."""

from dataclasses import dataclass, field

from ilora.config import Configuration

LADDER = (300, 600, 1200, 1800, 2400)  # log-spaced; the end of the training is its last rung


@dataclass(frozen=True, kw_only=True)
class Training(Configuration):
    """One resumable training: AdamW, linear warm-up, constant, linear to zero, averaged weights."""

    steps: int
    batch: int
    lr: float
    warmup: int = 100
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.999  # decay of the averaged weights that are shipped
    seed: int = 0
    snapshots: tuple[int, ...] = ()  # steps after which the averaged weights are kept; the last step's always are


@dataclass(frozen=True, kw_only=True)
class Recipe(Configuration):
    """A Stable Diffusion in miniature: AutoencoderTiny, UNet2DConditionModel, CLIPTextModel."""

    name: str
    description: str
    size: int = 128  # side of the pictures [px]
    pictures: int = 5500  # at most, in the order of their seeds
    held_out: int = 500  # pictures that only the quality numbers see

    codec_pictures: int = 1500  # of these, the first that the codec learns from

    # Codec: 4 x 4 pixels to one cell of `latent` channels.
    latent: int = 8
    codec_width: int = 48
    codec_blocks: tuple[int, ...] = (0, 1, 4)  # at 1, 1/2 and 1/4 of the size; the decoder mirrors them
    codec: Training = field(default_factory=lambda: Training(steps=3000, batch=32, lr=2e-3, ema=0.995))
    codec_crop: int = 64  # side of the random crops that the codec learns from [px]
    codec_noise: float = 0.1  # standard deviation added to its unit-variance latents, so that neighbours decode alike

    # Denoiser on the latents: velocity prediction, zero terminal SNR.
    widths: tuple[int, ...] = (48, 96, 144)
    heads: tuple[int, ...] = (2, 3, 3)
    attention: tuple[bool, ...] = (False, True, True)  # cross-attention blocks by level
    denoiser: Training = field(
        default_factory=lambda: Training(steps=3600, batch=32, lr=1e-3, warmup=200, ema=0.998, snapshots=LADDER)
    )
    half_until: int = 2400  # step before which it sees whole pictures at half their size, three times faster
    drop_caption: float = 0.1  # share of pictures seen without their caption, for classifier-free guidance

    # Text encoder, trained with the denoiser.
    text_width: int = 96
    text_layers: int = 2
    text_tokens: int = 40  # longest caption
    vocabulary: int = 512


RECIPES = {
    "rooms-diffusion": Recipe(
        name="rooms-diffusion",
        description="a Stable Diffusion in miniature that paints furnished rooms from captions",
    ),
    "nano": Recipe(
        name="nano",
        description="a smaller one, for repeating the question with its whole ladder on two cores",
        pictures=3000,
        held_out=300,
        codec_width=32,
        codec=Training(steps=1500, batch=32, lr=2e-3, ema=0.99),
        widths=(32, 64, 96),
        heads=(2, 2, 3),
        denoiser=Training(steps=3600, batch=32, lr=1e-3, warmup=100, ema=0.998, snapshots=LADDER),
    ),
}


def recipe(name: str) -> Recipe:
    """The recipe of an embedded generator.

    Raises:
        ValueError: there is no recipe of that name.
    """
    if name not in RECIPES:
        raise ValueError(f"expected a recipe among {', '.join(RECIPES)}, got {name!r}")
    return RECIPES[name]
