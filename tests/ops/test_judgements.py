import math

import pytest
import torch
from torch.testing import assert_close

from ilora.ops.judgements import EQUAL, FIRST, SECOND, whdr


def judgements(*said: tuple[float, float, int, float]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Points by their column, as shares of the width, in one row; who is darker, and the confidence."""
    points = torch.tensor([[(first, 0.5), (second, 0.5)] for first, second, _, _ in said]).reshape(-1, 2, 2)
    darker, weight = torch.tensor([row[2] for row in said]).long(), torch.tensor([row[3] for row in said]).float()
    return points, darker, weight


# Reflectances of four columns. 0.2 and 0.215 are within a tenth, 0.2 and 0.23 are not.
ALBEDO = torch.tensor([0.2, 0.215, 0.23, 0.8]).expand(3, 2, 4)


def test_disagreement_by_hand():
    said = judgements(
        (0.0, 0.25, EQUAL, 1.0),  # right
        (0.0, 0.5, EQUAL, 0.5),  # wrong: the first is darker
        (0.0, 0.99, FIRST, 2.0),  # right
        (0.99, 0.5, FIRST, 0.5),  # wrong
        (0.99, 0.5, SECOND, 0.0),  # right, without a vote
    )
    assert_close(whdr(ALBEDO, *said), torch.tensor(25.0))
    assert_close(whdr(ALBEDO, *said, delta=0.2), torch.tensor(12.5))


def test_it_agrees_with_the_rule_pair_by_pair():
    generator = torch.Generator().manual_seed(0)
    albedo = torch.rand(3, 9, 7, generator=generator)
    points = torch.rand(60, 2, 2, generator=generator)
    darker, weight = torch.randint(3, (60,), generator=generator), torch.rand(60, generator=generator)
    wrong = 0.0
    for place in range(60):
        (x1, y1), (x2, y2) = points[place].tolist()
        a, b = albedo[:, int(9 * y1), int(7 * x1)].mean(), albedo[:, int(9 * y2), int(7 * x2)].mean()
        wrong += weight[place] * ((1 if b > 1.1 * a else 2 if a > 1.1 * b else 0) != darker[place])
    found = whdr(albedo, points, darker, weight)
    assert_close(found, 100 * wrong / weight.sum())
    swapped = torch.tensor([EQUAL, SECOND, FIRST])[darker]
    assert_close(whdr(3 * albedo, points.flip(1), swapped, weight), found)


def test_degenerate_judgements():
    assert whdr(ALBEDO, *judgements()).isnan()
    assert whdr(ALBEDO, *judgements((0.0, 0.5, EQUAL, 0.0))).isnan()
    assert whdr(0 * ALBEDO, *judgements((0.0, 0.5, EQUAL, 1.0))) == 0
    hole = torch.where(torch.arange(4) == 3, math.nan, ALBEDO)
    assert whdr(hole, *judgements((0.0, 0.25, EQUAL, 1.0), (0.0, 0.99, FIRST, 0.0))) == 0
    with pytest.raises(ValueError, match=r"finite at every point.*got 1"):
        whdr(hole, *judgements((0.0, 0.99, FIRST, 1.0)))
    with pytest.raises(ValueError, match=r"in \[0, 1\), got 0 to 3"):
        whdr(ALBEDO, *judgements((0.0, 3.0, FIRST, 1.0)))
    with pytest.raises(ValueError, match=r"got \[5\]"):
        whdr(ALBEDO, *judgements((0.0, 0.5, 5, 1.0)))
