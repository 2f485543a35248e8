"""Tiny random checkpoints of the classes that teachers come in, written the way the published ones are."""

import json
from pathlib import Path

import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    MarigoldIntrinsicsPipeline,
    MarigoldNormalsPipeline,
    UNet2DConditionModel,
)
from transformers import (
    BeitConfig,
    CLIPTokenizer,
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    DPTConfig,
    DPTForDepthEstimation,
    PreTrainedModel,
    ZoeDepthConfig,
    ZoeDepthForDepthEstimation,
)

from tests import tiny

BACKBONE = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
NECK = {"neck_hidden_sizes": [8, 16], "fusion_hidden_size": 8, "reassemble_factors": [2, 1]}
SIZES = {"depth-anything": (42, 14, 3), "dpt": (32, 1, 2), "zoedepth": (64, 32, 2)}  # side, multiple, resample


def _depth_anything(**extra: object) -> PreTrainedModel:
    backbone = Dinov2Config(image_size=42, patch_size=14, **BACKBONE, out_indices=[2, 4], reshape_hidden_states=False)
    kept = {"reassemble_hidden_size": 16, "head_hidden_size": 8, "patch_size": 14}
    return DepthAnythingForDepthEstimation(DepthAnythingConfig(backbone_config=backbone, **NECK, **kept, **extra))


def _dpt() -> PreTrainedModel:
    return DPTForDepthEstimation(
        DPTConfig(image_size=32, patch_size=8, is_hybrid=False, backbone_out_indices=[0, 1, 2, 3], **BACKBONE,
                  neck_hidden_sizes=[8, 8, 16, 16], fusion_hidden_size=8)
    )  # fmt: skip


def _zoedepth(heads: int) -> PreTrainedModel:
    ranges = {"nyu": (0.1, 10.0), "kitti": (1.0, 80.0)}
    bins = [{"name": name, "n_bins": 8, "min_depth": low, "max_depth": high} for name, (low, high) in ranges.items()]
    patches = {"num_patch_transformer_layers": 4, "patch_transformer_hidden_size": 128,
               "patch_transformer_intermediate_size": 32, "patch_transformer_num_attention_heads": 2}  # fmt: skip
    stages = {"out_indices": [1, 2, 3, 4], "reshape_hidden_states": False}
    backbone = BeitConfig(image_size=64, patch_size=16, use_relative_position_bias=True, **BACKBONE, **stages)
    return ZoeDepthForDepthEstimation(
        ZoeDepthConfig(backbone_config=backbone, neck_hidden_sizes=[8, 8, 16, 16], fusion_hidden_size=8,
                       bottleneck_features=8, num_relative_features=8, num_attractors=[4, 2, 2, 1],
                       bin_embedding_dim=8, bin_configurations=bins[:heads], **(patches if heads > 1 else {}))
    )  # fmt: skip


PIPELINES = ("normals", "lighting")
MODELS = {
    "depth-anything": _depth_anything,
    "depth-anything-metric": lambda: _depth_anything(depth_estimation_type="metric", max_depth=20),
    "dpt": _dpt,
    "zoedepth": lambda: _zoedepth(1),
    "zoedepth-two": lambda: _zoedepth(2),
}


def depth(name: str, folder: Path, *, seed: int = 1) -> PreTrainedModel:
    """A random model of ``MODELS`` in transformers' layout, with its ``preprocessor_config.json``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MODELS[name]().eval()
        for value in model.parameters():  # so that the maps vary
            value.data.mul_(10 if value.ndim > 1 else 1)
    model.save_pretrained(folder)
    side, multiple, resample = next(sizes for start, sizes in SIZES.items() if name.startswith(start))
    (folder / "preprocessor_config.json").write_text(json.dumps({
        "do_normalize": True, "do_rescale": True, "do_resize": True, "do_pad": name.startswith("zoe"),
        "ensure_multiple_of": multiple, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
        "keep_aspect_ratio": name != "dpt", "resample": resample, "size": {"height": side, "width": side},
    }))  # fmt: skip
    return model


def marigold(kind: str, folder: Path, *, seed: int = 0, **extra: object) -> DiffusionPipeline:
    """A random pipeline, ``normals`` or ``lighting``, in diffusers' layout."""
    tokens = tiny.write_tokenizer(folder / "written_tokenizer")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "written_tokenizer")
    targets = 1 if kind == "normals" else 3
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = UNet2DConditionModel(
            sample_size=8, in_channels=4 * (1 + targets), out_channels=4 * targets, block_out_channels=(32, 32),
            layers_per_block=1, cross_attention_dim=64, attention_head_dim=8,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        ).eval()  # fmt: skip
        parts = {"unet": network, "vae": tiny.vae(0.18215), "text_encoder": tiny.text_model(tokens)}
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        clip_sample=False, timestep_spacing="trailing",
    )  # fmt: skip
    settings = {"default_denoising_steps": 2, "default_processing_resolution": 16}
    if kind == "normals":
        made = MarigoldNormalsPipeline(
            **parts, scheduler=scheduler, tokenizer=tokenizer, prediction_type="normals", **settings, **extra
        )
    else:
        properties = {
            "target_names": ["albedo", "shading", "residual"],
            "albedo": {"prediction_space": "srgb"},
            "shading": {"prediction_space": "linear", "up_to_scale": True},
        }
        made = MarigoldIntrinsicsPipeline(
            **parts, scheduler=scheduler, tokenizer=tokenizer, prediction_type="intrinsics",
            target_properties=properties, **settings, **extra,
        )  # fmt: skip
    made.save_pretrained(folder)
    made.set_progress_bar_config(disable=True)
    return made
