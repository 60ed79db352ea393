"""95 % intervals: they contain the truth about 95 times in 100, or say that nothing is known."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, stats
from synthetic_predictions import certain_table, random_table

from pipeline.config.sections import ValidateParams
from pipeline.validate import metrics
from pipeline.validate.evaluation import evaluate
from pipeline.validate.metrics import _intervals
from pipeline.validate.metrics._intervals import (
    Spread,
    effective_groups,
    interval,
    of_mean_over_labels,
    share_intervals,
    spreads,
)


def coverage(seed, n_groups, accuracy, correlation, *, sd=0.0, size=25, samples=4000):
    """Return how often the interval contains the true share, of beta-binomial groups."""
    generator = np.random.default_rng(seed)
    shape = samples, n_groups
    n = np.maximum(1, generator.lognormal(np.log(size) - sd**2 / 2, sd, shape)).astype(int)
    p = np.full(shape, accuracy)
    if correlation:
        spread = 1 / correlation - 1
        p = generator.beta(accuracy * spread, (1 - accuracy) * spread, shape)
    strata = np.repeat(np.arange(samples), n_groups)
    low, high, _ = share_intervals(
        strata, generator.binomial(n, p).ravel().astype(float), n.ravel()
    )
    return float(((low <= accuracy) & (accuracy <= high)).mean())


@pytest.mark.parametrize("n_groups", [8, 12, 20, 50])
@pytest.mark.parametrize("sd", [0.0, 0.6])
@pytest.mark.parametrize(
    ("accuracy", "correlation"), [(0.6, 0.0), (0.7, 0.1), (0.7, 0.3), (0.85, 0.0), (0.85, 0.15)]
)
def test_93_to_97_of_100_intervals_contain_the_accuracy(n_groups, sd, accuracy, correlation):
    assert 0.93 <= coverage(1, n_groups, accuracy, correlation, sd=sd) <= 0.972


@pytest.mark.parametrize("n_groups", [2, 3, 4, 5])
@pytest.mark.parametrize(("accuracy", "correlation"), [(0.6, 0.1), (0.8, 0.3), (0.9, 0.5)])
def test_with_few_groups_an_interval_is_too_wide_rather_than_too_narrow(
    n_groups, accuracy, correlation
):
    assert coverage(2, n_groups, accuracy, correlation, sd=0.6) >= 0.94


def test_strong_correlation_and_rare_mistakes_do_not_make_it_too_narrow():
    """Resampling groups covered 77 of 100 here."""
    assert coverage(3, 12, 0.95, 0.3) >= 0.93


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 999), st.integers(2, 9), st.integers(0, 6))
def test_an_interval_contains_its_value_and_stays_within_the_range(seed, n_groups, unseen):
    evaluation = evaluate(*random_table(seed, n=60, n_groups=n_groups, unseen=unseen))
    flat = metrics.compute(evaluation, ValidateParams(bootstrap_rounds=10))
    for name, metric in metrics.definitions().items():
        if f"{name}_low" in flat and name != "ece":
            least, most = metric.range
            low, value, high = flat[f"{name}_low"], flat[name], flat[f"{name}_high"]
            assert least - 1e-9 <= low <= value + 1e-9, name
            assert value - 1e-9 <= high <= most + 1e-9, name


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 99), st.integers(1, 30), st.integers(1, 200))
def test_the_size_of_a_block_changes_no_spread(seed, n_groups, block_values):
    sums = sparse.csr_array(np.random.default_rng(seed).integers(0, 9, (n_groups, 3)) * 1.0)

    def compute(totals):
        return {"share": totals[:, 0] / (totals.sum(axis=1) + 1), "sums": totals}

    whole = spreads(sums, compute)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_intervals, "BLOCK_VALUES", block_values)
        pieces = spreads(sums, compute)
    for name in whole:
        assert whole[name].variance == pytest.approx(pieces[name].variance)
        assert whole[name].fourth == pytest.approx(pieces[name].fourth)


def test_equal_groups_count_one_each_and_a_large_one_for_less_than_all():
    sums = sparse.csr_array(np.array([[5.0, 98, 3, 0], [5, 1, 0, 0], [5, 1, 0, 0]]))
    assert effective_groups(sums) == pytest.approx([3, 100**2 / (98**2 + 2), 1, 0])
    assert of_mean_over_labels(np.array([4.0, 2.0, 0.0])) == pytest.approx(2 / (1 / 4 + 1 / 2))


def test_a_spread_is_that_of_taking_half_a_group_away():
    sums = sparse.csr_array(np.array([[1.0, 0], [3, 3]]))  # correct and wrong chips
    found = spreads(sums, lambda totals: {"share": totals[:, 0] / totals.sum(axis=1)})
    share = 4 / 7
    influences = np.array([2 * (share - 3.5 / 6.5), 2 * (share - 2.5 / 4)])
    assert found["share"].variance == pytest.approx(np.sum(influences**2))
    assert found["share"].fourth == pytest.approx(np.sum(influences**4))


def test_labels_of_one_group_each_count_as_one_and_none_as_none():
    assert of_mean_over_labels(np.array([1.0, 1.0, 0.0])) == 1
    assert of_mean_over_labels(np.zeros(3)) == 0
    assert effective_groups(sparse.csr_array(np.array([[0.5], [0.5]]))) == pytest.approx([2])


@pytest.mark.parametrize("value", [0.02, 0.5, 0.93, 1.0])
def test_a_wider_range_stretches_the_interval(value):
    """As of Matthews' correlation, between -1 and 1."""
    spread = Spread(np.array(0.003), np.array(2e-6))
    low, high = interval(value, spread, 9.0, (0.0, 1.0))
    wide = Spread(4 * spread.variance, 16 * spread.fourth)
    stretched = interval(2 * value - 1, wide, 9.0, (-1.0, 1.0))
    assert stretched == (pytest.approx(2 * low - 1), pytest.approx(2 * high - 1))


@pytest.mark.parametrize("value", [-1e-17, 1 + 3e-16])
def test_a_value_that_rounding_put_outside_the_range_counts_as_its_end(value):
    nothing = Spread(np.array(0.0), np.array(0.0))
    assert interval(value, nothing, 8.0, (0.0, 1.0)) == interval(
        round(value), nothing, 8.0, (0.0, 1.0)
    )


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_at_the_end_of_the_range_groups_count_as_trials_whatever_their_spread(value):
    low, high = interval(value, Spread(np.array(0.01), np.array(5e-5)), 12.0, (0.0, 1.0))
    exact = stats.binomtest(int(12 * value), 12).proportion_ci(0.95, "exact")
    assert (float(low), float(high)) == pytest.approx((exact.low, exact.high))


@pytest.mark.parametrize("share", [0.05, 0.95])
def test_trials_need_not_be_whole(share):
    nothing = Spread(np.array(0.0), np.array(0.0))
    low, high = interval(share, nothing, 10.0, (0.0, 1.0))
    right, wrong = 10 * share, 10 * (1 - share)
    assert float(low) == pytest.approx(stats.beta.ppf(0.025, right, wrong + 1))
    assert float(high) == pytest.approx(stats.beta.ppf(0.975, right + 1, wrong))


def test_a_difference_has_a_students_t_interval():
    influences = np.array([0.1, -0.1, 0.1, -0.1, 0.1, -0.1])
    spread = Spread(np.sum(influences**2), np.sum(influences**4))
    low, high = interval(0.02, spread, 6.0)
    reach = stats.t.ppf(0.975, 5) * np.sqrt(0.06)
    assert (float(low), float(high)) == pytest.approx((0.02 - reach, 0.02 + reach))
    assert np.isnan(interval(0.02, spread, 1.0)).all()


@pytest.mark.parametrize(("right", "n"), [(0, 3), (3, 3), (8, 8), (0, 50)])
def test_without_any_difference_between_groups_they_count_as_trials(right, n):
    nothing = Spread(np.array(0.0), np.array(0.0))
    low, high = interval(right / n, nothing, float(n), (0.0, 1.0))
    exact = stats.binomtest(right, n).proportion_ci(0.95, "exact")
    assert (float(low), float(high)) == pytest.approx((exact.low, exact.high))


def test_a_mean_over_labels_of_few_groups_has_a_wider_interval_than_accuracy():
    """The label b is in two groups of twenty: its recall is hardly known, and it counts as half."""
    groups = [f"g{at % 20:02d}" for at in range(400)]
    labels = ["b" if at % 20 < 2 and at < 100 else "a" for at in range(400)]
    evaluation = evaluate(certain_table(labels, labels, ["a", "b"], groups), ["a", "b"])
    harmonic = 2 / (1 / 2 + (2 * 15**2 + 18 * 20**2) / 390**2)
    assert metrics.groups_of_means(evaluation) == pytest.approx((20, harmonic))
    flat = metrics.compute(evaluation, ValidateParams(bootstrap_rounds=10))
    # Without a mistake, the lower end is where so many groups are right once in forty times.
    assert flat["accuracy_low"] == pytest.approx(0.025 ** (1 / 20))
    assert flat["balanced_accuracy_low"] == pytest.approx(0.025 ** (1 / harmonic))
    assert flat["macro_f1_low"] == pytest.approx(0.025 ** (1 / harmonic))


def test_as_many_groups_as_chips_need_little_memory():
    """All at once, 200,000 groups of 100 columns would be 160 MB for each array."""
    sums = sparse.random_array((200_000, 100), density=0.02, rng=np.random.default_rng(0)).tocsr()
    tracemalloc.start()
    spreads(sums, lambda totals: {"share": totals[:, 0] / totals.sum(axis=1)})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 250e6
