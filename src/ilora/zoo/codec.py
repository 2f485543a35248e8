"""The codec of an embedded generator: pictures to latents and back, able to draw colours that no picture has.

Half of the pictures that it learns from have their colours mixed by a random matrix. Intrinsic maps (a normal field is
smooth areas of saturated colour with sharp borders) then lie inside what the decoder can draw, though it never saw one.
"""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ilora.zoo.loop import mixed, train
from ilora.zoo.pictures import Pictures
from ilora.zoo.recipes import DiffusionRecipe


def build(recipe: DiffusionRecipe) -> nn.Module:
    """A fresh ``diffusers.AutoencoderTiny``."""
    from diffusers import AutoencoderTiny

    widths = (recipe.codec_width,) * len(recipe.codec_blocks)
    return AutoencoderTiny(
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        num_encoder_blocks=recipe.codec_blocks,
        num_decoder_blocks=recipe.codec_blocks[::-1],
        latent_channels=recipe.latent,
    )


def mix_colours(images: Float[Tensor, "b 3 h w"], numbers: torch.Generator) -> Float[Tensor, "b 3 h w"]:
    """Half of the images through a random 3 x 3 colour matrix and offset each, clipped to [-1, 1]."""
    b = len(images)
    matrix = torch.randn(b, 3, 3, generator=numbers)
    gain = 0.6 + 1.2 * torch.rand(b, 3, 1, generator=numbers)
    matrix = matrix / matrix.norm(dim=2, keepdim=True) * gain  # rows of length 0.6 to 1.8
    offset = 0.4 * torch.randn(b, 3, 1, 1, generator=numbers)
    mixed = (torch.einsum("bij,bjhw->bihw", matrix, images) + offset).clamp(-1, 1)
    chosen = torch.rand(b, 1, 1, 1, generator=numbers) < 0.5
    return torch.where(chosen, mixed, images)


def crops(pictures: Pictures, count: int, side: int, numbers: torch.Generator) -> Float[Tensor, "b 3 side side"]:
    """Random crops of random pictures, mirrored half of the time, in [-1, 1]."""
    h, w = pictures.pixels.shape[-2:]
    index = torch.randint(len(pictures), (count,), generator=numbers).tolist()
    top = torch.randint(h - side + 1, (count,), generator=numbers).tolist()
    left = torch.randint(w - side + 1, (count,), generator=numbers).tolist()
    batch = torch.stack(
        [pictures.pixels[i, :, y : y + side, x : x + side] for i, y, x in zip(index, top, left, strict=True)]
    )
    turned = torch.rand(count, 1, 1, 1, generator=numbers) < 0.5
    batch = torch.where(turned, batch.flip(3), batch)
    return batch.float() / 127.5 - 1


def distance(painted: Float[Tensor, "b c h w"], wanted: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
    """L1 of values and of horizontal and vertical differences."""
    error = painted - wanted
    return error.abs().mean() + error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()


def moments(latent: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
    """How far the channels are from mean 0 and variance 1: mean of the squares."""
    flat = latent.transpose(0, 1).flatten(1)  # [c, b h w]
    return flat.mean(1).square().mean() + (flat.var(1) - 1).square().mean()


def train_codec(recipe: DiffusionRecipe, pictures: Pictures, folder: Path, *, device: str = "cpu") -> nn.Module:
    """Train the codec; latents come out with mean 0 and variance 1 a channel, so ``scaling_factor`` is 1."""
    with torch.random.fork_rng():
        torch.manual_seed(recipe.codec.seed)
        codec = build(recipe).to(device, memory_format=torch.channels_last)

    def loss(step: int, numbers: torch.Generator) -> Float[Tensor, ""]:
        images = mix_colours(crops(pictures, recipe.codec.batch, recipe.codec_crop, numbers), numbers)
        images = images.to(device).contiguous(memory_format=torch.channels_last)
        with mixed(device):
            latents = codec.encode(images).latents  # [b, latent, h/4, w/4]
            noise = recipe.codec_noise * torch.randn(latents.shape, generator=numbers)
            painted = codec.decode(latents + noise.to(latents)).sample
        return distance(painted.float(), images) + 0.01 * moments(latents.float())

    return train(codec, loss, recipe.codec, folder)
