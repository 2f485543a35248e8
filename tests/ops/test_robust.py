import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch.testing import assert_close

from ilora.ops import robust


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def row(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1)


def noisy(seed: int, *, wrong: float = 0.0, size: int = 8) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A map affine in depth with noise of 1 %, a share of wrong pixels, and four fifths valid."""
    generator = seeded(seed)
    target = 1 + 4 * torch.rand(1, 1, size, size, generator=generator, dtype=torch.float64)
    map = (target * (1 + 0.01 * torch.randn(target.shape, generator=generator, dtype=torch.float64)) - 3) / 2
    spoilt = torch.rand(target.shape, generator=generator) < wrong
    map = torch.where(spoilt, 10 * torch.rand(target.shape, generator=generator, dtype=torch.float64), map)
    return map, target, torch.rand(target.shape, generator=generator) < 0.8


def cost(line: tuple[torch.Tensor, torch.Tensor], map, target, valid, limit: float = math.inf) -> float:
    x, y = map[valid], target[valid]
    return ((line[0] * x + line[1] - y).abs() / y).clamp(max=limit).sum().item()


def test_the_weighted_median_by_hand():
    # A constant map leaves a shift only. Weights of 1, 2, 4 m: 1, .5, .25, half of all is .875: the median is 1 m.
    s, t = robust.l1(row(7, 7, 7), row(1, 2, 4), torch.ones(1, 1, 1, 3, dtype=torch.bool))
    assert_close((s, t), (torch.zeros(1).double(), torch.ones(1).double()))


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.3]))
def test_no_line_has_a_smaller_weighted_error_than_the_linear_program(seed, wrong):
    map, target, valid = noisy(seed, wrong=wrong)
    x, y = map[valid].numpy(), target[valid].numpy()
    n = len(x)
    rows = np.concatenate([np.stack([x, np.ones(n)], 1), -np.eye(n)], 1)  # |s x + t - y| <= e
    back = np.concatenate([-np.stack([x, np.ones(n)], 1), -np.eye(n)], 1)
    found = linprog(np.concatenate([[0, 0], 1 / y]), np.concatenate([rows, back]), np.concatenate([y, -y]),
                    bounds=[(None, None)] * 2 + [(0, None)] * n)  # fmt: skip
    assert cost(robust.l1(map, target, valid), map, target, valid) == pytest.approx(found.fun, rel=1e-8)


def test_the_truncated_error_is_least_among_all_lines_through_two_pixels():
    for seed in range(4):
        map, target, valid = noisy(seed, wrong=0.3, size=6)
        x, y = map[valid], target[valid]
        first, second = torch.triu_indices(len(x), len(x), 1)
        scale = (y[second] - y[first]) / (x[second] - x[first])
        every = ((scale[:, None] * (x - x[first, None]) + y[first, None] - y).abs() / y).clamp(max=0.1).sum(1)
        found = cost(robust.l1(map, target, valid, truncate=0.1), map, target, valid, 0.1)
        assert found == pytest.approx(every.min().item(), rel=1e-6)
        assert found < cost(robust.l1(map, target, valid), map, target, valid, 0.1)


@pytest.mark.parametrize("name", ["l1", "truncated", "ransac"])
@pytest.mark.parametrize(("scale", "shift"), [(2.0, 3.0), (-0.3, 1.0), (1e4, -1e5)])
def test_an_affine_copy_is_brought_back_whole_despite_wrong_pixels(name, scale, shift):
    _, target, valid = noisy(1, size=12)
    map = target * scale + shift
    if name != "l1":  # a fifth of the pixels is far off
        map = torch.where(torch.rand(map.shape, generator=seeded(2)) < 0.2, map.flip(-1), map)
    s, t = {
        "l1": lambda: robust.l1(map, target, valid),
        "truncated": lambda: robust.l1(map, target, valid, truncate=0.05),
        "ransac": lambda: robust.ransac(map, target, valid, generator=seeded()),
    }[name]()
    assert_close((s * scale, s * shift + t), (torch.ones(1).double(), torch.zeros(1).double()), rtol=1e-7, atol=1e-6)


def test_ransac_forgets_the_half_that_is_wrong_and_repeats_itself():
    map, target, valid = noisy(3, wrong=0.5, size=16)
    s, t = robust.ransac(map, target, valid, generator=seeded(5))
    assert_close((s, t), (torch.full((1,), 2.0).double(), torch.full((1,), 3.0).double()), rtol=0.02, atol=0.02)
    assert robust.ransac(map, target, valid, generator=seeded(5)) == (s, t)
    assert abs(robust.l1(map, target, valid)[0] - 2) > 10 * abs(s - 2)


def test_the_nearest_valid_pixel_of_each_cell_by_hand():
    valid = torch.ones(1, 1, 6, 6, dtype=torch.bool)
    kept = robust.thinned(valid, side=2)[0, 0]
    assert kept.nonzero().tolist() == [[1, 1], [1, 4], [4, 1], [4, 4]]  # the centres of four cells of 3 x 3
    valid[0, 0, 1, 1] = False
    valid[0, 0, :3, 3:] = False
    assert robust.thinned(valid, side=2)[0, 0].nonzero().tolist() == [[0, 1], [4, 1], [4, 4]]
    uneven = torch.rand(2, 1, 30, 20, generator=seeded()) < 0.7
    assert torch.equal(robust.thinned(uneven, side=64), uneven)
    assert (robust.thinned(uneven, side=8).flatten(1).sum(1) <= 64).all()


@pytest.mark.parametrize(
    "solve",
    [robust.l1, partial(robust.l1, truncate=0.1), lambda *maps: robust.ransac(*maps, generator=seeded())],
    ids=["l1", "truncated", "ransac"],
)
def test_degenerate_images(solve):
    map, target, valid = (values.repeat(3, 1, 1, 1) for values in noisy(0))
    map[1], valid[2] = 7.0, False
    dirty = torch.where(valid, map, math.nan), torch.where(valid, target, -math.inf)
    s, t = solve(*dirty, valid)
    assert_close(s[1:], torch.tensor([0.0, math.nan]).double(), equal_nan=True)
    assert target[1][valid[1]].min() <= t[1] <= target[1][valid[1]].max() and t[2].isnan()
    assert solve(map.float(), target.float(), valid)[0].dtype == torch.float32
    with pytest.raises(ValueError, match=r"positive.*got -1"):
        solve(map, torch.where(valid, -1.0, 1.0).double(), valid)
