"""iBims-1: a structure in a MATLAB file, of which two masks say what counts."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torch.testing import assert_close

from ilora.data.benchmarks.ibims1 import Ibims1
from tests.data.benchmarks import scene

DEPTH = scene.planar()


def write(path: Path) -> Path:
    """A hole at (0, 0), an invalid pixel at (1, 1), a transparent one at (2, 2)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    depth, invalid, transparent = DEPTH.copy(), np.ones(DEPTH.shape, np.uint8), np.ones(DEPTH.shape, np.uint8)
    depth[0, 0], invalid[1, 1], transparent[2, 2] = 0, 0, 0
    stored = {"rgb": scene.noise(), "depth": depth, "mask_invalid": invalid, "mask_transp": transparent}
    savemat(path, {"data": stored | {"calib": np.array([[550, 0, 0], [0, 550, 0], [320, 240, 1]])}})
    return path


def test_depth_under_both_masks(tmp_path: Path) -> None:
    write(tmp_path / "ibims1_core_mat/corridor_01.mat")
    example = Ibims1(tmp_path, intrinsic="depth", split="test")[0]
    assert example.name == "corridor_01"
    assert_close(example.image, torch.from_numpy(scene.noise()).permute(2, 0, 1) / 127.5 - 1)
    assert (~example.valid).nonzero().tolist() == [[0, 0, 0], [0, 1, 1], [0, 2, 2]]
    assert_close(example.map[example.valid], torch.from_numpy(DEPTH).float()[example.valid[0]])


def test_the_list_says_what_should_be_there(tmp_path: Path) -> None:
    write(tmp_path / "b.mat")
    assert Ibims1(tmp_path, intrinsic="depth", split="test").names == ["b"]
    (tmp_path / "imagelist.txt").write_text("a\nb\n")
    data = Ibims1(tmp_path, intrinsic="depth", split="test")
    assert data.names == ["b"]
    assert [str(problem) for problem in data.missing] == [
        "a.mat: the labelled file of a is missing; download or unpack it again"
    ]


def test_other_files_are_refused(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"data": {"rgb": scene.noise()}})
    (tmp_path / "b.mat").write_bytes(b"MATLAB, but cut short")
    data = Ibims1(tmp_path, intrinsic="depth", split="test")
    with pytest.raises(ValueError, match="must hold data with rgb, depth"):
        data[0]
    with pytest.raises(ValueError, match=r"b\.mat cannot be read"):
        data[1]
    with pytest.raises(ValueError, match="split of iBims-1 must be one of test, all, got 'train'"):
        Ibims1(tmp_path, intrinsic="depth")
