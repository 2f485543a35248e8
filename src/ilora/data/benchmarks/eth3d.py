"""ETH3D, high-resolution multi-view: photographs with the depth of a laser scanner.

Depth is a dump of floats under the name of its photograph, ``.JPG`` included. It belongs to the photographs as they
were taken (``dslr_images``), not to the undistorted ones, which are of another size.
"""

from pathlib import Path

from ilora import images
from ilora.data.benchmarks import contents
from ilora.data.benchmarks.base import Benchmark, Card, Files, Stored

PICTURES, DEPTHS = "images/dslr_images", "ground_truth_depth/dslr_images"


class ETH3D(Benchmark):
    """Depth rendered from the scan; the sky and what the scanner did not see are infinite."""

    card = Card(
        title="ETH3D high-resolution multi-view",
        intrinsics=("depth",),
        splits=("test",),
        units="metres, 32-bit floats, row by row, without a header",
        axes="depth along the optical axis",
        invalid="infinity",
        licence="Creative Commons Attribution-NonCommercial-ShareAlike 4.0",
        home="www.eth3d.net",
        layout=f"SCENE/{PICTURES}/NAME.JPG (of SCENE_dslr_jpg) and SCENE/{DEPTHS}/NAME.JPG (of SCENE_dslr_depth), in "
        "one folder or in several; the published training scenes are what benchmarks test on",
    )

    def find(self) -> dict[str, Files]:
        """Photographs and depth of the same scene and name, wherever they were unpacked."""
        pictures, depths = (self._by_name(place) for place in (PICTURES, DEPTHS))
        return {
            name: {
                "picture": pictures.get(name, self.path / _place(name, PICTURES)),
                "depth": depths.get(name, self.path / _place(name, DEPTHS)),
            }
            for name in pictures.keys() | depths.keys()
        }

    def read(self, name: str, files: Files) -> Stored:
        """As many floats as the photograph has pixels."""
        image = images.read(files["picture"])
        depth = contents.floats(files["depth"], *image.shape[1:])
        return Stored(image, depth, depth.isfinite())

    def _by_name(self, place: str) -> dict[str, Path]:
        """Files in every folder ``place``, by scene and name."""
        files = [path for path in self.path.rglob(f"{place}/*") if path.suffix.lower() == ".jpg"]
        return {f"{path.parents[2].name}-{path.stem}": path for path in files}


def _place(name: str, folder: str) -> str:
    """Where the file of an example is expected."""
    scene, _, stem = name.partition("-")
    return f"{scene}/{folder}/{stem}.JPG"
