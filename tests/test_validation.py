"""Validation of a finished fit: the mean over what can be read, which is encoded first and read again to be scored; no
damaged file costs the adapter."""

import shutil
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from ilora.adapters import file
from ilora.data import dataset
from ilora.data.base import Dataset
from ilora.data.transforms import square
from ilora.fit import fit
from ilora.generators import load
from ilora.intrinsics import intrinsic
from ilora.presets import preset
from ilora.records import Example
from ilora.run import Run
from ilora.validation import encoded, painted, validate
from tests import world
from tests.data.benchmarks import test_diode


class Damaged:
    """A data set, some of whose examples cannot be read; it notes which ones were asked for."""

    def __init__(self, whole: Dataset, *damaged: str) -> None:
        self.whole, self.damaged, self.asked = whole, damaged, list[str]()
        self.names, self.fingerprint = whole.names, whole.fingerprint

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Example:
        self.asked.append(self.names[index])
        if self.names[index] in self.damaged:
            raise ValueError(f"{self.names[index]}.png cannot be read;\nleave it out")
        return self.whole[index]


def test_what_cannot_be_read_is_left_out_of_the_mean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = world.write(tmp_path / "world", train=4, test=1)  # no validation split: the labels stand in
    whole, kind, generator = dataset(str(place), intrinsic="normal"), intrinsic("normal"), load("toy")
    config = preset("default", generator="toy", data=str(place))
    some, sheet = Damaged(whole, "train1"), tmp_path / "sheet.png"
    codes = encoded(generator, config, {"normal": some})
    scores = validate(generator, config, {"normal": some}, codes=codes, sheet=sheet)
    errors = []
    for given in (whole[0], whole[2], whole[3]):
        example = square(given, kind, side=generator.resolution)
        found = painted(generator, kind, generator.encode(example.image[None]))
        errors.append(kind.metrics(found, example.map[None], example.valid[None])["mean_angle"])
    assert (scores["split"], scores["images"]) == ("train", 3)
    assert_close(torch.tensor(scores["mean_angle"]), torch.cat(errors).mean())
    assert some.asked == [*whole.names, "train0", "train2", "train3"] and sheet.is_file()  # to encode, and to score
    told = "train1 is left out of the validation: train1.png cannot be read; leave it out\n"
    assert capsys.readouterr().err == told

    none, sheet = Damaged(whole, *whole.names), tmp_path / "none.png"
    codes = encoded(generator, config, {"normal": none})
    scores = validate(generator, config, {"normal": none}, codes=codes, sheet=sheet)
    assert scores == {"split": "train", "images": 0, "mean_angle": None}
    assert not sheet.exists()


def test_a_damaged_validation_picture_does_not_cost_the_adapter(tmp_path: Path) -> None:
    place = test_diode.write(tmp_path / "diode")  # a published data set, whose files nobody reads in advance
    shutil.copytree(place / "val", place / "train")
    (picture,) = (place / "val").rglob("*_000.png")
    picture.write_bytes(picture.read_bytes()[:50])
    fields = {"generator": "toy", "data": f"diode:{place}", "intrinsic": "depth", "steps": 1, "batch": 2, "rank": 2}
    run = Run(fit(preset("default", **fields), tmp_path / "run", device="cpu"))
    scores = file.read(run.path)[1].scores
    assert (scores["split"], scores["images"], scores["abs_rel"]) == ("validation", 0, None)
    assert not run.sheet.exists()
