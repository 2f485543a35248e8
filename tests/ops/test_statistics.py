import math

import pytest
import torch
from scipy import stats
from torch.testing import assert_close

from ilora.ops.statistics import counts, over_seeds, pooled, ranks, ratio, spearman, student, summarise

NAN = float("nan")


def test_summary_of_numbers_by_hand():
    summary = summarise(torch.tensor([1.0, 2.0, 6.0, NAN]))
    assert (summary.mean, summary.median, summary.count) == (3.0, 2.0, 3)
    assert summary.low >= 1.0 and summary.high <= 6.0 and summary.low < 3.0 < summary.high


def test_interval_agrees_with_scipy():
    values = torch.rand(80, generator=torch.Generator().manual_seed(1)).double() ** 3
    reference = stats.bootstrap((values.numpy(),), lambda x, axis: x.mean(axis), n_resamples=10_000,
                                method="percentile", random_state=0).confidence_interval  # fmt: skip
    summary = summarise(values)
    width = reference.high - reference.low
    assert abs(summary.low - reference.low) < 0.03 * width
    assert abs(summary.high - reference.high) < 0.03 * width


def test_interval_is_seeded_and_scales_with_the_values():
    values = torch.rand(30, generator=torch.Generator().manual_seed(2))
    once, again, doubled, other = summarise(values), summarise(values), summarise(2 * values), summarise(values, seed=7)
    assert once == again
    assert_close(torch.tensor([doubled.low, doubled.high]), 2 * torch.tensor([once.low, once.high]))
    assert once.low != other.low


def test_global_random_state_is_left_alone():
    state = torch.get_rng_state()
    summarise(torch.rand(5, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(state, torch.get_rng_state())


def test_blocks_draw_every_resample_once(monkeypatch):
    monkeypatch.setattr("ilora.ops.statistics.CHUNK", 50)
    blocks = list(counts(7, resamples=100, seed=0))
    assert len(blocks) > 1 and sum(len(block) for block in blocks) == 100
    assert all((block.sum(1) == 7).all() for block in blocks)


def test_nothing_measured_gives_nan_and_one_image_gives_a_point():
    nothing = summarise(torch.tensor([NAN, NAN]))
    assert nothing.count == 0 and nothing.mean != nothing.mean
    single = summarise(torch.tensor([4.0]))
    assert (single.mean, single.low, single.high) == (4.0, 4.0, 4.0)


def test_ratio_of_proportional_errors_has_no_spread():
    other = torch.rand(3, 40, generator=torch.Generator().manual_seed(3)) + 0.1
    result = ratio(0.5 * other, other)
    assert_close(torch.tensor([result.value, result.low, result.high]), torch.full((3,), 0.5))
    assert (result.seeds, result.images) == (3, 40)


def test_pairing_narrows_the_interval():
    random = torch.Generator().manual_seed(4)
    difficulty = torch.rand(1, 100, generator=random) * 10
    first = difficulty + torch.rand(1, 100, generator=random)
    second = 2 * difficulty + torch.rand(1, 100, generator=random)
    paired = ratio(first, second)
    shuffled = ratio(first, second[:, torch.randperm(100, generator=random)])
    assert paired.high - paired.low < 0.3 * (shuffled.high - shuffled.low)
    assert paired.low < (first.mean() / second.mean()).item() < paired.high


def test_ratio_leaves_out_images_without_a_number_and_refuses_when_none_is_left():
    first, second = torch.tensor([[1.0, NAN, 3.0]]), torch.tensor([[2.0, 1.0, 6.0]])
    assert_close(torch.tensor(ratio(first, second).value), torch.tensor(0.5))
    try:
        ratio(torch.full((1, 2), NAN), torch.ones(1, 2))
    except ValueError as error:
        assert "among 2" in str(error)
    else:
        raise AssertionError("a ratio of nothing must be refused")


def test_pooled_over_equal_seeds_is_the_mean_over_images():
    values = torch.tensor([1.0, 2.0, 6.0]).expand(4, 3)
    summary = pooled(values)
    assert_close(torch.tensor([summary.mean, summary.median]), torch.tensor([3.0, 2.0]))
    wider = pooled(values + torch.tensor([[0.0], [5.0], [10.0], [15.0]]))
    assert wider.high - wider.low > summary.high - summary.low


def test_quantiles_of_student_in_closed_form():
    """With one degree of freedom (Cauchy's) P(|t| < x) is 2 atan(x) / pi, with two x / sqrt(2 + x^2)."""
    for level in (0.001, 0.5, 0.95, 0.9978, 1 - 1e-9):
        assert student(level, 1) == pytest.approx(math.tan(math.pi / 2 * level), rel=1e-6)
        assert student(level, 2) == pytest.approx(level * math.sqrt(2 / (1 - level**2)), rel=1e-6)
    assert student(0.95, 2) == pytest.approx(4.302652729911275, rel=1e-9)


def test_quantiles_of_student_agree_with_scipy():
    for degrees in (1, 2, 3, 4, 5, 8, 9, 29, 200):
        for level in (0.1, 0.9, 0.95, 0.9978):
            assert student(level, degrees) == pytest.approx(stats.t.ppf((1 + level) / 2, degrees), rel=1e-8)


def test_interval_over_seeds_by_hand():
    """Means 1, 2, 3: 2 with a standard deviation of 1, so 2 -+ 4.3027 / sqrt(3); images without a number stay out."""
    values = torch.tensor([[0.0, 2.0, NAN], [1.0, 3.0, 9.0], [4.0, 2.0, 9.0]])
    low, high = over_seeds(values)
    assert (low, high) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-5)
    reference = stats.t.interval(0.99, 2, loc=2, scale=1 / math.sqrt(3))
    assert over_seeds(values, level=0.99) == pytest.approx(reference)
    weighted = over_seeds(values, weights=torch.tensor([3.0, 1.0, 7.0]))
    assert sum(weighted) / 2 == pytest.approx((0.5 + 1.5 + 3.5) / 3)
    with pytest.raises(ValueError, match="at least 2, got 1"):
        over_seeds(values[:1])


def test_interval_over_three_seeds_has_its_level_and_the_bootstrap_has_not():
    """Of 400 draws of three seeds without an effect, about 5 % lie beyond Student's interval, 25 % beyond the other."""
    random = torch.Generator().manual_seed(8)
    draws = torch.randn(400, 3, 1, generator=random).double()
    student_misses = sum(low > 0 or high < 0 for low, high in map(over_seeds, draws)) / len(draws)
    alone = [pooled(seeds, resamples=200) for seeds in draws]
    bootstrap_misses = sum(one.low > 0 or one.high < 0 for one in alone) / len(draws)
    assert 0.02 < student_misses < 0.08 and bootstrap_misses > 0.18


def test_weights_are_repetitions_in_means_and_ratios():
    first, second = torch.tensor([1.0, 4.0, 7.0]), torch.tensor([2.0, 5.0, NAN])
    weights = torch.tensor([1.0, 3.0, 5.0])
    assert summarise(first[:2], weights=weights[:2]).mean == 13 / 4
    assert summarise(second, weights=weights).mean == 17 / 4
    assert_close(torch.tensor(ratio(first[None], second[None], weights=weights).value), torch.tensor(13 / 17))
    assert_close(torch.tensor(pooled(second[None], weights=weights).mean), torch.tensor(17 / 4))
    alike = summarise(first, weights=torch.full((3,), 4.0))
    assert (alike.mean, alike.median, alike.count) == (4.0, 4.0, 3)
    assert_close(torch.tensor([alike.low, alike.high]), torch.tensor([summarise(first).low, summarise(first).high]))


def test_ranks_and_their_correlation_by_hand():
    assert ranks(torch.tensor([3.0, 1.0, 3.0, 9.0])).tolist() == [2.5, 1.0, 2.5, 4.0]
    # Differences of the ranks 0, 1, -1, 0: rho = 1 - 6 * 2 / (4 * 15) = 0.8.
    found = spearman(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([10.0, 30.0, 20.0, 40.0]))
    assert_close(torch.tensor(found.value), torch.tensor(0.8))
    assert found.count == 4 and -1 <= found.low <= 0.8 <= found.high <= 1


def test_rank_correlation_agrees_with_scipy():
    random = torch.Generator().manual_seed(5)
    first = torch.rand(25, generator=random).double()
    second = (first + torch.rand(25, generator=random)).mul(8).round()  # with ties
    found = spearman(first, second)
    assert_close(found.value, float(stats.spearmanr(first, second).statistic))
    reference = stats.bootstrap((first.numpy(), second.numpy()), lambda a, b: stats.spearmanr(a, b).statistic,
                                paired=True, vectorized=False, n_resamples=2000, method="percentile",
                                random_state=0).confidence_interval  # fmt: skip
    width = reference.high - reference.low
    assert abs(found.low - reference.low) < 0.1 * width and abs(found.high - reference.high) < 0.1 * width


def test_rank_correlation_knows_order_only_and_leaves_out_what_is_not_measured():
    values = torch.rand(12, generator=torch.Generator().manual_seed(6)).double()
    perfect = spearman(values, values.exp())
    assert (perfect.value, perfect.low, perfect.high) == (1.0, 1.0, 1.0)
    assert spearman(values, -values).high == -1.0
    gap = spearman(torch.tensor([1.0, 2.0, NAN, 3.0]), torch.tensor([1.0, 2.0, 0.0, 3.0]))
    assert (gap.value, gap.count) == (1.0, 3)
    constant = spearman(torch.ones(4), torch.arange(4.0))
    assert constant.value != constant.value and constant.low != constant.low
    assert spearman(torch.tensor([1.0]), torch.tensor([1.0])).count == 1
