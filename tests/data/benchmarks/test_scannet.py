"""ScanNet: millimetres, pictures larger than depth, and splits by lists of scans."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ilora.data import dataset
from ilora.data.benchmarks.scannet import ScanNet
from tests.data.benchmarks import scene

DEPTH = scene.planar()


def write(folder: Path, scan: str, *numbers: int) -> Path:
    """Frames of a scan; grey pictures of twice the size of the depth, darker in the upper half."""
    millimetres = (1000 * DEPTH).round().astype(np.uint16)
    millimetres[5, 6] = 0
    picture = np.full((2 * scene.HEIGHT, 2 * scene.WIDTH, 3), 200, np.uint8)
    picture[: scene.HEIGHT] = 50
    for number in numbers:
        scene.save(folder / f"scans/{scan}/color/{number}.png", picture)
        scene.save(folder / f"scans/{scan}/depth/{number}.png", millimetres)
    return folder


def test_depth_in_metres_beside_a_picture_of_its_size(tmp_path: Path) -> None:
    data = ScanNet(write(tmp_path, "scene0707_00", 0, 20, 100), intrinsic="depth", split="all")
    assert data.names == ["scene0707_00-000000", "scene0707_00-000020", "scene0707_00-000100"]
    example = data[1]
    assert example.image.shape == (3, scene.HEIGHT, scene.WIDTH) and example.map.shape == (1, scene.HEIGHT, scene.WIDTH)
    assert_close(example.image[:, 0], torch.full((3, scene.WIDTH), 50 / 127.5 - 1))
    assert_close(example.image[:, -1], torch.full((3, scene.WIDTH), 200 / 127.5 - 1))
    assert (~example.valid).nonzero().tolist() == [[0, 5, 6]]
    wanted = torch.from_numpy(DEPTH).float()[example.valid[0]]
    assert_close(example.map[example.valid], wanted, atol=6e-4, rtol=0)


def test_lists_make_the_splits(tmp_path: Path) -> None:
    for scan in ("scene0000_00", "scene0001_00", "scene0707_00"):
        write(tmp_path, scan, 0)
    (tmp_path / "scannetv2_train.txt").write_text("scene0000_00\nscene0009_00\n\n")
    (tmp_path / "scannetv2_val.txt").write_text("scene0001_00\n")
    names = [ScanNet(tmp_path, intrinsic="depth", split=split).names for split in ("train", "validation")]
    assert names == [["scene0000_00-000000"], ["scene0001_00-000000"]]
    with pytest.raises(ValueError, match=r"list of the scans of test must exist.*scannetv2_test.txt"):
        ScanNet(tmp_path, intrinsic="depth", split="test")


def test_frames_without_depth_or_picture_are_missing(tmp_path: Path) -> None:
    scan = write(tmp_path, "scene0707_00", 0, 1, 2) / "scans/scene0707_00"
    (scan / "depth/1.png").unlink()
    (scan / "color/2.png").unlink()
    data = ScanNet(tmp_path, intrinsic="depth", split="all")
    assert data.names == ["scene0707_00-000000"]
    assert [problem.file for problem in data.missing] == [
        "scans/scene0707_00/depth/1.png",
        "scans/scene0707_00/color/2.jpg",
    ]
    with pytest.warns(UserWarning, match="2 of the 3 examples"):
        assert len(dataset(f"scannet:{tmp_path}", intrinsic="depth", split="all", on_problem="skip")) == 1
