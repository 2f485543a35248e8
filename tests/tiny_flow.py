"""Tiny random checkpoints of the diffusion transformers, of their real classes, written as diffusers folders.

``write(family, folder)`` makes one of ``FAMILIES``. Their networks have the published structure (streams, packing, time
convention, guidance input) at width 16 to 32; codecs have cells of 2 px. A picture has ``SIDES`` or ``SIDE``
pixels; set ``generator.resolution`` to that for Qwen-Image, whose files do not tell.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from tests import tiny

SIDES = {"sana": 32}  # of the pictures [px]; its pipeline takes multiples of 32 only
SIDE = 16  # of those of the others
CHAT = "{% for message in messages %}{{ message.content }} {% endfor %}"  # the prompt and nothing else
EULER = {"num_train_timesteps": 1000, "shift": 3.0}


def write(family: str, folder: Path, seed: int = 0) -> Any:
    """A random pipeline of a family, saved to ``folder`` in diffusers' layout; the stock pipeline is returned."""
    tokens = tiny.write_tokenizer(folder / "written_tokenizer")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "written_tokenizer")
    tokenizer.chat_template = CHAT
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = BUILDERS[family](tokenizer, tokens)
        for part in made.components.values():
            _settle(part)
    made.save_pretrained(folder)
    made.set_progress_bar_config(disable=True)
    return made


def _settle(part: object) -> None:
    """Frozen, and without the zeros that some networks begin with: a gate of zero would hide what is behind it."""
    if not isinstance(part, nn.Module):
        return
    part.eval().requires_grad_(False)
    for parameter in part.parameters():
        if parameter.abs().max() == 0:
            parameter.copy_(torch.randn(parameter.shape) * 0.1)


def _codec(**given: Any) -> diffusers.AutoencoderKL:
    """Codec of four channels, in cells of 2 px."""
    return diffusers.AutoencoderKL(**_levels(diffusers.AutoencoderKL), latent_channels=4, **given)


def _levels(kind: type) -> dict[str, Any]:
    return {
        "block_out_channels": (8, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "norm_num_groups": 4,
        "layers_per_block": 1,
        "sample_size": SIDE,
    }


def _clip(tokens: int, kind: type) -> nn.Module:
    return kind(
        transformers.CLIPTextConfig(
            vocab_size=tokens,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            projection_dim=16,
            bos_token_id=tokens - 2,
            eos_token_id=tokens - 1,
        )
    )


def _t5(tokens: int) -> nn.Module:
    return transformers.T5EncoderModel(
        transformers.T5Config(vocab_size=tokens, d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    )


def _qwen3(tokens: int, kind: type, layers: int) -> nn.Module:
    return kind(
        transformers.Qwen3Config(
            vocab_size=tokens,
            hidden_size=8,
            intermediate_size=16,
            num_hidden_layers=layers,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=4,
        )
    )


def _sd3(tokenizer: CLIPTokenizer, tokens: int) -> Any:
    return diffusers.StableDiffusion3Pipeline(
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=SIDE // 2,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=32,
            caption_projection_dim=16,
            pooled_projection_dim=32,
            pos_embed_max_size=16,
            dual_attention_layers=(0,),  # as in 3.5 medium
            qk_norm="rms_norm",
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**EULER),
        vae=_codec(scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=_clip(tokens, CLIPTextModelWithProjection),
        tokenizer=tokenizer,
        text_encoder_2=_clip(tokens, CLIPTextModelWithProjection),
        tokenizer_2=tokenizer,
        text_encoder_3=_t5(tokens),
        tokenizer_3=tokenizer,
    )


def _flux(tokenizer: CLIPTokenizer, tokens: int) -> Any:
    return diffusers.FluxPipeline(
        transformer=diffusers.FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=16,
            guidance_embeds=True,
            axes_dims_rope=(4, 6, 6),
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**EULER, use_dynamic_shifting=True),
        vae=_codec(scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=_clip(tokens, CLIPTextModel),
        tokenizer=tokenizer,
        text_encoder_2=_t5(tokens),
        tokenizer_2=tokenizer,
    )


def _flux2_klein(tokenizer: CLIPTokenizer, tokens: int) -> Any:
    text = _qwen3(tokens, transformers.Qwen3ForCausalLM, layers=28)  # its states 9, 18 and 27 are read
    return diffusers.Flux2KleinPipeline(**_flux2(guided=False), text_encoder=text, tokenizer=tokenizer)


def _flux2_dev(tokenizer: CLIPTokenizer, tokens: int) -> Any:
    text = {
        "model_type": "mistral",
        "vocab_size": tokens,
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 31,  # its states 10, 20 and 30 are read
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 4,
    }
    sight = {"model_type": "pixtral", "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1}
    config = transformers.Mistral3Config(text_config=text, vision_config={**sight, "num_attention_heads": 2})
    model = transformers.Mistral3ForConditionalGeneration(config)
    return diffusers.Flux2Pipeline(**_flux2(guided=True), text_encoder=model, tokenizer=tokenizer)


def _flux2(*, guided: bool) -> dict[str, Any]:
    codec = diffusers.AutoencoderKLFlux2(**_levels(diffusers.AutoencoderKLFlux2), latent_channels=4)
    codec.bn.running_mean.copy_(torch.randn(16))
    codec.bn.running_var.copy_(torch.rand(16) + 0.5)
    return {
        "transformer": diffusers.Flux2Transformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=24,  # three layers' states of 8
            timestep_guidance_channels=32,
            axes_dims_rope=(4, 4, 4, 4),
            guidance_embeds=guided,
        ),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(**EULER, use_dynamic_shifting=True),
        "vae": codec,
    }


def _qwen_image(tokenizer: CLIPTokenizer, tokens: int) -> Any:
    text = {
        "vocab_size": tokens,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]},
    }
    sight = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    return diffusers.QwenImagePipeline(
        transformer=diffusers.QwenImageTransformer2DModel(
            in_channels=16,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            axes_dims_rope=(4, 6, 6),
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**EULER, use_dynamic_shifting=True),
        vae=diffusers.AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 2],
            num_res_blocks=1,
            temperal_downsample=[False],
            latents_mean=[-0.75, -0.7, 0.1, 0.9],
            latents_std=[2.8, 1.4, 2.3, 1.7],
        ),
        text_encoder=transformers.Qwen2_5_VLForConditionalGeneration(
            transformers.Qwen2_5_VLConfig(text_config=text, vision_config=sight)
        ),
        tokenizer=tokenizer,
    )


def _z_image(tokenizer: CLIPTokenizer, tokens: int) -> Any:
    return diffusers.ZImagePipeline(
        transformer=diffusers.ZImageTransformer2DModel(
            in_channels=4,
            dim=32,
            n_layers=1,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=8,
            axes_dims=[4, 6, 6],
            axes_lens=[256, 64, 64],
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**EULER),
        vae=_codec(scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False),
        text_encoder=_qwen3(tokens, transformers.Qwen3Model, layers=2),
        tokenizer=tokenizer,
    )


def _sana(tokenizer: CLIPTokenizer, tokens: int) -> Any:
    return diffusers.SanaPipeline(
        transformer=diffusers.SanaTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=8,
            num_layers=2,
            num_cross_attention_heads=2,
            cross_attention_head_dim=8,
            cross_attention_dim=16,
            caption_channels=16,
            sample_size=SIDES["sana"] // 2,
            timestep_scale=0.5,
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**EULER),
        vae=diffusers.AutoencoderDC(
            latent_channels=4,
            encoder_block_out_channels=(8, 16),
            decoder_block_out_channels=(8, 16),
            encoder_layers_per_block=(1, 1),
            decoder_layers_per_block=(1, 1),
            encoder_qkv_multiscales=((), ()),
            decoder_qkv_multiscales=((), ()),
            scaling_factor=0.41407,
        ),
        text_encoder=transformers.Gemma2Model(
            transformers.Gemma2Config(
                vocab_size=tokens,
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                num_key_value_heads=1,
                head_dim=8,
            )
        ),
        tokenizer=tokenizer,
    )


def _pixart_sigma(tokenizer: CLIPTokenizer, tokens: int) -> Any:
    return diffusers.PixArtSigmaPipeline(
        transformer=diffusers.PixArtTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=8,
            in_channels=4,
            out_channels=8,  # noise, and a variance that nothing here reads
            num_layers=2,
            cross_attention_dim=16,
            sample_size=SIDE // 2,
            caption_channels=32,
            use_additional_conditions=False,
        ),
        scheduler=diffusers.DPMSolverMultistepScheduler(),
        vae=_codec(scaling_factor=0.13025),
        text_encoder=_t5(tokens),
        tokenizer=tokenizer,
    )


BUILDERS: dict[str, Callable[[CLIPTokenizer, int], Any]] = {
    "sd3": _sd3,
    "flux": _flux,
    "flux2": _flux2_klein,
    "qwen-image": _qwen_image,
    "z-image": _z_image,
    "sana": _sana,
    "pixart-sigma": _pixart_sigma,
}
FAMILIES = tuple(BUILDERS)
BUILDERS |= {"flux2-dev": _flux2_dev}  # the same network behind another text encoder, with a guidance input
