"""ScanNet: indoor videos of a depth sensor on a tablet, exported by its own reader into a folder a scan.

Pictures (1296 x 968 px) are larger than depth (640 x 480 px); they are averaged to the size of the depth, as is usual.
"""

from pathlib import Path

from ilora import images
from ilora.data.benchmarks import contents
from ilora.data.benchmarks.base import Benchmark, Card, Files, Stored
from ilora.ops import resample

LISTS = {"train": "scannetv2_train.txt", "validation": "scannetv2_val.txt", "test": "scannetv2_test.txt"}
PLACES = ("", "scans", "scans_test")
METRES = 1e-3  # of one unit


class ScanNet(Benchmark):
    """Depth of the sensor."""

    card = Card(
        title="ScanNet v2",
        intrinsics=("depth",),
        splits=("train", "validation", "test"),
        units="millimetres, 16 bits",
        axes="depth along the optical axis",
        invalid="0",
        licence="ScanNet Terms of Use, for research, by an agreement that is signed",
        home="www.scan-net.org",
        layout="[scans/ or scans_test/]sceneNNNN_NN/color/N.jpg with depth/N.png; scannetv2_train.txt, "
        "scannetv2_val.txt and scannetv2_test.txt, lists of scans, beside them",
    )

    def find(self) -> dict[str, Files]:
        """Frames of the scans that the split's lists name; of all scans for "all"."""
        scans = {path.name: path for place in PLACES for path in sorted((self.path / place).glob("scene*_*"))}
        if self.split in LISTS:
            listed = contents.lines(self.path / LISTS[self.split], f"list of the scans of {self.split}")
            scans = {name: scans[name] for name in listed if name in scans}
        return {
            f"{name}-{int(number):06d}": files
            for name, scan in scans.items()
            for number, files in _frames(scan).items()
            if number.isdigit()
        }

    def read(self, name: str, files: Files) -> Stored:
        """Zero is a hole."""
        depth = images.read_map(files["depth"]).values * METRES
        image = resample.resize(images.read(files["picture"])[None], *depth.shape[1:])[0]
        return Stored(image.clamp(-1, 1), depth, depth > 0)


def _frames(scan: Path) -> dict[str, Files]:
    """Numbers that have a picture or depth, with the files of each."""
    pictures = {path.stem: path for path in (scan / "color").glob("*.*")}
    depths = {path.stem: path for path in (scan / "depth").glob("*.png")}
    return {
        number: {
            "picture": pictures.get(number, scan / "color" / f"{number}.jpg"),
            "depth": depths.get(number, scan / "depth" / f"{number}.png"),
        }
        for number in pictures.keys() | depths.keys()
    }
