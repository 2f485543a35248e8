import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from ilora.intrinsics.shading import Shading


def light(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Shading of one image with a patch of sun, fifty times brighter, and a mask with holes."""
    generator = torch.Generator().manual_seed(seed)
    map = torch.rand(1, 3, 16, 16, generator=generator) + 0.05
    map[..., :2, :2] += 50
    return map, torch.rand(1, 1, 16, 16, generator=generator) < 0.9


def test_the_exposure_by_hand():
    # Ten greys 0.1 to 1: the 90th percentile is 0.91, which becomes 0.8.
    map = torch.linspace(0.1, 1, 10).view(1, 1, 1, 10).repeat(1, 3, 1, 1)
    valid = torch.ones(1, 1, 1, 10, dtype=torch.bool)
    image = Shading().to_image(map, valid)
    assert_close(Shading().from_image(image), map * 0.8 / 0.91)
    code = 1.055 * (0.8 / 0.91 / 2) ** (1 / 2.4) - 0.055
    assert_close(image[0, 0, 0, 4].item(), 2 * code - 1)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(1e-3, 1e3))
def test_the_image_and_all_scores_ignore_the_scale(seed, scale):
    (map, valid), (other, _) = light(seed), light(seed + 1)
    assert_close(Shading().to_image(scale * map, valid), Shading().to_image(map, valid), atol=1e-5, rtol=0)
    plain = Shading().metrics(other, map, valid)
    for name, score in Shading().metrics(scale * other, 3.7 * map, valid).items():
        assert_close(score, plain[name], rtol=1e-4, atol=1e-5)


def test_the_map_comes_back_up_to_a_scale_below_the_clip():
    map, valid = light()
    back = Shading().from_image(Shading().to_image(map, valid))
    below = valid & (back < 0.999).all(1, keepdim=True)
    ratio = (back / map)[below.expand_as(map)]
    assert_close(ratio, ratio.mean().expand_as(ratio), rtol=1e-4, atol=0)
    assert below.sum() > 0.75 * valid.sum()
    assert (back[..., :2, :2][valid[..., :2, :2].expand(1, 3, 2, 2)] == 1).all()


def test_a_patch_of_sun_does_not_decide_the_score():
    map, _ = light()
    valid = torch.ones(1, 1, 16, 16, dtype=torch.bool)
    dim = map.clone()
    dim[..., :2, :2] /= 10  # still burnt out
    assert Shading().metrics(dim, map, valid)["si_rmse"] < 1e-3


def test_darkness_is_black_and_has_a_score():
    map, valid = light()
    dark = torch.zeros_like(map)
    assert_close(Shading().to_image(dark, valid), torch.where(valid, -1.0, 0.0).expand_as(map))
    scores = Shading().metrics(dark, map, valid)
    assert_close(scores["lmse"], torch.ones(1))
    assert scores["si_rmse"].isfinite().all() and scores["psnr"].isfinite().all()


def test_colour_of_the_light_is_kept():
    warm = torch.tensor([1.0, 0.7, 0.4]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    valid = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    back = Shading().from_image(Shading().to_image(warm, valid))
    assert_close(back / back[:, :1], warm)
    assert Shading().show(warm)[0, 0].min() > Shading().show(warm)[0, 2].max()
