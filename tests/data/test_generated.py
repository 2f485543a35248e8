"""A folder with codes hands them out, and says which are missing."""

from pathlib import Path

import pytest
import torch

from ilora.codes import encode, stored
from ilora.data import dataset, generated
from ilora.generators import load
from ilora.generators.toy import Toy
from ilora.intrinsics import intrinsic
from ilora.records import Code, Image, Painted
from tests import world


class Blind(Toy):
    """A generator that knows only the pictures it drew, as GANs do."""

    def encode(self, image: Image) -> Code:
        raise ValueError("this generator cannot encode")

    def target(self, image: Image) -> Code:
        return self.codec.encode(image)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two labelled pictures of 32 x 32 px with codes, and one of another generator's."""
    place = world.write(tmp_path / "world", train=3, test=0, square=True)
    fingerprint = load("toy").fingerprint
    for index in range(3):
        code = torch.full((48, 8, 8), float(index))
        painted = Painted(code, fingerprint if index < 2 else "another")
        generated.write(place, f"train{index}", painted, {"generator": "toy", "seed": index})
    return place


def test_codes_come_back_bit_for_bit(folder: Path) -> None:
    examples = dataset(str(folder), intrinsic="normal")
    for index in range(3):
        assert examples[index].painted.code.eq(index).all()
    assert [examples[index].painted.generator == "another" for index in range(3)] == [False, False, True]
    assert (folder / "codes/train1.safetensors").read_bytes() == (
        generated.write(folder, "train1", examples[1].painted, {"generator": "toy", "seed": 1}).read_bytes()
    )


def test_a_fit_learns_from_the_codes_that_the_generator_painted_from(folder: Path) -> None:
    generator, kind = load("toy"), intrinsic("normal")
    examples = dataset(str(folder), intrinsic="normal")
    records = encode(generator, kind, examples, mirrored=True)
    assert len(records.code) == 4  # a code has no mirror image; the third picture is encoded, twice
    assert records.code[0].eq(0).all() and records.code[1].eq(1).all()
    assert records.code[2].equal(generator.encode(examples[2].image[None])[0])


def test_a_generator_that_cannot_encode_learns_from_its_own_pictures(folder: Path) -> None:
    (folder / "images/train2.png").unlink()
    (folder / "normals/train2.npy").unlink()
    toy = load("toy")
    blind = Blind(toy.readout, "cpu", torch.float32)
    records = encode(blind, intrinsic("normal"), dataset(str(folder), intrinsic="normal"), mirrored=True)
    assert records.code.shape == (2, 48, 8, 8)


def test_only_the_whole_picture_belongs_to_its_code(folder: Path) -> None:
    example = dataset(str(folder), intrinsic="normal")[0]
    assert stored(load("toy"), example).shape == (1, 48, 8, 8)
    cut = {"image": example.image[..., :20], "map": example.map[..., :20], "valid": example.valid[..., :20]}
    assert stored(load("toy"), type(example)(name="cut", painted=example.painted, **cut)) is None


def test_missing_and_damaged_codes_are_listed_and_can_be_left_out(folder: Path) -> None:
    (folder / "codes/train0.safetensors").unlink()
    (folder / "codes/train1.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="2 of the examples in") as refused:
        dataset(str(folder), intrinsic="normal")
    assert "codes/train0.safetensors: there is no code of this picture; let ilora label paint it again" in str(
        refused.value
    )
    assert "codes/train1.safetensors: its code cannot be read" in str(refused.value)
    with pytest.warns(UserWarning, match="left out"):
        assert dataset(str(folder), intrinsic="normal", on_problem="skip").names == ["train2"]


def test_the_fingerprint_counts_the_codes(folder: Path) -> None:
    before = dataset(str(folder), intrinsic="normal").fingerprint
    generated.write(folder, "train0", Painted(torch.ones(48, 8, 8), "x"), {})
    assert dataset(str(folder), intrinsic="normal").fingerprint != before
