"""Train the encoder that finds the styles of real pictures, for the embedded GAN and for any other StyleGAN."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ilora.config import Configuration
from ilora.data.cache import content_hash
from ilora.generators import stylegan_files
from ilora.generators.inversion import Encoder, EncoderShape, distance
from ilora.records import Image
from ilora.team import default_device
from ilora.zoo.loop import train
from ilora.zoo.pictures import read_pictures
from ilora.zoo.recipes import Training
from ilora.zoo.train import claim

CONFIG = Training(
    steps=20_000, batch=8, lr=1e-3, warmup=200, ema=0.999
)  # for generators that users bring; not measured
MIXED = 0.3  # standard deviation of the offsets between layers, as a share of the styles' own


@dataclass(frozen=True, kw_only=True)
class Beside(Configuration):
    """What the training of an encoder beside a generator depends on."""

    training: Training
    encoder: EncoderShape
    generator: str  # hash of its weights
    pictures: str | None  # hash of the real ones; None: there are none


def train_beside(
    folder: Path | str, *, pictures: Path | str | None = None, steps: int | None = None, device: str | None = None
) -> Path:
    """Train an encoder for the generator in a folder that ``ilora convert`` wrote, and put it beside it.

    A training that was stopped goes on; one that is finished is not run again.

    Args:
        pictures: shards of real pictures that ``ilora scenes render`` wrote, for generators of pictures like these;
            None: its own samples alone.
        steps: updates; None: 20,000.
        device: None: the accelerator of this machine, or the CPU.

    Returns:
        The encoder's file.

    Raises:
        FileNotFoundError: no generator there.
        ValueError: damaged, a checkpoint that is not converted yet, pictures smaller than the generator's, or a
            training that was begun with other pictures or another number of steps.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise ValueError(f"expected a folder that 'ilora convert' wrote, got {folder}; convert the checkpoint first")
    device = device or str(default_device())
    network, out = stylegan_files.open_path(folder).network, folder / "encoder-training"
    shape = network.shape
    shown = None if pictures is None else read_pictures(pictures, size=shape.resolution)
    config = CONFIG if steps is None else CONFIG.replace(steps=steps)
    beside = Beside(
        training=config,
        encoder=EncoderShape(styles=shape.styles, w=shape.mapping.w, side=min(128, shape.resolution)),
        generator=content_hash(network.state_dict()),
        pictures=None if shown is None else content_hash(shown.pixels),
    )
    claim(beside, out, remedy=f"give what it was begun with, or delete {out} and train anew")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        encoder = Encoder(beside.encoder).to(device)
    reals = None if shown is None else (lambda index: shown.images(index).to(device), len(shown))
    train_encoder(encoder, network.to(device), config, out, reals=reals)
    stylegan_files.write_encoder(folder, encoder)
    return folder / stylegan_files.ENCODER


def train_encoder(
    encoder: Encoder,
    network: nn.Module,
    config: Training,
    folder: Path,
    *,
    reals: tuple[Callable[[Tensor], Image], int] | None = None,
) -> Encoder:
    """Teach an encoder the styles of painted images, and to make the generator paint again what it sees.

    The loss is the squared error of the styles, in units of their variance, plus the distance between a picture and the
    one that its styles paint: for painted images, and for real ones, whose styles nobody knows.

    Args:
        network: the frozen generator.
        folder: what ``ilora.zoo.loop.train`` writes.
        reals: real pictures by number, and how many there are.
    """
    device = next(network.parameters()).device
    mean = network.mapping.centre()[:, None]  # [1, 1, w]
    variance = _styles(network, 1024, torch.Generator().manual_seed(0)).sub(mean).square().mean()

    def loss(step: int, numbers: torch.Generator) -> Float[Tensor, ""]:
        styles = _styles(network, config.batch, numbers)  # [b, n, w]
        apart = torch.randn(styles.shape, generator=numbers).to(device)
        styles = styles + MIXED * variance.sqrt() * apart * torch.rand(len(styles), 1, 1, generator=numbers).to(device)
        with torch.no_grad():
            images = network(styles).clamp(-1, 1)
        found = mean + encoder(images)
        total = (found - styles).square().mean() / variance + distance(network(found), images).mean()
        if reals is None:
            return total
        seen = reals[0](torch.randint(reals[1], (config.batch,), generator=numbers))
        return total + distance(network(mean + encoder(seen)), seen).mean()

    return train(encoder, loss, config, folder)


@torch.no_grad()
def _styles(network: nn.Module, count: int, numbers: torch.Generator) -> Float[Tensor, "b n w"]:
    """Styles of new images, of classes drawn at random where there are classes."""
    shape, device = network.shape, network.mapping.w_avg.device
    z = torch.randn(count, shape.mapping.z, generator=numbers).to(device)
    drawn = torch.randint(max(1, shape.mapping.classes), (count,), generator=numbers).to(device)
    return network.mapping(z, drawn)[:, None].expand(-1, shape.styles, -1)
