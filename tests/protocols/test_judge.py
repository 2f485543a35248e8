"""What every protocol promises: perfection is perfect, what is aligned does not matter, steps are those published."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio
from torch.testing import assert_close

from ilora import protocols
from ilora.intrinsics import intrinsic
from ilora.ops import color, geometry, metrics
from ilora.ops.metrics import LEGEND
from ilora.protocols import Verdict, judge, protocol
from ilora.protocols.published import PROTOCOLS
from ilora.protocols.steps import CROPS, grid

EVERY = [(name, kind) for name, one in PROTOCOLS.items() for kind, rule in one.rules.items() if not rule.judged]
every = pytest.mark.parametrize(("name", "quantity"), EVERY, ids=[" ".join(pair) for pair in EVERY])
BEST = {"%": 100.0, "dB": math.inf, "": 1.0}  # of what is better higher


def scene(quantity: str, *, size: tuple[int, int] = (24, 32), seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """True maps of two images with edges, and a mask with holes. Depth is below the least of all ranges' far ends."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(2, 3, 5, 6, generator=generator, dtype=torch.float64)
    field = torch.nn.functional.interpolate(coarse, size, mode="nearest") * 0.9 + 0.05
    field = field + 0.02 * torch.rand(field.shape, generator=generator, dtype=torch.float64)
    if quantity == "normal":
        map = geometry.normalize(field - torch.tensor([0.5, 0.5, -0.3])[:, None, None])
    else:
        map = 1 + 8 * field[:, :1] if quantity in ("depth", "disparity") else field
    return map, torch.rand(2, 1, *size, generator=generator) < 0.9


def verdict(name: str, quantity: str, map: torch.Tensor, target: torch.Tensor, valid: torch.Tensor) -> Verdict:
    return judge(protocol(name), quantity, map, target, valid)


def perfect(scores: dict[str, torch.Tensor]) -> None:
    for metric, values in scores.items():
        legend = LEGEND[metric]
        if legend.unit == "dB":
            assert (values > 100).all(), metric
        else:
            best = BEST[legend.unit] if legend.better == "higher" else 0.0
            assert_close(values.double(), torch.full((2,), best).double(), atol=1e-4, rtol=0, msg=metric)


@every
def test_a_perfect_prediction_scores_perfectly(name, quantity):
    target, valid = scene(quantity)
    map = 1 / target if quantity == "disparity" else target
    found = verdict(name, quantity, map, target, valid)
    perfect(found.scores)
    assert protocols.primary(protocol(name), quantity) == next(iter(found.scores))
    assert LEGEND[next(iter(found.scores))].better == "lower"


AFFINE = [(name, quantity) for name, quantity in EVERY if "scale and shift" in PROTOCOLS[name].rules[quantity].expects]
SCALED = [
    (name, quantity) for name, quantity in EVERY if PROTOCOLS[name].rules[quantity].expects.endswith("up to scale")
]


@pytest.mark.parametrize(("name", "quantity"), [*AFFINE, ("rooms", "depth")])
@pytest.mark.parametrize(("scale", "shift"), [(0.07, 3.0), (-2.0, 50.0)])
def test_scale_and_shift_do_not_matter_where_they_are_aligned(name, quantity, scale, shift):
    target, valid = scene(quantity)
    map = 1 / target if quantity == "disparity" else target
    perfect(verdict(name, quantity, scale * map + shift, target, valid).scores)


@pytest.mark.parametrize(("name", "quantity"), SCALED)
def test_scale_does_not_matter_where_it_is_aligned(name, quantity):
    target, valid = scene(quantity)
    perfect(verdict(name, quantity, 0.013 * target, target, valid).scores)


def test_what_is_aligned_is_what_the_words_say():
    assert len(AFFINE) == 13 and len(SCALED) == 6
    target, valid = scene("depth")
    assert (
        verdict("depth-metric", "depth", 1.1 * target, target, valid)
        .scores["abs_rel"]
        .double()
        .allclose(torch.tensor(0.1).double())
    )
    assert (verdict("median", "depth", target + 3, target, valid).scores["abs_rel"] > 0.05).all()


@pytest.mark.parametrize("name", protocols.names("normal"))
def test_a_tilt_of_ten_degrees_is_ten_degrees(name):
    target, valid = scene("normal")
    turn = math.radians(10)
    axis = geometry.normalize(
        torch.linalg.cross(target, torch.tensor([0.3, -0.8, 0.1]).double().view(1, 3, 1, 1), dim=1)
    )
    map = target * math.cos(turn) + torch.linalg.cross(axis, target, dim=1) * math.sin(turn)
    found = verdict(name, "normal", map, target, valid)
    tally = protocols.Tally(2)
    tally.add(torch.arange(2), found)
    for metric, summary in tally.summaries(resamples=50).items():
        wanted = 10.0 if metric.endswith("angle") else 100.0 * (float(metric.split("_")[1]) > 10)
        assert_close(found.scores[metric].double(), torch.full((2,), wanted).double(), atol=1e-4, rtol=0)
        assert summary.mean == pytest.approx(wanted, abs=1e-4)


def test_pooling_gives_pixels_and_averaging_gives_images_one_vote():
    target, valid = scene("normal")
    map = target.clone()
    map[:1] = torch.linalg.cross(target[:1], torch.ones(1, 3, 1, 1).double(), dim=1)
    valid[0, :, :, 8:] = False  # the image that is 90 deg wrong has the fewer pixels
    share = valid[0].sum() / valid.sum()
    means = {}
    for name in ("dsine-nyu", "marigold-normals"):
        tally = protocols.Tally(2)
        tally.add(torch.arange(2), verdict(name, "normal", map, target, valid))
        means[name] = tally.summaries(resamples=50)["mean_angle"].mean
    assert means["marigold-normals"] == pytest.approx(45, abs=1e-4)
    assert means["dsine-nyu"] == pytest.approx(90 * share.item(), abs=1e-4) and means["dsine-nyu"] < 30


def by_numpy(map: np.ndarray, target: np.ndarray, valid: np.ndarray, *, low: float, high: float) -> dict[str, float]:
    """Marigold's steps and metrics for one image, written down anew."""
    kept = valid & (target > low) & (target < high)
    x, y = map[kept], target[kept]
    scale, shift = np.polyfit(x, y, 1)
    x = np.clip(scale * x + shift, max(low, 1e-6), high)
    logs = np.log(x) - np.log(y)
    return {
        "abs_rel": np.mean(np.abs(x - y) / y),
        "sq_rel": np.mean((x - y) ** 2 / y),
        "rmse": np.sqrt(np.mean((x - y) ** 2)),
        "rmse_log": np.sqrt(np.mean(logs**2)),
        "log10": np.mean(np.abs(np.log10(x) - np.log10(y))),
        "silog": 100 * np.sqrt(np.mean(logs**2) - np.mean(logs) ** 2),
        **{f"delta{k}": 100 * np.mean(np.maximum(x / y, y / x) < 1.25**k) for k in (1, 2, 3)},
        "i_rmse": 1000 * np.sqrt(np.mean((1 / x - 1 / y) ** 2)),
    }


RANGES = {"marigold-nyu": (1e-3, 10), "marigold-kitti": (1e-5, 80), "marigold-eth3d": (1e-5, math.inf),
          "marigold-scannet": (1e-3, 10), "marigold-diode": (0.6, 350)}  # fmt: skip


def window(name: str, height: int, width: int) -> np.ndarray:
    """The published crops, with their numbers of pixels or shares."""
    inside = np.zeros((height, width), dtype=bool)
    if name == "marigold-nyu":
        inside[45:471, 41:601] = True
    elif name == "marigold-kitti":
        top, left = height - 352, (width - 1216) // 2
        rows = (int(0.3324324 * 352), int(0.91351351 * 352))
        columns = (int(0.0359477 * 1216), int(0.96405229 * 1216))
        inside[top + rows[0] : top + rows[1], left + columns[0] : left + columns[1]] = True
    else:
        inside[:] = True
    return inside


@pytest.mark.parametrize("name", RANGES)
def test_marigolds_depth_by_another_formula_at_the_published_sizes(name):
    size = {"marigold-nyu": (480, 640), "marigold-kitti": (375, 1242)}.get(name, (60, 80))
    generator = torch.Generator().manual_seed(1)
    target = torch.rand(1, 1, *size, generator=generator, dtype=torch.float64) * 12
    map = target * torch.exp(0.3 * torch.randn(target.shape, generator=generator, dtype=torch.float64)) - 2
    valid = torch.rand(target.shape, generator=generator) < 0.8
    low, high = RANGES[name]
    kept = valid[0, 0].numpy() & window(name, *size)
    wanted = by_numpy(map[0, 0].numpy(), target[0, 0].numpy(), kept, low=low, high=high)
    found = verdict(name, "depth", map, target, valid)
    assert {metric: value.item() for metric, value in found.scores.items()} == pytest.approx(wanted, rel=1e-6)
    within = (target[0, 0].numpy() > low) & (target[0, 0].numpy() < high)
    assert found.pixels.item() == (kept & within).sum()


def test_eth3d_is_aligned_on_the_pixels_that_nearest_resizing_keeps():
    target = 1 + torch.rand(1, 1, 8, 2500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    map = target**2
    every = torch.ones_like(target).bool()
    small = [torch.nn.functional.interpolate(x, scale_factor=1024 / 2500, mode="nearest") for x in (map, target)]
    scale, shift = np.polyfit(*(x.flatten().numpy() for x in small), 1)
    wanted = ((scale * map + shift - target).abs() / target).mean()
    assert_close(
        verdict("marigold-eth3d", "depth", map, target, every).scores["abs_rel"], wanted[None], rtol=1e-6, atol=0
    )
    assert (verdict("marigold-diode", "depth", map, target, every).scores["abs_rel"] - wanted).abs() > 1e-6


def test_robust_alignments_are_not_pulled_by_a_tenth_of_wrong_pixels():
    target, valid = scene("depth", size=(64, 64))
    wrong = torch.rand(target.shape, generator=torch.Generator().manual_seed(3)) < 0.1
    map = torch.where(wrong, target.flip(-1), target)
    wanted = metrics.abs_rel(map, target, valid)
    for name in ("moge", "ransac-log"):
        assert_close(verdict(name, "depth", map, target, valid).scores["abs_rel"].double(), wanted, atol=1e-6, rtol=0)
    assert (verdict("marigold-diode", "depth", map, target, valid).scores["abs_rel"] > 1.2 * wanted).all()


def test_marigolds_albedo_is_compared_as_srgb_and_shading_after_scale_and_exposure():
    target, valid = scene("albedo")
    map = (target + 0.1).clamp(max=1)
    found = verdict("marigold-iid", "albedo", map, target, valid).scores["psnr"]
    light = 3 * target  # 0.15 to 2.85
    shaded = verdict("marigold-iid", "shading", 0.2 * map, light, valid).scores["psnr"]
    for image in range(2):
        kept = valid[image].expand(3, -1, -1)
        coded = [color.to_srgb(x[image][kept]).numpy() for x in (map, target)]
        assert found[image].item() == pytest.approx(peak_signal_noise_ratio(coded[1], coded[0], data_range=1), rel=1e-6)
        x, y = 0.2 * map[image][kept].numpy(), light[image][kept].numpy()
        x = x * (x @ y) / (x @ x)
        grey = np.tensordot([0.3, 0.59, 0.11], light[image].numpy(), 1)[valid[image, 0].numpy()]
        bright = 0.8 / np.quantile(grey, 0.9)
        x, y = np.clip(bright * x, 0, 1), np.clip(bright * y, 0, 1)
        assert shaded[image].item() == pytest.approx(peak_signal_noise_ratio(y, x, data_range=1), rel=1e-5)
    black = verdict("marigold-iid", "shading", map, 0 * light, valid)
    assert all(values.isnan().all() for values in black.scores.values()) and black.pixels.sum() == 0


def test_grosse_has_windows_of_twenty_pixels():
    target, valid = scene("shading", size=(48, 48))
    map = target * torch.linspace(1, 3, 48)
    found = verdict("grosse", "shading", map, target, valid).scores
    assert_close(found["lmse_20"], metrics.lmse(map, target, valid, window=20))
    assert_close(found["si_mse"], metrics.si_mse(map, target, valid))


@pytest.mark.parametrize("quantity", ["normal", "depth", "albedo", "shading"])
def test_rooms_is_what_the_intrinsic_says(quantity):
    target, valid = scene(quantity)
    map = (target + 0.1).clamp(0.01, 1) if quantity != "normal" else geometry.normalize(target + 0.1)
    assert_close(verdict("rooms", quantity, map, target, valid).scores, intrinsic(quantity).metrics(map, target, valid))


# Pictures of the error.


@every
def test_the_picture_of_the_error_is_that_of_the_numbers(name, quantity):
    """0 for a perfect map; its mean is the metric that is a mean over pixels, on the same pixels."""
    target, valid = scene(quantity)
    map = 1 / target if quantity == "disparity" else target
    error, counted = protocols.apart(protocol(name), quantity, map, target, valid)
    assert error.max() < 1e-4 * protocols.gap(protocol(name), quantity).most and counted.any()
    map = map + 0.1 * torch.rand(target.shape, generator=torch.Generator().manual_seed(9))
    error, counted = protocols.apart(protocol(name), quantity, map, target, valid)
    found = verdict(name, quantity, map, target, valid)
    pixel = lambda values: (values * counted).sum((1, 2, 3)) / counted.sum((1, 2, 3))  # noqa: E731
    means = {"mean_angle": error, "abs_rel": error, "mse": error.square(), "si_mse": error.square()}
    both = means.keys() & found.scores.keys()
    both = set() if (name, quantity) == ("rooms", "shading") else both  # whose metrics expose either map by itself
    assert counted.flatten(1).sum(1).double().equal(found.pixels)
    assert both or (name, quantity) == ("rooms", "shading")
    for metric in both:
        assert_close(pixel(means[metric]).double(), found.scores[metric].double(), rtol=1e-4, atol=1e-7)


# What all have in common.


@every
def test_each_image_is_judged_by_itself_and_nothing_outside_the_mask_is_looked_at(name, quantity):
    target, valid = scene(quantity)
    map = target + 0.1 * torch.rand(target.shape, generator=torch.Generator().manual_seed(9))
    whole = verdict(name, quantity, map, target, valid)
    dirty = torch.where(valid, map, math.nan), torch.where(valid, target, math.inf)
    for image in range(2):
        alone = verdict(name, quantity, *(x[image : image + 1] for x in (*dirty, valid)))
        assert_close(alone.scores, {metric: values[image : image + 1] for metric, values in whole.scores.items()})
        assert alone.pixels == whole.pixels[image]


@every
def test_degenerate_images_are_nan_or_a_number_or_a_clear_error(name, quantity):
    target, valid = scene(quantity)
    valid = valid & torch.tensor([True, False])[:, None, None, None]
    found = verdict(name, quantity, target, target, valid)
    assert all(values[1].isnan() and not values[0].isnan() for values in found.scores.values())
    assert found.pixels[1] == 0 < found.pixels[0]
    flat = torch.full_like(target, 0.5)
    for metric, values in verdict(name, quantity, flat, target, valid).scores.items():
        assert values[0].isfinite(), metric
    with pytest.raises(ValueError, match="the map must be finite"):
        verdict(name, quantity, torch.full_like(target, math.nan), target, valid)


def test_zero_vectors_and_a_truth_in_other_axes():
    target, valid = scene("normal")
    found = verdict("dsine-nyu", "normal", 0 * target, target, valid)
    assert_close(found.scores["mean_angle"].double(), torch.full((2,), 90.0).double())  # no direction is no match
    hole = target.clone()
    hole[..., :10] = 0
    assert verdict("dsine-nyu", "normal", target, hole, valid).pixels.sum() == valid[..., 10:].sum()
    with pytest.raises(ValueError, match=r"RUB axes.*mean z is -0\.\d\d.*RDF"):
        verdict("marigold-normals", "normal", target, geometry.convert(target, "RUB", "RDF"), valid)


def test_too_few_pixels_to_align_have_no_number():
    target, valid = scene("depth")
    valid[0] = False
    valid[0, 0, 12, 16] = True
    for name in ("marigold-nyu", "moge", "ransac-log"):
        found = verdict(name, "depth", target, target, valid)
        assert all(values[0].isnan() and values[1].isfinite() for values in found.scores.values()), name


def test_names_and_what_they_judge():
    with pytest.raises(ValueError, match="no protocol 'marigold-nuy'; did you mean 'marigold-nyu'"):
        protocol("marigold-nuy")
    with pytest.raises(ValueError, match="dsine-nyu judges normal, got 'depth'; 'ilora protocols'"):
        protocol("dsine-nyu").rule("depth")
    assert protocols.names("albedo") == ("rooms", "marigold-iid", "grosse")
    with pytest.raises(dataclasses.FrozenInstanceError):
        protocol("rooms").name = "other"
    with pytest.raises(TypeError, match="assignment"):
        protocol("rooms").rules["depth"] = None


def test_crops_of_other_sizes_have_the_same_shares():
    inside = CROPS["eigen-nyu"].mask(48, 64)[0, 0].nonzero()
    assert inside.min(0).values.tolist() == [4, 4] and inside.max(0).values.tolist() == [46, 59]
    assert CROPS["eigen-kitti"].mask(100, 100).sum() == (91 - 33) * (96 - 3)
    assert grid(4, 10, longest=5)[0, 0].nonzero().tolist() == [[y, x] for y in (0, 2) for x in (0, 2, 4, 6, 8)]
    assert grid(4, 10, longest=None).all() and grid(4, 10, longest=10).all()
