"""How an embedded GAN begins: as a decoder of pictures' principal components, which are its styles.

Adversarial training from scratch needs millions of pictures, and a variational autoencoder must first find its codes.
Principal components are there at once, uncorrelated and of unit variance, like the noise that styles are drawn from; a
generator that paints them, blurred, learns what is left against a discriminator. (Codes that begin as principal
components: Bojanowski et al. 2018, arXiv 1707.05776.)
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ilora import tensors
from ilora.generators.inversion import Encoder, distance
from ilora.generators.stylegan2 import Synthesis2
from ilora.generators.stylegan_layers import Mapping
from ilora.records import Image
from ilora.zoo.adversarial import Pair, train_pair
from ilora.zoo.discriminator import Discriminator
from ilora.zoo.loop import train
from ilora.zoo.pictures import Pictures
from ilora.zoo.recipes import GanRecipe


@dataclass(frozen=True)
class Components:
    """Principal components of small pictures.

    Attributes:
        side: pictures are brought to this side first [px].
        mean: of the small pictures.
        axes: directions over the standard deviation along them, the greatest last.
    """

    side: int
    mean: Float[Tensor, " n"]
    axes: Float[Tensor, "n d"]

    def style(self, images: Image) -> Float[Tensor, "b d"]:
        """One style a picture: of zero mean and unit covariance over the pictures that the components are of."""
        small = F.avg_pool2d(images, images.shape[-1] // self.side).flatten(1)  # [b, 3 side side]
        return (small - self.mean) @ self.axes

    def paint(self, style: Float[Tensor, "b d"]) -> Image:
        """The small picture that a style stands for."""
        flat = self.mean + style @ (self.axes / self.axes.square().sum(0)).T  # [b, 3 side side]
        return flat.unflatten(1, (3, self.side, self.side))


def kept(path: Path, pictures: Pictures, side: int, count: int, *, device: str | torch.device) -> Components:
    """``components``, made once and read from ``path`` ever after: another machine may find those of nearly equal
    variance turned or in another order, which is not what checkpoints learned."""
    if not path.is_file():
        made = components(pictures, side, count)
        tensors.write(path, {"mean": made.mean, "axes": made.axes}, {})
    values, _ = tensors.read(path)
    return Components(side, values["mean"].to(device), values["axes"].to(device))


def components(pictures: Pictures, side: int, count: int) -> Components:
    """Of the pictures and of their mirror images, on the CPU.

    The largest entry in the left half of each direction is positive; the right half is the same mirrored, or its
    opposite, so that over the whole two entries would be largest.

    Args:
        side: of the small pictures [px].
        count: components that are kept, the greatest.
    """
    shrink = pictures.pixels.shape[-1] // side
    parts = [pictures.images(index) for index in torch.arange(len(pictures)).split(256)]
    small = torch.cat([F.avg_pool2d(part, shrink) for part in parts])
    flat = torch.cat([small, small.flip(3)]).flatten(1).double()  # [2 pictures, 3 side side]
    variances, directions = torch.linalg.eigh(torch.cov(flat.T))
    directions = directions[:, -count:]
    left = directions.unflatten(0, (3, side, side))[:, :, : (side + 1) // 2].flatten(0, 2)  # [n / 2, d]
    signs = left.gather(0, left.abs().argmax(0)[None]).sign()  # [1, d]
    axes = directions * signs / variances[-count:].sqrt()
    return Components(side, flat.mean(0).float(), axes.float())


def train_decoder(
    synthesis: Synthesis2,
    chosen: GanRecipe,
    folder: Path,
    *,
    codes: Components,
    reals: tuple[Callable[[Tensor], Image], int],
) -> Synthesis2:
    """Minimise the distance between pictures and those that their styles, a little noisy, paint.

    Sides grow (Karras et al. 2018, sec. 2): small pictures are quickly painted and hold the layout. A resolution begins
    silent, so that it paints what those before it do until it learns more.

    Args:
        synthesis: fresh; trained in place.
        folder: what ``ilora.zoo.loop.train`` writes.
        reals: pictures by number, and how many there are.
    """
    levels = len(chosen.widths)
    for level in range(levels - len(chosen.growth), levels):
        nn.init.zeros_(synthesis.get_submodule(f"b{4 * 2**level}").torgb.conv.weight)

    def loss(step: int, numbers: torch.Generator) -> Float[Tensor, ""]:
        index = torch.randint(reals[1], (chosen.decoder.batch,), generator=numbers)
        images = mirrored(reals[0](index), numbers)
        style = codes.style(images)
        style = style + chosen.style_noise * torch.randn(style.shape, generator=numbers).to(style)
        ahead = sum(step < growth for growth in chosen.growth)
        synthesis.levels = levels - ahead
        painted = synthesis(style[:, None].expand(-1, 2 * levels, -1), numbers)
        return distance(painted, F.avg_pool2d(images, 2**ahead)).mean()

    return train(synthesis, loss, chosen.decoder, folder)


def train_prior(
    mapping: Mapping,
    chosen: GanRecipe,
    folder: Path,
    *,
    codes: Components,
    reals: tuple[Callable[[Tensor], Image], int],
) -> None:
    """Teach a mapping network to draw styles like those of pictures, against a discriminator of what they stand for.

    Components are a picture's, so small pictures are judged, not styles, and no generator has to run.

    Args:
        mapping: fresh; trained in place.
        folder: what ``ilora.zoo.adversarial.train_pair`` writes.
        reals: pictures by number, and how many there are.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(chosen.prior.seed)
        judge = Discriminator(chosen.prior_widths, group=chosen.group).to(codes.mean.device)

    def turn(index: Int[Tensor, " b"], numbers: torch.Generator) -> tuple[Image, Image]:
        style = codes.style(mirrored(reals[0](index), numbers))
        z = torch.randn(len(index), mapping.shape.z, generator=numbers).to(style)
        both = torch.cat([style, mapping(z)])
        both = both + chosen.style_noise * torch.randn(both.shape, generator=numbers).to(style)
        real, painted = codes.paint(both).chunk(2)
        return real, painted

    train_pair(Pair(mapping, judge), turn, chosen.prior, folder, reals=reals[1])


def train_eye(
    encoder: Encoder,
    chosen: GanRecipe,
    folder: Path,
    *,
    codes: Components,
    mean: Float[Tensor, " d"],
    reals: tuple[Callable[[Tensor], Image], int],
) -> Encoder:
    """Let an encoder of real pictures begin with their components, a style for all layers: the generator sleeps.

    Args:
        encoder: fresh; trained in place.
        folder: what ``ilora.zoo.loop.train`` writes.
        mean: style of the generator, which an encoder's offsets are from.
        reals: pictures by number, and how many there are.
    """

    def loss(_: int, numbers: torch.Generator) -> Float[Tensor, ""]:
        index = torch.randint(reals[1], (chosen.eye.batch,), generator=numbers)
        images = mirrored(reals[0](index), numbers)
        return (mean + encoder(images) - codes.style(images)[:, None]).square().mean()

    return train(encoder, loss, chosen.eye, folder)


def mirrored(images: Image, numbers: torch.Generator) -> Image:
    """Every picture, or its mirror image."""
    flip = torch.rand(len(images), 1, 1, 1, generator=numbers).to(images.device) < 0.5
    return torch.where(flip, images.flip(3), images)
