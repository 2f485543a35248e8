"""KITTI: depth in 256ths of a metre, and lists in the two forms that are in use."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ilora.data import dataset
from ilora.data.benchmarks.kitti import Kitti
from tests.data.benchmarks import scene

DEPTH = 10 * scene.planar()
DATE, DRIVE = "2011_09_26", "2011_09_26_drive_0002_sync"
LINE = f"{DATE}/{DRIVE}/image_02/data/{{0}} {DRIVE}/proj_depth/groundtruth/image_02/{{0}} 721.5377\n"


def write(folder: Path, *, pictures: str = "", depths: str = "", number: int = 69) -> Path:
    """One frame with sparse depth."""
    steps = (256 * DEPTH).round().astype(np.uint16)
    steps[: scene.HEIGHT // 2] = 0
    name = f"{number:010d}.png"
    scene.save(folder / pictures / DATE / DRIVE / "image_02/data" / name, scene.noise(number))
    scene.save(folder / depths / DRIVE / "proj_depth/groundtruth/image_02" / name, steps)
    return folder


def test_depth_in_metres_where_the_laser_hit(tmp_path: Path) -> None:
    write(tmp_path)
    none = f"{DATE}/{DRIVE}/image_02/data/0000000007.png None 721.5377\n"
    (tmp_path / "eigen_test_files_with_gt.txt").write_text(LINE.format("0000000069.png") + none)
    data = dataset(f"kitti:{tmp_path}", intrinsic="depth", split="test")
    assert data.names == [f"{DRIVE}-image_02-0000000069"]
    example = data[0]
    assert not example.valid[:, : scene.HEIGHT // 2].any() and example.valid[:, scene.HEIGHT // 2 :].all()
    wanted = torch.from_numpy(DEPTH).float()[example.valid[0]]
    assert_close(example.map[example.valid], wanted, atol=1 / 512 + 1e-4, rtol=0)


@pytest.mark.parametrize("depths", ["val", "data_depth_annotated/train"])
def test_lists_by_drive_and_number_in_the_official_folders(depths: str, tmp_path: Path) -> None:
    write(tmp_path, pictures="raw", depths=depths, number=69)
    (tmp_path / "test_files.txt").write_text(f"{DATE}/{DRIVE} 69 l\n")
    data = Kitti(tmp_path, intrinsic="depth", split="test")
    assert data.names == [f"{DRIVE}-image_02-0000000069"] and bool(data[0].valid.any())


def test_each_split_has_its_list(tmp_path: Path) -> None:
    for number in (1, 2):
        write(tmp_path, number=number)
    (tmp_path / "kitti_eigen_train.txt").write_text(LINE.format("0000000001.png"))
    (tmp_path / "kitti_eigen_test.txt").write_text(LINE.format("0000000002.png"))
    names = {split: Kitti(tmp_path, intrinsic="depth", split=split).names for split in ("train", "test", "all")}
    assert names["train"] + names["test"] == names["all"] and len(names["all"]) == 2
    with pytest.raises(ValueError, match="must hold a list of the pictures of 'validation'"):
        Kitti(tmp_path, intrinsic="depth", split="validation")


def test_what_a_list_names_must_be_there(tmp_path: Path) -> None:
    write(tmp_path)
    listing = tmp_path / "eigen_test_files.txt"
    listing.write_text(LINE.format("0000000069.png") + LINE.format("0000000070.png"))
    with pytest.raises(ValueError, match=r"1 of the 2 examples .*\n.*image_02/data/0000000070.*\n.*groundtruth"):
        dataset(f"kitti:{tmp_path}", intrinsic="depth", split="test")
    listing.write_text("not a line of it at all\n")
    with pytest.raises(ValueError, match="a line must be PICTURE DEPTH FOCAL or DRIVE NUMBER"):
        Kitti(tmp_path, intrinsic="depth", split="test")
