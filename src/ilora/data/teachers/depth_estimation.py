"""Depth by transformers: Depth Anything (V1 and V2, relative or metric), DPT (MiDaS) and ZoeDepth.

Pictures are resized and normalised here, as ``preprocessor_config.json`` says and the libraries' own processors do, in
float and without torchvision.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from ilora.data import meta
from ilora.data.teachers import checkpoints
from ilora.ops import disparity
from ilora.records import Image, Map, Valid

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and standard deviation of each channel, 0 to 1
CENTRED = ((0.5,) * 3, (0.5,) * 3)
MODES = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers of the resampling filters


@dataclass(frozen=True)
class Intake:
    """How a picture becomes the network's input.

    Attributes:
        size: height and width that it is resized to, or towards [px].
        keep: keep the aspect ratio, under the one of the two scales that is nearer to 1.
        multiple: sides are rounded to multiples of this [px].
        mode: ``bilinear`` or ``bicubic``.
        mean, std: of the channels, 0 to 1.
        framed: reflect the picture beyond its border first (ZoeDepth).
        corners: resize corner to corner without averaging (ZoeDepth), instead of as Pillow does.
    """

    size: tuple[int, int]
    keep: bool
    multiple: int
    mode: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    framed: bool = False
    corners: bool = False

    def sides(self, height: int, width: int) -> tuple[int, int]:
        """Size of the input for a picture of this size, its frame included [px]."""
        down, across = self.size[0] / height, self.size[1] / width
        if self.keep:
            down = across = across if abs(1 - across) < abs(1 - down) else down
        return tuple(
            max(self.multiple, round(scale * side / self.multiple) * self.multiple)
            for scale, side in ((down, height), (across, width))
        )

    def frame(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns that are added on each side of a picture of this size (Bhat et al. 2023, published code)."""
        return tuple(int(math.sqrt(side / 2) * 3) if self.framed else 0 for side in (height, width))

    def __call__(self, image: Image) -> Float[Tensor, "b 3 rows columns"]:
        """The input for pictures in [-1, 1].

        Raises:
            ValueError: a picture is too small to be reflected beyond its border.
        """
        height, width = image.shape[-2:]
        rows, columns = self.frame(height, width)
        if rows >= height or columns >= width:
            frame = max(rows, columns)
            raise ValueError(f"picture must be larger than {frame} px, got {width} x {height}; leave it out")
        value = pad((image + 1) / 2, (columns, columns, rows, rows), mode="reflect") if self.framed else (image + 1) / 2
        filtered = {"align_corners": True} if self.corners else {"align_corners": False, "antialias": True}
        value = interpolate(value, self.sides(*value.shape[-2:]), mode=self.mode, **filtered).clamp(0, 1)
        mean, std = (value.new_tensor(numbers)[:, None, None] for numbers in (self.mean, self.std))
        return (value - mean) / std


DEFAULTS = {  # of each class, where there is no preprocessor_config.json
    "DepthAnythingForDepthEstimation": Intake((518, 518), True, 14, "bicubic", *IMAGENET),
    "DPTForDepthEstimation": Intake((384, 384), False, 1, "bicubic", *CENTRED),
    "ZoeDepthForDepthEstimation": Intake((384, 512), True, 32, "bilinear", *CENTRED, framed=True, corners=True),
}
METRIC = {"ZoeDepthForDepthEstimation"}  # in metres whatever their configuration says


class DepthEstimation:
    """See ``ilora.data.teachers.base.Teacher``. Metres where the network says metres, else relative depth."""

    def __init__(self, name: str, folder: Path, device: str | torch.device) -> None:
        import transformers

        kind = checkpoints.kind(folder)
        self.intake = intake(folder, kind)
        with checkpoints.quiet():
            self.network: nn.Module = getattr(transformers, kind).from_pretrained(
                folder, use_safetensors=True, local_files_only=True, dtype=torch.float32
            )
        self.network.to(device).eval().requires_grad_(False)
        self.device = torch.device(device)
        config = self.network.config
        self.metric = kind in METRIC or getattr(config, "depth_estimation_type", "relative") == "metric"
        # ZoeDepth with several heads lets the whole batch vote on which one answers.
        self.together = len(getattr(config, "bin_configurations", None) or [0]) == 1
        self.name = name
        self.fingerprint = checkpoints.fingerprint(folder, disparity.NEAR, disparity.FARTHEST)
        self.declares = {"depth": meta.Depths(unit="m" if self.metric else "relative")}
        rule = (
            "metres as the network gives them"
            if self.metric
            else f"from disparity d: n / max(d, n / {disparity.FARTHEST:g}), n its quantile {disparity.NEAR:g}"
        )
        self.story = f"{name} ({kind}), planar depth, {rule}"

    @torch.no_grad()
    def label(self, image: Image) -> dict[str, tuple[Map, Valid]]:
        """Planar depth: metres, or relative by ``ilora.ops.disparity.relative_depth``."""
        parts = [image] if self.together else image.split(1)
        depth = torch.cat([self._predict(part.to(self.device)) for part in parts])
        if not self.metric:
            depth = disparity.relative_depth(depth)
        return {"depth": (depth.cpu(), torch.ones_like(depth, dtype=torch.bool).cpu())}

    def _predict(self, image: Image) -> Float[Tensor, "b 1 h w"]:
        """What the network says at the picture's size: metres or disparity."""
        height, width = image.shape[-2:]
        rows, columns = self.intake.frame(height, width)
        found = self.network(pixel_values=self.intake(image)).predicted_depth[:, None]  # [b, 1, rows, columns]
        sized = interpolate(found, (height + 2 * rows, width + 2 * columns), mode="bicubic", align_corners=False)
        return sized[:, :, rows : rows + height, columns : columns + width]


def intake(folder: Path, kind: str) -> Intake:
    """How pictures are prepared for the network in a folder: as its ``preprocessor_config.json`` says.

    Raises:
        ValueError: a filter other than bilinear or bicubic, or padding that is not ZoeDepth's.
    """
    path, default = folder / "preprocessor_config.json", DEFAULTS[kind]
    given: dict[str, Any] = checkpoints.read(path) if path.is_file() else {}
    size = given.get("size", {"height": default.size[0], "width": default.size[1]})
    sides = (size, size) if isinstance(size, int) else (size.get("height"), size.get("width"))
    mode = MODES.get(given.get("resample")) if "resample" in given else default.mode
    if mode is None or None in sides or (given.get("do_pad") and not default.framed):
        raise ValueError(
            f"{path} must ask for bilinear (2) or bicubic (3) resizing to a height and width without padding, got "
            f"resample = {given.get('resample')}, size = {size}, do_pad = {given.get('do_pad')}; correct it"
        )
    return replace(
        default,
        size=sides,
        mode=mode,
        keep=given.get("keep_aspect_ratio", default.keep),
        multiple=max(1, int(given.get("ensure_multiple_of", default.multiple))),
        mean=tuple(given.get("image_mean", default.mean)),
        std=tuple(given.get("image_std", default.std)),
        framed=default.framed and bool(given.get("do_pad", True)),
    )


def load(name: str, folder: Path, device: str | torch.device) -> DepthEstimation:
    """The teacher in a folder of transformers' layout."""
    return DepthEstimation(name, folder, device)
