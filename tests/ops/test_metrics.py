import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import metrics as skimage
from torch.testing import assert_close
from torchmetrics import functional as torchmetrics
from torchmetrics.functional.image import structural_similarity_index_measure

from ilora.ops import metrics


def angle(name: str, map: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    return metrics.angles(map, target, valid)[name]


ANGLES = {name: partial(angle, name) for name in ("mean_angle", "median_angle", "rmse_angle", "within_11.25")}
DEPTHS = {
    "abs_rel": metrics.abs_rel,
    "sq_rel": metrics.sq_rel,
    "rmse": metrics.rmse,
    "rmse_log": metrics.rmse_log,
    "log10": metrics.log10,
    "silog": metrics.silog,
    "i_rmse": metrics.i_rmse,
    "delta1": partial(metrics.delta, power=1),
}
COLOURS = {
    "si_mse": metrics.si_mse,
    "si_rmse": metrics.si_rmse,
    "lmse": metrics.lmse,
    "mse": metrics.mse,
    "psnr": metrics.psnr,
    "ssim": metrics.ssim,
}
EVERY = [*((name, f, 3) for name, f in (ANGLES | COLOURS).items()), *((name, f, 1) for name, f in DEPTHS.items())]
every = pytest.mark.parametrize(
    ("metric", "channels"), [(f, c) for _, f, c in EVERY], ids=[name for name, _, _ in EVERY]
)


def maps(channels: int, seed: int = 0, size: int = 16, dtype=torch.float32) -> tuple[torch.Tensor, ...]:
    """Two images, positive values, a fifth of the pixels invalid."""
    generator = torch.Generator().manual_seed(seed)
    map, target = (torch.rand(2, channels, size, size, generator=generator).to(dtype) + 0.1 for _ in range(2))
    return map, target, torch.rand(2, 1, size, size, generator=generator) < 0.8


def row(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, 1, 1, -1)


def tilted(*degrees: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Normals turned about x by so much, and those that face the viewer, as the pixels of a row."""
    t = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64)).float()
    map = torch.stack([0 * t, -t.sin(), t.cos()])[None, :, None]
    return map, torch.tensor([0.0, 0.0, 1.0])[None, :, None, None].expand_as(map)


# Normals.


def test_angles_by_hand():
    map, target = tilted(0, 10, 20, 90)
    valid = torch.ones(1, 1, 1, 4, dtype=torch.bool)
    got = {name: score.item() for name, score in metrics.angles(map, target, valid, thresholds=(7.5, 20.1)).items()}
    rmse = math.sqrt((100 + 400 + 8100) / 4)
    wanted = {"mean_angle": 30, "median_angle": 15, "rmse_angle": rmse, "within_7.5": 25, "within_20.1": 75}
    assert got == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("degrees", [0.0, 0.01, 10.0, 180.0])
def test_a_uniform_tilt_scores_itself(degrees):
    map, target = tilted(degrees, degrees, degrees)
    valid = torch.ones(1, 1, 1, 3, dtype=torch.bool)
    scores = metrics.angles(map, target, valid)
    for name in ("mean_angle", "median_angle", "rmse_angle"):
        assert scores[name].item() == pytest.approx(degrees, rel=1e-4, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_angles_do_not_depend_on_the_axes(seed):
    generator = torch.Generator().manual_seed(seed)
    map, target = (torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64)).Q
    turned = [torch.einsum("ij,bjhw->bihw", turn, v) for v in (map, target)]
    valid = torch.ones(2, 1, 4, 4, dtype=torch.bool)
    assert_close(metrics.angles(*turned, valid), metrics.angles(map, target, valid))


def test_a_zero_vector_is_no_match():
    map, target = tilted(0, 0)
    scores = metrics.angles(0 * map, target, torch.ones(1, 1, 1, 2, dtype=torch.bool))
    assert_close(scores["mean_angle"], torch.tensor([90.0]))


# Depth.


def test_depth_errors_by_hand():
    map, target, valid = row(2, 5, 3, 7), row(1, 4, 3, 0.001), row(1, 1, 1, 0).bool()
    got = {name: metric(map, target, valid).item() for name, metric in DEPTHS.items()}
    logs = np.log([2, 1.25, 1])
    wanted = {
        "abs_rel": (1 + 0.25 + 0) / 3,
        "sq_rel": (1 + 0.25 + 0) / 3,
        "rmse": math.sqrt(2 / 3),
        "rmse_log": math.sqrt((logs**2).mean()),
        "log10": logs.mean() / math.log(10),
        "silog": 100 * logs.std(),
        "i_rmse": 1000 * math.sqrt((0.5**2 + 0.05**2) / 3),
        "delta1": 100 / 3,  # a ratio of exactly 1.25 is not below it
    }
    assert got == pytest.approx(wanted, rel=1e-5)
    assert metrics.delta(map, target, valid, power=2).item() == pytest.approx(200 / 3)
    assert metrics.delta(map, target, valid, power=4).item() == pytest.approx(100)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_depth_errors_agree_with_torchmetrics(seed):
    map, target, valid = maps(1, seed)
    for image in range(2):
        x, y = map[image][valid[image]], target[image][valid[image]]
        assert_close(metrics.abs_rel(map, target, valid)[image], torchmetrics.mean_absolute_percentage_error(x, y))
        assert_close(metrics.rmse(map, target, valid)[image], torchmetrics.mean_squared_error(x, y, squared=False))
        rmse_log = torchmetrics.mean_squared_error(x.log(), y.log(), squared=False)
        assert_close(metrics.rmse_log(map, target, valid)[image], rmse_log)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.01, 100))
def test_silog_ignores_scale_and_is_what_rmse_log_leaves(seed, scale):
    map, target, valid = maps(1, seed, dtype=torch.float64)
    assert_close(metrics.silog(scale * map, target, valid), metrics.silog(map, target, valid))
    log = (map / target).log()
    for image in range(2):
        bias = log[image][valid[image]].mean()
        both = metrics.silog(map, target, valid)[image] ** 2 / 1e4 + bias**2
        assert_close(metrics.rmse_log(map, target, valid)[image] ** 2, both)


@pytest.mark.parametrize("metric", [f for name, f in DEPTHS.items() if name != "rmse"])
def test_a_depth_that_is_not_positive_is_refused(metric):
    with pytest.raises(ValueError, match=r"positive.*got -0\.5"):
        metric(row(1, -0.5), row(1, 1), row(1, 1).bool())


# Albedo and shading.


def test_si_mse_by_hand():
    # The best number for (1, 2) against (3, 1) is 1: errors 2 and -1.
    map, target, valid = row(1, 2, 9), row(3, 1, 9), row(1, 1, 0).bool()
    assert_close(metrics.si_mse(map, target, valid), torch.tensor([2.5]))
    assert_close(metrics.si_rmse(map, target, valid), torch.tensor([math.sqrt(2.5)]))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.01, 100))
def test_si_mse_agrees_with_numpy_and_ignores_scale(seed, scale):
    map, target, valid = maps(3, seed, size=6, dtype=torch.float64)
    got = metrics.si_mse(scale * map, target, valid)
    for image in range(2):
        kept = valid[image].expand(3, -1, -1)
        x, y = map[image][kept].numpy(), target[image][kept].numpy()
        if len(x) > 1:
            np.testing.assert_allclose(got[image], np.linalg.lstsq(x[:, None], y, rcond=None)[1][0] / len(x))


def naive_lmse(map: np.ndarray, target: np.ndarray, valid: np.ndarray, side: int, step: int) -> float:
    error = power = 0.0
    for top in range(0, map.shape[1] - side + 1, step):
        for left in range(0, map.shape[2] - side + 1, step):
            kept = valid[:, top : top + side, left : left + side].repeat(map.shape[0], 0)
            x, y = (m[:, top : top + side, left : left + side][kept] for m in (map, target))
            a = (x @ y) / (x @ x) if x @ x > 0 else 0.0
            error, power = error + ((y - a * x) ** 2).sum(), power + (y**2).sum()
    return error / power


@pytest.mark.parametrize(
    ("size", "window", "side", "step"),
    [(40, None, 4, 2), (32, None, 3, 1), (8, None, 2, 1), (48, 20, 20, 10), (9, 20, 9, 4)],
)
def test_lmse_agrees_with_a_loop_over_windows(size, window, side, step):
    map, target, valid = maps(3, size=size, dtype=torch.float64)
    wanted = [
        naive_lmse(m.numpy(), t.numpy(), v.numpy(), side, step) for m, t, v in zip(map, target, valid, strict=True)
    ]
    assert_close(metrics.lmse(map, target, valid, window=window), torch.tensor(wanted))


def test_lmse_forgives_a_slow_change_of_scale_and_is_one_for_black():
    _, target, valid = maps(3, size=40)
    slow = target * torch.linspace(1, 2, 40)
    power = torch.where(valid, target, 0).square().mean((1, 2, 3))
    assert (metrics.lmse(slow, target, valid) < 0.02 * metrics.si_mse(slow, target, valid) / power).all()
    assert_close(metrics.lmse(torch.zeros_like(target), target, valid), torch.ones(2))
    assert metrics.lmse(target, torch.zeros_like(target), valid).isnan().all()


def test_psnr_by_hand_and_against_scikit_image():
    map, target, valid = maps(3)
    half = row(0.5, 0.5, 7)
    assert_close(metrics.psnr(half, row(0.4, 0.6, 0), row(1, 1, 0).bool()), torch.tensor([20.0]))
    assert_close(metrics.psnr(half, half, row(1, 1, 1).bool()), torch.tensor([math.inf]))
    everywhere = torch.ones_like(valid)
    for image in range(2):
        wanted = skimage.peak_signal_noise_ratio(target[image].numpy(), map[image].numpy(), data_range=2.0)
        assert metrics.psnr(map, target, everywhere, peak=2.0)[image].item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_agrees_with_scikit_image_and_torchmetrics(channels):
    generator = torch.Generator().manual_seed(1)
    target = torch.rand(2, channels, 24, 30, generator=generator, dtype=torch.float64)
    map = (target + 0.2 * torch.randn(target.shape, generator=generator, dtype=torch.float64)).clamp(0, 1)
    got = metrics.ssim(map, target, torch.ones(2, 1, 24, 30, dtype=torch.bool))
    for image in range(2):
        wanted = skimage.structural_similarity(
            map[image].numpy(), target[image].numpy(), channel_axis=0, data_range=1.0, gaussian_weights=True,
            sigma=1.5, use_sample_covariance=False)  # fmt: skip
        assert got[image].item() == pytest.approx(wanted, abs=1e-7)
        inside = structural_similarity_index_measure(
            map[image : image + 1], target[image : image + 1], data_range=1.0, return_full_image=True
        )[1][..., 5:-5, 5:-5]
        assert got[image].item() == pytest.approx(inside.mean().item(), abs=1e-6)


def test_ssim_of_a_masked_window_by_the_formula():
    map, target, valid = maps(1, size=11, dtype=torch.float64)
    valid[..., 5, 5] = True
    d = torch.arange(11.0, dtype=torch.float64) - 5
    weight = torch.exp(-(d[:, None] ** 2 + d**2) / 4.5) * valid
    weight = weight / weight.sum((2, 3), keepdim=True)
    moment = lambda field: (weight * field).sum((1, 2, 3))  # noqa: E731
    x, y = moment(map), moment(target)
    xx, yy, xy = moment(map**2) - x * x, moment(target**2) - y * y, moment(map * target) - x * y
    wanted = (2 * x * y + 1e-4) * (2 * xy + 9e-4) / ((x * x + y * y + 1e-4) * (xx + yy + 9e-4))
    assert_close(metrics.ssim(map, target, valid), wanted)


def test_ssim_is_one_for_equal_maps_and_symmetric():
    map, target, valid = maps(3)
    assert_close(metrics.ssim(map, map, valid), torch.ones(2))
    assert_close(metrics.ssim(map, target, valid), metrics.ssim(target, map, valid))
    tiny = torch.rand(1, 3, 4, 6)
    assert_close(metrics.ssim(tiny, tiny, torch.ones(1, 1, 4, 6, dtype=torch.bool)), torch.ones(1))


def test_ssim_without_a_valid_centre_is_nan():
    map, target, _ = maps(3)
    border = torch.ones(2, 1, 16, 16, dtype=torch.bool)
    border[..., 5:-5, 5:-5] = False
    assert metrics.ssim(map, target, border).isnan().all()


def test_mse_by_hand_and_as_psnr_has_it():
    map, target, valid = maps(3)
    assert_close(metrics.mse(row(0.5, 0.5, 7), row(0.4, 0.7, 0), row(1, 1, 0).bool()), torch.tensor([0.025]))
    assert_close(metrics.psnr(map, target, valid), -10 * metrics.mse(map, target, valid).log10())
    x, y = map[0][valid[0].expand(3, -1, -1)], target[0][valid[0].expand(3, -1, -1)]
    assert_close(metrics.mse(map, target, valid)[0], torchmetrics.mean_squared_error(x, y))


def test_reconstruction_by_hand_and_of_a_picture_that_is_its_parts():
    # 0.5 * 0.4 = 0.2 and 0.5 * 0.8 + 0.1 = 0.5 against 0.3 and 0.5.
    albedo, shading, rest, image = row(0.5, 0.5, 9), row(0.4, 0.8, 9), row(0.0, 0.1, 9), row(0.3, 0.5, 0)
    valid = row(1, 1, 0).bool()
    assert_close(metrics.reconstruction(image, albedo, shading, valid, rest=rest), torch.tensor([math.sqrt(0.005)]))
    assert_close(metrics.reconstruction(image, albedo, shading, valid), torch.tensor([math.sqrt(0.01)]))
    map, target, valid = maps(3)
    whole = metrics.reconstruction(map * target + 0.1, map, target, valid, rest=torch.full_like(map, 0.1))
    assert_close(whole, torch.zeros(2), atol=1e-7, rtol=0)
    both = [metrics.reconstruction(map, 3 * map, target, valid), metrics.reconstruction(map, map, 3 * target, valid)]
    assert_close(*both)
    assert metrics.reconstruction(map, map, target, valid & False).isnan().all()
    with pytest.raises(ValueError, match="must be finite"):
        metrics.reconstruction(map, map, target, valid, rest=torch.full_like(map, math.nan))


# What all have in common.


@every
def test_each_image_is_judged_by_itself(metric, channels):
    map, target, valid = maps(channels)
    alone = torch.cat([metric(map[i : i + 1], target[i : i + 1], valid[i : i + 1]) for i in range(2)])
    assert_close(metric(map, target, valid), alone)


@every
def test_nothing_outside_the_mask_is_looked_at(metric, channels):
    map, target, valid = maps(channels)
    dirty = torch.where(valid, map, float("nan")), torch.where(valid, target, -math.inf)
    assert_close(metric(*dirty, valid), metric(map, target, valid), rtol=0, atol=0)


@every
def test_an_image_without_valid_pixels_is_nan(metric, channels):
    map, target, valid = maps(channels)
    valid = valid & torch.tensor([True, False])[:, None, None, None]
    got = metric(map, target, valid)
    assert got[0].isfinite() and got[1].isnan()


@every
@pytest.mark.parametrize("place", ["map", "target"])
def test_nan_inside_the_mask_is_refused(metric, channels, place):
    given = dict(zip(("map", "target", "valid"), maps(channels), strict=True))
    given["valid"][0, 0, 2, 3] = True
    given[place][0, 0, 2, 3] = float("nan")
    with pytest.raises(ValueError, match=f"the {place} must be finite.*got 1 NaN"):
        metric(given["map"], given["target"], given["valid"])


@every
def test_the_result_is_single_precision_at_least(metric, channels):
    map, target, valid = maps(channels)
    assert metric(map.bfloat16(), target, valid).dtype == torch.float32
    assert metric(map.double(), target, valid).dtype == torch.float64


def test_shapes_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match=r"one shape.*\[1, 1, 4, 4\], \[1, 1, 4, 5\].*resize"):
        metrics.require(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 5), torch.ones(1, 1, 4, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"mask \[b, 1, h, w\].*\[1, 3, 4, 4\]"):
        metrics.require(torch.ones(1, 3, 4, 4), torch.ones(1, 3, 4, 4), torch.ones(1, 3, 4, 4, dtype=torch.bool))
