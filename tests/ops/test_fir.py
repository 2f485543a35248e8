import numpy as np
import pytest
import torch
from scipy.signal import upfirdn
from torch.testing import assert_close

from ilora.ops.fir import fir

IMAGE = torch.randn(2, 3, 7, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TAPS = torch.tensor([0.1, 0.5, -0.3, 0.2, 0.4], dtype=torch.float64)


@pytest.mark.parametrize(("up", "down"), [(1, 1), (2, 1), (1, 2), (3, 2)])
def test_it_is_scipys_filter(up: int, down: int) -> None:
    """Against scipy along each axis; with full padding every sample of its result is there."""
    ours = fir(IMAGE, TAPS, up=up, down=down, padding=(4, 4, 4, 4), gain=4)
    theirs = IMAGE.numpy()
    for axis in (2, 3):
        theirs = upfirdn(TAPS.numpy(), theirs, up=up, down=1, axis=axis)
        # scipy ends with the last sample, ours with the zeros after it.
        theirs = np.pad(theirs, [(0, up - 1 if each == axis else 0) for each in range(4)]).take(
            range(0, theirs.shape[axis] + up - 1, down), axis
        )
    assert_close(ours, torch.from_numpy(4 * theirs))


def test_two_axes_of_taps_are_their_outer_product() -> None:
    flat = TAPS[:, None] * TAPS
    options = {"up": 2, "down": 2, "padding": (3, -1, 2, 5), "gain": 2.0}
    assert_close(fir(IMAGE, TAPS, **options), fir(IMAGE, flat, **options))


def test_a_filter_that_is_not_separable() -> None:
    """By hand: one sample spreads as the taps stand, not mirrored, since a convolution mirrors them itself."""
    taps = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    point = torch.zeros(1, 1, 2, 2)
    point[0, 0, 0, 0] = 1
    assert_close(fir(point, taps, padding=(1, 0, 1, 0))[0, 0], torch.tensor([[1.0, 2.0], [3.0, 4.0]]))


def test_without_taps_it_only_moves_samples() -> None:
    cropped = fir(IMAGE, torch.ones([], dtype=torch.float64), padding=(-1, -2, 0, -3))
    assert torch.equal(cropped, IMAGE[:, :, :4, 1:7])


def test_doubling_keeps_a_flat_image() -> None:
    taps = torch.tensor([1.0, 3, 3, 1]) / 8
    doubled = fir(torch.full((1, 1, 6, 6), 0.7), taps, up=2, padding=(2, 1, 2, 1), gain=4)
    assert doubled.shape == (1, 1, 12, 12)
    assert_close(doubled[:, :, 2:-2, 2:-2], torch.full((1, 1, 8, 8), 0.7))
