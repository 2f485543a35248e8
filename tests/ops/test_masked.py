import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from ilora.ops import masked


def test_mean_by_hand():
    values = torch.tensor([1.0, 2.0, 100.0, 3.0]).view(1, 1, 2, 2)
    valid = torch.tensor([True, True, False, True]).view(1, 1, 2, 2)
    assert_close(masked.mean(values, valid), torch.tensor([2.0]))


def test_mean_counts_every_channel_and_each_image_by_itself():
    values = torch.stack([torch.full((3, 2, 2), 1.0), torch.arange(12.0).view(3, 2, 2)])
    valid = torch.tensor([[True, False], [False, False]]).expand(2, 1, 2, 2)
    assert_close(masked.mean(values, valid), torch.tensor([1.0, 4.0]))  # second: (0 + 4 + 8) / 3


def test_median_of_an_even_count_is_the_mean_of_the_middle_two():
    values = torch.tensor([4.0, 1.0, 3.0, 2.0, -50.0]).view(1, 1, 1, 5)
    valid = torch.tensor([True, True, True, True, False]).view(1, 1, 1, 5)
    assert_close(masked.median(values, valid), torch.tensor([2.5]))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 1), st.integers(1, 3))
def test_quantile_agrees_with_numpy(seed, q, channels):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(2, channels, 4, 5, generator=generator, dtype=torch.float64)
    valid = torch.rand(2, 1, 4, 5, generator=generator) < 0.5
    got = masked.quantile(values, valid, q=q)
    for image in range(2):
        kept = values[image][valid[image].expand(channels, -1, -1)].numpy()
        wanted = np.quantile(kept, q) if kept.size else np.nan
        np.testing.assert_allclose(got[image].item(), wanted, atol=1e-5)


@pytest.mark.parametrize("reduce", [masked.mean, masked.median])
def test_nothing_outside_the_mask_is_looked_at(reduce):
    values = torch.tensor([1.0, float("nan"), float("inf"), 2.0]).view(1, 1, 2, 2)
    valid = torch.tensor([True, False, False, True]).view(1, 1, 2, 2)
    assert_close(reduce(values, valid), torch.tensor([1.5]))


def test_an_image_without_valid_pixels():
    values, valid = torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2, dtype=torch.bool)
    assert masked.mean(values, valid).isnan().all()
    assert masked.median(values, valid).isnan().all()
    assert_close(masked.mean(values, valid, empty=0.0), torch.zeros(1))


def test_gradient_stays_inside_the_mask():
    values = torch.tensor([1.0, float("nan")]).view(1, 1, 1, 2).requires_grad_()
    masked.mean(values, torch.tensor([True, False]).view(1, 1, 1, 2)).sum().backward()
    assert_close(values.grad.flatten(), torch.tensor([1.0, 0.0]))


def test_precise_keeps_double_and_lifts_half():
    assert masked.precise(torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.float32
    assert masked.precise(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64
