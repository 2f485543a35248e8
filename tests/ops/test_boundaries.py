import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ilora.ops.boundaries import boundary_f1


def boxes(seed: int = 0, size: int = 24) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Depth of boxes before a wall, a blurred copy of it, and a mask with holes."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.full((1, 1, size, size), 4.0, dtype=torch.float64)
    for depth in (3.6, 2.5, 1.5):
        y, x = torch.randint(2, size - 10, (2,), generator=generator).tolist()
        target[..., y : y + 8, x : x + 6] = depth
    map = 0.5 * (target + target.roll((0, 1), (2, 3))) + 0.1 * torch.rand(target.shape, generator=generator)
    return map, target, torch.rand(target.shape, generator=generator) < 0.9


def looped(map: np.ndarray, target: np.ndarray, valid: np.ndarray) -> float:
    """The paper's equations, pair by pair."""
    total = weights = 0.0
    for t in np.linspace(1.05, 1.25, 10):
        both = found = true = 0
        for y, x in np.argwhere(valid):
            for v, u in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if 0 <= v < len(valid) and 0 <= u < len(valid[0]) and valid[v, u]:
                    ours, theirs = map[v, u] / map[y, x] > t, target[v, u] / target[y, x] > t
                    both, found, true = both + (ours and theirs), found + ours, true + theirs
        if true:
            precision, recall = both / max(found, 1), both / true
            total += t * 2 * precision * recall / (precision + recall) if both else 0.0
            weights += t
    return total / weights


def test_a_step_by_hand():
    # One true jump of 1.2. The map has it, and one of 1.1 where there is none: precision is 1/2 for t up to 1.1.
    target = torch.tensor([1.0, 1.0, 1.2, 1.2]).view(1, 1, 1, 4)
    map = torch.tensor([1.0, 1.1, 1.32, 1.32]).view(1, 1, 1, 4)
    every = torch.linspace(1.05, 1.25, 10)
    counted, spoilt = every < 1.2, every < 1.1
    wanted = (every * torch.where(spoilt, 2 / 3, 1.0))[counted].sum() / every[counted].sum()
    assert_close(boundary_f1(map, target, torch.ones(1, 1, 1, 4, dtype=torch.bool)), wanted[None])


@pytest.mark.parametrize("seed", [0, 1])
def test_it_agrees_with_a_loop_over_pairs(seed):
    map, target, valid = boxes(seed)
    wanted = looped(*(values[0, 0].numpy() for values in (map, target, valid)))
    assert 0.1 < wanted < 0.9
    assert boundary_f1(map, target, valid).item() == pytest.approx(wanted, rel=1e-9)


def test_scale_and_mirrors_do_not_matter_and_a_shift_does():
    map, target, valid = boxes()
    plain = boundary_f1(map, target, valid)
    assert_close(boundary_f1(7 * map, target, valid), plain)
    assert_close(boundary_f1(map.flip(-1), target.flip(-1), valid.flip(-1)), plain)
    assert_close(boundary_f1(map.mT, target.mT, valid.mT), plain)
    assert_close(boundary_f1(target, target, valid), torch.ones(1).double())
    assert boundary_f1(target + 20, target, valid) < 0.3


def test_degenerate_images():
    map, target, valid = boxes()
    flat = torch.ones_like(target)
    assert boundary_f1(map, flat, valid).isnan().all()  # no boundary to find
    assert boundary_f1(flat, target, valid) == 0
    assert boundary_f1(map, target, torch.zeros_like(valid)).isnan().all()
    dirty = torch.where(valid, map, math.nan), torch.where(valid, target, math.inf)
    assert_close(boundary_f1(*dirty, valid), boundary_f1(map, target, valid))
    with pytest.raises(ValueError, match="must be finite"):
        boundary_f1(torch.full_like(map, math.nan), target, valid)
    with pytest.raises(ValueError, match="must be positive"):
        boundary_f1(0 * map, target, valid)
