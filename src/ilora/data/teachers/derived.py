"""Normals derived from another teacher's depth, under a camera that somebody has to name."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ilora import checks
from ilora.data import meta
from ilora.data.labels import METRES
from ilora.data.teachers.base import Teacher
from ilora.ops import geometry
from ilora.records import Image, Map, Valid


class WithNormals:
    """See ``ilora.data.teachers.base.Teacher``. What another teacher says, and the normals of its depth."""

    def __init__(self, source: Teacher, fov: float | None) -> None:
        """``fov`` is the field of view along the longer side of every picture [deg].

        Raises:
            ValueError: no field of view, or a source whose depth is not planar, has a shift, or is not there.
        """
        declared = source.declares.get("depth")
        if declared is None or declared.unit == "relative" or declared.kind != "planar":
            got = "no depth" if declared is None else f"{declared.kind} depth, unit {declared.unit}"
            raise ValueError(
                f"normals follow from planar depth without an unknown shift, got {got} from {source.name}; "
                "take a metric teacher such as zoedepth or depth-anything-v2-metric-indoor-small"
            )
        if fov is None:
            raise ValueError(f"normals from the depth of {source.name} need its camera, got none; name --fov DEGREES")
        self.fov = checks.between("fov", fov, low=1.0, high=170.0)
        self.source = source
        self.name = f"{source.name}+normals"
        self.fingerprint = f"{source.fingerprint}-fov{self.fov:g}"
        self.declares = {**source.declares, "normal": meta.Normals(axes="RUB")}
        self.story = f"{source.story}; normals derived from it, {self.fov:g} deg along the longer side"

    def label(self, image: Image) -> dict[str, tuple[Map, Valid]]:
        """The source's answers and normals, valid where depth is smooth."""
        answers = self.source.label(image)
        (stored, valid), declared = answers["depth"], self.source.declares["depth"]
        depth = (stored * (declared.scale or 1.0) + declared.offset) * METRES[declared.unit or "m"]
        camera = camera_of(*image.shape[-2:], fov=self.fov).expand(len(image), 3, 3).to(depth)
        normal = geometry.normals_from_depth(depth, camera)
        smooth = geometry.smooth(depth, valid & (depth > 0)) & (normal != 0).any(1, keepdim=True)
        return {**answers, "normal": (normal, smooth)}


def camera_of(height: int, width: int, *, fov: float) -> Float[Tensor, "1 3 3"]:
    """Intrinsic matrix [px] of square pixels with the principal point in the middle; ``fov`` [deg] as above."""
    focal = max(height, width) / 2 / math.tan(math.radians(fov) / 2)
    return torch.tensor([[[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]])
