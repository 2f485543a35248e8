import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from ilora.ops import alignment

ALL = torch.ones(1, 1, 4, 5, dtype=torch.bool)


def maps(seed: int, channels: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    map, target = (torch.rand(2, channels, 4, 5, generator=generator) + 0.1 for _ in range(2))
    return map, target, torch.rand(2, 1, 4, 5, generator=generator) < 0.7


def test_scale_and_shift_by_hand():
    map, target = torch.tensor([0.0, 1.0, 2.0]).view(1, 1, 1, 3), torch.tensor([1.0, 3.0, 5.0]).view(1, 1, 1, 3)
    s, t = alignment.scale_and_shift(map, target, torch.ones(1, 1, 1, 3, dtype=torch.bool))
    assert_close((s, t), (torch.tensor([2.0]), torch.tensor([1.0])))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([1, 3]))
def test_scale_and_shift_agree_with_numpys_least_squares(seed, channels):
    map, target, valid = maps(seed, channels)
    s, t = alignment.scale_and_shift(map, target, valid)
    for image in range(2):
        kept = valid[image].expand(channels, -1, -1)
        x, y = map[image][kept].double().numpy(), target[image][kept].double().numpy()
        if len(x) >= 2:
            wanted = np.linalg.lstsq(np.stack([x, np.ones_like(x)], 1), y, rcond=None)[0]
            np.testing.assert_allclose([s[image].item(), t[image].item()], wanted, rtol=1e-4, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.01, 100), st.floats(-50, 50))
def test_an_affine_copy_is_brought_back_whole(seed, scale, shift):
    _, target, valid = maps(seed)
    aligned = alignment.by_scale_and_shift((target.double() - shift) / -scale, target.double(), valid)
    enough = valid.flatten(1).sum(1) >= 2
    assert_close(aligned[enough], target.double()[enough], rtol=1e-6, atol=1e-6)


def test_a_large_offset_costs_no_precision():
    _, target, _ = maps(0)
    valid = torch.ones(2, 1, 4, 5, dtype=torch.bool)
    s, t = alignment.scale_and_shift(target.double() + 1e5, target.double(), valid)
    assert_close((s, t), (torch.ones(2).double(), torch.full((2,), -1e5).double()), rtol=1e-8, atol=1e-8)


def test_scale_by_hand():
    map, target = torch.tensor([1.0, 2.0]).view(1, 1, 1, 2), torch.tensor([3.0, 1.0]).view(1, 1, 1, 2)
    valid = torch.ones(1, 1, 1, 2, dtype=torch.bool)
    assert_close(alignment.scale(map, target, valid), torch.tensor([1.0]))  # (3 + 2) / (1 + 4)
    assert_close(alignment.by_scale(map, target, valid), map)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_the_residual_of_scale_is_orthogonal_to_the_map(seed):
    map, target, valid = maps(seed, 3)
    residual = (target - alignment.by_scale(map, target, valid)) * valid
    has = valid.flatten(1).any(1)
    assert ((residual * map).flatten(1).sum(1)[has].abs() < 1e-4).all()


def test_median_scale_by_hand():
    map = torch.tensor([1.0, 2.0, 9.0]).view(1, 1, 1, 3)
    target = torch.tensor([100.0, 6.0, 5.0]).view(1, 1, 1, 3)
    valid = torch.ones(1, 1, 1, 3, dtype=torch.bool)
    assert_close(alignment.by_median(map, target, valid), 3 * map)


def test_a_constant_map_becomes_the_mean_of_the_target():
    _, target, _ = maps(1)
    constant = torch.full_like(target, 0.1)
    valid = torch.ones(2, 1, 4, 5, dtype=torch.bool)
    s, t = alignment.scale_and_shift(constant, target, valid)
    assert_close((s, t), (torch.zeros(2), target.mean((1, 2, 3))))
    assert_close(alignment.scale(torch.zeros_like(target), target, valid), torch.zeros(2))
    assert_close(alignment.median_scale(torch.zeros_like(target), target, valid), torch.zeros(2))


@pytest.mark.parametrize("pixels", [0, 1])
def test_too_few_pixels_determine_nothing(pixels):
    valid = torch.zeros_like(ALL)
    valid[..., 0, :pixels] = True
    s, t = alignment.scale_and_shift(torch.rand(1, 1, 4, 5), torch.rand(1, 1, 4, 5), valid)
    assert s.isnan().all() and t.isnan().all()


def test_scales_of_an_image_without_valid_pixels_are_nan():
    map, target = torch.rand(1, 1, 4, 5), torch.rand(1, 1, 4, 5)
    assert alignment.scale(map, target, ~ALL).isnan().all()
    assert alignment.median_scale(map, target, ~ALL).isnan().all()


def test_nothing_outside_the_mask_is_looked_at():
    map, target, valid = maps(2)
    dirty = torch.where(valid, map, float("nan")), torch.where(valid, target, float("inf"))
    for align in (alignment.scale_and_shift, alignment.scale, alignment.median_scale):
        assert_close(align(*dirty, valid), align(map, target, valid), rtol=0, atol=0)


def test_half_precision_gives_single():
    map, target, valid = maps(3)
    s, t = alignment.scale_and_shift(map.bfloat16(), target.bfloat16(), valid)
    assert (s.dtype, t.dtype) == (torch.float32, torch.float32)


def test_a_scaled_and_shifted_disparity_becomes_the_depth():
    _, target, valid = maps(4)
    for scale, shift in ((3.0, 0.5), (-0.2, 7.0)):
        assert_close(alignment.by_disparity(scale / target + shift, target, valid)[valid], target[valid],
                     rtol=1e-4, atol=0)  # fmt: skip


def test_disparity_is_clipped_before_it_is_inverted():
    # 1 / target is .5, .25, .125. The least squares line of 2, 1, 0 is .1042 + .1875 x; at -9 it is below 1e-3.
    map = torch.tensor([2.0, 1.0, 0.0, -9.0]).view(1, 1, 1, 4)
    target = torch.tensor([2.0, 4.0, 8.0, 1.0]).view(1, 1, 1, 4)
    valid = torch.tensor([True, True, True, False]).view(1, 1, 1, 4)
    wanted = 1 / torch.tensor([0.10416667 + 0.375, 0.10416667 + 0.1875, 0.10416667, 1e-3])
    assert_close(alignment.by_disparity(map, target, valid).flatten(), wanted, rtol=1e-5, atol=0)
    floored = alignment.by_disparity(map, target, valid, floor=torch.tensor([0.125]))
    assert_close(floored.flatten()[2:], torch.tensor([8.0, 8.0]))


def test_disparity_needs_positive_depth_and_two_pixels():
    _, target, valid = maps(4)
    with pytest.raises(ValueError, match=r"positive.*got -1"):
        alignment.by_disparity(target, torch.where(valid, -1.0, 1.0), valid)
    assert alignment.by_disparity(target, target, torch.zeros_like(valid)).isnan().all()
