"""Normals that follow from depth: exact on planes, refused where depth does not determine them."""

import math

import pytest
import torch
from torch.testing import assert_close

from ilora.data import meta
from ilora.data.teachers.base import ask
from ilora.data.teachers.derived import WithNormals, camera_of
from ilora.ops import geometry
from tests.data.teachers.test_base import Says


def plane(height: int, width: int, *, fov: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Depth [1, 1, h, w] of a plane 3 m away that leans back by 40 deg, and its normal [1, 3, 1, 1], RUB."""
    normal = torch.tensor([0.0, math.sin(math.radians(40)), math.cos(math.radians(40))]).view(1, 3, 1, 1)
    ray = geometry.rays(camera_of(height, width, fov=fov), height, width)  # at depth 1
    return -3 * normal[0, 2] / (normal * ray).sum(1, keepdim=True), normal


@pytest.mark.parametrize("size", [(48, 64), (64, 48)])
def test_a_plane_has_its_normal(size: tuple[int, int]) -> None:
    depth, normal = plane(*size, fov=50)
    teacher = WithNormals(Says({"depth": meta.Depths(unit="cm")}, depth=100 * depth), 50.0)
    assert teacher.declares.keys() == {"depth", "normal"} and teacher.name == "says+normals"
    (answer,) = ask(teacher, torch.zeros(1, 3, *size))
    assert answer.doubts == []
    assert answer.labels["normal"].valid.all()
    assert geometry.angle(answer.labels["normal"].map[None], normal.expand(1, 3, *size)).max() < 0.05  # deg
    assert_close(answer.labels["depth"].map, depth[0])


def test_the_field_of_view_is_that_of_the_longer_side() -> None:
    camera = camera_of(30, 40, fov=90)
    assert_close(camera[0], torch.tensor([[20.0, 0, 20], [0, 20, 15], [0, 0, 1]]))
    assert camera_of(40, 30, fov=90)[0, 0, 0] == 20
    edge = torch.linalg.inv(camera_of(40, 30, fov=60)) @ torch.tensor([15.0, 0, 1])  # middle of the upper border
    assert_close(math.degrees(math.atan(-float(edge[0, 1]))), 30.0, rtol=0, atol=1e-4)


def test_normals_across_an_edge_are_not_valid() -> None:
    depth = torch.full((1, 1, 16, 16), 2.0)
    depth[..., 8:] = 4
    (answer,) = ask(WithNormals(Says({"depth": meta.Depths(unit="m")}, depth=depth), 60.0), torch.zeros(1, 3, 16, 16))
    valid = answer.labels["normal"].valid[0]
    assert valid[:, :7].all() and not valid[:, 7:9].any() and valid[:, 9:].all()


def test_depth_that_does_not_determine_normals_is_refused() -> None:
    ones = torch.ones(1, 1, 4, 4)
    camera = {"fx": 1.0, "fy": 1.0, "cx": 1.0, "cy": 1.0}
    for declared, words in (
        ({"depth": meta.Depths(unit="relative")}, "got planar depth, unit relative from says; take a metric teacher"),
        ({"depth": meta.Depths(unit="m", kind="euclidean", camera=camera)}, "got euclidean depth"),
        ({"normal": meta.Normals()}, "got no depth from says"),
    ):
        with pytest.raises(ValueError, match=words):
            WithNormals(Says(declared, depth=ones), 50.0)
    with pytest.raises(ValueError, match="need its camera, got none; name --fov DEGREES"):
        WithNormals(Says({"depth": meta.Depths(unit="m")}, depth=ones), None)
