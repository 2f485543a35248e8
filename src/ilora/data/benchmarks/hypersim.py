"""Hypersim: rendered rooms with depth, normals, diffuse reflectance and diffuse illumination, in HDF5.

``depth_meters`` holds distances from the camera's centre. A scene's rays come from ``metadata_camera_parameters.csv``
where that file is there (some lenses are shifted), else from the documented 60 degrees. Pictures are tonemapped as by
the toolkit, or its previews; illumination is scaled as the picture is, so that picture = albedo * shading + rest.
"""

import math
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ilora import images
from ilora.data.benchmarks import contents
from ilora.data.benchmarks.base import Benchmark, Card, Files, Stored
from ilora.ops import color, geometry

SPLITS, CAMERAS = "metadata_images_split_scene_v1.csv", "metadata_camera_parameters.csv"
COLUMNS = ("scene_name", "camera_name", "frame_id", "split_partition_name")
WORDS = {"train": "train", "validation": "val", "test": "test"}
MAPS = {
    "depth": ("geometry", "depth_meters", False),
    "normal": ("geometry", "normal_cam", False),
    "albedo": ("final", "diffuse_reflectance", False),
    "shading": ("final", "diffuse_illumination", True),
}  # folder, file, and whether the picture must be light
HALF_WIDTH, PREVIEW = math.tan(math.radians(30)), ".jpg"  # of the picture at depth 1; suffix of previews


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
        layout=f"[scenes/]ai_VVV_NNN/images/scene_cam_XX_final_hdf5/frame.IIII.color.hdf5 and others; "
        f"{SPLITS} (for splits) and {CAMERAS} (for exact cameras), of the toolkit, beside the scenes",
    )

    def find(self) -> dict[str, Files]:
        """Frames of the scenes that are there, which may be a part of them, and that the split's list names."""
        scenes = contents.first([self.path / "evermotion_dataset/scenes", self.path / "scenes", self.path])
        kind, role, _ = MAPS[self.intrinsic]
        found = {}
        for pattern in ("final_hdf5/*.color.hdf5", f"{kind}_hdf5/*.{role}.hdf5"):
            for path in scenes.glob(f"ai_*/images/scene_cam_*_{pattern}"):
                scene, camera, number = path.parts[-4], path.parent.name[6:12], path.name.split(".")[1]
                found[f"{scene}-{camera}-{number}"] = self._files(path.parents[1] / f"scene_{camera}", number)
        return found if self._listed is None else {name: found[name] for name in found if name in self._listed}

    def _files(self, camera: Path, number: str) -> Files:
        """Of one frame; ``camera`` is the beginning of its folders' names."""
        kind, role, lit = MAPS[self.intrinsic]
        light = Path(f"{camera}_final_hdf5", f"frame.{number}.color.hdf5")
        preview = Path(f"{camera}_final_preview", f"frame.{number}.tonemap.jpg")
        mask = Path(f"{camera}_geometry_hdf5", f"frame.{number}.render_entity_id.hdf5")
        optional = {"surface mask": mask, "cameras": self._camera_file}
        map = Path(f"{camera}_{kind}_hdf5", f"frame.{number}.{role}.hdf5")
        needed = {"picture": contents.first([light] if lit else [light, preview]), self.intrinsic: map}
        return needed | {what: path for what, path in optional.items() if path.is_file()}

    def read(self, name: str, files: Files) -> Stored:
        """What the intrinsic needs, beside the tonemapped picture."""
        stored = contents.field(files[self.intrinsic])
        surface = torch.ones_like(stored[:1], dtype=torch.bool)
        if "surface mask" in files:
            surface = contents.field(files["surface mask"]) != -1
        image, exposure = _picture(files["picture"], surface)
        height, width = image.shape[1:]
        usual = torch.diag(torch.tensor([HALF_WIDTH, HALF_WIDTH * height / width, -1.0]))
        rays = geometry.rays_by_share(self._cameras.get(name.partition("-")[0], usual), height, width)
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
        table = contents.table(path, "list of Hypersim's splits", COLUMNS)
        rows = ([row[column] for column in COLUMNS] for row in table)
        return {f"{row[0]}-{row[1]}-{int(row[2]):04d}" for row in rows if row[3] == WORDS[self.split]}

    @property
    def _camera_file(self) -> Path:
        """Where the matrices of the scenes' rays are, or should be."""
        return contents.first([self.path / CAMERAS, self.path.parent / CAMERAS])

    @cached_property
    def _cameras(self) -> dict[str, Float[Tensor, "3 3"]]:
        """Matrix of each scene's rays; none without the file of them."""
        keys = [f"M_cam_from_uv_{row}{column}" for row in range(3) for column in range(3)]
        if not self._camera_file.is_file():
            return {}
        rows = contents.table(self._camera_file, "Hypersim's cameras", ("scene_name", *keys))
        return {row["scene_name"]: torch.tensor([float(row[key]) for key in keys]).reshape(3, 3) for row in rows}


def _picture(path: Path, surface: Bool[Tensor, "1 h w"]) -> tuple[Float[Tensor, "3 h w"], Float[Tensor, "1"]]:
    """sRGB in [-1, 1] and the factor that its light was shown with; 1 for a preview, of which it is not known."""
    if path.suffix == PREVIEW:
        return images.read(path), torch.ones(1)
    light = contents.field(path)[None]
    exposure = color.exposure(light, surface[None] & light.isfinite().all(1, keepdim=True))
    return color.tonemapped(light * exposure)[0] * 2 - 1, exposure
