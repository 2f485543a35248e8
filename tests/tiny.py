"""Tiny random Stable Diffusion checkpoints, written the way real ones are: diffusers folders and single files.

The single-file names are written down here from the original code (openaimodel.py, model.py, OpenCLIP), as templates of
each block, independently of the reader under test.
"""

import json
import re
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

FAMILIES = ("1", "2", "xl")
WORDS = ("surface", "normal", "depth", "map", "a", "room", "with", "red", "sofa")


def write_tokenizer(folder: Path) -> int:
    """vocab.json and merges.txt of a tokenizer that knows letters and nothing else; the number of its tokens."""
    letters = sorted(set("".join(WORDS)))
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "pad_token": "<|endoftext|>"})
    )
    return len(words)


def text_model(tokens: int, *, kind: type = CLIPTextModel, act: str = "quick_gelu", layers: int = 2) -> torch.nn.Module:
    """A text model of width 64."""
    return kind(
        CLIPTextConfig(
            vocab_size=tokens,
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=layers,
            num_attention_heads=1,
            hidden_act=act,
            projection_dim=48,
            bos_token_id=tokens - 2,
            eos_token_id=tokens - 1,
        )
    ).eval()


def unet(family: str) -> UNet2DConditionModel:
    """Two levels like the real ones: 1.x with convolutions around its transformers, 2.x and XL with linear layers."""
    extra = {}
    if family == "xl":
        extra = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 48 + 6 * 256,
            "transformer_layers_per_block": (1, 2),
        }
    width = (32, 64) if family == "1" else (64, 128)
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=width,
        layers_per_block=1,
        down_block_types=("DownBlock2D" if family == "xl" else "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D" if family == "xl" else "CrossAttnUpBlock2D"),
        cross_attention_dim=128 if family == "xl" else 64,
        attention_head_dim=8 if family == "1" else tuple(channels // 64 for channels in width),
        use_linear_projection=family != "1",
        **extra,
    ).eval()


def vae(scale: float) -> AutoencoderKL:
    """Codec with cells of 2 px."""
    return AutoencoderKL(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        scaling_factor=scale,
    ).eval()


def pipeline(family: str, folder: Path, seed: int = 0) -> StableDiffusionPipeline | StableDiffusionXLPipeline:
    """A random pipeline of a family, saved to ``folder`` in diffusers' layout."""
    tokens = write_tokenizer(folder / "written_tokenizer")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "written_tokenizer")
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if family == "xl":
            made = StableDiffusionXLPipeline(
                vae=vae(0.13025),
                unet=unet(family),
                text_encoder=text_model(tokens),
                text_encoder_2=text_model(tokens, kind=CLIPTextModelWithProjection, act="gelu"),
                tokenizer=tokenizer,
                tokenizer_2=tokenizer,
                scheduler=EulerDiscreteScheduler(**schedule, timestep_spacing="leading"),
            )
        else:
            second = family == "2"
            kept = {"set_alpha_to_one": False, **schedule}
            made = StableDiffusionPipeline(
                vae=vae(0.18215),
                unet=unet(family),
                text_encoder=text_model(tokens, act="gelu" if second else "quick_gelu"),
                tokenizer=tokenizer,
                scheduler=DDIMScheduler(prediction_type="v_prediction", clip_sample=False, **kept)
                if second
                else PNDMScheduler(skip_prk_steps=True, **kept),
                safety_checker=None,
                feature_extractor=None,
                requires_safety_checker=False,
            )
    made.save_pretrained(folder)
    made.set_progress_bar_config(disable=True)
    return made


def smallest(folder: Path) -> Path:
    """A random pipeline with attention in the middle alone, in diffusers' layout: for tests of many passes."""
    stock = pipeline("1", folder / "larger")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = UNet2DConditionModel(
            sample_size=8, block_out_channels=(32,), layers_per_block=1, norm_num_groups=8,
            down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
            cross_attention_dim=64, attention_head_dim=2,
        )  # fmt: skip
        codec = AutoencoderTiny(
            latent_channels=4, encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
            num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1), scaling_factor=0.7,
        )  # fmt: skip
    stock.register_modules(unet=network.eval(), vae=codec.eval())
    stock.save_pretrained(folder / "smallest")
    return folder / "smallest"


def original_tensors(made: StableDiffusionPipeline | StableDiffusionXLPipeline) -> dict[str, torch.Tensor]:
    """Tensors of a pipeline under the names of the original code."""
    tensors = {f"model.diffusion_model.{name}": x for name, x in _unet(made.unet.state_dict()).items()}
    tensors |= {f"first_stage_model.{name}": x for name, x in _vae(made.vae.state_dict()).items()}
    if hasattr(made, "text_encoder_2"):
        tensors |= _clip(made.text_encoder.state_dict(), "conditioner.embedders.0.transformer.text_model.")
        tensors |= _open_clip(made.text_encoder_2.state_dict(), "conditioner.embedders.1.model.", spare=False)
    elif made.unet.config.use_linear_projection:
        tensors |= _open_clip(made.text_encoder.state_dict(), "cond_stage_model.model.", spare=True)
    else:
        tensors |= _clip(made.text_encoder.state_dict(), "cond_stage_model.transformer.text_model.")
    return {name: tensor.clone().contiguous() for name, tensor in tensors.items()}


def write_original(made: StableDiffusionPipeline | StableDiffusionXLPipeline, path: Path) -> Path:
    """The single file of a pipeline, with its tokenizers in folders beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(original_tensors(made), path)
    else:
        torch.save({"state_dict": original_tensors(made), "global_step": 7}, path)
    made.tokenizer.save_pretrained(path.parent / "tokenizer")
    if hasattr(made, "tokenizer_2"):
        made.tokenizer_2.save_pretrained(path.parent / "tokenizer_2")
    return path


UNET_BLOCKS = {  # of two levels with one residual block each, in the order of the original constructor
    "conv_in": "input_blocks.0.0",
    "down_blocks.0.resnets.0": "input_blocks.1.0",
    "down_blocks.0.attentions.0": "input_blocks.1.1",
    "down_blocks.0.downsamplers.0.conv": "input_blocks.2.0.op",
    "down_blocks.1.resnets.0": "input_blocks.3.0",
    "down_blocks.1.attentions.0": "input_blocks.3.1",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    "up_blocks.0.resnets.0": "output_blocks.0.0",
    "up_blocks.0.attentions.0": "output_blocks.0.1",
    "up_blocks.0.resnets.1": "output_blocks.1.0",
    "up_blocks.0.attentions.1": "output_blocks.1.1",
    "up_blocks.0.upsamplers.0.conv": "output_blocks.1.2.conv",
    "up_blocks.1.resnets.0": "output_blocks.2.0",
    "up_blocks.1.attentions.0": "output_blocks.2.1",
    "up_blocks.1.resnets.1": "output_blocks.3.0",
    "up_blocks.1.attentions.1": "output_blocks.3.1",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def unet_name(name: str) -> str:
    """A layer of the denoiser under the original name."""
    for ours, theirs in UNET_BLOCKS.items():
        if name.startswith(f"{ours}."):
            first, *rest = name.removeprefix(f"{ours}.").split(".")
            return ".".join([theirs, RESNET.get(first, first) if ".resnets." in ours else first, *rest])
    raise KeyError(name)


def _unet(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {unet_name(name): tensor for name, tensor in state.items()}


def _vae(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    named = {}
    for name, tensor in state.items():
        original = name
        for half, levels in (("down", (0, 1)), ("up", (1, 0))):
            for level in (0, 1):
                theirs = f"{half}.{levels[level]}"
                original = original.replace(f"{half}_blocks.{level}.resnets", f"{theirs}.block")
                original = original.replace(f"{half}_blocks.{level}.{half}samplers.0", f"{theirs}.{half}sample")
        for ours, theirs in (
            ("mid_block.resnets.0", "mid.block_1"),
            ("mid_block.resnets.1", "mid.block_2"),
            ("mid_block.attentions.0.group_norm", "mid.attn_1.norm"),
            ("mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out"),
            ("mid_block.attentions.0.to_", "mid.attn_1."),
            ("conv_shortcut", "nin_shortcut"),
            ("conv_norm_out", "norm_out"),
        ):
            original = original.replace(ours, theirs)
        is_projection = "attn_1" in original and "norm" not in original and original.endswith("weight")
        named[original] = tensor[:, :, None, None] if is_projection else tensor
    return named


def _clip(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    named = {f"{prefix}{name.removeprefix('text_model.')}": tensor for name, tensor in state.items()}
    return named | {f"{prefix}embeddings.position_ids": torch.arange(77)[None]}


def _open_clip(state: dict[str, torch.Tensor], prefix: str, *, spare: bool) -> dict[str, torch.Tensor]:
    """OpenCLIP's layout; ``spare`` adds the last layer, which Stable Diffusion 2 leaves out."""
    state = {name.removeprefix("text_model."): tensor for name, tensor in state.items()}
    if spare:
        last = {name: tensor for name, tensor in state.items() if name.startswith("encoder.layers.1.")}
        state |= {name.replace("layers.1.", "layers.2."): tensor + 1 for name, tensor in last.items()}
    named = {"logit_scale": torch.tensor(4.6)}
    for name, tensor in state.items():
        if found := re.fullmatch(r"encoder\.layers\.(\d+)\.self_attn\.q_proj\.(weight|bias)", name):
            layer, kind = found.groups()
            joint = [state[f"encoder.layers.{layer}.self_attn.{letter}_proj.{kind}"] for letter in "qkv"]
            named[f"transformer.resblocks.{layer}.attn.in_proj_{kind}"] = torch.cat(joint)
        elif not re.search(r"\.[kv]_proj\.", name):
            for ours, theirs in (
                ("encoder.layers.", "transformer.resblocks."),
                ("self_attn.out_proj", "attn.out_proj"),
                ("layer_norm", "ln_"),
                ("mlp.fc1", "mlp.c_fc"),
                ("mlp.fc2", "mlp.c_proj"),
                ("embeddings.token_embedding", "token_embedding"),
                ("embeddings.position_embedding.weight", "positional_embedding"),
                ("final_ln_", "ln_final"),
                ("text_projection.weight", "text_projection"),
            ):
                name = name.replace(ours, theirs)
            named[name] = tensor.T if name == "text_projection" else tensor
    if spare:
        named["text_projection"] = torch.zeros(64, 64)
    return {f"{prefix}{name}": tensor for name, tensor in named.items()}
