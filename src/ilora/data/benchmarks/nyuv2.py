"""NYU Depth V2: 1449 labelled frames of a Kinect, in one MATLAB file or extracted from it.

The MATLAB file is HDF5 (version 7.3), so its arrays come in reversed order: pictures as [number, channel, column, row].
``splits.mat``, which lies beside it, names 795 frames for training and 654 for testing, counted from 1.
"""

from pathlib import Path

import torch

from ilora import checks, images
from ilora.data.benchmarks import contents
from ilora.data.benchmarks.base import Benchmark, Card, Files, Stored

LABELLED, SPLITS = "nyu_depth_v2_labeled.mat", "splits.mat"
INDICES = {"train": "trainNdxs", "test": "testNdxs"}
MEASURED, FILLED = "rawDepths", "depths"  # what the Kinect saw, and the same with its holes painted over
METRES = 1e-3  # of one unit of the extracted files


class NYUv2(Benchmark):
    """Depth as it was measured, without the holes that the data set also offers filled."""

    card = Card(
        title="NYU Depth V2",
        intrinsics=("depth",),
        splits=("train", "test"),
        units="metres in the MATLAB file, millimetres in extracted PNG files",
        axes="depth along the optical axis, in the colour camera",
        invalid="0",
        licence="see the data set's page",
        home="the NYU Depth Dataset V2 page of New York University",
        layout=f"{LABELLED} with {SPLITS} (of the same page); or, extracted, [official_splits/]test/ROOM/rgb_N.jpg "
        "with sync_depth_N.png or depth_N.png beside it",
    )

    def find(self) -> dict[str, Files]:
        """Frames of the MATLAB file by number, or extracted ones by room and number."""
        labelled = self.path / LABELLED
        return self._numbered(labelled) if labelled.is_file() else self._extracted()

    def read(self, name: str, files: Files) -> Stored:
        """Zero is a hole."""
        if "labelled file" in files:
            return self._frame(files["labelled file"], int(name))
        depth = images.read_map(files["depth"]).values * METRES
        return Stored(images.read(files["picture"]), depth, depth > 0)

    def _frame(self, file: Path, number: int) -> Stored:
        """Frame ``number``, counted from 1."""
        key = MEASURED if contents.hdf5_shape(file, MEASURED) else FILLED
        image = torch.from_numpy(contents.hdf5(file, "images", number - 1)).mT  # [3, w, h] -> [3, h, w]
        depth = torch.from_numpy(contents.hdf5(file, key, number - 1)).float().mT[None]  # [w, h] -> [1, h, w]
        return Stored(image.float().mul(2 / 255).sub(1), depth, depth > 0)

    def _numbered(self, file: Path) -> dict[str, Files]:
        """Every frame of the split, by its number."""
        numbers = range(1, (contents.hdf5_shape(file, "images") or (0,))[0] + 1)
        if self.parts != self.card.splits:
            indices = contents.matlab(checks.file(self.path / SPLITS, f"list of the splits of {LABELLED}"))
            numbers = [number for number in indices[INDICES[self.split]].ravel().tolist() if number in numbers]
        return {f"{number:04d}": {"labelled file": file} for number in numbers}

    def _extracted(self) -> dict[str, Files]:
        """Every picture in the split's folder."""
        root = contents.first([self.path / "official_splits", self.path])
        found = {}
        for picture in (path for part in self.parts for path in (root / part).rglob("rgb_*.*")):
            number = picture.stem.removeprefix("rgb_")
            places = [picture.with_name(f"{kind}_{number}.png") for kind in ("sync_depth", "depth")]
            found[f"{picture.parent.name}-{number}"] = {"picture": picture, "depth": contents.first(places)}
        return found
