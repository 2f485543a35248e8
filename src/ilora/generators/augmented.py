"""Painting a map in several passes from noise, beside the picture: a denoiser with twice the input channels.

The augmented model of Du et al. 2023 (github.com/duxiaodan/intrinsic-lora at a48381b, augunet_diode_pseudo_*.py): the
noisy latent of the map and the picture's latent, not scaled (as in InstructPix2Pix), go side by side into the first
layer; the network learns the velocity on a schedule that ends in noise alone, and is sampled from there.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ilora.config import Sampling
from ilora.ops import diffusion
from ilora.ops.diffusion import Latent

First = Float[Tensor, "o i kh kw"]  # weight of a first convolution

# Velocity of a noisy latent at a time step, of 1000, given the prompt and the picture (each of which may be left out).
Denoise = Callable[..., Latent]


@dataclass(frozen=True)
class Task:
    """What the network is asked for one batch.

    Attributes:
        noisy: the map's latent in noise.
        times: time step of each image.
        velocity: the answer.
    """

    noisy: Latent
    times: Int64[Tensor, " b"]
    velocity: Latent


def widened(network: nn.Module, picture: First | None) -> nn.Module:
    """The network with a first layer for twice the channels, and all other layers shared with it.

    It is a second view on the same modules: an adapter on a shared layer is seen through both.

    Args:
        picture: weight of a layer of twice the channels, whose second half takes the picture; None: zeros.

    Raises:
        ValueError: that weight has another shape.
    """
    narrow = network.conv_in
    outputs, channels, *kernel = narrow.weight.shape
    wide = nn.utils.skip_init(nn.Conv2d, 2 * channels, outputs, kernel, padding=narrow.padding)  # draws nothing
    if picture is None:
        picture = torch.zeros_like(wide.weight)
    if picture.shape != wide.weight.shape:
        raise ValueError(
            f"picture_weights must have a first layer {list(wide.weight.shape)}, twice the generator's channels, got "
            f"{list(picture.shape)}; take an instruct-pix2pix of the same width, or none"
        )
    with torch.no_grad():
        wide.weight.copy_(torch.cat([narrow.weight.cpu().float(), picture[:, channels:].cpu().float()], 1))
        wide.bias.copy_(narrow.bias)
    view = copy.copy(network)
    view._modules = {**network._modules, "conv_in": wide.to(narrow.weight).requires_grad_(False).eval()}
    return view


def lesson(target: Latent, abar: Float[Tensor, " t"]) -> Task:
    """Draw a time step, all equally likely, and noise for each image.

    They come from torch's global random state on the CPU, image after image, so that the draws of a batch are those of
    its parts (see ``ilora.generators.base.Generator.loss``).
    """
    drawn = [(torch.randint(len(abar), ()), torch.randn(target.shape[1:])) for _ in target]
    times = torch.stack([time for time, _ in drawn])
    noise = torch.stack([noise for _, noise in drawn]).to(target)  # [b, c, rows, columns]
    level = abar[times].to(target)[:, None, None, None]
    noisy, answer = (make(target, noise, level) for make in (diffusion.mix, diffusion.velocity))
    return Task(noisy, times.to(target.device), answer)


def sample(denoise: Denoise, like: Latent, sampling: Sampling, abar: Sequence[float]) -> Latent:
    """Clean latents from noise; every image begins from the same noise, so that a batch does not mix them.

    Args:
        denoise: called with the noisy latent and its time step.
        like: latents of the shape wanted.
        abar: of each time step.
    """
    draw = torch.Generator().manual_seed(sampling.seed)
    noise = torch.randn(like.shape[1:], generator=draw).to(like.device)  # [c, rows, columns], float32
    latent: Latent = noise.expand(like.shape)
    times = diffusion.trailing(sampling.passes, len(abar))
    levels = [0.0, *(abar[time] for time in times), 1.0]  # the first one is never looked at
    second, before = sampling.solver == "dpm++", None
    for place, time in enumerate(times):
        clean = diffusion.clean(latent, denoise(latent, time), levels[place + 1])
        latent = diffusion.advance(latent, clean, before, levels[place : place + 3])
        before = clean if second else None
    return latent


def guided(denoise: Denoise, sampling: Sampling) -> Denoise:
    """The denoiser under guidance by text and picture, with as few passes as the weights need."""

    def guide(noisy: Latent, time: int) -> Latent:
        full = denoise(noisy, time)
        if sampling.guidance == sampling.image_guidance == 1:
            return full
        picture = denoise(noisy, time, text=False)
        nothing = picture if sampling.image_guidance == 1 else denoise(noisy, time, text=False, picture=False)
        weights = {"text": sampling.guidance, "image": sampling.image_guidance}
        return diffusion.guided(full, picture, nothing, **weights, rescale=sampling.guidance_rescale)

    return guide
