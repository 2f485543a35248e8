"""Stable Diffusion checkpoints in one file: the layout of the original code, read into diffusers' classes.

Both the architecture and the names follow from the tensors, so that any width and depth of SD 1.x, 2.x and XL loads,
and nothing is asked of the hub. What tensors cannot say is set as the released models have it: 8 attention heads where
the transformers' ends are convolutions (1.x), 64 channels a head where they are linear (2.x, XL), the noise schedule,
the codec's scale. ``tokenizer/``, ``tokenizer_2/`` and ``scheduler/`` folders beside the file take precedence.
"""

import contextlib
import re
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ilora import tensors
from ilora.generators import clip_vocabulary
from ilora.generators.checkpoints import codec_dtype, scheduler_in, tokenizer_files
from ilora.generators.prompts import Encoder

Weights = dict[str, Tensor]

UNET, CODEC = "model.diffusion_model.", "first_stage_model."
NEEDED = {f"{UNET}input_blocks.0.0.weight", f"{CODEC}encoder.conv_in.weight"}  # tensors
HF, OPEN, OPEN_XL = "cond_stage_model.transformer.", "cond_stage_model.model.", "conditioner.embedders.1.model."
HF_XL = "conditioner.embedders.0.transformer."
SCHEDULE = {  # of all three families (Rombach et al. 2022, table 15; Podell et al. 2023)
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
}
_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_CODEC = (  # pattern, replacement
    (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
    (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
    (r"\.mid\.attn_1\.", ".mid_block.attentions.0."),
    (r"\.(down|up)\.(\d+)\.attn\.", r".\1_blocks.\2.attentions."),
    (r"\.attentions\.(\d+)\.norm\.", r".attentions.\1.group_norm."),
    (r"\.attentions\.(\d+)\.([qkv])\.", r".attentions.\1.to_\2."),
    (r"\.attentions\.(\d+)\.proj_out\.", r".attentions.\1.to_out.0."),
    (r"\.down\.(\d+)\.block\.", r".down_blocks.\1.resnets."),
    (r"\.down\.(\d+)\.downsample\.", r".down_blocks.\1.downsamplers.0."),
    (r"\.up\.(\d+)\.block\.", r".up_blocks.\1.resnets."),
    (r"\.up\.(\d+)\.upsample\.", r".up_blocks.\1.upsamplers.0."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"\.norm_out\.", ".conv_norm_out."),
)
_OPEN = (
    (r"^transformer\.resblocks\.", "encoder.layers."),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (r"\.attn\.out_proj\.", ".self_attn.out_proj."),
    (r"^ln_final\.", "final_layer_norm."),
    (r"^token_embedding\.", "embeddings.token_embedding."),
    (r"^positional_embedding$", "embeddings.position_embedding.weight"),
)


def recognises(path: Path) -> bool:
    """Whether a file of tensors holds what ``open_file`` needs, by their names."""
    if path.suffix not in (".safetensors", ".ckpt"):
        return False
    with contextlib.suppress(ValueError):  # damaged, or more than tensors
        return set(tensors.names(path)) >= NEEDED
    return False


def open_file(path: Path, dtype: torch.dtype) -> dict[str, Any]:
    """Take a checkpoint file apart; the values of ``checkpoints.Parts``.

    Raises:
        ValueError: not a text-to-image Stable Diffusion 1.x, 2.x or XL checkpoint, or one that holds more than tensors.
    """
    names = tensors.names(path)
    if not set(names) >= NEEDED:
        raise ValueError(
            f"{path} must hold {UNET}* and {CODEC}* of Stable Diffusion 1.x, 2.x or XL, "
            f"got {len(names)} tensors such as {sorted(names)[:2]}"
        )
    family = _family(names)
    weights, header = tensors.read(path, only=(UNET, CODEC))
    unet, codec = _under(weights, UNET), _under(weights, CODEC)
    beside = path.parent / "scheduler" / "scheduler_config.json"
    files = [path, beside] if beside.is_file() else [path]
    if beside.is_file():
        scheduler = scheduler_in(path.parent)
    else:
        scheduler = _scheduler(family, velocity=_velocity(names, header, family, path))
    velocity = scheduler.config.prediction_type == "v_prediction"
    return {
        "network": _network(unet, family, dtype),
        "codec": _codec(codec, 0.13025 if family == "xl" else 0.18215, codec_dtype(dtype)),
        "scheduler": scheduler,
        "text": partial(_encoders, path, family),
        "resolution": 1024 if family == "xl" else 768 if family == "2" and velocity else 512,
        "zeros": family == "xl",
        "files": files,
        "words": tokenizer_files(path.parent),
    }


def _under(weights: Weights, prefix: str) -> Weights:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def _family(names: list[str]) -> str:
    """``1``, ``2`` or ``xl``, by the text encoders that are there."""
    for family, prefix in (("1", HF), ("2", OPEN), ("xl", OPEN_XL)):
        if any(name.startswith(prefix) for name in names):
            return family
    raise ValueError(f"no text encoder of SD 1.x, 2.x or XL in the checkpoint; expected {HF}*, {OPEN}* or {OPEN_XL}*")


def _velocity(names: list[str], header: dict[str, str], family: str, path: Path) -> bool:
    """Whether the network predicts the velocity: by the file's header or marks, else as most of its family do."""
    said = header.get("modelspec.prediction_type", "v" if "v_pred" in names else "")
    if said:
        return said.startswith("v")
    if family != "2":
        return False
    if "global_step" not in header:
        warnings.warn(f"{path.name} does not say what it predicts; taken as velocity, as SD 2.1 does", stacklevel=2)
    return header.get("global_step") != "875000"  # SD 2.0 base, the one release of the family that predicts the noise


def built(kind: Callable[..., nn.Module], config: dict[str, Any], weights: Weights, dtype: torch.dtype) -> nn.Module:
    """A model around these tensors, without drawing random ones first.

    Raises:
        ValueError: the tensors' names or shapes are not the model's.
    """
    with torch.device("meta"):
        model = kind(**config)
    wanted = model.state_dict()
    strange = sorted(wanted.keys() ^ weights.keys())
    strange += sorted(name for name in wanted.keys() & weights.keys() if wanted[name].shape != weights[name].shape)
    if strange:
        made = type(model).__name__
        raise ValueError(f"the tensors do not make a {made}: {len(strange)} do not fit, such as {strange[:3]}")
    model.load_state_dict({name: tensor.to(dtype).contiguous() for name, tensor in weights.items()}, assign=True)
    return model.eval().requires_grad_(False)


def _unet_names(weights: Weights) -> tuple[dict[str, str], list[int]]:
    """Original module prefix -> diffusers', and the number of residual blocks of each level.

    Input blocks run level by level and end each level but the last with a downsampler; output blocks mirror them.
    """
    names = dict(_ENDS)
    blocks = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("input_blocks."))
    depth = [0]
    for block in range(1, blocks):
        stem, level = f"input_blocks.{block}", len(depth) - 1
        if f"{stem}.0.op.weight" in weights:
            names[f"{stem}.0.op"] = f"down_blocks.{level}.downsamplers.0.conv"
            depth.append(0)
            continue
        names[f"{stem}.0"] = f"down_blocks.{level}.resnets.{depth[-1]}"
        names[f"{stem}.1"] = f"down_blocks.{level}.attentions.{depth[-1]}"
        depth[-1] += 1
    for member, name in enumerate(("resnets.0", "attentions.0", "resnets.1")):
        names[f"middle_block.{member}"] = f"mid_block.{name}"
    for block in range(blocks):
        level, layer = divmod(block, depth[0] + 1)
        stem = f"output_blocks.{block}"
        names[f"{stem}.0"] = f"up_blocks.{level}.resnets.{layer}"
        names[f"{stem}.1"] = f"up_blocks.{level}.attentions.{layer}"
        names[f"{stem}.1.conv"] = names[f"{stem}.2.conv"] = f"up_blocks.{level}.upsamplers.0.conv"
    return names, depth


def _network(weights: Weights, family: str, dtype: torch.dtype) -> nn.Module:
    """The denoiser as diffusers' ``UNet2DConditionModel``."""
    from diffusers import UNet2DConditionModel

    prefixes, depth = _unet_names(weights)
    named: Weights = {}
    for name, tensor in weights.items():
        prefix = max((prefix for prefix in prefixes if name.startswith(f"{prefix}.")), key=len, default="")
        rest = name.removeprefix(f"{prefix}.")
        for old, new in _RESNET.items():
            rest = rest.replace(old, new)
        named[f"{prefixes.get(prefix, prefix)}.{rest}"] = tensor
    return built(UNet2DConditionModel, _network_config(named, depth, family), named, dtype)


def _network_config(named: Weights, depth: list[int], family: str) -> dict[str, Any]:
    """Architecture of the denoiser, read off its tensors."""
    levels = range(len(depth))
    width = [named[f"down_blocks.{level}.resnets.0.conv1.weight"].shape[0] for level in levels]
    layers = [_count(named, rf"down_blocks\.{level}\.attentions\.0\.transformer_blocks\.(\d+)\.") for level in levels]
    middle = _count(named, r"mid_block\.attentions\.0\.transformer_blocks\.(\d+)\.")
    context = named["mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"].shape[1]  # of [o, d]
    linear = named["mid_block.attentions.0.proj_in.weight"].ndim == 2
    down = tuple("CrossAttnDownBlock2D" if count else "DownBlock2D" for count in layers)
    config = {
        "sample_size": {"1": 64, "2": 96, "xl": 128}[family],
        "in_channels": named["conv_in.weight"].shape[1],  # of [o, i, 3, 3]
        "out_channels": named["conv_out.weight"].shape[0],  # of [o, i, 3, 3]
        "block_out_channels": tuple(width),
        "layers_per_block": depth[0],
        "down_block_types": down,
        "up_block_types": tuple(kind.replace("Down", "Up") for kind in reversed(down)),
        "transformer_layers_per_block": (*(count or middle for count in layers[:-1]), middle),
        "cross_attention_dim": context,
        "attention_head_dim": tuple(max(channels // 64, 1) for channels in width) if linear else 8,  # number of heads
        "use_linear_projection": linear,
    }
    if "add_embedding.linear_1.weight" in named:
        inputs = named["add_embedding.linear_1.weight"].shape[1]  # of [o, p + 6 * 256]
        config |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": inputs,
        }
    return config


def _count(weights: Weights, pattern: str) -> int:
    """One more than the largest number that the pattern's group takes; 0 without a match."""
    return max((int(found[1]) + 1 for found in (re.match(pattern, name) for name in weights) if found), default=0)


def codec_names(weights: Weights) -> Weights:
    """A codec's tensors under diffusers' names; the decoder's levels are numbered the other way round there."""
    levels, named = _count(weights, r"decoder\.up\.(\d+)\."), {}
    for name, tensor in weights.items():
        name = re.sub(r"\.up\.(\d+)\.", lambda found: f".up.{levels - 1 - int(found[1])}.", name)
        for pattern, replacement in _CODEC:
            name = re.sub(pattern, replacement, name)
        is_linear = re.search(r"\.to_(q|k|v|out\.0)\.weight$", name)
        named[name] = tensor.flatten(1) if is_linear else tensor  # [o, i, 1, 1] -> [o, i]
    return named


def _codec(weights: Weights, scale: float, dtype: torch.dtype) -> nn.Module:
    """The codec as diffusers' ``AutoencoderKL``; the training loss's discriminator is left out."""
    from diffusers import AutoencoderKL

    parts = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
    named = codec_names({name: tensor for name, tensor in weights.items() if name.startswith(parts)})
    levels = _count(named, r"decoder\.up_blocks\.(\d+)\.")
    width = [named[f"encoder.down_blocks.{level}.resnets.0.conv1.weight"].shape[0] for level in range(levels)]
    config = {
        "in_channels": named["encoder.conv_in.weight"].shape[1],
        "out_channels": named["decoder.conv_out.weight"].shape[0],
        "block_out_channels": tuple(width),
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "layers_per_block": _count(named, r"encoder\.down_blocks\.0\.resnets\.(\d+)\."),
        "latent_channels": named["decoder.conv_in.weight"].shape[1],  # of [o, c, 3, 3]
        "scaling_factor": scale,
    }
    return built(AutoencoderKL, config, named, dtype)


def _scheduler(family: str, *, velocity: bool) -> Any:
    """The sampler that each family was released with: PNDM, DDIM, Euler."""
    import diffusers

    settings = {**SCHEDULE, "prediction_type": "v_prediction" if velocity else "epsilon"}
    if family == "xl":
        return diffusers.EulerDiscreteScheduler(**settings, timestep_spacing="leading")
    if family == "2":
        return diffusers.DDIMScheduler(**settings, clip_sample=False, set_alpha_to_one=False)
    return diffusers.PNDMScheduler(**settings, skip_prk_steps=True, set_alpha_to_one=False)


def _encoders(path: Path, family: str) -> list[Encoder]:
    """The text encoders, float32 on the CPU, with the tokenizers beside the file or CLIP's own."""
    weights, _ = tensors.read(path, only=(HF, OPEN, HF_XL, OPEN_XL))
    if family == "1":
        return [Encoder(_tokenizer(path, "tokenizer", clip_vocabulary.END), _clip(_under(weights, HF)))]
    if family == "2":
        return [Encoder(_tokenizer(path, "tokenizer", "!"), _clip(_open_names(_under(weights, OPEN)), drop=1))]
    first, second = _clip(_under(weights, HF_XL)), _clip(_open_names(_under(weights, OPEN_XL)), project=True)
    return [
        Encoder(_tokenizer(path, "tokenizer", clip_vocabulary.END), first),
        Encoder(_tokenizer(path, "tokenizer_2", "!"), second),
    ]


def _tokenizer(path: Path, folder: str, pad: str) -> Any:
    from transformers import CLIPTokenizer

    beside = path.parent / folder
    return CLIPTokenizer.from_pretrained(beside) if beside.is_dir() else clip_vocabulary.tokenizer(pad)


def _open_names(weights: Weights) -> Weights:
    """OpenCLIP's tensors under transformers' names: joint projections split in three, the last one transposed."""
    named: Weights = {}
    for name, tensor in weights.items():
        for pattern, replacement in _OPEN:
            name = re.sub(pattern, replacement, name)
        if ".attn.in_proj_" in name:
            stem, kind = name.split(".attn.in_proj_")
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):  # three of [d, d], or of [d] for biases
                named[f"{stem}.self_attn.{letter}_proj.{kind}"] = part.contiguous()
        elif name == "text_projection":
            named["text_projection.weight"] = tensor.T.contiguous()  # [d, p] -> [p, d]
        elif name != "logit_scale":
            named[name] = tensor
    return named


def _clip(weights: Weights, *, drop: int = 0, project: bool = False) -> nn.Module:
    """transformers' text model; 64 channels a head, the activation that each origin was trained with.

    Args:
        drop: last layers to leave out; SD 2.x reads the last but one, normalised.
        project: with the projected summary, as the second encoder of XL.
    """
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    named = {name.removeprefix("text_model."): tensor.float() for name, tensor in weights.items()}
    named = {name: tensor for name, tensor in named.items() if not name.endswith("position_ids")}
    layers = _count(named, r"encoder\.layers\.(\d+)\.") - drop
    dropped = tuple(f"encoder.layers.{layers + index}." for index in range(drop))
    named = {name: tensor for name, tensor in named.items() if not name.startswith(dropped or ("-",))}
    projection: Float[Tensor, "p d"] | None = named.pop("text_projection.weight", None)
    tokens, width = named["embeddings.token_embedding.weight"].shape  # [v, d]
    is_open = drop > 0 or project
    config = CLIPTextConfig(
        vocab_size=tokens,
        hidden_size=width,
        intermediate_size=named["encoder.layers.0.mlp.fc1.weight"].shape[0],  # of [o, d]
        num_hidden_layers=layers,
        num_attention_heads=max(width // 64, 1),
        max_position_embeddings=named["embeddings.position_embedding.weight"].shape[0],  # of [n, d]
        hidden_act="gelu" if is_open else "quick_gelu",
        projection_dim=projection.shape[0] if project else width,
        bos_token_id=tokens - 2,
        eos_token_id=tokens - 1,
    )
    model = (CLIPTextModelWithProjection if project else CLIPTextModel)(config)
    inner = "text_model." if any(name.startswith("text_model.") for name in model.state_dict()) else ""
    state = {f"{inner}{name}": tensor for name, tensor in named.items()}
    if project:
        state["text_projection.weight"] = projection
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)
