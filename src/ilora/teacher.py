"""Teachers by name, adapters of other generators among them."""

from collections.abc import Callable
from pathlib import Path

import torch

from ilora.adapters import file
from ilora.data import meta, teachers
from ilora.data.cache import content_hash
from ilora.data.teachers.base import Teacher
from ilora.predictor import Predictor
from ilora.records import Image, Map, Valid
from ilora.team import default_device

DECLARES = {  # what ilora's own predictions mean, by intrinsic
    "normal": meta.Normals(axes="RUB"),
    "depth": meta.Depths(unit="relative"),
    "albedo": meta.Colours(space="linear"),
    "shading": meta.Colours(space="linear"),
}


def teacher(name: str, *, device: str | torch.device | None = None, fov: float | None = None) -> Teacher:
    """A teacher ready to label: an adapter, or what ``ilora.data.teachers.teacher`` takes.

    Args:
        name: a run folder, a folder of runs, an adapter file of ilora's, or any other teacher.
        device: where it computes; None: the accelerator of this machine, or the CPU.
        fov: see ``ilora.data.teachers.teacher``.

    Raises:
        FileNotFoundError, ValueError, ImportError: as the teacher and ``Predictor`` do.
    """
    path, place = Path(name).expanduser(), str(device or default_device())
    if path.is_file() or any([*path.glob(file.FILE), *path.glob(f"*/{file.FILE}")]):
        return Adapters(name, Predictor(path, device=place))
    return teachers.teacher(name, device=place, fov=fov)


class Adapters:
    """See ``ilora.data.teachers.base.Teacher``. A generator's adapters label pictures for another generator."""

    def __init__(self, name: str, predictor: Predictor) -> None:
        self.predictor = predictor
        self.name = name
        digests = {kind: predictor.digest(kind) for kind in predictor.names}
        self.fingerprint = content_hash(predictor.generator.fingerprint, digests, predictor.mirror)[:32]
        self.declares = {kind: DECLARES[kind] for kind in predictor.names}
        self.story = f"{name}, ilora adapters of {predictor.generator.name}"

    def label(self, image: Image) -> dict[str, tuple[Map, Valid]]:
        """The adapters' maps, everywhere valid."""
        maps = self.predictor.maps(image.to(next(self.predictor.generator.network.parameters()).device))
        every = torch.ones_like(image[:, :1], dtype=torch.bool)
        return {kind: (_SHIFTED.get(kind, _same)(map.float().cpu()), every) for kind, map in maps.items()}


def _from_one(depth: Map) -> Map:
    """Relative depth, each image's nearest pixel at 1: predictions are known up to a shift, and depth is positive."""
    return (depth - depth.amin((1, 2, 3), keepdim=True)) + 1


def _same(map: Map) -> Map:
    return map


_SHIFTED: dict[str, Callable[[Map], Map]] = {"depth": _from_one}
