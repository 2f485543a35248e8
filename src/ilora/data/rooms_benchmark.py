"""The benchmark "rooms" that ships with the package: rendered scenes with exact maps of all four intrinsics."""

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from ilora import checks
from ilora.data.cache import content_hash
from ilora.data.scenes.rooms import read_rooms
from ilora.records import Example

NAME = "rooms"
PLACE = Path(__file__).parent / "rooms"
FILES = {"train": "labelled.npz", "validation": "validation.npz", "test": "test.npz"}
INTRINSICS = ("normal", "depth", "albedo", "shading")

Scene = tuple[UInt8[Tensor, "3 h w"], Float[Tensor, "c h w"], Bool[Tensor, "1 h w"]]  # picture, map, mask


class Rooms:
    """One intrinsic of one split; the file is unpacked when the first example is asked for, and stays in memory.

    Normals are unit vectors in RUB, depth is planar in metres, albedo and shading are linear RGB such that the diffuse
    part of the picture is their product. Light sources and holes are not valid.

    Attributes:
        intrinsic: normal, depth, albedo or shading.
        split: train, validation or test.
    """

    def __init__(self, *, intrinsic: str, split: str = "train", place: Path = PLACE) -> None:
        """Find the split's file in ``place``.

        Raises:
            ValueError: an unknown intrinsic or split, or the file is missing.
        """
        self.intrinsic = checks.choice("intrinsic", intrinsic, known=INTRINSICS)
        self.split = checks.choice("split", split, known=tuple(FILES))
        self.path = checks.file(place / FILES[split], f"the {split} scenes of {NAME}")

    @cached_property
    def names(self) -> list[str]:
        """Seeds of the scenes."""
        return list(self._scenes)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the split's file and the intrinsic."""
        return content_hash(self.intrinsic, self.path)

    @cached_property
    def _scenes(self) -> dict[str, Scene]:
        """Every scene by its seed."""
        scenes = {}
        for room in read_rooms(self.path):
            values = np.atleast_3d(getattr(room, self.intrinsic))  # [h, w, c]
            map, image = (torch.from_numpy(x.transpose(2, 0, 1).copy()) for x in (values, room.image))  # [c, h, w]
            scenes[f"{room.seed:08d}"] = (image, map, torch.from_numpy(room.valid)[None])
        return scenes

    def __len__(self) -> int:
        """Number of scenes."""
        return len(self.names)

    def __getitem__(self, index: int) -> Example:
        """The scene at ``index``; its map is 0 where it is not valid."""
        image, map, valid = self._scenes[self.names[index]]
        return Example(self.names[index], image.float().mul(2 / 255).sub(1), torch.where(valid, map, 0), valid)
