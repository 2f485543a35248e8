import math

import pytest
import torch
from torch.testing import assert_close

from ilora.intrinsics.normal import Normal

ALL = torch.ones(1, 1, 1, 1, dtype=torch.bool)


def pixel(x: float, y: float, z: float) -> torch.Tensor:
    return torch.tensor([x, y, z]).view(1, 3, 1, 1)


def tilt(degrees: float) -> torch.Tensor:
    return pixel(0.0, math.sin(math.radians(degrees)), math.cos(math.radians(degrees)))


def test_a_tilt_of_ten_degrees_scores_ten():
    scores = Normal().metrics(tilt(10), tilt(0), ALL)
    assert_close(scores["mean_angle"], torch.tensor([10.0]))
    assert {name: score.item() for name, score in scores.items() if name.startswith("within")} == {
        "within_5": 0, "within_7.5": 0, "within_11.25": 100, "within_22.5": 100, "within_30": 100}  # fmt: skip


def test_the_mirror_turns_left_into_right():
    map = torch.tensor([[1.0, 0.0], [0.0, 0.6], [0.0, 0.8]]).view(1, 3, 1, 2)
    assert_close(Normal().flip(map), torch.tensor([[0.0, -1.0], [0.6, 0.0], [0.8, 0.0]]).view(1, 3, 1, 2))


@pytest.mark.parametrize("length", [1e-5, 0.1, 1.0, 50.0])
def test_painted_vectors_become_unit_vectors(length):
    assert_close(Normal().from_image(length * pixel(0.0, 0.6, 0.8)), pixel(0.0, 0.6, 0.8))


def test_a_pixel_without_direction_faces_the_viewer():
    assert_close(Normal().from_image(pixel(0.0, 0.0, 0.0)), pixel(0.0, 0.0, 1.0))


@pytest.mark.parametrize("degrees", [0.0, 10.0, 90.0, 180.0])
def test_the_loss_of_a_unit_vector_is_its_angle(degrees):
    assert_close(Normal().loss(tilt(degrees), tilt(0), ALL), torch.tensor([math.radians(degrees)]), atol=4e-3, rtol=0)


def test_the_loss_of_other_lengths_by_hand():
    assert_close(Normal().loss(2 * tilt(0), tilt(0), ALL), torch.tensor([0.1]), atol=2e-3, rtol=0)
    assert_close(Normal().loss(0 * tilt(0), tilt(0), ALL), torch.tensor([math.pi / 2 + 0.1]))


def test_the_gradient_turns_a_vector_towards_the_target():
    image = tilt(40).requires_grad_()
    Normal().loss(image, tilt(0), ALL).sum().backward()
    # Down the slope: less of y, more of z, nothing sideways; a unit vector turns by one radian a radian.
    assert_close(-image.grad, pixel(0.0, -math.cos(math.radians(40)), math.sin(math.radians(40))), atol=5e-3, rtol=0)


def test_pixels_whose_map_has_no_direction_do_not_count():
    map = torch.cat([tilt(0), pixel(0.0, 0.0, 0.0)], dim=3)
    image = torch.cat([tilt(90), tilt(0)], dim=3)
    valid = torch.ones(1, 1, 1, 2, dtype=torch.bool)
    assert_close(Normal().loss(image, map, valid), torch.tensor([math.pi / 2]), atol=4e-3, rtol=0)


def test_resizing_opposite_vectors_gives_no_direction():
    map = torch.cat([pixel(1.0, 0.0, 0.0), pixel(-1.0, 0.0, 0.0)], dim=3)
    assert_close(Normal().resize(map, 1, 1), pixel(0.0, 0.0, 0.0))


def test_the_usual_colours():
    assert Normal().show(pixel(0.0, 0.0, 1.0)).flatten().tolist() == [128, 128, 255]
    assert Normal().show(pixel(0.0, 1.0, 0.0)).flatten().tolist() == [128, 255, 128]
