"""The evaluation normals of DSINE: integers in which black is nothing, floats, and an x axis to the left."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ilora.data import dataset
from ilora.data.benchmarks.dsine import DsineNormals
from tests.data.benchmarks import scene, test_oasis

STORED = scene.normals() * (-1, 1, 1)  # LUB
FLOOR = torch.from_numpy(scene.NORMAL).float()[:, None]


@pytest.mark.parametrize(("kind", "tolerance"), [(np.uint8, 6e-3), (np.uint16, 3e-5)])
def test_integers(kind: type, tolerance: float, tmp_path: Path) -> None:
    code = ((STORED + 1) / 2 * np.iinfo(kind).max).round().astype(kind)
    code[0, 0] = 0
    scene.save(tmp_path / "nyuv2/test/000000_img.png", scene.noise())
    scene.save(tmp_path / "nyuv2/test/000000_normal.png", code)
    data = dataset(f"dsine:{tmp_path}", intrinsic="normal", split="test")
    assert data.names == ["nyuv2-test-000000"]
    assert (~data[0].valid).nonzero().tolist() == [[0, 0, 0]]
    found = data[0].map[:, data[0].valid[0]]
    assert_close(found, FLOOR.expand_as(found), atol=tolerance, rtol=0)


def test_floats(tmp_path: Path) -> None:
    pytest.importorskip("OpenEXR", reason="EXR files need OpenEXR: pip install 'ilora[exr]'")
    normal = STORED.copy()
    normal[3, 4] = 0.1
    scene.save(tmp_path / "corridor_01_img.jpg", scene.noise())
    scene.save(tmp_path / "corridor_01_normal.exr", normal)
    example = DsineNormals(tmp_path, intrinsic="normal", split="test")[0]
    assert example.name == "corridor_01" and (~example.valid).nonzero().tolist() == [[0, 3, 4]]
    found = example.map[:, example.valid[0]]
    assert_close(found, FLOOR.expand_as(found))


def test_annotations_of_oasis_keep_their_own_axes(tmp_path: Path) -> None:
    scene.save(tmp_path / "oasis/val/100277_DT_img.png", scene.noise())
    (tmp_path / "oasis/val/100277_DT_normal.pkl").write_bytes(pickle.dumps(test_oasis.region()))
    example = DsineNormals(tmp_path / "oasis", intrinsic="normal", split="test")[0]
    found = example.map[:, example.valid[0]]
    assert example.name == "val-100277_DT" and found.shape[1] == test_oasis.ROWS * test_oasis.COLUMNS - 1
    assert_close(found, FLOOR.expand_as(found))


def test_pictures_without_normals_are_missing(tmp_path: Path) -> None:
    scene.save(tmp_path / "test/000000_img.png", scene.noise())
    with pytest.raises(ValueError, match=r"test/000000_normal\.png: the normals of test-000000"):
        dataset(f"dsine:{tmp_path}", intrinsic="normal", split="test")
