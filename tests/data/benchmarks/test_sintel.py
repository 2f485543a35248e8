"""MPI Sintel: .dpt files, the sky, coded albedo and shading, and the split by scenes."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ilora import images
from ilora.data import dataset
from ilora.data.benchmarks.sintel import SCENES, Sintel
from tests.data.benchmarks import scene

DEPTH = scene.planar()
HEAD = struct.pack("<fii", 202021.25, scene.WIDTH, scene.HEIGHT)


def write(folder: Path, name: str = "alley_1", frame: str = "frame_0001") -> Path:
    """A frame with everything; its upper row is sky, its first pixel has no albedo."""
    depth, albedo = DEPTH.copy(), np.full((scene.HEIGHT, scene.WIDTH, 3), 188, np.uint8)
    depth[0], albedo[0, 0] = 1e11, 0
    shading = np.full_like(albedo, 128)
    shading[..., 2] = 64
    passes = {"clean": scene.noise(1), "final": scene.noise(2), "albedo": albedo, "shading": shading}
    for part, values in passes.items():
        scene.save(folder / f"training/{part}/{name}/{frame}.png", values)
    scene.dump(folder / f"training/depth/{name}/{frame}.dpt", depth, head=HEAD)
    return folder


def test_depth_ends_before_the_sky(tmp_path: Path) -> None:
    example = dataset(f"sintel:{write(tmp_path)}", intrinsic="depth", split="train")[0]
    assert example.name == "alley_1-frame_0001"
    assert torch.equal(example.image, images.read(tmp_path / "training/final/alley_1/frame_0001.png"))
    assert not example.valid[:, 0].any() and example.valid[:, 1:].all()
    assert_close(example.map[:, 1:], torch.from_numpy(DEPTH[None, 1:]).float())


def test_albedo_and_shading_become_light(tmp_path: Path) -> None:
    write(tmp_path)
    albedo, shading = (Sintel(tmp_path, intrinsic=name)[0] for name in ("albedo", "shading"))
    assert torch.equal(albedo.image, images.read(tmp_path / "training/clean/alley_1/frame_0001.png"))
    assert (~albedo.valid).nonzero().tolist() == [[0, 0, 0]] and bool(shading.valid.all())
    assert_close(albedo.map[:, 1], torch.full((3, scene.WIDTH), 0.5029), atol=1e-4, rtol=0)
    assert_close(shading.map[:, 3, 4], torch.tensor([0.2159, 0.2159, 0.0513]), atol=1e-4, rtol=0)


def test_splits_by_scenes(tmp_path: Path) -> None:
    for name in ("alley_1", "alley_2", "ambush_2"):
        write(tmp_path, name)
    names = {split: Sintel(tmp_path, intrinsic="depth", split=split).names for split in ("train", "test", "all")}
    assert names["train"] == ["alley_1-frame_0001"] and names["test"] == ["alley_2-frame_0001"]
    assert len(names["all"]) == 3
    assert len({*SCENES["train"], *SCENES["test"]}) == 18


def test_versions_are_found_from_the_files(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "training/final").rename(tmp_path / "elsewhere")
    (tmp_path / "training").rename(tmp_path / "images")
    data = Sintel(tmp_path, intrinsic="depth")
    assert torch.equal(data[0].image, images.read(tmp_path / "images/clean/alley_1/frame_0001.png"))


def test_damage_and_gaps(tmp_path: Path) -> None:
    write(tmp_path)
    file = tmp_path / "training/depth/alley_1/frame_0001.dpt"
    whole = file.read_bytes()
    file.write_bytes(whole[:-4])
    with pytest.raises(ValueError, match="must hold 3840 floats, one a pixel of 80 x 48, got 3839"):
        Sintel(tmp_path, intrinsic="depth")[0]
    file.write_bytes(b"FLOW" + whole[4:-4])
    with pytest.raises(ValueError, match="must begin with the tag"):
        Sintel(tmp_path, intrinsic="depth")[0]
    (tmp_path / "training/shading/alley_1/frame_0001.png").unlink()
    with pytest.raises(ValueError, match="the shading of alley_1-frame_0001 is missing"):
        dataset(f"sintel:{tmp_path}", intrinsic="shading")
