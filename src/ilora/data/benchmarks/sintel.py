"""MPI Sintel: frames of an animated film with depth, albedo and shading.

Albedo comes with the optical flow data, depth is a download of its own, shading is sent by the authors on request. On
four frames, albedo * shading came nearest to the picture where all three were taken alike, as sRGB codes or as light,
rather than in any mixture. So both maps are read as sRGB codes, as the picture is.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ilora import images
from ilora.data.benchmarks import contents
from ilora.data.benchmarks.base import Benchmark, Card, Files, Stored
from ilora.ops import color

ROOTS = ("training", "images", "")
TAG, HEADER = 202021.25, 12  # first float of a .dpt file, and the bytes before its depth
SKY = 1e6  # m, from which a pixel shows the sky
# The split by scenes of Narihira et al. 2015, *Direct intrinsics*; the five scenes of the ambush are in none.
TRAIN = ("alley_1", "bamboo_1", "bandage_1", "cave_2", "market_2", "market_6", "shaman_2", "sleeping_1", "temple_2")
TEST = ("alley_2", "bamboo_2", "bandage_2", "cave_4", "market_5", "mountain_1", "shaman_3", "sleeping_2", "temple_3")
SCENES = {"train": TRAIN, "test": TEST}


class Sintel(Benchmark):
    """Depth beside the final pass where there is one, else the clean pass; albedo and shading beside the clean pass."""

    card = Card(
        title="MPI Sintel",
        intrinsics=("depth", "albedo", "shading"),
        splits=("train", "test"),
        units="depth in metres; albedo and shading as 8-bit sRGB codes",
        axes="depth along the optical axis",
        invalid="depth from a million metres is the sky; albedo is 0 in all channels where it is not defined",
        licence="Creative Commons Attribution 3.0, Blender Foundation",
        home="sintel.is.tue.mpg.de",
        layout="[training/]clean/SCENE/frame_NNNN.png, and final/, albedo/ and shading/ alike; "
        "depth/SCENE/frame_NNNN.dpt",
    )

    def find(self) -> dict[str, Files]:
        """Frames of the split's scenes that have a picture or a map; of every scene for "all"."""
        passes = {"depth": ("final", "clean"), "albedo": ("clean",), "shading": ("clean",)}[self.intrinsic]
        pictures = contents.first([self._folder(name) for name in passes])
        maps, suffix = self._folder(self.intrinsic), {"depth": ".dpt"}.get(self.intrinsic, ".png")
        wanted = SCENES.get(self.split)
        files = [*pictures.glob("*/frame_*.png"), *maps.glob(f"*/frame_*{suffix}")]
        frames = {(path.parent.name, path.stem) for path in files if wanted is None or path.parent.name in wanted}
        return {
            f"{scene}-{frame}": {
                "picture": pictures / scene / f"{frame}.png",
                self.intrinsic: maps / scene / f"{frame}{suffix}",
            }
            for scene, frame in frames
        }

    def read(self, name: str, files: Files) -> Stored:
        """The sky and undefined albedo are not valid."""
        values, valid = {"depth": _depth, "albedo": _albedo, "shading": _shading}[self.intrinsic](files[self.intrinsic])
        return Stored(images.read(files["picture"]), values, valid)

    def _folder(self, name: str) -> Path:
        """Where the pass ``name`` lies."""
        return contents.first([self.path / root / name for root in ROOTS])


def _albedo(path: Path) -> tuple[Float[Tensor, "3 h w"], Bool[Tensor, "1 h w"]]:
    """Light, and where it is not black."""
    code = contents.share(path)
    return color.to_linear(code), (code > 0).any(0, keepdim=True)


def _shading(path: Path) -> tuple[Float[Tensor, "3 h w"], Bool[Tensor, "1 h w"]]:
    """Light, everywhere."""
    light = color.to_linear(contents.share(path))
    return light, torch.ones_like(light[:1], dtype=torch.bool)


def _depth(path: Path) -> tuple[Float[Tensor, "1 h w"], Bool[Tensor, "1 h w"]]:
    """Depth of a .dpt file (tag, width and height, then floats row by row), and where it ends before the sky.

    Raises:
        ValueError: another tag, or fewer floats than pixels.
    """
    head = path.read_bytes()[:HEADER]
    if len(head) < HEADER or np.frombuffer(head, "<f4", 1)[0] != np.float32(TAG):
        raise ValueError(f"{path} must begin with the tag {TAG} of .dpt files; download it again")
    width, height = (int(side) for side in np.frombuffer(head, "<i4", 2, 4))
    depth = contents.floats(path, height, width, skip=HEADER)
    return depth, depth < SKY
