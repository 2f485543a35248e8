"""DIODE: indoor and outdoor scans of one laser scanner, as pictures with depth, masks and normals.

The axes of the normals are documented nowhere; they are read off the data: of the eight ways in which x, y and z can
point, the one in which the normals agree with those of the surface that the depth describes.
"""

from functools import cached_property
from itertools import product
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ilora import checks, images
from ilora.data.benchmarks.base import Benchmark, Card, Files, Stored
from ilora.ops import geometry

FOLDERS = {"train": "train", "validation": "val"}
FOCAL, SIZE = (886.81, 927.06), (1024, 768)  # px, in x and y; intrinsics.txt of the devkit, the centre in the middle
REACH = 2  # px, of the surface that the axes are read off
AGREED = 30.0  # deg, of the median angle between both normals
ENOUGH = 100  # pixels on a smooth surface, to read the axes off
TRIED = 20  # examples, to find one with such pixels


class Diode(Benchmark):
    """Depth under its mask, and normals."""

    card = Card(
        title="DIODE",
        intrinsics=("depth", "normal"),
        splits=("train", "validation"),
        units="metres",
        axes="depth is taken as planar, as the benchmarks in use take it; normals in axes read off the data",
        invalid="depth by its mask (0), normals by (0, 0, 0)",
        licence="MIT",
        home="diode-dataset.org",
        layout="val/indoors/scene_*/scan_*/NAME.png with NAME_depth.npy, NAME_depth_mask.npy and NAME_normal.npy "
        "(a download of its own); the same in val/outdoor and train",
    )

    def find(self) -> dict[str, Files]:
        """Every name that has a picture or a map."""
        found = {}
        suffix = {"depth": "_depth.npy", "normal": "_normal.npy"}[self.intrinsic]
        for folder in (self.path / FOLDERS[part] for part in self.parts):
            pictures = set(folder.rglob("*.png"))
            maps = {path.with_name(path.name.replace(suffix, ".png")) for path in folder.rglob(f"*{suffix}")}
            found |= {picture.stem: self._files(picture) for picture in pictures | maps}
        return found

    def _files(self, picture: Path) -> Files:
        """Of one picture."""
        roles = {"depth": ("depth", "depth_mask"), "normal": ("normal",)}[self.intrinsic]
        names = {"depth": "depth map", "depth_mask": "depth mask", "normal": "normal map"}
        return {"picture": picture} | {names[role]: _beside(picture, role) for role in roles}

    def read(self, name: str, files: Files) -> Stored:
        """Depth or normals, whichever was asked for."""
        image = images.read(files["picture"])
        if "depth map" in files:
            depth = images.read_map(files["depth map"]).values
            return Stored(image, depth, images.read_map(files["depth mask"]).values > 0)
        normal = images.read_map(files["normal map"]).values
        return Stored(image, geometry.convert(normal[None], self.axes, "RUB")[0], (normal != 0).any(0, keepdim=True))

    @cached_property
    def axes(self) -> str:
        """Of the stored normals, read off the first example that shows enough of smooth surfaces.

        Raises:
            ValueError: no depth lies beside the normals, or no axes make them agree.
        """
        for name in self.names[:TRIED]:
            depth, mask, normal = (images.read_map(path).values[None] for path in self._evidence(name))
            surface = geometry.normals_from_depth(depth, _camera(*depth.shape[-2:]), reach=REACH)
            sure = geometry.smooth(depth, (mask > 0) & (depth > 0) & (normal != 0).any(1, keepdim=True), reach=REACH)
            if int(sure.sum()) < ENOUGH:
                continue
            axes, error = agreeing(normal, surface, sure)
            if error > AGREED:
                raise ValueError(
                    f"normals and depth of {name} in {self.path} must agree in some axes, got {error:.0f} deg at best, "
                    f"in {axes}; check that both belong to the same pictures"
                )
            return axes
        raise ValueError(
            f"the first {TRIED} examples of {self.path} must show smooth surfaces, to read the axes of normals off "
            f"them, got fewer than {ENOUGH} such pixels in each; check their depth"
        )

    def _evidence(self, name: str) -> tuple[Path, Path, Path]:
        """Depth, its mask and the normals of an example."""
        picture = self.files[name]["picture"]
        depth = checks.file(_beside(picture, "depth"), "depth, off which the axes of the normals are read,")
        return depth, checks.file(_beside(picture, "depth_mask"), "mask of that depth"), self.files[name]["normal map"]


def agreeing(
    normal: Float[Tensor, "1 3 h w"], surface: Float[Tensor, "1 3 h w"], sure: Bool[Tensor, "1 1 h w"]
) -> tuple[str, float]:
    """The axes in which ``normal`` is nearest to ``surface``, which is in RUB, and the median angle there [deg]."""
    errors = {}
    for axes in map("".join, product("RL", "UD", "BF")):
        angle = geometry.angle(geometry.convert(normal, axes, "RUB"), surface)
        errors[axes] = float(angle[sure].median())
    best = min(errors, key=errors.get)
    return best, errors[best]


def _beside(picture: Path, role: str) -> Path:
    """File of a map that belongs to a picture."""
    return picture.with_name(f"{picture.stem}_{role}.npy")


def _camera(height: int, width: int) -> Float[Tensor, "1 3 3"]:
    """Intrinsic matrix [px] at a size of the picture."""
    x, y = FOCAL[0] * width / SIZE[0], FOCAL[1] * height / SIZE[1]
    return torch.tensor([[[x, 0, width / 2], [0, y, height / 2], [0, 0, 1]]])
