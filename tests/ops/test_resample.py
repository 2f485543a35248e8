import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from ilora.ops import resample


def test_halving_by_hand():
    row = torch.tensor([0.0, 0.0, 0.0, 8.0, 0.0, 0.0]).view(1, 1, 1, 6)
    # A tent two pixels wide on either side of the new centres: weights 1 3 3 1 over 8, 3 3 1 over 7 at the border.
    assert_close(resample.resize(row, 1, 3).flatten(), torch.tensor([0.0, 3.0, 8 / 7]))


def test_a_constant_stays_and_a_ramp_stays_a_ramp():
    assert_close(resample.resize(torch.full((1, 2, 7, 5), 3.0), 4, 9), torch.full((1, 2, 4, 9), 3.0))
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)
    assert_close(resample.resize(ramp, 32, 32)[0, 0, 5, 2:-2].diff(), torch.full((27,), 0.5))


def test_the_same_size_is_the_same_map():
    field = torch.rand(1, 3, 4, 5)
    assert_close(resample.resize(field, 4, 5), field, rtol=0, atol=0)


def test_half_precision_keeps_its_type():
    assert_close(
        resample.resize(torch.ones(1, 1, 4, 4, dtype=torch.bfloat16), 2, 2),
        torch.ones(1, 1, 2, 2, dtype=torch.bfloat16),
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 12), st.integers(1, 12))
def test_every_pixel_is_a_mean_and_sizes_are_as_asked(seed, height, width):
    field = torch.rand(1, 2, 6, 7, generator=torch.Generator().manual_seed(seed))
    sized = resample.resize(field, height, width)
    assert sized.shape == (1, 2, height, width)
    assert sized.min() >= field.min() - 1e-6 and sized.max() <= field.max() + 1e-6
    assert_close(resample.resize(field.flip(-1), height, width), sized.flip(-1), atol=1e-5, rtol=0)
