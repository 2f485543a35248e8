"""KITTI with the Eigen split: pictures of the raw recordings, depth of the annotated ("improved") ground truth.

A list says which pictures belong to a split. Two forms are in use: ``PICTURE DEPTH FOCAL``, where DEPTH is None for the
45 of 697 test pictures that have none, and ``DRIVE NUMBER l|r``.
"""

from pathlib import Path

from ilora import images
from ilora.data.benchmarks import contents
from ilora.data.benchmarks.base import Benchmark, Card, Files, Stored

WORDS = {"train": "train", "validation": "val", "test": "test"}
PICTURES = ("", "raw", "raw_data", "kitti_raw")
DEPTHS = ("", "train", "val", "data_depth_annotated/train", "data_depth_annotated/val", "data_depth_annotated")
CAMERAS = {"l": "image_02", "r": "image_03"}
STEPS = 256  # of one metre
NONE = "None"  # in the place of depth that does not exist


class Kitti(Benchmark):
    """Depth of several laser scans, accumulated."""

    card = Card(
        title="KITTI, Eigen split",
        intrinsics=("depth",),
        splits=("train", "validation", "test"),
        units="metres times 256, 16 bits",
        axes="depth along the optical axis",
        invalid="0",
        licence="Creative Commons Attribution-NonCommercial-ShareAlike 3.0",
        home="www.cvlibs.net/datasets/kitti",
        layout="*eigen*test*.txt (and *train*, *val*) or test_files.txt; DATE/DRIVE/image_02/data/NUMBER.png (or in "
        "raw/); DRIVE/proj_depth/groundtruth/image_02/NUMBER.png (or in train/, val/ or data_depth_annotated/)",
    )

    def find(self) -> dict[str, Files]:
        """The pictures in the lists of the split that have depth."""
        found = {}
        for line in (line for part in self._lists() for line in contents.lines(part, "list of pictures")):
            picture, depth = _pair(line.split())
            if depth == NONE:
                continue
            drive, camera, _, file = Path(picture).parts[-4:]
            place = contents.first([self.path / root / picture for root in PICTURES])
            found[f"{drive}-{camera}-{Path(file).stem}"] = {
                "picture": contents.first([place, place.with_suffix(".jpg")]),
                "depth": contents.first([self.path / root / depth for root in DEPTHS]),
            }
        return found

    def read(self, name: str, files: Files) -> Stored:
        """Zero is a pixel without a measurement."""
        depth = images.read_map(files["depth"]).values / STEPS
        return Stored(images.read(files["picture"]), depth, depth > 0)

    def _lists(self) -> list[Path]:
        """The list of each split that is read; of all that there are for several.

        Raises:
            ValueError: there is none.
        """
        lists = []
        for part in self.parts:
            word = WORDS[part]
            lists += sorted([*self.path.glob(f"*eigen*{word}*.txt"), *self.path.glob(f"{word}_files*.txt")])[:1]
        if not lists:
            raise ValueError(
                f"{self.path} must hold a list of the pictures of {self.split!r}, got none; "
                f"expected: {self.card.layout}"
            )
        return lists


def _pair(words: list[str]) -> tuple[str, str]:
    """Places of picture and depth that a line of a list stands for.

    Raises:
        ValueError: the line is in neither form.
    """
    if len(words) >= 2 and Path(words[0]).suffix:
        return words[0].lstrip("/"), words[1].lstrip("/")
    if len(words) == 3 and words[1].isdigit() and words[2] in CAMERAS:
        folder, number, camera = words[0].strip("/"), f"{int(words[1]):010d}.png", CAMERAS[words[2]]
        drive = Path(folder).name
        return f"{folder}/{camera}/data/{number}", f"{drive}/proj_depth/groundtruth/{camera}/{number}"
    raise ValueError(
        f"a line must be PICTURE DEPTH FOCAL or DRIVE NUMBER l|r, got {' '.join(words)!r}; correct the list"
    )
