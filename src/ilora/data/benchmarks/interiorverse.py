"""InteriorVerse: rendered rooms with depth, normals and albedo, as EXR files.

The unit of its depth is read off the data, because it is documented nowhere: a room of which the median depth is above
100 m is one in millimetres.
"""

from functools import cached_property
from pathlib import Path

import torch

from ilora import images
from ilora.data.benchmarks import contents
from ilora.data.benchmarks.base import Benchmark, Card, Files, Stored

LISTS = {"train": "train.txt", "validation": "val.txt", "test": "test.txt"}
PARTS = ("scenes_85", "scenes_120", "dataset_85", "dataset_120")
LARGEST_ROOM, MILLIMETRE = 100.0, 1e-3  # m
TRIED = 20  # examples, to find one with depth


class InteriorVerse(Benchmark):
    """Depth, normals and linear albedo, of one or both parts of the data set."""

    card = Card(
        title="InteriorVerse",
        intrinsics=("depth", "normal", "albedo"),
        splits=("train", "validation", "test"),
        units="depth in metres or millimetres, read off the data; pictures and albedo are linear light",
        axes="normals RUB in the camera; depth is taken as planar",
        invalid="0 in NNN_mask; NaN; normals of no length",
        licence="for research, granted on request; see the data set's page",
        home="interiorverse.github.io",
        layout="[scenes_85/ or scenes_120/]SCENE/NNN_im.exr with NNN_depth.exr, NNN_normal.exr, NNN_albedo.exr and, "
        "where it is there, NNN_mask.exr or .png; train.txt, val.txt and test.txt, lists of scenes, beside the scenes",
    )

    def find(self) -> dict[str, Files]:
        """Views of the scenes that the lists name, in each part that is there; of all scenes for "all"."""
        roots = [self.path / part for part in PARTS if (self.path / part).is_dir()] or [self.path]
        found = {}
        for scene in (scene for root in roots for scene in self._scenes(root)):
            views = {path.name.rpartition("_")[0] for path in scene.glob("*_*.exr") if self._concerns(path)}
            found |= {f"{scene.name}-{view}": self._files(scene, view) for view in views}
        return found

    def read(self, name: str, files: Files) -> Stored:
        """Under the mask, where there is one."""
        image = images.read(files["picture"])
        map = images.read_map(files[self.intrinsic]).values
        if "mask" in files:
            valid = (images.read_map(files["mask"]).values > 0.5).any(0, keepdim=True)
        else:
            valid = torch.ones_like(map[:1], dtype=torch.bool)
        convert = {"depth": lambda: map[:1] * self.metre}.get(self.intrinsic, lambda: map)
        return Stored(image, convert(), valid)

    @cached_property
    def metre(self) -> float:
        """Metres in one unit of the stored depth, read off the first example that has some."""
        for name in self.names[:TRIED]:
            depth = images.read_map(self.files[name][self.intrinsic]).values[:1]
            measured = depth[depth.isfinite() & (depth > 0)]
            if measured.numel():
                return MILLIMETRE if float(measured.median()) > LARGEST_ROOM else 1.0
        return 1.0

    def _scenes(self, root: Path) -> list[Path]:
        """Folders of the split's scenes."""
        if self.split not in LISTS:
            return sorted(path for path in root.iterdir() if path.is_dir())
        listing = contents.first([root / LISTS[self.split], self.path / LISTS[self.split]])
        listed = contents.lines(listing, f"list of the scenes of {self.split}")
        return [root / scene for scene in listed if (root / scene).is_dir()]

    def _concerns(self, path: Path) -> bool:
        """Whether a file is a picture or a map of the intrinsic."""
        return path.stem.rpartition("_")[2] in ("im", self.intrinsic)

    def _files(self, scene: Path, view: str) -> Files:
        """Of one view."""
        mask = contents.first([scene / f"{view}_mask.exr", scene / f"{view}_mask.png"])
        optional = {"mask": mask} if mask.is_file() else {}
        return {"picture": scene / f"{view}_im.exr", self.intrinsic: scene / f"{view}_{self.intrinsic}.exr"} | optional
