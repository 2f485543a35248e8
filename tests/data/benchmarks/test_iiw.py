"""IIW: which judgements count, where their points lie, and which photographs are for testing."""

import json
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from ilora.data import dataset
from ilora.data.base import Dataset
from ilora.data.benchmarks.iiw import IIW
from ilora.records import Judged
from tests.data.benchmarks import scene

POINTS = [
    {"id": 11, "x": 0.0, "y": 0.0, "opaque": True},
    {"id": 12, "x": 0.5, "y": 0.25, "opaque": True},
    {"id": 13, "x": 0.999, "y": 0.999, "opaque": True},
    {"id": 14, "x": 0.1, "y": 0.9, "opaque": False},
]
COMPARISONS = [
    {"point1": 11, "point2": 12, "darker": "1", "darker_score": 0.5},
    {"point1": 12, "point2": 13, "darker": "E", "darker_score": 1.25},
    {"point1": 13, "point2": 11, "darker": "2", "darker_score": 0.75},
    {"point1": 11, "point2": 14, "darker": "2", "darker_score": 1.0},  # not opaque
    {"point1": 11, "point2": 13, "darker": None, "darker_score": None},  # nobody answered
    {"point1": 12, "point2": 11, "darker": "1", "darker_score": 0.0},  # nobody was sure
]


def write(folder: Path, *numbers: int) -> Path:
    """Photographs with the judgements above."""
    for number in numbers:
        scene.save(folder / f"data/{number}.png", scene.noise(number))
        stored = {"intrinsic_points": POINTS, "intrinsic_comparisons": COMPARISONS}
        (folder / f"data/{number}.json").write_text(json.dumps(stored))
    return folder


def test_judgements_that_count(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="judgements and no maps"):
        data = dataset(f"iiw:{write(tmp_path, 7)}", intrinsic="albedo", split="test")
    example = data[0]
    assert isinstance(data, Dataset) and isinstance(example, Judged) and example.name == "7"
    assert not example.valid.any() and example.map.shape == example.image.shape
    found = example.judgements
    assert found.darker.tolist() == [1, 0, 2]
    assert_close(found.weight, torch.tensor([0.5, 1.25, 0.75]))
    assert_close(found.points[0], torch.tensor([[0.0, 0.0], [0.5, 0.25]]))
    assert found.pixels(48, 80).tolist() == [[[0, 0], [12, 40]], [[12, 40], [47, 79]], [[47, 79], [0, 0]]]


def test_every_fifth_by_number_is_for_testing(tmp_path: Path) -> None:
    write(tmp_path, 9, 10, 11, 101, 102, 103, 200)
    names = {split: IIW(tmp_path, intrinsic="albedo", split=split).names for split in ("train", "test", "all")}
    assert sorted(names["test"], key=int) == ["9", "103"]
    assert sorted([*names["train"], *names["test"]]) == sorted(names["all"]) and len(names["all"]) == 7


def test_no_judgements_are_no_rows(tmp_path: Path) -> None:
    write(tmp_path, 1)
    (tmp_path / "data/1.json").write_text('{"intrinsic_points": [], "intrinsic_comparisons": []}')
    found = IIW(tmp_path, intrinsic="albedo", split="all")[0].judgements
    assert found.points.shape == (0, 2, 2) and found.pixels(4, 4).shape == (0, 2, 2) and not len(found.darker)


@pytest.mark.parametrize("text", ["{", "[]", '{"intrinsic_points": [{"id": 1}], "intrinsic_comparisons": [{}]}'])
def test_other_files_are_refused(text: str, tmp_path: Path) -> None:
    write(tmp_path, 1)
    (tmp_path / "data/1.json").write_text(text)
    with pytest.raises(ValueError, match=r"1\.json must hold judgements of IIW"):
        IIW(tmp_path, intrinsic="albedo", split="all")[0]


def test_photographs_and_judgements_go_together(tmp_path: Path) -> None:
    write(tmp_path, 1, 2)
    (tmp_path / "data/2.png").unlink()
    (tmp_path / "data/notes.json").write_text("{}")
    with pytest.raises(ValueError, match=r"data/2\.png: the picture of 2 is missing"), pytest.warns(UserWarning):
        dataset(f"iiw:{tmp_path}", intrinsic="albedo", split="all")
