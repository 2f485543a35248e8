"""Checkpoints of taming-transformers (Esser et al. 2021) in the classes of diffusers and transformers.

The same arithmetic under other names: a VQGAN is diffusers' ``VQModel``, its transformer is GPT-2 with the exact GELU
and an untied head. Everything but tensors and the configuration's text is left unread.
"""

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ilora import tensors
from ilora.generators.gpt import Prefix
from ilora.generators.original import built, codec_names
from ilora.generators.token_files import Stages

Weights = dict[str, Tensor]

_STAGE, _PRIOR = "first_stage_model.", "transformer."
_BLOCK = {  # of the transformer: their layer, ours
    "ln1": "ln_1",
    "ln2": "ln_2",
    "attn.proj": "attn.c_proj",
    "mlp.0": "mlp.c_fc",
    "mlp.2": "mlp.c_proj",
}


def read(checkpoint: Path, config: Path) -> Stages:
    """Both stages of a checkpoint, or the codec alone where it is one; float32 on the CPU.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not of taming-transformers, or of a kind that has no counterpart: a Gumbel codec, a transformer
            after another picture, with a permuted order or with unmasked inputs.
    """
    model = _section(_yaml(config), "model", config)
    weights, _ = tensors.read(checkpoint)
    weights = {name: tensor.float() for name, tensor in weights.items()}
    params = _section(model, "params", config)
    if "transformer_config" not in params:
        return Stages(_codec(weights, model, config), None, Prefix(), _resolution(params))
    first = _section(params, "first_stage_config", config)
    codec = _codec(_under(weights, _STAGE), first, config)
    resolution = _resolution(_section(first, "params", config))
    return Stages(codec, _prior(_under(weights, _PRIOR), params, config), _prefix(params, config), resolution)


def codec_config(params: dict[str, Any]) -> dict[str, Any]:
    """Arguments of ``diffusers.VQModel`` for the parameters of a ``taming.models.vqgan.VQModel``.

    A level has attention where its side is among ``attn_resolutions``; the decoder mirrors the encoder.
    """
    inner = params["ddconfig"]
    levels = len(inner["ch_mult"])
    attends = [inner["resolution"] >> level in inner["attn_resolutions"] for level in range(levels)]
    return {
        "in_channels": inner["in_channels"],
        "out_channels": inner["out_ch"],
        "block_out_channels": tuple(inner["ch"] * factor for factor in inner["ch_mult"]),
        "layers_per_block": inner["num_res_blocks"],
        "down_block_types": tuple("AttnDownEncoderBlock2D" if a else "DownEncoderBlock2D" for a in attends),
        "up_block_types": tuple("AttnUpDecoderBlock2D" if a else "UpDecoderBlock2D" for a in reversed(attends)),
        "latent_channels": inner["z_channels"],
        "vq_embed_dim": params["embed_dim"],
        "num_vq_embeddings": params["n_embed"],
        "norm_num_groups": 32,
        "sample_size": inner["resolution"],
    }


def _yaml(path: Path) -> dict[str, Any]:
    import yaml  # comes with diffusers

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} must be plain YAML, and nothing in it was run, got: {reason}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold the model's configuration, got {type(content).__name__}")
    return content


def _section(config: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    found = config.get(key)
    if not isinstance(found, dict):
        raise ValueError(f"{path} must have a section {key!r}, got {', '.join(map(str, config))}")
    return found


def _under(weights: Weights, prefix: str) -> Weights:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def _resolution(params: dict[str, Any]) -> int:
    return params["ddconfig"]["resolution"]


def _codec(weights: Weights, model: dict[str, Any], path: Path) -> nn.Module:
    """The first stage; the training loss and its discriminator are left out."""
    from diffusers import VQModel

    if model.get("target") != "taming.models.vqgan.VQModel":
        raise ValueError(f"the codec must be a taming.models.vqgan.VQModel, got {model.get('target')!r} in {path}")
    params = _section(model, "params", path)
    if params.get("remap"):
        raise ValueError(f"the codec must use its whole codebook, got one renumbered by {params['remap']} in {path}")
    parts = ("encoder.", "decoder.", "quantize.", "quant_conv.", "post_quant_conv.")
    kept = {name: tensor for name, tensor in weights.items() if name.startswith(parts)}
    return built(VQModel, codec_config(params), codec_names(kept), torch.float32)


def _prior(weights: Weights, params: dict[str, Any], path: Path) -> nn.Module:
    """The second stage: query, key and value side by side, all of a block's matrices transposed."""
    from transformers import GPT2Config, GPT2LMHeadModel

    inner = _section(_section(params, "transformer_config", path), "params", path)
    permuter = (params.get("permuter_config") or {}).get("target", "Identity")
    if inner.get("n_unmasked") or not permuter.endswith("Identity"):
        raise ValueError(f"{path} asks for n_unmasked or a permuter, got {permuter!r}; GPT-2 reads row by row")
    config = GPT2Config(
        vocab_size=inner["vocab_size"],
        n_positions=inner["block_size"],
        n_embd=inner["n_embd"],
        n_layer=inner["n_layer"],
        n_head=inner["n_head"],
        activation_function="gelu",
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
    )
    return built(GPT2LMHeadModel, {"config": config}, _prior_names(weights), torch.float32)


def _prior_names(weights: Weights) -> Weights:
    named = {
        "transformer.wte.weight": weights["tok_emb.weight"],
        "transformer.wpe.weight": weights["pos_emb"][0],  # [1, n, d] -> [n, d]
        "lm_head.weight": weights["head.weight"],
    }
    named |= {f"transformer.ln_f.{end}": weights[f"ln_f.{end}"] for end in ("weight", "bias")}
    blocks = sorted({int(found[1]) for found in (re.match(r"blocks\.(\d+)\.", name) for name in weights) if found})
    for theirs, ours in ((f"blocks.{block}", f"transformer.h.{block}") for block in blocks):
        for layer, name in _BLOCK.items():
            matrix = weights[f"{theirs}.{layer}.weight"]
            named[f"{ours}.{name}.weight"] = matrix.T if matrix.ndim == 2 else matrix  # [o, i] -> [i, o]
            named[f"{ours}.{name}.bias"] = weights[f"{theirs}.{layer}.bias"]
        joint = [f"{theirs}.attn.{name}" for name in ("query", "key", "value")]
        matrices = torch.cat([weights[f"{name}.weight"] for name in joint])  # [3 d, d]
        named[f"{ours}.attn.c_attn.weight"] = matrices.T  # [d, 3 d]
        named[f"{ours}.attn.c_attn.bias"] = torch.cat([weights[f"{name}.bias"] for name in joint])
    return named


def _prefix(params: dict[str, Any], path: Path) -> Prefix:
    """A start token for the unconditional, one token for the classes."""
    condition = params.get("cond_stage_config")
    if params.get("unconditional") or condition == "__is_unconditional__":
        return Prefix(start=(params.get("sos_token", 0),))
    target = condition.get("target") if isinstance(condition, dict) else condition
    if target == "taming.modules.util.Labelator":
        classes = _section(_section(params, "cond_stage_config", path), "params", path)["n_classes"]
        return Prefix(words={str(number): number for number in range(classes)}, length=1)
    raise ValueError(
        f"the transformer must follow nothing or a class, got {target!r} in {path}; its codec alone can be read from "
        "the first stage's own checkpoint"
    )
