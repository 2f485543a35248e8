"""Pictures that a generator paints, as files."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from ilora import images
from ilora.generators import load
from ilora.sample import sample


def test_a_picture_a_seed_and_a_sheet(tmp_path: Path) -> None:
    paths = sample("toy", tmp_path / "out", count=3, seed=5, device="cpu")
    assert [path.name for path in paths] == ["00005.png", "00006.png", "00007.png", "sheet.png"]
    assert sorted((tmp_path / "out").iterdir()) == sorted(paths)
    painted = load("toy").sample([6])[0][0].clamp(-1, 1)
    assert (images.read(paths[1]) - painted).abs().max() <= 1.001 / 255  # half a step of [-1, 1] in bytes
    assert Image.open(paths[1]).text["seed"] == "6"


def test_a_seed_gives_the_same_picture_in_any_group(tmp_path: Path) -> None:
    many = sample("toy", tmp_path / "many", count=9, device="cpu")
    alone = sample("toy", tmp_path / "alone", count=1, seed=8, device="cpu")
    assert torch.equal(images.read(many[8]), images.read(alone[0]))


def test_no_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="count must be a whole number of at least 1, got 0"):
        sample("toy", tmp_path / "out", count=0)
