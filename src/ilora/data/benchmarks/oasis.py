"""OASIS: photographs of anything, with normals that people drew into one region of each.

The annotations are pickles. They are read as data (see ``inert``), and a ``NAME.npy`` beside one, with normals of the
whole picture, is read in its place.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ilora import images
from ilora.data.benchmarks import contents, inert
from ilora.data.benchmarks.base import Benchmark, Card, Files, Stored
from ilora.ops import geometry

FOLDER = "OASIS_trainval"
LISTS = {"train": "OASIS_train.csv", "validation": "OASIS_val.csv"}
SUFFIX = ".pkl"  # of annotations
AXES = "RDB"  # x right, y down, z towards the viewer
REGION = ("min_y", "max_y", "min_x", "max_x", "normal")  # rows and columns, the last ones included


class Oasis(Benchmark):
    """Normals inside the annotated region."""

    card = Card(
        title="OASIS",
        intrinsics=("normal",),
        splits=("train", "validation"),
        units="unit vectors",
        axes=f"{AXES} in the camera: x right, y down, z towards the viewer",
        invalid="(0, 0, 0), and all that is outside the region",
        licence="that of the file LICENSE beside the data; each photograph its own",
        home="oasis.cs.princeton.edu",
        layout=f"[{FOLDER}/]OASIS_train.csv and OASIS_val.csv (columns Image and Normal); image/NAME.png and "
        "normal/NAME.pkl beside them",
    )

    def find(self) -> dict[str, Files]:
        """The rows of the lists that have normals; the lists' own folders are replaced by those that are here."""
        root = contents.first([self.path / FOLDER, self.path])
        rows = []
        for part in self.parts:
            rows += contents.table(root / LISTS[part], f"list of {part}", ("Image", "Normal"))
        pairs = [(Path(row["Image"].strip()), Path(row["Normal"].strip())) for row in rows if row["Normal"].strip()]
        return {
            picture.stem: {"picture": root / "image" / picture.name, "normals": _map(root / "normal" / normal.name)}
            for picture, normal in pairs
        }

    def read(self, name: str, files: Files) -> Stored:
        """In ilora's axes."""
        return stored(files["normals"], images.read(files["picture"]))


def stored(file: Path, image: Float[Tensor, "3 h w"]) -> Stored:
    """The normals of an annotation, or of an array in its place, beside their picture.

    Raises:
        ValueError: the file is neither, or does not belong to the picture.
    """
    normal = _region(file, *image.shape[1:]) if file.suffix == SUFFIX else images.read_map(file).values
    return Stored(image, geometry.convert(normal[None], AXES, "RUB")[0], (normal != 0).any(0, keepdim=True))


def _map(annotation: Path) -> Path:
    """The array beside an annotation, or else itself."""
    array = annotation.with_suffix(".npy")
    return array if array.is_file() else annotation


def _region(path: Path, height: int, width: int) -> Float[Tensor, "3 {height} {width}"]:
    """Normals of an annotation in a picture of zeros.

    Raises:
        ValueError: no such pickle, or its region is not inside the picture.
    """
    found = inert.read(path)
    if not set(REGION) <= found.keys():
        raise ValueError(f"{path} must hold {', '.join(REGION)}, got {sorted(found)}; download it again")
    top, bottom, left, right = (int(found[key]) for key in REGION[:4])
    rows, columns = bottom - top + 1, right - left + 1
    values = found["normal"]
    if np.shape(values) != (rows, columns, 3) or min(top, left) < 0 or bottom >= height or right >= width:
        raise ValueError(
            f"{path} must hold normals of rows {top} to {bottom} and columns {left} to {right} of a picture of "
            f"{width} x {height} px, got {np.shape(values)}; find the picture that it belongs to"
        )
    normal = torch.zeros(3, height, width)
    normal[:, top : bottom + 1, left : right + 1] = torch.from_numpy(values.astype("float32")).permute(2, 0, 1)
    return normal
