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
    """What every embedded generator has: a name, and the pictures that it learns from."""

    name: str
    description: str
    size: int = 128  # side of the pictures [px]
    pictures: int = 5500  # at most, in the order of their seeds
    held_out: int = 500  # pictures that only the quality numbers see


@dataclass(frozen=True, kw_only=True)
class DiffusionRecipe(Recipe):
    """A Stable Diffusion in miniature: AutoencoderTiny, UNet2DConditionModel, CLIPTextModel."""

    codec_pictures: int = 1500  # of these, the first that the codec learns from

    # Codec: 4 x 4 pixels to one cell of `latent` channels.
    codec_from: str = ""  # the embedded generator whose codec it takes over; "": it trains its own
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
    silent: bool = False  # its residual branches and its output begin at zero
    drop_caption: float = 0.1  # share of pictures seen without their caption, for classifier-free guidance

    # Text encoder, trained with the denoiser.
    text_width: int = 96
    text_layers: int = 2
    text_tokens: int = 40  # longest caption
    vocabulary: int = 512


@dataclass(frozen=True, kw_only=True)
class Adversarial(Configuration):
    """One resumable training of a generator against a discriminator, both with Adam (betas 0 and 0.99).

    The loss is the non-saturating one (Goodfellow et al. 2014, sec. 3), with R1 (Mescheder et al. 2018, arXiv
    1801.04406) at every ``lazy``-th update (Karras et al. 2020, arXiv 1912.04958, sec. 3.1). Where the first half of
    the painted images are real ones painted again, they must stay close to them, too (Larsen et al. 2016, arXiv
    1512.09300).
    """

    steps: int
    batch: int = 16  # real images of an update, and as many painted ones
    lr: float = 2e-3  # of a layer whose weights have unit variance: equalised for the others
    r1: float = 0.05  # weight gamma; 0.0002 side^2 / batch, the rule of thumb of StyleGAN 2-ADA
    lazy: int = 16  # updates between two that count R1, then ``lazy``-fold
    ahead: int = 0  # first updates, in which the discriminator alone learns
    anchor: float = 10.0  # weight of the distance between the first half of an update's real and painted images
    ema: float = 0.995  # decay of the averaged weights that are shipped
    seed: int = 0
    snapshots: tuple[int, ...] = ()  # steps after which the averaged weights are kept; the last step's always are


@dataclass(frozen=True, kw_only=True)
class GanRecipe(Recipe):
    """A StyleGAN 2 in miniature, with the encoder that finds the styles of real pictures."""

    size: int = 64

    # Generator.
    noise: int = 128  # numbers that an image is drawn from
    style: int = 128
    mapping: int = 4  # layers
    widths: tuple[int, ...] = (160, 160, 96, 48, 24)  # channels at 4 px, 8 px, ..., of generator and discriminator

    # First it is a decoder of principal components, which are its styles.
    small: int = 16  # side of the pictures whose components these are [px]
    decoder: Training = field(default_factory=lambda: Training(steps=5200, batch=16, lr=2e-3, warmup=50, ema=0.998))
    growth: tuple[int, ...] = (2687, 4000)  # updates after which the side doubles; it begins so much smaller
    style_noise: float = 0.2  # standard deviation added to styles of unit variance, so that neighbours paint alike

    # Then the mapping learns to draw such components, against a discriminator of small pictures.
    prior_widths: tuple[int, ...] = (128, 64, 32)  # of this discriminator, at 4 px, 8 px, ...
    prior: Adversarial = field(default_factory=lambda: Adversarial(steps=1800, batch=64, r1=0.01, anchor=0.0))

    # Then all of it learns against a discriminator.
    group: int = 4  # images that the discriminator compares with each other
    gan: Adversarial = field(
        default_factory=lambda: Adversarial(steps=200, lr=1e-3, ahead=100, anchor=30.0, snapshots=(100,))
    )

    # Last the encoder of real pictures, which begins with their components.
    encoder_width: int = 24
    encoder_features: int = 192
    eye: Training = field(default_factory=lambda: Training(steps=300, batch=32, lr=1e-3, warmup=50, ema=0.99))
    encoder: Training = field(default_factory=lambda: Training(steps=300, batch=16, lr=1e-3, warmup=50, ema=0.99))
    refinement: int = 50  # steps of descent after the encoder, when a picture is encoded


@dataclass(frozen=True, kw_only=True)
class TokenRecipe(Recipe):
    """A VQGAN in miniature: VQModel, GPT2LMHeadModel."""

    size: int = 64

    # Codec: 4 x 4 pixels to one of `entries` vectors of `entry` numbers.
    entries: int = 1024
    entry: int = 8
    widths: tuple[int, ...] = (16, 32, 64)  # at 1, 1/2 and 1/4 of the size, attention at the last
    groups: int = 8  # of the norms
    codec: Training = field(default_factory=lambda: Training(steps=1300, batch=16, lr=5e-3, warmup=50, ema=0.99))
    codec_crop: int = 64  # side of the random crops that the codec learns from [px]
    codec_noise: float = 0.3  # standard deviation added to its unit-variance latents while there is no codebook
    quantise_from: int = 700  # step at which k-means begins the codebook; before, latents pass as they are
    revive_every: int = 100  # steps after which entries that no cell chooses begin anew at a cell's latent
    commitment: float = 0.25  # weight of the latent's way to its entry against the entry's to the latent

    # Prior: a caption, a start token and the picture, row by row.
    width: int = 96
    layers: int = 5
    heads: int = 4
    dropout: float = 0.0
    caption_tokens: int = 32  # longest caption
    drop_caption: float = 0.1  # share of pictures seen without their caption, for classifier-free guidance
    variants: int = 1  # times that each picture and its mirror image are tokenised, from the second on moved a little
    prior: Training = field(
        default_factory=lambda: Training(
            steps=700, batch=32, lr=2e-3, warmup=100, weight_decay=0.1, ema=0.995, snapshots=(50, 100, 200, 400, 550)
        )
    )


@dataclass(frozen=True, kw_only=True)
class EncoderRecipe(Recipe):
    """The network in whose features pictures are compared."""

    size: int = 64
    encoder: Training = field(
        default_factory=lambda: Training(steps=600, batch=64, lr=2e-3, weight_decay=0.1, ema=0.98)
    )
    noise: float = 0.2  # standard deviation added to pictures in [-1, 1]
    shift: int = 4  # largest move of a picture [px]


RECIPES: dict[str, Recipe] = {
    "rooms-diffusion": DiffusionRecipe(
        name="rooms-diffusion",
        description="a Stable Diffusion in miniature that paints furnished rooms from captions",
    ),
    "rooms-nano": DiffusionRecipe(
        name="rooms-nano",
        description="a smaller Stable Diffusion of smaller pictures, whose whole ladder takes two cores half an hour",
        size=64,
        pictures=3000,
        held_out=300,
        codec_from="rooms-diffusion",
        widths=(32, 64, 96),
        heads=(2, 2, 3),
        denoiser=Training(steps=2000, batch=32, lr=2e-3, warmup=50, ema=0.99, snapshots=(60, 125, 250, 500, 1000)),
        half_until=0,
        silent=True,
    ),
    "rooms-gan": GanRecipe(
        name="rooms-gan",
        description="a StyleGAN 2 in miniature that paints furnished rooms",
    ),
    "rooms-ar": TokenRecipe(
        name="rooms-ar",
        description="a VQGAN in miniature: a transformer that paints furnished rooms from captions, token by token",
    ),
    "scene-encoder": EncoderRecipe(
        name="scene-encoder",
        description="reads size, camera, furniture, colours and light of a rendered room off its picture",
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
