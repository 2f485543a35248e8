"""Depth from disparity: true up to a scale, limited, and never NaN."""

import torch
from torch.testing import assert_close

from ilora.ops import disparity


def test_values_by_hand() -> None:
    given = torch.tensor([10.0, 10, 5, 1, 0.5, 0.1, 0, -3]).view(1, 1, 2, 4)
    wanted = torch.tensor([1.0, 1, 2, 10, 20, 20, 20, 20]).view(1, 1, 2, 4)
    assert_close(disparity.relative_depth(given), wanted)


def test_disparity_of_a_scene_gives_its_depth_up_to_a_scale() -> None:
    depth = 2 + 8 * torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scale = torch.tensor([1.0, 7.0, 0.01], dtype=torch.float64).view(3, 1, 1, 1)
    found = disparity.relative_depth(scale / depth)
    assert_close(found / found.mean((1, 2, 3), keepdim=True), depth / depth.mean((1, 2, 3), keepdim=True))


def test_one_bright_pixel_does_not_move_the_rest() -> None:
    given = torch.full((1, 1, 20, 20), 2.0)
    given[0, 0, 3, 3] = 1e6
    assert disparity.relative_depth(given).flatten().sort().values[1:].eq(1).all()


def test_what_tells_nothing_is_one_everywhere() -> None:
    for value in (0.0, -1.0):
        assert disparity.relative_depth(torch.full((2, 1, 4, 4), value)).eq(1).all()
