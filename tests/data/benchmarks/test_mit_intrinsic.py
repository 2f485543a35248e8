"""MIT intrinsic images: linear files of 16 bits whose product is the picture, around masked objects."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ilora.data import dataset
from ilora.data.benchmarks.mit_intrinsic import OBJECTS, MITIntrinsic
from tests.data.benchmarks import scene


def write(folder: Path, name: str = "apple") -> Path:
    """diffuse = 0.8 * reflectance * shading, with shading stored at its own scale."""
    rng = np.random.default_rng(3)
    reflectance, shading = rng.uniform(0.1, 0.9, (6, 9, 3)), rng.uniform(0.1, 0.9, (6, 9))
    mask = np.full((6, 9), 255, np.uint8)
    mask[:, :2] = 0
    files = {"diffuse": 0.8 * reflectance * shading[..., None], "reflectance": reflectance, "shading": shading}
    for role, values in files.items():
        scene.save(folder / f"data/{name}/{role}.png", (65535 * values).round().astype(np.uint16))
    scene.save(folder / f"data/{name}/mask.png", mask)
    return folder


def test_the_picture_is_albedo_times_shading(tmp_path: Path) -> None:
    albedo, shading = (MITIntrinsic(write(tmp_path), intrinsic=name)[0] for name in ("albedo", "shading"))
    assert albedo.name == "apple"
    assert not albedo.valid[..., :2].any() and albedo.valid[..., 2:].all()
    code = (albedo.image + 1) / 2
    light = torch.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    assert_close((albedo.map * shading.map)[..., 2:], light[..., 2:], atol=1e-4, rtol=0)
    truth = torch.from_numpy(np.random.default_rng(3).uniform(0.1, 0.9, (6, 9, 3))).float().permute(2, 0, 1)
    assert_close(albedo.map[..., 2:], truth[..., 2:], atol=1e-5, rtol=0)
    assert torch.equal(shading.map[0], shading.map[2])


def test_splits_by_objects_and_missing_files(tmp_path: Path) -> None:
    for name in ("apple", "cup2", "my-own"):
        write(tmp_path, name)
    names = {split: MITIntrinsic(tmp_path, intrinsic="albedo", split=split).names for split in ("train", "test", "all")}
    assert names == {"train": ["apple"], "test": ["cup2"], "all": ["apple", "cup2", "my-own"]}
    assert len({*OBJECTS["train"], *OBJECTS["test"]}) == 20
    with pytest.raises(ValueError, match=r"9 of the 10 examples .* lack files"):
        dataset(f"mit-intrinsic:{tmp_path}", intrinsic="albedo")
    (tmp_path / "data/apple/shading.png").unlink()
    with pytest.raises(ValueError, match=r"data/apple/shading.png: the shading of apple is missing"):
        dataset(f"mit-intrinsic:{tmp_path}", intrinsic="albedo", split="all")


def test_sizes_must_be_equal(tmp_path: Path) -> None:
    write(tmp_path)
    scene.save(tmp_path / "data/apple/mask.png", np.full((6, 8), 255, np.uint8))
    with pytest.raises(ValueError, match=r"picture, map and mask of apple .* got 9 x 6, 9 x 6, 8 x 6 px"):
        MITIntrinsic(tmp_path, intrinsic="albedo")[0]
