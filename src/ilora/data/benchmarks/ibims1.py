"""iBims-1: a hundred indoor pictures with the depth of a laser scanner, a MATLAB file each."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ilora.data.benchmarks import contents
from ilora.data.benchmarks.base import Benchmark, Card, Files, Stored

FOLDER, LIST = "ibims1_core_mat", "imagelist.txt"
FIELDS = ("rgb", "depth", "mask_invalid", "mask_transp")


class Ibims1(Benchmark):
    """Depth where the scanner measured a surface that is not transparent."""

    card = Card(
        title="iBims-1",
        intrinsics=("depth",),
        splits=("test",),
        units="metres",
        axes="depth along the optical axis",
        invalid="0; and 0 in mask_invalid or in mask_transp, whose ones are what counts",
        licence="see the data set's page",
        home="the iBims-1 page of the Technical University of Munich",
        layout=f"[{FOLDER}/]NAME.mat, each with the structure data ({', '.join(FIELDS)}, ...); {LIST} "
        "beside them or beside the folder",
    )

    def find(self) -> dict[str, Files]:
        """The names in the list; every MATLAB file where there is no list."""
        folder = contents.first([self.path / FOLDER, self.path])
        listing = contents.first([self.path / LIST, folder / LIST])
        names = [path.stem for path in folder.glob("*.mat")]
        names = contents.lines(listing, "list of pictures") if listing.is_file() else names
        return {name: {"labelled file": folder / f"{name}.mat"} for name in names}

    def read(self, name: str, files: Files) -> Stored:
        """Depth under both masks."""
        data = contents.matlab(files["labelled file"]).get("data")
        if data is None or not set(FIELDS) <= set(data.dtype.names or ()):
            raise ValueError(f"{files['labelled file']} must hold data with {', '.join(FIELDS)}; download it again")
        rgb, depth, usable, opaque = (data[field].ravel()[0] for field in FIELDS)
        image = torch.from_numpy(rgb.transpose(2, 0, 1).astype(np.float32)) * (2 / 255) - 1  # [3, h, w]
        return Stored(image, _plane(depth), (_plane(usable) > 0) & (_plane(opaque) > 0) & _measured(depth))


def _plane(field: np.ndarray) -> Float[Tensor, "1 h w"]:
    """One channel as floats."""
    return torch.from_numpy(field.astype(np.float32))[None]


def _measured(depth: np.ndarray) -> Bool[Tensor, "1 h w"]:
    """Where the scanner got an answer."""
    return _plane(depth) > 0
