"""MIT intrinsic images: twenty painted objects, photographed with and without gloss, with reflectance and shading.

All files are linear light. The picture is the diffuse one, so picture = albedo * shading; the shading, which is known
up to a factor, is given the one for which this holds best.
"""

from jaxtyping import Bool, Float
from torch import Tensor

from ilora import images
from ilora.data.benchmarks import contents
from ilora.data.benchmarks.base import Benchmark, Card, Files, Stored

ROLES = ("diffuse", "reflectance", "shading", "mask")
# The split by objects of Barron and Malik 2015, *Shape, illumination, and reflectance from shading*.
OBJECTS = {
    "train": ["apple", "box", "cup1", "dinosaur", "frog1", "panther", "paper1", "phone", "squirrel", "teabag2"],
    "test": ["cup2", "deer", "frog2", "paper2", "pear", "potato", "raccoon", "sun", "teabag1", "turtle"],
}


class MITIntrinsic(Benchmark):
    """Albedo and shading of the diffuse picture of each object."""

    card = Card(
        title="MIT intrinsic images",
        intrinsics=("albedo", "shading"),
        splits=("train", "test"),
        units="linear light, 16 bits; shading is grey",
        axes="none",
        invalid="0 in mask.png, around the object",
        licence="see the data set's page",
        home="the intrinsic images page of Roger Grosse",
        layout="[data/]OBJECT/diffuse.png with reflectance.png, shading.png and mask.png",
    )

    def find(self) -> dict[str, Files]:
        """The split's objects; every folder with one of the files for "all"."""
        root = contents.first([self.path / "data", self.path])
        there = sorted({path.parent.name for role in ROLES for path in root.glob(f"*/{role}.png")})
        wanted = OBJECTS.get(self.split, there)
        return {name: {role: root / name / f"{role}.png" for role in ROLES} for name in wanted if there}

    def read(self, name: str, files: Files) -> Stored:
        """On the object only."""
        light, albedo, shading = (contents.share(files[role]) for role in ROLES[:3])
        valid = (images.read_map(files["mask"]).values > 0).any(0, keepdim=True)
        map = {"albedo": lambda: albedo, "shading": lambda: shading * _factor(albedo * shading, light, valid)}
        return Stored(contents.picture(light), map[self.intrinsic](), valid)


def _factor(product: Float[Tensor, "3 h w"], light: Float[Tensor, "3 h w"], valid: Bool[Tensor, "1 h w"]) -> float:
    """By which ``product`` comes nearest to ``light``, by least squares; 1 where there is none."""
    energy = float((product.square() * valid).sum())
    return float((product * light * valid).sum()) / energy if energy > 0 else 1.0
