"""Hypersim: rendered rooms with depth, normals, diffuse reflectance and diffuse illumination, in HDF5.

``depth_meters`` holds distances from the camera's centre. A scene's rays come from ``M_cam_from_uv`` in
``metadata_camera_parameters.csv`` where that file is there (some scenes have shifted lenses), else from the 60 degrees of
its documentation. Pictures are tonemapped by the formula of the data set's toolkit: the 90th percentile of brightness
becomes 0.8 under a gamma of 2.2. Illumination is scaled as the picture is, so that picture = albedo * shading + rest.
"""

import math
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ilora.data.benchmarks import contents
from ilora.data.benchmarks.base import Benchmark, Card, Files, Stored

SPLITS, CAMERAS = "metadata_images_split_scene_v1.csv", "metadata_camera_parameters.csv"
PARTITION = "split_partition_name"
WORDS = {"train": "train", "validation": "val", "test": "test"}
MAPS = {
    "depth": ("geometry", "depth_meters"),
    "normal": ("geometry", "normal_cam"),
    "albedo": ("final", "diffuse_reflectance"),
    "shading": ("final", "diffuse_illumination"),
}
HALF_WIDTH = math.tan(math.radians(30))  # of the picture at depth 1
BRIGHT, LEVEL, GAMMA, DARK = 0.9, 0.8, 2.2, 1e-4  # of the tonemapping


class Hypersim(Benchmark):
    """Planar depth, normals that face the camera, linear albedo and shading."""

    card = Card(
        title="Hypersim",
        intrinsics=("depth", "normal", "albedo", "shading"),
        splits=("train", "validation", "test"),
        units="distance in metres; colours are linear light without tonemapping",
        axes="distance from the camera's centre; normals RUB in the camera, some facing away",
        invalid="NaN and infinity; render_entity_id -1 is a pixel without a surface",
        licence="Creative Commons Attribution-ShareAlike 3.0",
        home="github.com/apple/ml-hypersim",
        layout=f"[scenes/]ai_VVV_NNN/images/scene_cam_XX_final_hdf5/frame.IIII.color.hdf5 and others; {SPLITS} (for splits) "
        f"and {CAMERAS} (for exact cameras), both of the toolkit, beside the scenes",
    )

    def find(self) -> dict[str, Files]:
        """Frames of the scenes that are there, which may be a part of them, and that the split's list names."""
        scenes = contents.first([self.path / "evermotion_dataset/scenes", self.path / "scenes", self.path])
        kind, role = MAPS[self.intrinsic]
        found = {}
        for folder in sorted(scenes.glob("ai_*/images/scene_cam_*_final_hdf5")):
            scene, camera = folder.parents[1].name, folder.name.removesuffix("_final_hdf5").removeprefix("scene_")
            for picture in folder.glob("frame.*.color.hdf5"):
                number = picture.name.split(".")[1]
                geometry = folder.with_name(f"scene_{camera}_geometry_hdf5")
                place = {"final": folder, "geometry": geometry}[kind] / f"frame.{number}.{role}.hdf5"
                mask = geometry / f"frame.{number}.render_entity_id.hdf5"
                optional = {"surface mask": mask} if mask.is_file() else {}
                found[f"{scene}-{camera}-{number}"] = {"picture": picture, self.intrinsic: place} | optional
        return found if self._listed is None else {name: found[name] for name in found if name in self._listed}

    def read(self, name: str, files: Files) -> Stored:
        """What the intrinsic needs, and the tonemapped picture."""
        light = _field(files["picture"])
        surface = light.isfinite().all(0, keepdim=True)
        if "surface mask" in files:
            surface = surface & (_field(files["surface mask"]) != -1)
        exposure, stored = _exposure(light, surface), _field(files[self.intrinsic])
        rays = _rays(self._cameras.get(name.partition("-")[0]), *light.shape[1:])
        image = (light.nan_to_num(0) * exposure).clamp(min=0).pow(1 / GAMMA).clamp(max=1) * 2 - 1
        convert = {
            "depth": lambda: stored * -rays[2:] / rays.square().sum(0, keepdim=True).sqrt(),
            "normal": lambda: torch.where((stored * rays).sum(0, keepdim=True) > 0, -stored, stored),
            "albedo": lambda: stored,
            "shading": lambda: stored * exposure,
        }
        return Stored(image, convert[self.intrinsic](), surface)

    @cached_property
    def _listed(self) -> set[str] | None:
        """Names in the split's list; None for "all"."""
        if self.split not in WORDS:
            return None
        path = contents.first([self.path / SPLITS, self.path.parent / SPLITS])
        rows = contents.table(path, "list of Hypersim's splits", ("scene_name", "camera_name", "frame_id", PARTITION))
        chosen = [row for row in rows if row[PARTITION] == WORDS[self.split]]
        return {f"{row['scene_name']}-{row['camera_name']}-{int(row['frame_id']):04d}" for row in chosen}

    @cached_property
    def _cameras(self) -> dict[str, Float[Tensor, "3 3"]]:
        """Matrix of each scene's rays; none without the file of them."""
        path = contents.first([self.path / CAMERAS, self.path.parent / CAMERAS])
        keys = [f"M_cam_from_uv_{row}{column}" for row in range(3) for column in range(3)]
        rows = contents.table(path, "Hypersim's cameras", ("scene_name", *keys)) if path.is_file() else []
        return {row["scene_name"]: torch.tensor([float(row[key]) for key in keys]).reshape(3, 3) for row in rows}


def _field(path: Path) -> Float[Tensor, "c h w"]:
    """An array [h, w] or [h, w, c] as floats."""
    values = torch.from_numpy(contents.hdf5(path, "dataset")).float()
    return values.reshape(*values.shape[:2], -1).permute(2, 0, 1)  # [c, h, w]


def _exposure(light: Float[Tensor, "3 h w"], surface: Bool[Tensor, "1 h w"]) -> float:
    """Factor that makes ``BRIGHT`` of the surfaces' brightness ``LEVEL``; 1 without surfaces, 0 in the dark."""
    brightness = (light * torch.tensor([0.3, 0.59, 0.11])[:, None, None]).sum(0, keepdim=True)[surface]  # CCIR 601
    if not brightness.numel():
        return 1.0
    bright = float(torch.quantile(brightness, BRIGHT))
    return 0.0 if bright < DARK else LEVEL**GAMMA / bright


def _rays(matrix: Float[Tensor, "3 3"] | None, height: int, width: int) -> Float[Tensor, "3 h w"]:
    """Direction of each pixel, RUB, from (u, v): -1 to 1 from the left and from below."""
    if matrix is None:
        matrix = torch.diag(torch.tensor([HALF_WIDTH, HALF_WIDTH * height / width, -1.0]))
    v, u = (1 - 2 * (torch.arange(height) + 0.5) / height), (2 * (torch.arange(width) + 0.5) / width - 1)
    across, up = torch.meshgrid(u, v, indexing="xy")  # [h, w] each
    return torch.einsum("ij,jhw->ihw", matrix, torch.stack([across, up, torch.ones_like(up)]))
