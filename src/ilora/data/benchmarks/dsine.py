"""The normals that DSINE prepared for NYUv2, ScanNet, iBims-1, Sintel and OASIS, on which papers compare.

PNG files hold (n + 1) / 2 in 8 or 16 bits, where black is not measured; EXR files hold n itself; those of OASIS are its
own pickles, in its own axes, and are read as data (see ``inert``). The folder names the data set: give
``dsine_eval/nyuv2``, or the whole ``dsine_eval`` for all of them.
"""

from pathlib import Path

import torch

from ilora import images
from ilora.data.benchmarks import oasis
from ilora.data.benchmarks.base import Benchmark, Card, Files, Stored
from ilora.ops import geometry

AXES = "LUB"
PICTURE, MAPS = "_img", ("_normal.png", "_normal.exr", "_normal.pkl")


class DsineNormals(Benchmark):
    """Normals of the benchmarks, each by the method that DSINE's authors chose for it."""

    card = Card(
        title="DSINE's evaluation normals",
        intrinsics=("normal",),
        splits=("test",),
        units="(n + 1) / 2 of integers, n itself in EXR",
        axes=f"{AXES} in the camera: x left, y up, z towards the viewer; {oasis.AXES} in pickles",
        invalid="black in PNG, vectors shorter than a half in EXR",
        licence="that of each data set",
        home="github.com/baegwangbin/DSINE",
        layout="[SET/]FOLDER/NAME_img.png (or .jpg) with NAME_normal.png, .exr or .pkl beside it",
    )

    def find(self) -> dict[str, Files]:
        """Every picture or map at any depth, by folders and name."""
        pictures = {_stem(path): path for path in self.path.rglob(f"*{PICTURE}.*")}
        maps = {_stem(path): path for suffix in MAPS for path in self.path.rglob(f"*{suffix}")}
        return {
            "-".join(stem.relative_to(self.path).parts): {
                "picture": pictures.get(stem, stem.with_name(f"{stem.name}{PICTURE}.png")),
                "normals": maps.get(stem, stem.with_name(f"{stem.name}{MAPS[0]}")),
            }
            for stem in pictures.keys() | maps.keys()
        }

    def read(self, name: str, files: Files) -> Stored:
        """In ilora's axes."""
        image = images.read(files["picture"])
        if files["normals"].suffix == oasis.SUFFIX:
            return oasis.stored(files["normals"], image)
        stored = images.read_map(files["normals"])
        drawn = (stored.values != 0).any(0, keepdim=True)
        normal = stored.values if stored.full_scale is None else stored.values * (2 / stored.full_scale) - 1
        normal = geometry.convert(torch.where(drawn, normal, 0)[None], AXES, "RUB")[0]
        return Stored(image, normal, drawn)


def _stem(path: Path) -> Path:
    """What a picture and its map have in common."""
    return path.with_name(path.stem.rpartition("_")[0])
