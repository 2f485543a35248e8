"""Train a StyleGAN 2 from pictures to a shipped folder, resumable: as a decoder, against a discriminator, and last the
encoder of real pictures."""

from pathlib import Path

import torch
from jaxtyping import Int
from safetensors.torch import load_file
from torch import Tensor, nn

from ilora.generators import stylegan_files
from ilora.generators.inversion import Encoder, EncoderShape
from ilora.generators.stylegan2 import Shape2, StyleGAN2
from ilora.generators.stylegan_layers import MappingShape
from ilora.records import Image
from ilora.zoo.adversarial import Pair, train_pair
from ilora.zoo.decoder import Components, kept, mirrored, train_decoder, train_eye, train_prior
from ilora.zoo.discriminator import Discriminator
from ilora.zoo.inverter import train_encoder
from ilora.zoo.loop import chosen_device
from ilora.zoo.pictures import read_pictures
from ilora.zoo.recipes import GanRecipe, recipe
from ilora.zoo.train import claim

MEAN = 16_384  # draws that the mean style is taken over


def train(name: str, pictures: Path | str, out: Path | str, *, device: str | None = None) -> Path:
    """Train a GAN and its encoder; leave a folder that ``ilora.generators.load`` takes in ``out/generator``.

    A stage that is finished is not run again; a stage that was stopped goes on from its last checkpoint.

    Args:
        name: a recipe's name.
        pictures: folder of webdataset shards of rendered pictures; their captions are not read.
        out: checkpoints, logs, ladder snapshots and the result.
        device: where to train; a GPU if there is one.

    Raises:
        ValueError: no such recipe, no pictures, or ``out`` belongs to another recipe.
    """
    chosen, out = recipe(name), Path(out)
    device = chosen_device(device)
    claim(chosen, out)
    shown, _ = read_pictures(pictures, limit=chosen.pictures, size=chosen.size).split(chosen.held_out)

    def images(index: Tensor) -> Image:
        return shown.images(index).to(device)

    pair, reals = fresh(chosen).to(device), (images, len(shown))
    codes = kept(out / "components.safetensors", shown, chosen.small, chosen.style, device=device)
    train_decoder(pair.generator.synthesis, chosen, out / "decoder", codes=codes, reals=reals)
    still(pair.generator)
    train_prior(pair.generator.mapping, chosen, out / "prior", codes=codes, reals=reals)

    def turn(index: Int[Tensor, " b"], numbers: torch.Generator) -> tuple[Image, Image]:
        seen = mirrored(images(index), numbers)
        return seen, paint(pair.generator, codes, seen, numbers)

    train_pair(pair, turn, chosen.gan, out / "gan", reals=len(shown))
    network = finished(pair.generator).requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(chosen.encoder.seed)
        encoder = Encoder(encoder_shape(chosen)).to(device)
    train_eye(encoder, chosen, out / "eye", codes=codes, mean=network.mapping.w_avg, reals=reals)
    train_encoder(encoder, network, chosen.encoder, out / "encoder", reals=reals)
    return assemble(chosen, network, encoder, out / "generator")


def fresh(chosen: GanRecipe) -> Pair:
    """Generator and discriminator, drawn by the recipe's seed."""
    mapping = MappingShape(z=chosen.noise, w=chosen.style, layers=chosen.mapping)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(chosen.gan.seed)
        generator = StyleGAN2(Shape2(widths=chosen.widths, mapping=mapping))
        return Pair(generator, Discriminator(chosen.widths, group=chosen.group))


def still(network: StyleGAN2) -> None:
    """Freeze the strength of the noise: rendered pictures have none, and against a discriminator specks of noise would
    stand for the detail that is missing."""
    for name, parameter in network.named_parameters():
        if name.endswith("noise_strength"):
            parameter.requires_grad_(False)


def paint(network: StyleGAN2, codes: Components, images: Image, numbers: torch.Generator) -> Image:
    """As many images as there are real ones: the first half of those painted again, then new ones."""
    half = len(images) // 2
    z = torch.randn(len(images) - half, network.shape.mapping.z, generator=numbers).to(images.device)
    style = torch.cat([codes.style(images[:half]), network.mapping(z)])  # [b, d]
    return network(style[:, None].expand(-1, network.shape.styles, -1), numbers)


@torch.no_grad()
def finished(network: StyleGAN2) -> StyleGAN2:
    """The generator with the mean style of its own mapping."""
    z = torch.randn(MEAN, network.shape.mapping.z, generator=torch.Generator().manual_seed(0))
    network.mapping.w_avg.copy_(network.mapping(z.to(network.mapping.w_avg)).mean(0))
    return network.eval()


def encoder_shape(chosen: GanRecipe) -> EncoderShape:
    """Of the encoder of a recipe."""
    shape = Shape2(widths=chosen.widths)
    return EncoderShape(
        styles=shape.styles,
        w=chosen.style,
        side=chosen.size,
        width=chosen.encoder_width,
        features=chosen.encoder_features,
    )


def assemble(chosen: GanRecipe, network: nn.Module, encoder: Encoder | None, folder: Path) -> Path:
    """Write generator and encoder in half precision."""
    stylegan_files.write(folder, network, origin=f"ilora zoo train {chosen.name}", dtype=torch.float16)
    if encoder is not None:
        stylegan_files.write_encoder(folder, encoder)
    licence = "that of ilora: the pictures that it learned from are rendered by it"
    stylegan_files.write_config(folder, {"licence": licence, "inversion": {"steps": chosen.refinement}})
    return folder


def rung(name: str, out: Path | str, snapshot: Path, folder: Path) -> Path:
    """A generator's folder of one snapshot of the ladder that ``train`` left in ``out/gan/snapshots``; no encoder."""
    chosen = recipe(name)
    pair = fresh(chosen)
    pair.load_state_dict(load_file(snapshot), strict=False)
    return assemble(chosen, finished(pair.generator), None, folder)
