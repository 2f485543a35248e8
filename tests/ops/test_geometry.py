import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from ilora.ops import geometry, masked

REAL = Path(__file__).parents[3] / "shared" / "real"
NAMES = ["RUB", "LUB", "RDF", "FLU", "BRU"]


def field(*vectors: tuple[float, float, float], dtype=torch.float32) -> torch.Tensor:
    """Vectors as pixels of one row: [1, 3, 1, n]."""
    return torch.tensor(vectors, dtype=dtype).T[None, :, None]


def random_vectors(seed: int, n: int = 16) -> torch.Tensor:
    return torch.randn(1, 3, 4, n // 4, generator=torch.Generator().manual_seed(seed))


def pinhole(size: int, focal: float) -> torch.Tensor:
    return torch.tensor([[[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]]], dtype=torch.float64)


def test_normalize_by_hand():
    assert_close(geometry.normalize(field((3, 0, 4), (0, 0, 0))), field((0.6, 0, 0.8), (0, 0, 0)))


def test_normalize_has_a_bounded_gradient_at_zero():
    vector = torch.zeros(1, 3, 1, 1, requires_grad=True)
    geometry.normalize(vector, epsilon=0.1).sum().backward()
    assert_close(vector.grad, torch.full_like(vector, 10.0))


def test_angle_by_hand():
    a = field((1, 0, 0), (1, 0, 0), (0, 0, 1), (0, 2, 0))
    b = field((0, 5, 0), (1, 1, 0), (0, 0, 3), (0, -1, 0))
    assert_close(geometry.angle(a, b).flatten(), torch.tensor([90.0, 45.0, 0.0, 180.0]))


@pytest.mark.parametrize("degrees", [1e-4, 1e-2, 1.0, 10.0, 90.0, 179.0, 179.99])
def test_angle_of_a_tilt_in_single_precision(degrees):
    t = math.radians(degrees)
    a, b = field((0, 0, 1)), field((math.sin(t), 0, math.cos(t)))
    assert geometry.angle(a, b).item() == pytest.approx(degrees, rel=1e-5)


def test_angle_is_exact_at_both_ends():
    a = random_vectors(0)
    assert_close(geometry.angle(a, a), torch.zeros(1, 1, 4, 4), rtol=0, atol=0)
    assert_close(geometry.angle(a, -a), torch.full((1, 1, 4, 4), 180.0), rtol=0, atol=0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(1e-3, 1e3))
def test_angle_agrees_with_the_arccosine_and_ignores_lengths(seed, length):
    a, b = random_vectors(seed), random_vectors(seed + 1)
    cosine = torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=1)
    wanted = torch.rad2deg(torch.acos(cosine.clamp(-1, 1)))[:, None].float()
    assert_close(geometry.angle(a * length, b), wanted, rtol=1e-3, atol=1e-3)
    assert_close(geometry.angle(b, a), geometry.angle(a, b))


def test_angle_to_a_zero_vector_is_a_right_angle():
    assert_close(
        geometry.angle(field((0, 0, 0), (0, 0, 0)), field((0, 0, 1), (0, 0, 0))), torch.full((1, 1, 1, 2), 90.0)
    )


def test_convert_by_hand():
    up_right_near = field((1, 2, 3))
    assert_close(geometry.convert(up_right_near, "RUB", "RDF"), field((1, -2, -3)))
    assert_close(geometry.convert(up_right_near, "RUB", "LUB"), field((-1, 2, 3)))
    assert_close(geometry.convert(up_right_near, "RUB", "FLU"), field((-3, -1, 2)))


@pytest.mark.parametrize("source", NAMES)
@pytest.mark.parametrize("target", NAMES)
def test_convert_there_and_back(source, target):
    vectors = random_vectors(3)
    there = geometry.convert(vectors, source, target)
    assert_close(geometry.convert(there, target, source), vectors, rtol=0, atol=0)
    assert_close(there.norm(dim=1), vectors.norm(dim=1))


@pytest.mark.parametrize("name", ["RU", "RRB", "xyz", "RUBB", "rub"])
def test_convert_refuses_other_names(name):
    with pytest.raises(ValueError, match=f"one each of R|L.*{name}"):
        geometry.convert(field((0, 0, 1)), name, "RUB")


def test_points_by_hand():
    # Focal length 2 px, centre (1, 1): the first pixel's centre lies half a pixel left of and above the axis.
    depth = torch.full((1, 1, 2, 2), 4.0)
    got = geometry.points(depth, pinhole(2, 2.0))
    assert_close(got[0, :, 0, 0], torch.tensor([-1.0, 1.0, -4.0]))
    assert_close(got[0, :, 1, 1], torch.tensor([1.0, -1.0, -4.0]))


def test_distance_and_planar_depth_by_hand_and_back():
    camera = pinhole(1, 1.0).float() + torch.tensor(
        [[[0, 0, 1.0], [0, 0, 0], [0, 0, 0]]]
    )  # the pixel looks 45 deg left
    planar = torch.full((1, 1, 1, 1), 2.0)
    distance = geometry.euclidean_from_planar(planar, camera)
    assert_close(distance, torch.full((1, 1, 1, 1), 2 * math.sqrt(2)))
    assert_close(geometry.planar_from_euclidean(distance, camera), planar)


def plane(normal: tuple[float, float, float], size: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Depth of the plane n . p = -3 (RUB) and the camera."""
    camera = pinhole(size, 10.0)
    n = torch.tensor(normal, dtype=torch.float64)
    along = (n[:, None, None] * geometry.rays(camera, size, size)).sum(1, keepdim=True)
    return -3 / along, camera


@pytest.mark.parametrize("normal", [(0.0, 0.0, 1.0), (0.6, 0.0, 0.8), (0.0, 0.6, 0.8), (-0.48, 0.6, 0.64)])
@pytest.mark.parametrize("reach", [1, 3])
def test_normals_of_a_plane_are_exact_up_to_the_border(normal, reach):
    depth, camera = plane(normal)
    wanted = torch.tensor(normal, dtype=torch.float64)[None, :, None, None].expand(1, 3, 12, 12)
    assert_close(geometry.normals_from_depth(depth, camera, reach=reach), wanted)


def test_normals_of_a_sphere():
    camera = pinhole(64, 200.0)
    rays = geometry.rays(camera, 64, 64)
    # |d r + (0, 0, 4)| = 1 with rays r of planar depth 1, the nearer solution.
    a, b, c = rays.square().sum(1, keepdim=True), -8.0, 15.0
    depth = (-b - (b * b - 4 * a * c).sqrt()) / (2 * a)
    wanted = geometry.points(depth, camera) + torch.tensor([0, 0, 4.0], dtype=torch.float64)[:, None, None]
    error = geometry.angle(geometry.normals_from_depth(depth, camera), wanted)
    assert error[..., 1:-1, 1:-1].max() < 0.1


def test_normals_of_a_mirrored_depth_are_mirrored():
    generator = torch.Generator().manual_seed(0)
    depth = 2 + torch.rand(1, 1, 8, 8, generator=generator, dtype=torch.float64)
    normal, mirrored = (geometry.normals_from_depth(d, pinhole(8, 8.0)) for d in (depth, depth.flip(-1)))
    assert_close(mirrored, normal.flip(-1) * torch.tensor([-1, 1, 1])[:, None, None])


def test_normals_of_a_single_row_are_zero():
    normal = geometry.normals_from_depth(torch.ones(1, 1, 1, 5), pinhole(5, 5.0))
    assert_close(normal, torch.zeros(1, 3, 1, 5))


def test_smooth_leaves_out_edges_and_the_surroundings_of_invalid_pixels():
    depth = torch.ones(1, 1, 1, 8)
    depth[..., 4:] = 2.0
    valid = torch.ones(1, 1, 1, 8, dtype=torch.bool)
    valid[..., 7] = False
    assert geometry.smooth(depth, valid).flatten().tolist() == [True, True, True, False, False, True, False, False]
    assert geometry.smooth(depth, valid, jump=1.0).flatten().tolist() == [True] * 6 + [False] * 2


def test_axes_and_camera_agree_with_real_renderings():
    folder = REAL / "cleargrasp" / "synthetic-val" / "square-plastic-bottle-val"
    if not folder.is_dir():
        pytest.skip("needs shared/real/cleargrasp beside the repository")
    exr = pytest.importorskip("OpenEXR", reason="reading EXR needs pip install 'ilora[exr]'")

    def read(name: str) -> torch.Tensor:
        pixels = exr.File(str(folder / name)).channels()["RGB"].pixels
        return torch.tensor(pixels).float().permute(2, 0, 1)[None, :, 2::4, 2::4]

    depth = read("depth-imgs-rectified/000000004-depth-rectified.exr")[:, :1]
    normal = read("camera-normals/000000004-cameraNormals.exr")
    height, width = depth.shape[-2:]
    focal = width / 2 / math.tan(math.radians(69.4) / 2)
    camera = torch.tensor([[[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]])
    derived = geometry.normals_from_depth(depth, camera, reach=2)
    valid = geometry.smooth(depth, (depth > 0) & (normal.norm(dim=1, keepdim=True) > 0.5), reach=2)
    sideways = valid & (normal[:, :1].abs() > 0.3)
    assert masked.median(geometry.angle(derived, normal), valid).item() < 4
    for axes in ("LUB", "RDF"):
        assert masked.median(geometry.angle(derived, geometry.convert(normal, axes, "RUB")), sideways).item() > 30


def test_upward_counts_the_level_pixels_of_the_lower_third():
    normal = torch.zeros(1, 3, 6, 4)
    normal[:, 2] = 1  # walls
    normal[0, :, 4:] = torch.tensor([0.0, 1.0, 0.0])[:, None, None]  # eight pixels of floor
    normal[0, 1, 5, :2] = -1
    normal[0, :, 0] = torch.tensor([0.0, -1.0, 0.0])[:, None]  # the ceiling does not count
    valid = torch.ones(1, 1, 6, 4, dtype=torch.bool)
    assert_close(geometry.upward(normal, valid), torch.tensor([6 / 8]))
    valid[0, 0, 5] = False
    assert_close(geometry.upward(normal, valid), torch.tensor([1.0]))
    assert_close(geometry.upward(-normal, valid), torch.tensor([0.0]))


def test_upward_without_floor_is_not_a_number():
    wall = torch.tensor([0.0, 0.1, 0.99]).view(1, 3, 1, 1).expand(2, 3, 6, 4)
    valid = torch.ones(2, 1, 6, 4, dtype=torch.bool)
    assert geometry.upward(wall, valid).isnan().all()
    assert geometry.upward(torch.rand(1, 3, 6, 4), torch.zeros(1, 1, 6, 4, dtype=torch.bool)).isnan().all()


def test_rays_by_share_are_those_of_the_same_camera():
    camera = torch.tensor([[[5.0, 0, 4.0], [0, 5.0, 3.0], [0, 0, 1]]])  # 8 x 6 px
    matrix = torch.diag(torch.tensor([4 / 5, 3 / 5, -1]))
    assert_close(geometry.rays_by_share(matrix, 6, 8), geometry.rays(camera, 6, 8)[0])
    tilted = geometry.rays_by_share(torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0.5, -1]]), 2, 2)
    assert_close(tilted[:, 0, 0], torch.tensor([-0.5, 0.5, -0.75]))  # the upper left pixel: u = -1/2, v = 1/2
