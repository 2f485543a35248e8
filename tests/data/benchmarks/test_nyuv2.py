"""NYUv2 from its MATLAB file, whose arrays are in reversed order, and from the forms it is extracted to."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torch.testing import assert_close

from ilora import images
from ilora.data import dataset
from ilora.data.benchmarks.nyuv2 import NYUv2
from tests.data.benchmarks import scene

DEPTH = scene.planar().astype(np.float32)


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Three frames; the second has a hole that the filled depth does not have."""
    raw = np.stack([DEPTH, 2 * DEPTH, 3 * DEPTH])
    raw[1, 3, 7] = 0
    frames = np.stack([scene.noise(seed) for seed in range(3)])
    stored = {"images": frames.transpose(0, 3, 2, 1), "rawDepths": raw.mT, "depths": np.full_like(raw, 9).mT}
    scene.hdf5(tmp_path / "nyu_depth_v2_labeled.mat", **stored)
    savemat(tmp_path / "splits.mat", {"trainNdxs": [[1], [3]], "testNdxs": [[2]]})
    return tmp_path


def test_the_matlab_file_is_turned_and_its_holes_are_not_valid(labelled: Path) -> None:
    data = dataset(f"nyuv2:{labelled}", intrinsic="depth", split="test")
    assert data.names == ["0002"] and len(data) == 1
    image, map, valid = data[0].image, data[0].map, data[0].valid
    assert_close(image, torch.from_numpy(scene.noise(1)).permute(2, 0, 1) / 127.5 - 1)
    assert (~valid).nonzero().tolist() == [[0, 3, 7]] and float(map[0, 3, 7]) == 0
    assert_close(map[valid], torch.from_numpy(2 * DEPTH)[valid[0]])


def test_splits_count_from_one_and_need_their_list(labelled: Path) -> None:
    assert NYUv2(labelled, intrinsic="depth", split="train").names == ["0001", "0003"]
    file = labelled / "nyu_depth_v2_labeled.mat"
    assert NYUv2(file, intrinsic="depth", split="all").names == ["0001", "0002", "0003"]
    (labelled / "splits.mat").unlink()
    assert len(NYUv2(labelled, intrinsic="depth", split="all")) == 3
    with pytest.raises(ValueError, match=r"splits\.mat"):
        NYUv2(labelled, intrinsic="depth", split="test")


def test_filled_depth_is_read_where_there_is_no_other(tmp_path: Path) -> None:
    stored = {"images": scene.noise()[None].transpose(0, 3, 2, 1), "depths": DEPTH[None].mT}
    scene.hdf5(tmp_path / "nyu_depth_v2_labeled.mat", **stored)
    example = NYUv2(tmp_path, intrinsic="depth", split="all")[0]
    assert bool(example.valid.all())
    assert_close(example.map, torch.from_numpy(DEPTH)[None])


@pytest.mark.parametrize(("depth", "suffix"), [("sync_depth", "jpg"), ("depth", "png")])
def test_extracted_frames_are_in_millimetres(depth: str, suffix: str, tmp_path: Path) -> None:
    millimetres = (1000 * DEPTH).round().astype(np.uint16)
    millimetres[0, 0] = 0
    picture = scene.save(tmp_path / f"official_splits/test/bathroom/rgb_00045.{suffix}", scene.noise())
    scene.save(picture.with_name(f"{depth}_00045.png"), millimetres)
    scene.save(tmp_path / "official_splits/train/study/rgb_00001.jpg", scene.noise())
    data = dataset(f"nyuv2:{tmp_path}", intrinsic="depth", split="test")
    assert data.names == ["bathroom-00045"]
    assert torch.equal(data[0].image, images.read(picture))
    assert not data[0].valid[0, 0, 0] and int(data[0].valid.sum()) == DEPTH.size - 1
    assert_close(data[0].map[data[0].valid], torch.from_numpy(DEPTH)[data[0].valid[0]], atol=6e-4, rtol=0)
    with pytest.raises(ValueError, match=r"train/study/sync_depth_00001.png: the depth of study-00001 is missing"):
        dataset(f"nyuv2:{tmp_path}", intrinsic="depth", split="train")
