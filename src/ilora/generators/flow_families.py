"""What differs between the diffusion transformers: one row a family, read off its pipeline in diffusers 0.42.

A row says how the pipeline's own loop calls the denoiser: in which form it gets a latent, how it is told the time, and
what it predicts. Everything else that a denoiser wants is captured from the pipeline itself (``conditioning.py``).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Latent = Float[Tensor, "b c rows columns"]
Packed = Tensor | list[Tensor]  # as a denoiser takes and gives it

ATTENTION = (  # of both streams; FLUX.2's single stream has its projections in two layers
    r"(.*\.)?(to_(q|k|v|out\.0|qkv_mlp_proj)|add_[qkv]_proj|to_add_out)|single_transformer_blocks\.\d+\.attn\.to_out"
)
CONVOLUTION = (  # layers between latent and tokens, and Sana's convolutional feed-forward layers
    r"pos_embed\.proj|patch_embed\.proj|x_embedder|img_in|all_x_embedder\..*|proj_out|all_final_layer\..*\.linear"
    r"|.*\.ff\.conv_(inverted|point)"
)
FEED_FORWARD = r".*\.(ff|ff_context|img_mlp|txt_mlp|feed_forward)\..*|single_transformer_blocks\.\d+\.proj_mlp"


@dataclass(frozen=True)
class Packing:
    """The form in which a denoiser takes and gives latents.

    Attributes:
        pack: latent to what the denoiser takes.
        unpack: what the denoiser gives, or what its pipeline returns as latents, back to a latent of so many rows and
            columns.
    """

    pack: Callable[[Latent], Packed]
    unpack: Callable[[Packed, int, int], Latent]


def fold(latent: Latent) -> Float[Tensor, "b {4*latent.shape[1]} {latent.shape[2]//2} {latent.shape[3]//2}"]:
    """Blocks of 2 x 2 cells as channels: [b, c, rows, columns] to [b, 4 c, rows / 2, columns / 2]."""
    return F.pixel_unshuffle(latent, 2)


def unfold(latent: Latent) -> Float[Tensor, "b {latent.shape[1]//4} {2*latent.shape[2]} {2*latent.shape[3]}"]:
    """The inverse of ``fold``."""
    return F.pixel_shuffle(latent, 2)


def _tokens(latent: Latent) -> Float[Tensor, "b n c"]:
    return latent.flatten(2).mT  # [b, rows * columns, c], row by row


def _cells(tokens: Float[Tensor, "b n c"], rows: int, columns: int) -> Latent:
    return tokens.mT.unflatten(2, (rows, columns))  # [b, c, rows, columns]


def _frames(latent: Latent) -> list[Tensor]:
    return list(latent[:, :, None])  # b times [c, 1, rows, columns]: videos of one frame


def _stack(frames: Packed) -> Latent:
    return frames if isinstance(frames, Tensor) else torch.stack(frames)[:, :, 0]  # [b, c, rows, columns]


PLAIN = Packing(lambda latent: latent, lambda latent, rows, columns: latent)
TOKENS = Packing(_tokens, _cells)
PATCHES = Packing(
    lambda latent: _tokens(fold(latent)),
    lambda tokens, rows, columns: unfold(_cells(tokens, rows // 2, columns // 2)),
)
FRAMES = Packing(_frames, lambda frames, rows, columns: _stack(frames))

Statistics = tuple[Float[Tensor, "#c 1 1"], Float[Tensor, "#c 1 1"]]


def _scaled(codec: nn.Module) -> Statistics:
    """One mean and one deviation for all channels."""
    mean, scale = getattr(codec.config, "shift_factor", None) or 0.0, codec.config.scaling_factor
    return torch.tensor(mean).view(1, 1, 1), torch.tensor(1 / scale).view(1, 1, 1)


def _by_channel(codec: nn.Module) -> Statistics:
    """Those of Qwen-Image's codec, in its configuration."""
    return tuple(torch.tensor(getattr(codec.config, name))[:, None, None] for name in ("latents_mean", "latents_std"))


def _by_patch(codec: nn.Module) -> Statistics:
    """Those of FLUX.2's codec, in the buffers of a batch normalisation of folded latents."""
    mean, variance = codec.bn.running_mean.float(), codec.bn.running_var.float()
    return mean.view(-1, 1, 1), (variance + codec.config.batch_norm_eps).sqrt().view(-1, 1, 1)


@dataclass(frozen=True, kw_only=True)
class Family:
    """How the pipelines of a family call their denoiser.

    Attributes:
        pipelines: classes of diffusers.
        network: class of the denoiser, in the folder ``transformer``.
        codec: class of the codec, in the folder ``vae``.
        hub: beginnings of the ids of its checkpoints.
        sample: argument that takes the latent.
        time: argument that takes the time.
        clock: what the denoiser is told at time step t of 1000, also from its configuration.
        sign: with which the clean latent is in a flow's output; None: the network predicts the noise of a diffusion.
        statistics: means and deviations that latents are normalised with.
        folded: latents are folded before they are normalised.
        video: the codec takes and gives frames.
        packing: form of the denoiser's latents.
        patch: cells of the codec along a side of one token.
        multiple: what the pipeline wants the sides of pictures to be multiples of besides [px].
        unbatched: captured tensors without an axis of images.
        guidance: argument of the pipeline that weighs the prompt, and its value for one conditioned call.
        options: other arguments of the pipeline, always.
        sampling: and while it paints.
        dead: layers, as an expression over their names, that cannot change the picture: ``{last}`` is the last block.
    """

    pipelines: tuple[str, ...]
    network: str
    codec: str = "AutoencoderKL"
    hub: tuple[str, ...]
    sample: str = "hidden_states"
    time: str = "timestep"
    clock: Callable[[float, Any], float] = lambda t, config: t
    sign: int | None = -1
    statistics: Callable[[nn.Module], Statistics] = _scaled
    folded: bool = False
    video: bool = False
    packing: Packing = PLAIN
    patch: int = 2
    multiple: int = 1
    unbatched: frozenset[str] = frozenset()
    guidance: tuple[str, float] = ("guidance_scale", 1.0)
    options: dict[str, Any] = field(default_factory=dict)
    sampling: dict[str, Any] = field(default_factory=dict)
    dead: str = ""

    def targets(self, network: nn.Module) -> dict[str, str | list[str]]:
        """Named sets of adaptable layers, without the dead ones, which an adapter on them would only make larger."""
        last = len(getattr(network, "transformer_blocks", ())) - 1
        alive = f"(?!({self.dead.format(last=last)})$)" if self.dead else ""
        sets = {"attention": ATTENTION, "attention+conv": f"{ATTENTION}|{CONVOLUTION}", "ff": FEED_FORWARD, "all": ".*"}
        return {name: f"{alive}({pattern})" for name, pattern in sets.items()}


def _thousandth(t: float, config: Any) -> float:
    return t / 1000


FAMILIES = (
    Family(  # Stable Diffusion 3 and 3.5 (Esser et al. 2024)
        pipelines=("StableDiffusion3Pipeline",),
        network="SD3Transformer2DModel",
        hub=("stabilityai/stable-diffusion-3",),
        dead=r"transformer_blocks\.{last}\.attn\.add_q_proj",  # the text's own state ends before the last block does
    ),
    Family(  # FLUX.1
        pipelines=("FluxPipeline",),
        network="FluxTransformer2DModel",
        hub=("black-forest-labs/FLUX.1",),
        clock=_thousandth,
        packing=PATCHES,
        unbatched=frozenset({"img_ids", "txt_ids"}),
    ),
    Family(  # FLUX.2 and FLUX.2 Klein
        pipelines=("Flux2Pipeline", "Flux2KleinPipeline"),
        network="Flux2Transformer2DModel",
        codec="AutoencoderKLFlux2",
        hub=("black-forest-labs/FLUX.2",),
        clock=_thousandth,
        statistics=_by_patch,
        folded=True,
        packing=TOKENS,
    ),
    Family(  # Qwen-Image
        pipelines=("QwenImagePipeline",),
        network="QwenImageTransformer2DModel",
        codec="AutoencoderKLQwenImage",
        hub=("Qwen/Qwen-Image",),
        clock=_thousandth,
        statistics=_by_channel,
        video=True,
        packing=PATCHES,
        guidance=("true_cfg_scale", 1.0),
        sampling={"negative_prompt": " "},
        dead=r"transformer_blocks\.{last}\.(attn\.(add_q_proj|to_add_out)|txt_mlp\..*)",
    ),
    Family(  # Z-Image: time runs from noise to picture, and so does the velocity
        pipelines=("ZImagePipeline",),
        network="ZImageTransformer2DModel",
        hub=("Tongyi-MAI/Z-Image",),
        sample="x",
        time="t",
        clock=lambda t, config: (1000 - t) / 1000,
        sign=1,
        packing=FRAMES,
        guidance=("guidance_scale", 0.0),
    ),
    Family(  # Sana (Xie et al. 2024)
        pipelines=("SanaPipeline",),
        network="SanaTransformer2DModel",
        codec="AutoencoderDC",
        hub=("Efficient-Large-Model/Sana",),
        clock=lambda t, config: t * config.timestep_scale,
        patch=1,
        multiple=32,
        options={"use_resolution_binning": False},
    ),
    Family(  # PixArt-Sigma (Chen et al. 2024): a diffusion, whose second half of the channels is a variance
        pipelines=("PixArtSigmaPipeline",),
        network="PixArtTransformer2DModel",
        hub=("PixArt-alpha/PixArt-Sigma",),
        sign=None,
        multiple=8,
        options={"use_resolution_binning": False, "clean_caption": False},
    ),
)


def of_pipeline(name: str) -> Family | None:
    """The row that a pipeline's class belongs to."""
    return next((family for family in FAMILIES if name in family.pipelines), None)


def of_hub_id(name: str) -> Family | None:
    """The row that a hub id belongs to by how it begins."""
    return next((family for family in FAMILIES if name.startswith(family.hub)), None)
