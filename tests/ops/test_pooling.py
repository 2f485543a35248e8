import numpy as np
import pytest
import torch
from torch.testing import assert_close

from ilora.ops import geometry, metrics, pooling


def images(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Four images of normals with growing errors and shrinking masks; the last has no valid pixel."""
    generator = torch.Generator().manual_seed(seed)
    target = geometry.normalize(torch.randn(4, 3, 12, 12, generator=generator))
    noise = torch.linspace(0.1, 1, 4)[:, None, None, None] * torch.randn(target.shape, generator=generator)
    shares = torch.tensor([0.9, 0.5, 0.1, 0.0])[:, None, None, None]
    return target + noise, target, torch.rand(4, 1, 12, 12, generator=generator) < shares


def test_pooled_numbers_are_those_of_all_pixels_in_one_row():
    map, target, valid = images()
    found = pooling.summaries(
        metrics.angles(map, target, valid), valid.flatten(1).sum(1).double(), pooling.histogram(map, target, valid)
    )
    every = geometry.angle(map.double(), target.double())[valid].numpy()
    wanted = {"mean_angle": every.mean(), "rmse_angle": np.sqrt((every**2).mean())}
    wanted |= {f"within_{limit:g}": 100 * (every < limit).mean() for limit in (5, 7.5, 11.25, 22.5, 30)}
    for name, value in wanted.items():
        assert found[name].mean == pytest.approx(value, rel=1e-5)
        assert found[name].low <= found[name].mean <= found[name].high and found[name].count == 3
    assert abs(found["median_angle"].mean - np.median(every)) <= pooling.WIDTH / 2
    assert found["mean_angle"].mean < 0.8 * metrics.angles(map, target, valid)["mean_angle"][:3].mean()


def test_the_median_of_few_pixels_by_hand():
    counts = torch.zeros(2, pooling.BINS, dtype=torch.int32)
    counts[0, 20], counts[0, 40], counts[1, 60], counts[1, 200] = 1, 1, 1, 1  # 1, 2, 3 and 10 deg
    assert pooling.median(counts) == pytest.approx(2.5)
    counts[1, 200] = 0
    assert pooling.median(counts) == pytest.approx(2.0)
    assert np.isnan(pooling.median(0 * counts))


def test_the_interval_of_the_median_agrees_with_drawing_images_of_pixels():
    map, target, valid = (values[:3] for values in images(1))
    angle = geometry.angle(map.double(), target.double())
    pixels = [angle[place][valid[place]].numpy() for place in range(3)]
    generator = np.random.default_rng(0)
    draws = [np.median(np.concatenate([pixels[p] for p in generator.integers(3, size=3)])) for _ in range(2000)]
    found = pooling.summaries(
        {"median_angle": metrics.angles(map, target, valid)["median_angle"]},
        valid.flatten(1).sum(1).double(),
        pooling.histogram(map, target, valid),
        resamples=2000,
    )["median_angle"]
    assert_close(torch.tensor([found.low, found.high]), torch.tensor(np.quantile(draws, [0.025, 0.975])).float(),
                 rtol=0.05, atol=0.1)  # fmt: skip


def test_nothing_measured_is_nan_throughout():
    map, target, valid = (values[3:] for values in images())
    counts = pooling.histogram(map, target, valid)
    found = pooling.summaries(metrics.angles(map, target, valid), torch.zeros(1).double(), counts)
    assert counts.sum() == 0
    assert all(np.isnan(one.mean) and one.count == 0 for one in found.values())
