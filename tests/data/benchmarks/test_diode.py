"""DIODE: masks, NaN and the axes of its normals, which nothing but the data says."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ilora import images
from ilora.data import dataset
from ilora.data.benchmarks.diode import Diode, agreeing
from ilora.ops import geometry
from tests.data.benchmarks import scene

FOCAL = (886.81 * scene.WIDTH / 1024, 927.06 * scene.HEIGHT / 768)
DEPTH = scene.planar(*FOCAL).astype(np.float32)
SIGNS = {"RUB": (1, 1, 1), "RDF": (1, -1, -1), "LUB": (-1, 1, 1), "RDB": (1, -1, 1)}


def write(folder: Path, *, signs: tuple[int, int, int] = (1, 1, 1), normals: bool = True) -> Path:
    """One indoor example of the validation split, with a masked pixel, NaN and a normal that is not there."""
    stem = folder / "val/indoors/scene_00019/scan_00183/00019_00183_indoors_000_000"
    depth, mask, normal = DEPTH.copy(), np.ones_like(DEPTH), scene.normals() * signs
    mask[0, 1], depth[0, 2], depth[0, 1], normal[0, 3] = 0, np.nan, 77, 0
    scene.save(stem.with_suffix(".png"), scene.noise())
    scene.save(stem.with_name(f"{stem.name}_depth.npy"), depth[..., None])
    scene.save(stem.with_name(f"{stem.name}_depth_mask.npy"), mask)
    if normals:
        scene.save(stem.with_name(f"{stem.name}_normal.npy"), normal)
    return folder


def test_depth_is_under_its_mask_and_finite(tmp_path: Path) -> None:
    data = dataset(f"diode:{write(tmp_path)}", intrinsic="depth", split="validation")
    assert data.names == ["00019_00183_indoors_000_000"]
    example = data[0]
    assert (~example.valid).nonzero().tolist() == [[0, 0, 1], [0, 0, 2]]
    assert float(example.map[0, 0, 1:3].abs().sum()) == 0
    assert_close(example.map[example.valid], torch.from_numpy(DEPTH)[example.valid[0]])


@pytest.mark.parametrize("axes", SIGNS)
def test_a_floor_points_up_whatever_the_axes(axes: str, tmp_path: Path) -> None:
    data = Diode(write(tmp_path, signs=SIGNS[axes]), intrinsic="normal", split="validation")
    assert data.axes == axes
    example = data[0]
    assert (~example.valid).nonzero().tolist() == [[0, 0, 3]]
    floor = torch.from_numpy(scene.NORMAL).float()
    assert_close(example.map[:, example.valid[0]], floor[:, None].expand(-1, DEPTH.size - 1))


@pytest.mark.parametrize("axes", ["RUB", "RDF"])
def test_axes_are_read_off_frames_of_others(axes: str, real: Path) -> None:
    pytest.importorskip("OpenEXR", reason="EXR files need OpenEXR: pip install 'ilora[exr]'")
    folder = real / "cleargrasp/synthetic-val/square-plastic-bottle-val"  # normals RUB, 69.4 degrees wide
    files = ("depth-imgs-rectified/000000000-depth-rectified", "camera-normals/000000000-cameraNormals")
    depth, normal = (images.read_map(folder / f"{file}.exr").values[None, :, ::8, ::8] for file in files)
    height, width = depth.shape[-2:]
    focal = width / 2 / np.tan(np.radians(69.4 / 2))
    camera = torch.tensor([[[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]]).float()
    sure = geometry.smooth(depth[:, :1], depth[:, :1] > 0)
    found, error = agreeing(normal * torch.tensor(SIGNS[axes])[:, None, None], surface(depth, camera), sure)
    assert found == axes and error < 10


def surface(depth: torch.Tensor, camera: torch.Tensor) -> torch.Tensor:
    """Normals that the first channel describes."""
    return geometry.normals_from_depth(depth[:, :1], camera)


def test_normals_that_are_not_of_this_depth_are_refused(tmp_path: Path) -> None:
    stem = next(write(tmp_path).rglob("*_normal.npy"))
    scene.save(stem, np.roll(scene.normals(), 1, axis=-1)[..., [0, 2, 1]] * (9, 1, 1))
    with pytest.raises(ValueError, match="must agree in some axes"):
        Diode(tmp_path, intrinsic="normal", split="validation")[0]
    next(tmp_path.rglob("*_depth.npy")).unlink()
    with pytest.raises(ValueError, match="off which the axes of the normals are read"):
        Diode(tmp_path, intrinsic="normal", split="validation")[0]


def test_rough_depth_says_nothing_about_axes(tmp_path: Path) -> None:
    write(tmp_path)
    scene.save(next(tmp_path.rglob("*_depth.npy")), np.random.default_rng(0).uniform(1, 9, DEPTH.shape))
    with pytest.raises(ValueError, match="must show smooth surfaces"):
        Diode(tmp_path, intrinsic="normal", split="validation").axes  # noqa: B018


def test_missing_files_are_named(tmp_path: Path) -> None:
    write(tmp_path, normals=False)
    next(tmp_path.rglob("*_depth_mask.npy")).unlink()
    with pytest.raises(ValueError, match="the depth mask of 00019_00183_indoors_000_000 is missing"):
        dataset(f"diode:{tmp_path}", intrinsic="depth", split="validation")
    with pytest.raises(ValueError, match="the normal map of 00019_00183_indoors_000_000 is missing"):
        dataset(f"diode:{tmp_path}", intrinsic="normal", split="validation", on_problem="skip")
    with pytest.raises(ValueError, match=r"split 'train' of DIODE must have examples.*scene_\*/scan_\*"):
        dataset(f"diode:{tmp_path}", intrinsic="depth")
