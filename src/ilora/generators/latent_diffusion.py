"""Stable Diffusion 1.x, 2.x and XL, and anything of their form down to the embedded generator: a codec, a U-Net between
latents, text conditioning. One pass of the U-Net on the clean latent of a picture is what adapters learn to change; or
several passes from noise, beside the picture's latent (``augmented.py``)."""

import inspect
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ilora import generators
from ilora.adapters.lora import disabled
from ilora.config import Readout
from ilora.generators import augmented, original
from ilora.generators.checkpoints import Parts, aligned, codec_factor, fingerprint, first_layer, open_checkpoint
from ilora.generators.objective import latent_loss
from ilora.generators.prompts import Condition, Prompts
from ilora.generators.readout import coefficients
from ilora.generators.sizes import nearest
from ilora.ops import diffusion
from ilora.records import Code, Image, Loss, Valid

ATTENTION = r"(.*\.)?to_(q|k|v|out\.0)"
CONVOLUTION = r"(.*\.)?(conv1|conv2|conv_shortcut|proj_in|proj_out|(down|up)samplers\.0\.conv)"
FEED_FORWARD = r".*\.ff\.net\.(0\.proj|2)"
TARGETS = {
    "attention": ATTENTION,  # of the published recipe: all projections of self- and cross-attention
    "attention+conv": f"{ATTENTION}|{CONVOLUTION}",
    "attention+conv+in": f"{ATTENTION}|{CONVOLUTION}|conv_in",  # and the layer that takes the latents
    "ff": FEED_FORWARD,
    "all": r".*",  # every linear and convolution layer
}


class LatentDiffusion:
    """See ``ilora.generators.base.Generator``.

    Codes and targets are scaled latents [b, c, h / factor, w / factor], float32.

    Attributes:
        codec: AutoencoderKL or AutoencoderTiny.
        scheduler: of diffusers; a copy of it samples.
        readout: how the U-Net's output becomes the clean latent; may be replaced at any time. Where it asks for
            painting beside the picture, ``network`` is the U-Net with a first layer for both latents.
        paints: what ``readout.paint`` may be.
        prompts: conditioning of prompts, cached on disk; ``prompts.release()`` frees the text encoders after sampling.
        factor: side of a latent cell [px].
    """

    paints = ("single", "augmented")

    def __init__(self, name: str, parts: Parts, readout: Readout, device: str | torch.device) -> None:
        _check(name, parts)
        self.name = name
        self.resolution = parts.resolution
        self._unet = aligned(parts.network.requires_grad_(False).to(device).eval())
        self._wide: dict[str | None, nn.Module] = {}  # the same for two latents, by origin of the picture's weights
        self.codec = aligned(parts.codec.requires_grad_(False).to(device).eval())
        self.scheduler = parts.scheduler
        self.readout = readout
        self.prompts = Prompts(parts.text, lambda: (self.fingerprint, *parts.words))
        self.factor = codec_factor(parts.codec)
        self.targets: dict[str, str | list[str]] = dict(TARGETS)
        self._parts = parts
        self._asked: Condition | None = None  # as encoded
        self._here: Condition | None = None  # the same, in the U-Net's place and type

    @property
    def network(self) -> nn.Module:
        """The U-Net as the readout wants it."""
        if not self.readout.draws:
            return self._unet
        source = self.readout.picture_weights
        if source not in self._wide:
            self._wide[source] = augmented.widened(self._unet, None if source is None else first_layer(source))
        return self._wide[source]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of weights and configurations, read when first asked for."""
        return fingerprint(self._parts.files)

    def ask(self, prompt: str) -> None:
        """Condition ``forward`` and ``loss`` on ``prompt`` from now on; before the first call it is the empty text."""
        self._asked, self._here = self.prompts(prompt), None

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Sides as multiples of ``factor`` with about the area of the training images; see ``nearest``."""
        return nearest(height, width, resolution=self.resolution, step=self.factor)

    def sample(
        self, seeds: Sequence[int], prompt: str | Sequence[str] = "", *, steps: int = 25, guidance: float = 3.0
    ) -> tuple[Image, Code]:
        """Paint one image a seed with the checkpoint's own scheduler; each seed's image is the same in any batch.

        Args:
            prompt: one for all images, or one an image.
            steps: of the denoiser.
            guidance: weight of the prompt against the empty one (Ho & Salimans 2022, eq. 6); 1 leaves it out.

        Returns:
            Images [-1, 1] at the training resolution, and their latents.

        Raises:
            ValueError: neither one prompt nor as many as seeds.
        """
        words = [prompt] if isinstance(prompt, str) else list(prompt)
        if len(words) not in (1, len(seeds)):
            raise ValueError(f"prompt must be one, or one for each of the {len(seeds)} seeds, got {len(words)}")
        with torch.no_grad(), disabled(self.network):
            code = self._denoise([torch.Generator().manual_seed(seed) for seed in seeds], words, steps, guidance)
            return self.decode(code).clamp(-1, 1), code

    @torch.no_grad()
    def encode(self, image: Image) -> Code:
        """Scaled latent of an image: the mean of the codec's distribution, never a draw from it."""
        weight = next(self.codec.parameters())
        encoded = self.codec.encode(image.to(weight.device, weight.dtype))
        latent = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()  # [b, c, h/f, w/f]
        return (latent.float() - self._shift) * self.codec.config.scaling_factor

    def target(self, image: Image) -> Code:
        """The same as ``encode``. The published code draws from the codec's distribution here."""
        return self.encode(image)

    def decode(self, target: Code) -> Image:
        """Image of a scaled latent, float32, not clamped; gradients pass."""
        weight = next(self.codec.parameters())
        latent = self._unscaled(target.to(weight.device))
        return self.codec.decode(latent.to(weight.dtype)).sample.float()  # [b, 3, h, w]

    def forward(self, code: Code) -> Image:
        """Image that the (adapted) U-Net paints from a picture's latent; not clamped, gradients pass.

        In several passes, their memory adds up where gradients are asked for.
        """
        return self.decode(self.paint(code))

    def loss(self, code: Code, target: Code, valid: Valid) -> Loss:
        """Mean squared error over valid cells: of the painted latent, or of the velocity at a time and noise drawn."""
        code, target, valid = (value.to(self._device) for value in (code, target, valid))
        if not self.readout.draws:
            return latent_loss(self.paint(code), target, valid)
        task = augmented.lesson(target.float(), self._levels)
        found = self._network(torch.cat([task.noisy, self._unscaled(code)], 1), task.times, self._condition())
        return latent_loss(found, task.velocity, valid)

    def paint(self, code: Code) -> Float[Tensor, "b c rows columns"]:
        """The painted latent, float32: x = image * z + output * o in one pass, or a sample."""
        if self.readout.draws:
            return self._sampled(code.to(self._device))
        image, output = coefficients(self.readout, self.scheduler)
        latent = code.to(self._device)
        painted = self._network(latent, self.readout.timestep, self._condition())
        return image * latent.float() + output * painted.float()

    def _sampled(self, code: Float[Tensor, "b c rows columns"]) -> Float[Tensor, "b c rows columns"]:
        """A latent from noise, beside the picture's."""
        shown, sampling = self._unscaled(code), self.readout.sampling

        def denoise(noisy: Tensor, time: int, *, text: bool = True, picture: bool = True) -> Tensor:
            given = torch.cat([noisy, shown], 1) if picture else noisy
            words = self._condition() if text else self._placed(self._silent(self.prompts("")))
            return self._network(given, time, words).float()

        return augmented.sample(augmented.guided(denoise, sampling), code, sampling, self._levels.tolist())

    @cached_property
    def _levels(self) -> Float[Tensor, " t"]:
        """abar of each time step, the last one 0."""
        return diffusion.zero_terminal_snr(self.scheduler.alphas_cumprod.cpu())

    def _unscaled(self, latent: Float[Tensor, "b c rows columns"]) -> Float[Tensor, "b c rows columns"]:
        """The latent as the codec's encoder gives it and its decoder takes it."""
        return latent.float() / self.codec.config.scaling_factor + self._shift

    def _silent(self, empty: Condition) -> Condition:
        """Conditioning of the empty prompt as the network was trained with it: some were with zeros."""
        return {name: torch.zeros_like(tensor) for name, tensor in empty.items()} if self._parts.zeros else empty

    @property
    def _device(self) -> torch.device:
        return self.network.conv_in.weight.device

    @property
    def _shift(self) -> float:
        return getattr(self.codec.config, "shift_factor", None) or 0.0

    def _condition(self) -> Condition:
        """Conditioning of the prompt that was asked, moved to the U-Net once."""
        weight = self.network.conv_in.weight
        if self._asked is None:
            self.ask("")
        here = self._here and {(tensor.device, tensor.dtype) for tensor in self._here.values()}
        if here != {(weight.device, weight.dtype)}:
            self._here = self._placed(self._asked)
        return self._here

    def _placed(self, condition: Condition) -> Condition:
        """Conditioning where the U-Net is and in its type; the same tensors where they are so already."""
        weight = self.network.conv_in.weight
        return {name: tensor.to(weight.device, weight.dtype) for name, tensor in condition.items()}

    def _network(
        self, latent: Float[Tensor, "b i rows columns"], timestep: float | Tensor, condition: Condition
    ) -> Float[Tensor, "b c rows columns"]:
        """Output of the U-Net in its own type; where it takes a picture beside and is given none, it sees zeros.

        Args:
            condition: one row for all images, or one an image.
        """
        weight = self.network.conv_in.weight
        batch, channels, rows, columns = latent.shape
        latent = F.pad(latent, (0, 0, 0, 0, 0, weight.shape[1] - channels))  # [b, i, rows, columns], as the first layer
        # States [b, n, d], and for XL the summary [b, p].
        given = {name: tensor.expand(batch, *tensor.shape[1:]) for name, tensor in condition.items()}
        added = None
        if "pooled" in given:
            side = [rows * self.factor, columns * self.factor]  # [px]
            times = torch.tensor([[*side, 0, 0, *side]], device=weight.device, dtype=weight.dtype)  # [1, 6]: original
            added = {"text_embeds": given["pooled"], "time_ids": times.expand(batch, -1)}  # size, corner, target size
        return self.network(
            latent.to(weight.device, weight.dtype),
            timestep,
            encoder_hidden_states=given["states"],
            added_cond_kwargs=added,
        ).sample

    def _denoise(
        self, draws: list[torch.Generator], words: list[str], steps: int, guidance: float
    ) -> Float[Tensor, "b c rows columns"]:
        """Latents from noise, one generator an image, so that a batch does not mix them."""
        side = self.resolution // self.factor
        shape = (1, self.codec.config.latent_channels, side, side)
        condition, empty = (self._placed(self.prompts.each(text)) for text in (words, [""]))
        empty = self._silent(empty)
        scheduler = type(self.scheduler).from_config(self.scheduler.config)
        scheduler.set_timesteps(steps)
        noise = torch.cat([torch.randn(shape, generator=draw) for draw in draws])  # [b, c, rows, columns]
        latent = noise.to(self._device) * scheduler.init_noise_sigma
        takes = inspect.signature(scheduler.step).parameters
        extra: dict[str, Any] = {"generator": draws} if "generator" in takes else {}
        for time in scheduler.timesteps:
            scaled = scheduler.scale_model_input(latent, time)
            output: Float[Tensor, "b c rows columns"] = self._network(scaled, time, condition).float()
            if guidance != 1:
                without = self._network(scaled, time, empty).float()
                output = without + guidance * (output - without)
            latent = scheduler.step(output, time, latent, **extra).prev_sample
        return latent


def recognises(name_or_path: str) -> bool:
    """Whether the files there are of this family. It also loads what no family knows: its errors tell the layouts."""
    place = generators.WEIGHTS / name_or_path if name_or_path in generators.embedded() else name_or_path
    path = Path(place).expanduser()
    return original.recognises(path) if path.is_file() else all((path / part).is_dir() for part in ("unet", "vae"))


def load(name: str, *, device: str | torch.device, dtype: torch.dtype, readout: Readout) -> LatentDiffusion:
    """Open an embedded generator, a path or a hub id; see ``ilora.generators.load``."""
    path = str(generators.WEIGHTS / name) if name in generators.embedded() else name
    return LatentDiffusion(name, open_checkpoint(path, dtype), readout, device)


def _check(name: str, parts: Parts) -> None:
    """Refuse U-Nets that want more than a latent, a time and a prompt."""
    config, channels = parts.network.config, parts.codec.config.latent_channels
    if config.in_channels != channels or config.out_channels != channels:
        raise ValueError(
            f"{name}: the U-Net must map the codec's {channels} channels to as many, got {config.in_channels} to "
            f"{config.out_channels}; models for inpainting and editing are of another kind"
        )
    if config.class_embed_type or config.addition_embed_type not in (None, "text_time"):
        asked = config.class_embed_type or config.addition_embed_type
        raise ValueError(f"{name}: only text conditions the U-Net of SD 1.x, 2.x and XL, this one wants {asked!r}")
    kind = parts.scheduler.config.get("prediction_type")
    if kind not in ("epsilon", "v_prediction", "sample") or not hasattr(parts.scheduler, "alphas_cumprod"):
        raise ValueError(
            f"{name}: the scheduler must be of a diffusion that predicts epsilon, v_prediction or sample, "
            f"got {type(parts.scheduler).__name__} with {kind!r}"
        )
