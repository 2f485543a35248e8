import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import color as reference
from torch.testing import assert_close

from ilora.ops import color


def test_srgb_by_hand():
    # Middle grey: code 0.5 is 0.21404 of the light; the straight part ends at code 0.04045.
    assert_close(color.to_linear(torch.tensor([0.0, 0.5, 1.0])), torch.tensor([0.0, 0.2140411, 1.0]))
    assert_close(color.to_srgb(torch.tensor([0.001])), torch.tensor([0.01292]))


@settings(max_examples=50, deadline=None)
@given(st.floats(-1, 4))
def test_srgb_there_and_back(value):
    code = torch.tensor([value], dtype=torch.float64)
    assert_close(color.to_srgb(color.to_linear(code)), code, atol=1e-6, rtol=0)


def test_srgb_rises_without_a_jump_at_the_knee():
    light = torch.linspace(0, 0.01, 10001, dtype=torch.float64)
    steps = color.to_srgb(light).diff()
    assert steps.min() > 0 and steps.max() < 1.3e-5


@pytest.mark.parametrize("transfer", [color.to_srgb, color.to_linear])
def test_srgb_has_a_finite_gradient_at_zero(transfer):
    value = torch.zeros(1, requires_grad=True)
    transfer(value).backward()
    slope = 12.92 if transfer is color.to_srgb else 1 / 12.92
    assert_close(value.grad, torch.tensor([slope]))


@pytest.mark.parametrize("transfer", [color.to_srgb, color.to_linear])
def test_srgb_gradient_is_that_of_the_curve(transfer):
    value = torch.tensor([0.01, 0.2, 0.9, 1.5], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(transfer, value)


def test_luminance_by_hand_and_against_scikit_image():
    rgb = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = reference.rgb2xyz(color.to_srgb(rgb)[0].permute(1, 2, 0).numpy())[..., 1]
    assert_close(color.luminance(rgb)[0, 0], torch.tensor(wanted), atol=1e-4, rtol=0)
    assert_close(color.luminance(torch.ones(1, 3, 1, 1)), torch.ones(1, 1, 1, 1))


def test_heat_grows_evenly_lighter():
    value = torch.linspace(0, 1, 33, dtype=torch.float64)
    r, g, b = color.to_linear(color.heat(value.view(1, 1, 1, 33)))[0, :, 0]
    # Ottosson's lightness of linear sRGB; a colour outside the gamut would have been clipped off the line.
    long = 0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b
    middle = 0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b
    short = 0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b
    lightness = 0.2104542553 * long ** (1 / 3) + 0.7936177850 * middle ** (1 / 3) - 0.0040720468 * short ** (1 / 3)
    assert_close(lightness, 0.18 + 0.78 * value, atol=2e-4, rtol=0)


def test_heat_ends_stand_for_what_lies_beyond():
    beyond, ends = torch.tensor([-3.0, 5.0]).view(1, 1, 1, 2), torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)
    assert_close(color.heat(beyond), color.heat(ends), rtol=0, atol=0)


def test_oklab_white_and_grey():
    lab = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.0, 0.0]]).T[None, :, None]
    assert_close(color.from_oklab(lab)[0, :, 0], torch.tensor([[1.0, 0.125]] * 3), atol=1e-4, rtol=0)


def test_bytes_round_clip_and_turn_nan_black():
    rgb = torch.tensor([-1.0, 0.5, 2.0, float("nan")]).expand(1, 3, 1, 4)
    assert color.to_uint8(rgb)[0, 0, 0].tolist() == [0, 128, 255, 0]


def test_exposure_shows_the_bright_tenth_by_hand():
    light = torch.full((3, 3, 1, 11), 0.0)
    light[0] = torch.arange(11) / 10  # grey: brightness is the value, and 9 of 11 pixels is the 90th percentile
    light[1] = 5e-5
    valid = torch.ones(3, 1, 1, 11, dtype=torch.bool)
    valid[2] = False
    factor = color.exposure(light, valid)
    assert_close(factor, torch.tensor([0.8**2.2 / 0.9, 0.0, 1.0]))
    shown = color.tonemapped(light * factor[:, None, None, None])
    assert_close(shown[0, :, 0, 9], torch.full((3,), 0.8))
    assert float(shown.max()) <= 1


def test_exposure_looks_at_valid_pixels_alone():
    light = torch.tensor([0.3, 0.6, torch.nan, torch.inf]).expand(1, 3, 1, 4)
    valid = light[:, :1].isfinite()
    assert_close(color.exposure(light, valid), torch.tensor([0.8**2.2 / 0.57]))
    assert float(color.tonemapped(light)[0, 0, 0, 2]) == 0


def test_exposure_does_not_depend_on_the_unit_of_light():
    light = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(2, 1, 8, 8, dtype=torch.bool)
    one, other = (color.tonemapped(unit * light * color.exposure(unit * light, valid)[:, None, None, None])
                  for unit in (1, 40))  # fmt: skip
    assert_close(one, other)
