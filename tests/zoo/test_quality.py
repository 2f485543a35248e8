"""Distances between sets of pictures against values worked out by hand and independent formulas."""

from functools import partial

import numpy as np
import pytest
import scipy.linalg
import torch

from ilora.data import dataset
from ilora.zoo import quality


def normal(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_frechet_of_a_shift_is_the_squared_shift():
    a = normal(500, 8, 0)
    assert quality.frechet(a, a + 0.5) == pytest.approx(8 * 0.25, rel=1e-5)
    assert quality.frechet(a, a) == pytest.approx(0, abs=1e-8)


def test_frechet_of_a_scaling_is_worked_out_by_hand():
    # Same mean, covariances c and 4 c: trace (c + 4 c - 2 * 2 c) = trace c.
    a = normal(500, 4, 1)
    a = a - a.mean(0)
    assert quality.frechet(a, 2 * a) == pytest.approx(float(torch.cov(a.T).trace()), rel=1e-5)


def test_frechet_agrees_with_the_matrix_square_root():
    a, b = normal(300, 6, 2).double(), (normal(400, 6, 3) @ normal(6, 6, 4) + 1).double()
    ca, cb = np.cov(a.numpy().T), np.cov(b.numpy().T)
    cross = scipy.linalg.sqrtm(ca @ cb).real
    expected = float((a.mean(0) - b.mean(0)).square().sum()) + np.trace(ca + cb - 2 * cross)
    assert quality.frechet(a, b) == pytest.approx(expected, rel=1e-6)


def test_kernel_distance_by_hand():
    # One-dimensional features {0, 1} against {0, 1}: pairs within give k(0, 1) = 1, across the mean of 1, 1, 1, 8.
    a = torch.tensor([[0.0], [1.0]])
    assert quality.kernel_distance(a, a) == pytest.approx(1 + 1 - 2 * (1 + 1 + 1 + 8) / 4)


def test_kernel_distance_is_unbiased_and_grows_with_a_shift():
    a, b = normal(600, 4, 5), normal(600, 4, 6)
    assert abs(quality.kernel_distance(a, b)) < 0.05
    assert quality.kernel_distance(a, b + 1) > quality.kernel_distance(a, b + 0.3) > 0.1


def test_sliced_wasserstein_is_zero_for_the_same_and_grows_with_noise():
    pictures = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(7)) * 2 - 1
    noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(8))
    distances = [quality.sliced_wasserstein(pictures + level * noise, pictures, slices=32) for level in (0, 0.2, 0.5)]
    assert distances[0] < distances[1] < distances[2]


def test_sliced_wasserstein_of_a_brighter_set_is_the_shift_in_deviations():
    # Band-pass levels do not see a constant; at the lowest, projections move by shift * sum(direction) / std.
    pictures = torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(9))
    brighter = quality.sliced_wasserstein(pictures + 0.5, pictures)
    # E |sum of 147 components of a random unit vector| is sqrt(2 / pi).
    assert brighter == pytest.approx(0.5 * (2 / torch.pi) ** 0.5, rel=0.2)


def test_distances_of_pictures_grow_as_they_are_spoilt(monkeypatch):
    monkeypatch.setattr(quality, "sliced_wasserstein", partial(quality.sliced_wasserstein, slices=8))
    real = dataset("rooms", intrinsic="depth", split="validation")
    pictures = torch.stack([real[place].image for place in range(48)])
    pictures, others = pictures[:24], pictures[24:]
    noise = torch.randn(others.shape, generator=torch.Generator().manual_seed(11))
    found = [quality.measure((others + level * noise).clamp(-1, 1), pictures) for level in (0, 0.3, 1.0)]
    for name in ("frechet", "kernel", "sliced_wasserstein"):
        assert found[0][name] < found[1][name] < found[2][name]
