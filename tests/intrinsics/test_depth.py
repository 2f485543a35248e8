import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from ilora.intrinsics.depth import Depth


def ramp(n: int = 101) -> tuple[torch.Tensor, torch.Tensor]:
    """Depths 1 to 3 m in one row, all valid."""
    return torch.linspace(1, 3, n).view(1, 1, 1, n), torch.ones(1, 1, 1, n, dtype=torch.bool)


def test_the_grey_of_a_ramp_by_hand():
    map, valid = ramp()
    image = Depth().to_image(map, valid)
    # 101 depths: the percentiles are the second and the last but one, 1.02 m and 2.98 m.
    assert_close(image[0, :, 0, [0, 1, 50, 99, 100]], torch.tensor([1.0, 1.0, 0.0, -1.0, -1.0]).expand(3, 5))


def test_near_is_white_and_comes_back_small():
    map, valid = ramp()
    relative = Depth().from_image(Depth().to_image(map, valid))
    assert_close(relative[..., [0, 50, 100]].flatten(), torch.tensor([0.0, 0.5, 1.0]), atol=1e-6, rtol=0)


def test_coloured_noise_is_averaged_over_the_channels():
    image = torch.tensor([0.0, 0.3, 0.6]).view(1, 3, 1, 1)
    assert_close(Depth().from_image(image), torch.tensor(0.35).view(1, 1, 1, 1))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.01, 100), st.floats(-20, 20))
def test_metrics_ignore_scale_and_shift_of_the_prediction(seed, scale, shift):
    generator = torch.Generator().manual_seed(seed)
    map, target = (1 + torch.rand(1, 1, 6, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    valid = torch.ones(1, 1, 6, 6, dtype=torch.bool)
    plain = Depth().metrics(map, target, valid)
    for name, score in Depth().metrics(scale * map + shift, target, valid).items():
        assert_close(score, plain[name], rtol=1e-6, atol=1e-8)
    assert_close(Depth().metrics(scale * target + shift, target, valid)["abs_rel"], torch.zeros(1).double())


def test_a_constant_prediction_is_the_mean_depth():
    map, valid = ramp()
    got = Depth().metrics(torch.full_like(map, 7.0), map, valid)["rmse"]
    assert_close(got, map.std(correction=0).view(1))


def test_aligned_depth_behind_the_camera_is_clipped_to_a_millimetre():
    target = torch.tensor([0.1, 0.1, 0.1, 4.0]).view(1, 1, 1, 4)
    map = torch.tensor([0.0, 0.0, 5.0, 9.0]).view(1, 1, 1, 4)
    valid = torch.ones(1, 1, 1, 4, dtype=torch.bool)
    scores = Depth().metrics(map, target, valid)
    assert scores["log10"].isfinite().all()
    # Least squares: variance 14.25, covariance 5.3625, so 0 becomes 1.075 - 0.3763 * 3.5 = -0.242 before clipping.
    slope = 5.3625 / 14.25
    aligned = torch.tensor([1e-3, 1e-3, 1.075 + slope * 1.5, 1.075 + slope * 5.5])
    assert_close(scores["abs_rel"], ((aligned - target.flatten()).abs() / target.flatten()).mean().view(1))


@pytest.mark.parametrize("pixels", [0, 1])
def test_too_few_pixels_to_align_give_nan(pixels):
    map, valid = ramp(5)
    few = torch.arange(5) < pixels
    assert all(score.isnan().all() for score in Depth().metrics(map, map, valid & few).values())


def test_constant_depth_is_middle_grey():
    image = Depth().to_image(torch.full((1, 1, 3, 3), 2.7), torch.ones(1, 1, 3, 3, dtype=torch.bool))
    assert_close(image, torch.zeros(1, 3, 3, 3), rtol=0, atol=0)


def test_the_loss_forgives_contrast_and_brightness_but_not_an_inversion():
    map, valid = ramp()
    match = Depth().to_image(map, valid)
    faint, inverted = Depth().loss(0.5 * match + 0.2, map, valid), Depth().loss(-match, map, valid)
    offset = (0.5 * match - 0.2).abs().mean().view(1)
    assert_close(faint, 0.1 * offset, atol=2e-3, rtol=0)  # what the anchor says
    assert_close(inverted, 0.1 * (2 * match).abs().mean().view(1), atol=1e-3, rtol=0)
    assert Depth().loss(torch.zeros_like(match), map, valid) > inverted


def test_near_is_lighter_than_far():
    picture = Depth().show(ramp()[0]).float().mean(1).flatten()
    assert (picture[1:-2:10].diff() < 0).all()
