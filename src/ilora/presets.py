"""Named starting points of a fit, each with the number that it measured, and the learning rates that follow."""

import math
from dataclasses import dataclass
from typing import Any

from ilora.config import FitConfig

LR, LR_WEIGHTS = 5e-3, 6_000_000  # learning rate of an adapter on a network of so many weights


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Fields of a ``FitConfig`` that belong together.

    Attributes:
        about: what it is and where it comes from.
        measured: what it reached, on what, and the command that prints it.
        fields: the fields that it sets; everything else keeps the default of ``FitConfig``.
    """

    about: str
    measured: str
    fields: dict[str, Any]


PRESETS = {
    # Published training code, github.com/duxiaodan/intrinsic-lora at a48381b, sd_single_diode_pseudo_normal.py: the
    # clean latent in the noise slot at t = 999, the raw output read as the target's latent, mean squared error over all
    # cells, AdamW at a constant 1e-4. Its gradient clipping never acts (it is handed an iterator that is already used
    # up), so there is none here. One deviation: the target's latent is the mean of its distribution, where theirs is a
    # draw, so that targets can be computed once.
    "paper": Preset(
        about="the published single-step recipe, to the letter",
        measured="not measured on rooms yet",
        fields={
            "timestep": 999,
            "readout_image": 0.0,
            "readout_output": 1.0,
            "steps": 20_000,
            "batch": 4,
            "lr": 1e-4,
            "schedule": "constant",
            "warmup": 0,
            "weight_decay": 1e-2,
            "clip": None,
            "ema": 0.0,
            "masked": False,
            "mirror": False,
            "image_share": 0.0,
            "precision": "fp32",
        },
    ),
    "default": Preset(
        about="ours: masked latent loss, mirror images, then the intrinsic's own loss through the decoder",
        measured="rooms-diffusion, rooms test split, seed 0: normals 28.8 deg, depth AbsRel .156, albedo si-RMSE .145, "
        "shading si-RMSE .151 (random weights 29.7, .165, .156, .163); python benchmarks/claims.py --only main",
        fields={
            "targets": "attention+conv",
            "timestep": 30,
            "readout_image": 0.0,
            "readout_output": 1.0,
            "steps": 300,
            "batch": 8,
            "lr": None,
            "schedule": "cosine",
            "warmup": 20,
            "weight_decay": 0.0,
            "clip": 1.0,
            "masked": True,
            "mirror": True,
            "image_share": 0.25,
        },
    ),
    # Published training code, same place, augunet_diode_pseudo_normal.py: see ilora.generators.augmented. It begins
    # from an instruct-pix2pix's layer for the picture (picture_weights), which fits a Stable Diffusion; without one
    # that layer begins at zero, so an adapter must reach it. Published are 50,000 updates of 4 images at 1e-4 on
    # attention alone, and guidance 3.0 by a text that training never drops; 1.0 paints what was learned, twice as fast.
    "augmented": Preset(
        about="several passes from noise beside the picture, with uncertainty",
        measured="not measured on rooms yet; python benchmarks/multistep.py",
        fields={
            "targets": "attention+conv+in",
            "paint": "augmented",
            "steps": 1000,
            "batch": 8,
            "lr": None,
            "schedule": "cosine",
            "warmup": 20,
            "weight_decay": 0.0,
            "clip": 1.0,
            "masked": True,
            "mirror": True,
            "image_share": 0.0,
        },
    ),
}


# Named readouts x = image * z + output * o. None leaves a weight to what the network predicts.
READOUTS = {
    "paper": {"timestep": 999, "readout_image": 0.0, "readout_output": 1.0},  # the output is the clean latent
    "native": {"timestep": 999, "readout_image": None, "readout_output": None},  # what the output stands for by itself
    "flow_clean": {"timestep": 1, "readout_image": 0.0, "readout_output": None},  # with the clean latent's sign in it
    "auto": {"readout_auto": True},  # fitted to labels, see ilora.generators.readout.fitted
}


def preset(name: str, **changes: Any) -> FitConfig:
    """The configuration that a preset stands for, with some fields changed.

    Args:
        changes: fields of ``FitConfig``, and ``readout``: a name among ``READOUTS``.

    Raises:
        ValueError: there is no preset of that name, no field of that name, or a value outside its range.
    """
    if name not in PRESETS:
        raise ValueError(f"expected a preset among {', '.join(PRESETS)}, got {name!r}")
    return FitConfig.read({"preset": name, **PRESETS[name].fields, **named_readout(changes)})


def named_readout(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with ``readout``, where it is among them, replaced by those that it names; fields given beside it win.

    Raises:
        ValueError: there is no readout of that name.
    """
    if "readout" not in fields:
        return fields
    name, others = fields["readout"], {field: value for field, value in fields.items() if field != "readout"}
    if name not in READOUTS:
        raise ValueError(f"readout must be one of {', '.join(READOUTS)}, got {name!r}")
    return {"readout_auto": False, **READOUTS[name], **others}


def learning_rate(config: FitConfig, weights: int) -> float:
    """That of the configuration; where it leaves it open, 5e-3 for an adapter of a network of 6 M weights.

    It falls with the square root of the number of weights (4e-4 for Stable Diffusion 1.5). Where all weights move, as
    in the controls, it is a fifth of that.
    """
    if config.lr is not None:
        return config.lr
    share = 0.2 if config.method in ("full", "scratch") else 1.0
    return share * LR * math.sqrt(LR_WEIGHTS / weights)


def rate(step: int, config: FitConfig) -> float:
    """Learning rate of update ``step``: linear warm-up, then constant, or half a cosine to zero."""
    if step < config.warmup:
        return config.lr * (step + 1) / (config.warmup + 1)
    if config.schedule == "constant":
        return config.lr
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - config.warmup) / max(1, config.steps - config.warmup)))
