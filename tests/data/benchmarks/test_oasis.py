"""OASIS: a region of normals in a pickle that is read as data, in axes whose y points down."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ilora.data import dataset
from ilora.data.benchmarks.oasis import Oasis
from tests.data.benchmarks import scene

TOP, LEFT, ROWS, COLUMNS = 20, 5, 6, 9
STORED = scene.NORMAL * (1, -1, 1)  # y down


def region(**changes: object) -> dict[str, object]:
    """An annotation; its first pixel was not drawn."""
    normal = np.broadcast_to(STORED, (ROWS, COLUMNS, 3)).copy()
    normal[0, 0] = 0
    sides = {"min_y": TOP, "max_y": np.int64(TOP + ROWS - 1), "min_x": LEFT, "max_x": LEFT + COLUMNS - 1}
    return {**sides, "normal": normal, **changes}


def write(folder: Path, stored: object = None, *, protocol: int = 2) -> Path:
    """One annotated photograph of the validation list, and one without normals."""
    scene.save(folder / "OASIS_trainval/image/17_abc.png", scene.noise())
    file = folder / "OASIS_trainval/normal/17_abc.pkl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps(region() if stored is None else stored, protocol=protocol))
    rows = ["Image,Mask,Depth,Normal", "./OASIS/OASIS_trainval/image/17_abc.png,,,/x/OASIS_trainval/normal/17_abc.pkl"]
    (folder / "OASIS_trainval/OASIS_val.csv").write_text("\n".join([*rows, "image/18.png,,,"]))
    return folder


@pytest.mark.parametrize("protocol", range(6))
def test_a_floor_points_up_inside_its_region(protocol: int, tmp_path: Path) -> None:
    data = dataset(f"oasis:{write(tmp_path, protocol=protocol)}", intrinsic="normal", split="validation")
    assert data.names == ["17_abc"]
    valid, map = data[0].valid[0], data[0].map
    inside = torch.zeros_like(valid)
    inside[TOP : TOP + ROWS, LEFT : LEFT + COLUMNS] = True
    inside[TOP, LEFT] = False
    assert torch.equal(valid, inside)
    floor = torch.from_numpy(scene.NORMAL).float()[:, None]
    assert_close(map[:, valid], floor.expand(-1, ROWS * COLUMNS - 1))
    assert float(map[:, ~valid].abs().sum()) == 0


def test_arrays_by_columns(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(ROWS, COLUMNS, 3)) + 1
    values /= np.linalg.norm(values, axis=-1, keepdims=True)
    write(tmp_path, region(normal=np.asfortranarray(values)))
    map = Oasis(tmp_path, intrinsic="normal", split="validation")[0].map
    found = map[:, TOP : TOP + ROWS, LEFT : LEFT + COLUMNS].permute(1, 2, 0)
    assert_close(found, torch.from_numpy(values * (1, -1, 1)).float())


def test_an_array_beside_the_pickle_is_read_in_its_place(tmp_path: Path) -> None:
    write(tmp_path, "not even a dictionary")
    whole = np.broadcast_to(STORED, (scene.HEIGHT, scene.WIDTH, 3))
    scene.save(tmp_path / "OASIS_trainval/normal/17_abc.npy", whole)
    assert bool(Oasis(tmp_path, intrinsic="normal", split="validation")[0].valid.all())


class Attack:
    """What pickle would run."""

    def __reduce__(self) -> tuple:
        return os.system, ("touch pwned",)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_nothing_in_a_pickle_is_run(protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, region(extra=Attack()), protocol=protocol)
    with pytest.raises(ValueError, match=r"it names (posix|nt|os)\.system.*nothing in it was run"):
        Oasis(tmp_path, intrinsic="normal", split="validation")[0]
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ([1, 2], "it holds a list"),
        ({"normal": 1}, "must hold min_y, max_y, min_x, max_x, normal, got"),
        (region(max_y=TOP), "must hold normals of rows 20 to 20"),
        (region(min_x=75, max_x=83), "columns 75 to 83 of a picture of 80 x 48 px"),
        (region(normal=np.array(["a"], object)), "must be a pickle of plain values and arrays of numbers"),
    ],
)
def test_other_pickles_are_refused(stored: object, message: str, tmp_path: Path) -> None:
    write(tmp_path, stored)
    with pytest.raises(ValueError, match=message):
        Oasis(tmp_path, intrinsic="normal", split="validation")[0]


def test_lists_are_needed_and_their_files(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(ValueError, match="list of train must exist"):
        Oasis(tmp_path, intrinsic="normal")
    (tmp_path / "OASIS_trainval/normal/17_abc.pkl").unlink()
    with pytest.raises(ValueError, match=r"OASIS_trainval/normal/17_abc\.pkl: the normals of 17_abc is missing"):
        dataset(f"oasis:{tmp_path}", intrinsic="normal", split="validation")
