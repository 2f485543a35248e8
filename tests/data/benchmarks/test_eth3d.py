"""ETH3D: depth as a dump of floats that is called .JPG, infinite where nothing was measured."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ilora.data import dataset
from ilora.data.benchmarks.eth3d import ETH3D
from tests.data.benchmarks import scene

DEPTH = scene.planar()


def write(pictures: Path, depths: Path, *, name: str = "DSC_0286.JPG") -> None:
    """A photograph and its depth, with sky and a zero."""
    depth = DEPTH.copy()
    depth[0], depth[1, 0] = np.inf, 0
    scene.save(pictures / "images/dslr_images" / name, scene.noise())
    scene.dump(depths / "ground_truth_depth/dslr_images" / name, depth)


def test_the_sky_is_not_valid(tmp_path: Path) -> None:
    write(tmp_path / "courtyard", tmp_path / "courtyard")
    data = dataset(f"eth3d:{tmp_path}", intrinsic="depth", split="test")
    assert data.names == ["courtyard-DSC_0286"]
    example = data[0]
    assert not example.valid[:, 0].any() and not example.valid[0, 1, 0] and bool(example.map.isfinite().all())
    assert int(example.valid.sum()) == (scene.HEIGHT - 1) * scene.WIDTH - 1
    assert_close(example.map[example.valid], torch.from_numpy(DEPTH).float()[example.valid[0]])


def test_both_downloads_may_lie_in_folders_of_their_own(tmp_path: Path) -> None:
    write(tmp_path / "rgb/courtyard", tmp_path / "depth/courtyard_dslr_depth/courtyard")
    data = ETH3D(tmp_path, intrinsic="depth", split="test")
    assert data.names == ["courtyard-DSC_0286"] and data[0].map.shape == (1, scene.HEIGHT, scene.WIDTH)


def test_depth_of_other_photographs_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "courtyard", tmp_path / "courtyard")
    undistorted = scene.noise(height=scene.HEIGHT - 1)
    scene.save(tmp_path / "courtyard/images/dslr_images/DSC_0286.JPG", undistorted)
    with pytest.raises(ValueError, match=r"must hold 3760 floats, one a pixel of 80 x 47, got 3840"):
        ETH3D(tmp_path, intrinsic="depth", split="test")[0]


def test_undistorted_photographs_do_not_count(tmp_path: Path) -> None:
    write(tmp_path / "courtyard", tmp_path / "courtyard")
    folder = tmp_path / "courtyard/images/dslr_images"
    folder.rename(folder.with_name("dslr_images_undistorted"))
    with pytest.raises(ValueError, match=r"courtyard/images/dslr_images/DSC_0286.JPG: the picture .* is missing"):
        dataset(f"eth3d:{tmp_path}", intrinsic="depth", split="test")
