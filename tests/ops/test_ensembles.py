import math

import pytest
import torch
from torch.testing import assert_close

from ilora.intrinsics import NAMES, intrinsic
from ilora.ops import ensembles


def test_deviation_by_hand() -> None:
    samples = torch.tensor([0.2, 0.4]).reshape(2, 1, 1, 1, 1)
    assert_close(ensembles.deviation(samples).item(), math.sqrt(0.02), atol=1e-6, rtol=0)
    coloured = torch.tensor([[0.0, 1.0, 2.0], [0.0, 3.0, 2.0]]).reshape(2, 1, 3, 1, 1)  # variances 0, 2, 0
    assert_close(ensembles.deviation(coloured).item(), math.sqrt(2 / 3), atol=1e-6, rtol=0)


def test_normals_by_hand() -> None:
    tilt = math.radians(10)
    pair = [[math.sin(angle), 0.0, math.cos(angle)] for angle in (tilt, -tilt)]
    mean, apart = intrinsic("normal").ensemble(torch.tensor(pair).reshape(2, 1, 3, 1, 1))
    assert_close(mean.flatten(), torch.tensor([0.0, 0.0, 1.0]))
    assert_close(apart.item(), math.sqrt(2 * 10**2), atol=1e-4, rtol=0)  # two angles of 10 deg, divided by 2 - 1
    across = torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]]).reshape(2, 1, 3, 1, 1)
    mean, apart = intrinsic("normal").ensemble(across)
    assert mean.flatten().tolist() == [0, 0, 1]
    assert_close(apart.item(), math.sqrt(2 * 90**2), atol=1e-4, rtol=0)


def test_depths_that_differ_in_scale_and_shift_agree() -> None:
    depth = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    mean, apart = intrinsic("depth").ensemble(torch.stack([depth, 0.5 * depth + 0.2]))
    assert_close(mean, 0.75 * depth + 0.1)
    assert apart.max() < 1e-6
    bent = depth.clone()
    bent[..., 2, 3] += 0.5
    apart = intrinsic("depth").ensemble(torch.stack([depth, bent, depth]))[1]
    assert apart.argmax() == 2 * 6 + 3


@pytest.mark.parametrize("name", NAMES)
def test_samples_that_agree_are_their_mean(name: str) -> None:
    kind = intrinsic(name)
    image = torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * 2 - 1
    map = kind.from_image(image)
    mean, apart = kind.ensemble(torch.stack([map] * 3))
    assert_close(mean, map)
    assert apart.shape == (2, 1, 5, 5)
    assert apart.max() < 1e-3
    other = kind.ensemble(torch.stack([map, kind.from_image(image.flip(0)), map]))[1]
    assert (other > 0).all() and other.isfinite().all()
