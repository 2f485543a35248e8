"""Normals, albedo and shading by Marigold (Ke et al. 2025), through the pipelines of diffusers."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ilora import checks
from ilora.data import meta
from ilora.data.teachers import checkpoints
from ilora.records import Image, Map, Valid

SEED = 0  # of the noise that every picture starts from, so that its label depends on nothing but itself
LIGHT = ("albedo", "shading")  # of the targets that a decomposition may have


class Marigold:
    """A pipeline with as many steps, at the resolution, that its own configuration names; one sample a picture."""

    def __init__(self, name: str, folder: Path, device: str | torch.device) -> None:
        import diffusers

        config = checkpoints.read(folder / checkpoints.PIPELINE)
        steps, side = config.get("default_denoising_steps"), config.get("default_processing_resolution")
        if not steps or not side:
            raise ValueError(
                f"{folder / checkpoints.PIPELINE} must name default_denoising_steps and default_processing_resolution, "
                f"got {steps} and {side}; add them"
            )
        kind = checkpoints.kind(folder)
        self.name = name
        self.fingerprint = checkpoints.fingerprint(folder, SEED)
        self.story = f"{name} ({kind}), {steps} steps at {side} px, one sample from seed {SEED}"
        variant = {"variant": "fp16"} if all(".fp16." in path.name for path in checkpoints.weights(folder)) else {}
        with checkpoints.quiet():
            self.pipeline = getattr(diffusers, kind).from_pretrained(
                folder, use_safetensors=True, local_files_only=True, **variant
            )
        self.pipeline.to(device).set_progress_bar_config(disable=True)

    def predict(self, image: Image) -> Float[Tensor, "n 3 h w"]:
        """What the pipeline gives at the pictures' size; the targets of a picture follow each other."""
        noise = [torch.Generator().manual_seed(SEED) for _ in image]
        shown = ((image + 1) / 2).clamp(0, 1)
        return self.pipeline(shown, batch_size=len(image), generator=noise, output_type="pt").prediction.float().cpu()


class Normals(Marigold):
    """See ``ilora.data.teachers.base.Teacher``. Unit vectors, x right, y up, z towards the viewer."""

    declares = {"normal": meta.Normals(axes="RUB")}  # noqa: RUF012 (read only)

    def label(self, image: Image) -> dict[str, tuple[Map, Valid]]:
        """Normals of unit length; a pixel without a direction is not valid."""
        normal = self.predict(image)
        return {"normal": (normal, normal.square().sum(1, keepdim=True) > 0.25)}


class Light(Marigold):
    """See ``ilora.data.teachers.base.Teacher``. Albedo and, where the pipeline decomposes light, diffuse shading."""

    def __init__(self, name: str, folder: Path, device: str | torch.device) -> None:
        properties: dict[str, Any] = checkpoints.read(folder / checkpoints.PIPELINE).get("target_properties") or {}
        self.targets: list[str] = properties.get("target_names") or []
        channels = checkpoints.read(folder / "unet" / checkpoints.MODEL)["out_channels"]
        painted = channels // checkpoints.read(folder / "vae" / checkpoints.MODEL)["latent_channels"]
        wanted = [target for target in self.targets if target in LIGHT]
        if not wanted or len(self.targets) != painted:
            raise ValueError(
                f"{folder / checkpoints.PIPELINE} must name its {painted} targets, albedo among them, "
                f"got {self.targets}; correct target_properties"
            )
        spaces = {target: properties.get(target, {}).get("prediction_space", "srgb") for target in wanted}
        self.declares = {
            target: meta.Colours(space=checks.choice(f"prediction_space of {target}", space, known=("srgb", "linear")))
            for target, space in spaces.items()
        }
        super().__init__(name, folder, device)

    def label(self, image: Image) -> dict[str, tuple[Map, Valid]]:
        """Albedo and shading in the colour space that the pipeline names for each, 0 to 1; shading up to a scale."""
        found = self.predict(image).unflatten(0, (len(image), -1))  # [b, targets, 3, h, w]
        everywhere = torch.ones_like(found[:, 0, :1], dtype=torch.bool)
        return {target: (found[:, self.targets.index(target)], everywhere) for target in self.declares}


CLASSES = {"MarigoldNormalsPipeline": Normals, "MarigoldIntrinsicsPipeline": Light}


def load(name: str, folder: Path, device: str | torch.device) -> Marigold:
    """The teacher in a folder of diffusers' layout."""
    return CLASSES[checkpoints.kind(folder)](name, folder, device)
