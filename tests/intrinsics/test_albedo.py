import math

import torch
from torch.testing import assert_close

from ilora.intrinsics.albedo import Albedo

ALL = torch.ones(1, 1, 1, 2, dtype=torch.bool)


def pair(first: float, second: float) -> torch.Tensor:
    return torch.tensor([first, second]).view(1, 1, 1, 2).repeat(1, 3, 1, 1)


def test_the_image_is_the_srgb_code():
    # 0.2140411 of the light has the sRGB code 0.5.
    assert_close(Albedo().to_image(pair(0.2140411, 1.0), ALL), pair(0.0, 1.0), atol=1e-5, rtol=0)
    assert_close(Albedo().from_image(pair(0.0, -1.0)), pair(0.2140411, 0.0))


def test_every_albedo_comes_back():
    map = torch.linspace(0, 1, 300).view(1, 3, 10, 10)
    valid = torch.ones(1, 1, 10, 10, dtype=torch.bool)
    assert_close(Albedo().from_image(Albedo().to_image(map, valid)), map, atol=1e-6, rtol=0)


def test_codes_beyond_the_range_are_clipped():
    assert_close(Albedo().from_image(pair(-1.4, 1.2)), pair(0.0, 1.0))


def test_the_scale_invariant_error_is_linear_and_divided_by_nothing():
    # The best number for (.1, .2) against (.3, .1) is 1: errors .2 and -.1.
    scores = Albedo().metrics(pair(0.1, 0.2), pair(0.3, 0.1), ALL)
    assert_close(scores["si_rmse"], torch.tensor([math.sqrt(0.025)]))
    assert_close(scores["si_mse"], torch.tensor([0.025]))


def test_only_the_scale_invariant_errors_forgive_a_darker_map():
    map = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    scores = Albedo().metrics(0.5 * map, map, torch.ones(1, 1, 16, 16, dtype=torch.bool))
    assert scores["si_rmse"] < 1e-6 and scores["lmse"] < 1e-6
    assert scores["psnr"] < 20 and scores["ssim"] < 0.95


def test_psnr_is_that_of_the_codes():
    # Codes 0.5 and 0.6 against 0.5 and 0.5: mean squared error 0.005.
    map = Albedo().from_image(pair(0.0, 0.2))
    assert_close(Albedo().metrics(map, pair(0.2140411, 0.2140411), ALL)["psnr"], torch.tensor([23.0103]))
