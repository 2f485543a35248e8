"""Hypersim: distances, lenses that are shifted, normals that face away, and pictures without tonemapping."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ilora import images
from ilora.data import dataset
from ilora.data.benchmarks.hypersim import Hypersim
from tests.data.benchmarks import scene

FOCAL = scene.WIDTH / 2 / np.tan(np.radians(30))
ALBEDO, LIGHT, GLOSS = 0.5, np.array([3.0, 2.0, 1.0]), 0.25
AWAY, NAN, EMPTY = (0, 1), (2, 3), (4, 5)  # a normal that faces away; not finite; without a surface


def write(folder: Path, name: str = "ai_001_001", *, depth: np.ndarray | None = None, entity: bool = True) -> Path:
    """One frame of a scene with every map."""
    size = (scene.HEIGHT, scene.WIDTH)
    distance = scene.euclidean(FOCAL, FOCAL) if depth is None else depth
    normal, surface = scene.normals(), np.zeros(size, np.int32)
    normal[AWAY] *= -1
    distance[NAN], normal[NAN], surface[EMPTY] = np.nan, np.nan, -1
    shading = np.broadcast_to(LIGHT, (*size, 3)).copy()
    maps = {
        "final_hdf5/frame.0003.color": ALBEDO * shading + GLOSS,
        "final_hdf5/frame.0003.diffuse_reflectance": np.full((*size, 3), ALBEDO),
        "final_hdf5/frame.0003.diffuse_illumination": shading,
        "geometry_hdf5/frame.0003.depth_meters": distance,
        "geometry_hdf5/frame.0003.normal_cam": normal,
        **({"geometry_hdf5/frame.0003.render_entity_id": surface} if entity else {}),
    }
    for place, values in maps.items():
        kept = values if values.dtype == np.int32 else values.astype(np.float16 if "color" in place else np.float32)
        scene.hdf5(folder / f"{name}/images/scene_cam_00_{place}.hdf5", dataset=kept)
    return folder


def test_distance_becomes_planar_depth(tmp_path: Path) -> None:
    data = dataset(f"hypersim:{write(tmp_path)}", intrinsic="depth", split="all")
    assert data.names == ["ai_001_001-cam_00-0003"]
    example = data[0]
    assert (~example.valid).nonzero().tolist() == [[0, *NAN], [0, *EMPTY]]
    planar = torch.from_numpy(scene.planar(FOCAL, FOCAL)).float()
    assert_close(example.map[example.valid], planar[example.valid[0]], atol=0, rtol=1e-5)


def test_shifted_lenses_have_their_own_rays(tmp_path: Path) -> None:
    matrix = np.array([[0.6, 0, 0.05], [0, 0.4, -0.1], [0, 0.2, -0.9]])
    v, u = (1 - 2 * (np.arange(n) + 0.5) / n for n in (scene.HEIGHT, scene.WIDTH))
    rays = np.stack([*np.meshgrid(-u, v), np.ones((scene.HEIGHT, scene.WIDTH))], -1) @ matrix.T
    point = rays * (-scene.FAR / (rays @ scene.NORMAL))[..., None]
    write(tmp_path, depth=np.linalg.norm(point, axis=-1), entity=False)
    columns = [f"M_cam_from_uv_{row}{column}" for row in range(3) for column in range(3)]
    rows = [["scene_name", *columns], ["ai_001_001", *matrix.ravel()]]
    (tmp_path / "metadata_camera_parameters.csv").write_text("\n".join(",".join(map(str, row)) for row in rows))
    example = Hypersim(tmp_path, intrinsic="depth", split="all")[0]
    planar = torch.from_numpy(-point[..., 2]).float()
    assert_close(example.map[example.valid], planar[example.valid[0]], atol=0, rtol=1e-5)


def test_normals_face_the_camera_and_a_floor_points_up(tmp_path: Path) -> None:
    example = Hypersim(write(tmp_path), intrinsic="normal", split="all")[0]
    floor = torch.from_numpy(scene.NORMAL).float()[:, None]
    assert bool(example.valid[0][AWAY]) and not example.valid[0][NAN] and not example.valid[0][EMPTY]
    assert_close(example.map[:, example.valid[0]], floor.expand(-1, int(example.valid.sum())))


def test_picture_is_albedo_times_shading_and_the_rest(tmp_path: Path) -> None:
    albedo, shading = (Hypersim(write(tmp_path), intrinsic=name, split="all")[0] for name in ("albedo", "shading"))
    brightness = 0.3 * 1.75 + 0.59 * 1.25 + 0.11 * 0.75  # everywhere, of color = albedo * shading + gloss
    exposure = 0.8**2.2 / brightness
    light = ((shading.image + 1) / 2) ** 2.2
    unclipped = light[1:, 20, 20]  # green and blue; red is brighter than 1
    rest = (albedo.map * shading.map)[1:, 20, 20] + GLOSS * exposure
    assert_close(unclipped, rest, atol=2e-3, rtol=0)
    assert_close(shading.map[:, 20, 20], torch.from_numpy(LIGHT * exposure).float(), atol=1e-3, rtol=0)
    assert_close(albedo.map[:, 20, 20], torch.full((3,), ALBEDO))
    assert torch.equal(albedo.image, shading.image) and int((~albedo.valid).sum()) == 1


def test_previews_stand_in_for_light_except_for_shading(tmp_path: Path) -> None:
    light = next(write(tmp_path).rglob("*.color.hdf5"))
    light.unlink()
    preview = light.parents[1] / "scene_cam_00_final_preview/frame.0003.tonemap.jpg"
    scene.save(preview, np.full_like(scene.noise(), 100))
    example = Hypersim(tmp_path, intrinsic="depth", split="all")[0]
    assert torch.equal(example.image, images.read(preview)) and int((~example.valid).sum()) == 2
    with pytest.raises(ValueError, match="the picture of ai_001_001-cam_00-0003 is missing"):
        dataset(f"hypersim:{tmp_path}", intrinsic="shading", split="all")


def test_splits_by_the_list_of_the_toolkit(tmp_path: Path) -> None:
    for name in ("ai_001_001", "ai_001_002"):
        write(tmp_path / "scenes", name)
    with pytest.raises(ValueError, match="list of Hypersim's splits must exist"):
        Hypersim(tmp_path, intrinsic="depth", split="test")
    head = "scene_name,camera_name,frame_id,included_in_public_release,exclude_reason,split_partition_name\n"
    rows = "ai_001_001,cam_00,3,True,,train\nai_001_002,cam_00,3,True,,test\nai_001_009,cam_00,3,True,,test\n"
    (tmp_path / "metadata_images_split_scene_v1.csv").write_text(head + rows)
    names = [Hypersim(tmp_path, intrinsic="depth", split=split).names for split in ("train", "test", "all")]
    assert names[0] == ["ai_001_001-cam_00-0003"] and names[1] == ["ai_001_002-cam_00-0003"]
    assert names[2] == names[0] + names[1]


def test_a_map_without_its_picture_is_missing(tmp_path: Path) -> None:
    next(write(tmp_path).rglob("*.color.hdf5")).unlink()
    with pytest.raises(ValueError, match=r"scene_cam_00_final_hdf5/frame\.0003\.color\.hdf5: the picture"):
        dataset(f"hypersim:{tmp_path}", intrinsic="depth", split="all")
