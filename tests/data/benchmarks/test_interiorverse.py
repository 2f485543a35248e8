"""InteriorVerse: EXR files under a mask, and a unit of depth that is read off them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ilora.data import dataset
from ilora.data.benchmarks.interiorverse import InteriorVerse
from tests.data.benchmarks import scene

pytest.importorskip("OpenEXR", reason="EXR files need OpenEXR: pip install 'ilora[exr]'")
DEPTH = scene.planar()


def write(folder: Path, name: str = "L3D1", *, unit: float = 1.0, mask: str | None = "exr") -> Path:
    """One view; (0, 0) is masked out, (1, 1) is NaN, (2, 2) has no normal."""
    covered, depth, normal = np.ones(DEPTH.shape), DEPTH * unit, 3 * scene.normals()
    covered[0, 0], depth[1, 1], normal[1, 1], normal[2, 2] = 0, np.nan, np.nan, 0
    light = np.full((*DEPTH.shape, 3), 0.5)
    light[3, 3] = 7  # burnt out
    maps = {"im": light, "albedo": np.full_like(light, 0.25), "depth": np.dstack([depth] * 3), "normal": normal}
    for kind, values in maps.items():
        scene.save(folder / name / f"000_{kind}.exr", values)
    if mask == "exr":
        scene.save(folder / name / "000_mask.exr", np.dstack([covered] * 3))
    elif mask == "png":
        scene.save(folder / name / "000_mask.png", (255 * covered).astype(np.uint8))
    return folder


@pytest.mark.parametrize(("unit", "mask"), [(1.0, "exr"), (1000.0, "png")])
def test_depth_in_metres_or_millimetres(unit: float, mask: str, tmp_path: Path) -> None:
    data = dataset(f"interiorverse:{write(tmp_path, unit=unit, mask=mask)}", intrinsic="depth", split="all")
    assert data.names == ["L3D1-000"]
    example = data[0]
    assert (~example.valid).nonzero().tolist() == [[0, 0, 0], [0, 1, 1]]
    assert_close(example.map[example.valid], torch.from_numpy(DEPTH).float()[example.valid[0]])


def test_normals_of_unit_length_and_a_floor_that_points_up(tmp_path: Path) -> None:
    example = InteriorVerse(write(tmp_path), intrinsic="normal", split="all")[0]
    assert (~example.valid).nonzero().tolist() == [[0, 0, 0], [0, 1, 1], [0, 2, 2]]
    floor = torch.from_numpy(scene.NORMAL).float()[:, None]
    assert_close(example.map[:, example.valid[0]], floor.expand(-1, DEPTH.size - 3))


def test_albedo_is_light_and_the_picture_its_code(tmp_path: Path) -> None:
    example = InteriorVerse(write(tmp_path, mask=None), intrinsic="albedo", split="all")[0]
    assert bool(example.valid.all())
    assert_close(example.map, torch.full_like(example.map, 0.25))
    assert_close(example.image[:, 5, 5], torch.full((3,), 2 * 0.735357 - 1), atol=1e-4, rtol=0)  # sRGB of 0.5
    assert_close(example.image[:, 3, 3], torch.ones(3))


def test_lists_make_the_splits_of_each_part(tmp_path: Path) -> None:
    for part, name in (("scenes_85", "a"), ("scenes_120", "b")):
        write(tmp_path / part, name)
    (tmp_path / "scenes_85/test.txt").write_text("a\nabsent\n")
    (tmp_path / "test.txt").write_text("b\n")
    assert InteriorVerse(tmp_path, intrinsic="albedo", split="test").names == ["a-000", "b-000"]
    with pytest.raises(ValueError, match="list of the scenes of train must exist"):
        InteriorVerse(tmp_path, intrinsic="albedo")
    (tmp_path / "scenes_85/a/000_albedo.exr").unlink()
    with pytest.raises(ValueError, match="the albedo of a-000 is missing"):
        dataset(f"interiorverse:{tmp_path}", intrinsic="albedo", split="test")
