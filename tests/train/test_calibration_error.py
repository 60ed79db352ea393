"""The calibration error, without what is only noise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import linprog

from pipeline.train.calibration_error import Gaps, bins_of, sum_gaps

GROUPS, IN_GROUP, REPEATS, ROUNDS = 40, 25, 60, 100


def decisions(rng, excess, n_groups=GROUPS, in_group=IN_GROUP):
    """Make scores that are *excess* higher than the accuracy, which differs from group to group."""
    groups = np.repeat(np.arange(n_groups), in_group)
    score = rng.uniform(0.3, 0.95, len(groups))
    p = score - excess
    p = p + rng.normal(0, 0.5, n_groups)[groups] * p * (1 - p)
    return score, rng.random(len(groups)) < p, groups


def interval(rng, score, correct, groups):
    """Return the error and its interval, from resamples that are drawn one group at a time."""
    n_groups = int(groups.max()) + 1
    sums = sum_gaps(score, correct, groups, n_groups)
    rows = sums.toarray()
    drawn = rng.integers(0, n_groups, (ROUNDS, n_groups))
    found = Gaps.of(sums)
    values = found.rounds(np.stack([rows[at].sum(axis=0) for at in drawn]))
    return found.error, *np.quantile(values, (0.025, 0.975))


@pytest.mark.parametrize("true", [0, 0.02, 0.1])
def test_the_interval_contains_the_true_error_about_as_often_as_it_says(true):
    rng = np.random.default_rng(1)
    found = [interval(rng, *decisions(rng, true)) for _ in range(REPEATS)]
    errors, low, high = np.transpose(found)
    covered = np.count_nonzero((low <= true) & (true <= high))
    assert covered >= 0.88 * REPEATS  # of 95 %, by chance in 98 of 100 such simulations
    assert abs(errors.mean() - true) < 0.015
    assert (high - low).mean() < 0.1  # or it would say nothing


def test_a_perfectly_calibrated_classifier_has_an_error_by_chance_and_none_without_it():
    rng = np.random.default_rng(0)
    found = [Gaps.between(*decisions(rng, 0)) for _ in range(REPEATS)]
    uncorrected = np.mean([gaps.uncorrected for gaps in found])
    assert uncorrected > 0.03
    assert np.mean([gaps.by_chance for gaps in found]) == pytest.approx(uncorrected, rel=0.05)
    assert np.median([gaps.error for gaps in found]) < 0.01
    assert min(gaps.error for gaps in found) == 0


def test_the_error_by_chance_by_hand():
    """Four groups of five: the gaps of the one bin are 1, 0, 0 and -1 fifths; folded normal."""
    score = np.full(20, 0.6)
    correct = np.array([1] * 4 + [0] + ([1] * 3 + [0] * 2) * 2 + [1] * 2 + [0] * 3, bool)
    gaps = Gaps.between(score, correct, np.repeat(np.arange(4), 5))
    deviation = np.std([0.2, 0, 0, -0.2], ddof=1) / np.sqrt(4)
    assert gaps.uncorrected == pytest.approx(0, abs=1e-12)
    assert gaps.by_chance == pytest.approx(deviation * 2 * stats.norm.pdf(0))
    assert gaps.error == 0


def test_groups_that_differ_are_more_noise_than_their_chips():
    """All chips of a group are right, or all are wrong: as many groups as that say little."""
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(20), 50)
    score = rng.uniform(0.4, 0.6, 1000)
    correct = np.repeat(rng.random(20) < 0.5, 50)
    by_group = Gaps.between(score, correct, groups)
    by_chip = Gaps.between(score, correct, np.arange(1000))
    assert by_group.by_chance > 1.5 * by_chip.by_chance


def test_chips_of_one_group_count_as_groups():
    rng = np.random.default_rng(4)
    score, correct, groups = decisions(rng, 0.1)
    one = Gaps.between(score, correct, np.zeros_like(groups))
    own = Gaps.between(score, correct, np.arange(len(groups)))
    assert one.error == own.error
    assert one.by_chance == own.by_chance


def test_without_a_decision_there_is_no_error():
    nothing = np.zeros(0)
    assert Gaps.between(nothing, nothing > 0, nothing.astype(int)) is None


@given(st.integers(1, 400), st.randoms())
def test_bins_are_15_or_fewer_of_at_least_ten_and_hold_equally_many(n, random):
    score = np.array(random.sample(range(1000), n)) / 1000
    bins = bins_of(score)
    sizes = np.bincount(bins)
    assert len(sizes) == np.clip(n // 10, 1, 15)
    assert np.ptp(sizes) <= 1
    assert (np.diff(bins[np.argsort(score)]) >= 0).all()
    tripled = bins_of(np.repeat(np.floor(score * 4), 3)).reshape(-1, 3)
    assert (tripled == tripled[:, :1]).all()  # equal scores share a bin
    assert np.bincount(tripled[:, 0]).all()


def test_gaps_are_summed_by_group_and_bin():
    """Two bins of ten; two of the five groups, the last among them, have no decision."""
    score = np.repeat([0.5, 0.75], 10)
    correct = np.arange(20) < 12
    groups = np.repeat([0, 1, 3], [8, 4, 8])
    sums = sum_gaps(score, correct, groups, 5)
    counts, gaps = [[8, 0], [2, 2], [0, 0], [0, 8], [0, 0]], [[4, 0], [1, 0.5], [0, 0], [0, -6]]
    assert sums.toarray().tolist() == np.hstack([counts, [*gaps, [0, 0]]]).tolist()
    assert sums.format == "csr"  # of which rows are taken


def test_the_gaps_of_few_decisions_are_of_one_bin_and_those_of_none_of_no_bin():
    assert sum_gaps(np.array([0.5]), np.array([True]), np.zeros(1, int), 2).shape == (2, 2)
    nothing = np.zeros(0)
    assert sum_gaps(nothing, nothing > 0, nothing.astype(int), 3).shape == (3, 0)


@pytest.mark.parametrize("n_groups", [2, 3, 30])
def test_the_noise_is_that_of_a_mean_over_groups_of_any_size(n_groups):
    """Cochran 1977, "Sampling techniques", section 2.11: the variance of a ratio of two sums."""
    rng = np.random.default_rng(n_groups)
    groups = np.sort(np.concatenate([np.arange(n_groups), rng.integers(0, n_groups, 60)]))
    score = rng.uniform(0.3, 0.9, len(groups))
    correct = rng.random(len(groups)) < score
    found = Gaps.between(score, correct, groups)
    bins, n = bins_of(score), len(score)
    of_group = np.bincount(groups)
    for number in range(bins.max() + 1):
        differences = np.where(bins == number, correct - score, 0.0)
        mean = differences.mean()
        residuals = [(differences[groups == group] - mean).sum() for group in range(n_groups)]
        assert found.gaps[number] == pytest.approx(mean)
        wanted = np.sqrt(np.var(residuals, ddof=1) * n_groups) / n
        assert found.deviations[number] == pytest.approx(wanted, abs=1e-9)
        assert found.shares[number] == pytest.approx(np.mean(bins == number))
    assert found.n_groups == pytest.approx(1 / np.square(of_group / n).sum())


def test_one_group_alone_seems_to_have_no_noise():
    score, correct, _ = decisions(np.random.default_rng(5), 0.1)
    found = Gaps.of(sum_gaps(score, correct, np.zeros(len(score), int), 1))
    assert found.deviations == pytest.approx(0, abs=1e-8)
    assert found.error == pytest.approx(found.uncorrected, abs=1e-7)


def test_the_error_with_its_noise_gives_what_was_measured():
    """The mean of an absolute value by scipy's folded normal distribution."""
    gaps, deviations = np.array([0.08, -0.04, 0.0]), np.array([0.03, 0.05, 0.02])
    found = Gaps(gaps, deviations, np.array([0.3, 0.3, 0.4]), 20.0)
    assert found.uncorrected == pytest.approx(0.12)
    assert found.by_chance == pytest.approx(0.1 * np.sqrt(2 / np.pi))
    means = found.error * np.array([2 / 3, 1 / 3, 0])
    assert stats.foldnorm(means / deviations, 0, deviations).mean().sum() == pytest.approx(0.12)


def highest(shape, noise, measured):
    """Return the highest t ≥ 0 with sum |t shape + noise| ≤ measured by linear programming; or 0.

    The variables are t and, for each bin, what is at least the absolute value.
    """
    shape = np.asarray(shape) / np.abs(shape).sum()
    n = len(shape)
    above = np.vstack([np.c_[shape, -np.eye(n)], np.c_[-shape, -np.eye(n)], [0, *[1] * n]])
    limits = [*-noise, *noise, measured]
    found = linprog([-1, *[0] * n], above, limits)
    return found.x[0] if found.success else 0.0


STANDS_OUT = [0.0032 / 0.06, -0.0016 / 0.05, 0, 0]  # (gap² − deviation²) / gap, if above 0
ALIKE = [0.4, -0.3, 0.2, 0.1]


@pytest.mark.parametrize(
    ("deviations", "first"),
    [
        ([0.02, 0.03, 0.02, 0.01], STANDS_OUT),
        ([0.07, 0.08, 0.02, 0.01], [0.06, -0.05, 0.01, 0]),  # none stands out
    ],
)
@pytest.mark.parametrize(("n_groups", "degrees"), [(1.0, 1), (2.5, 1.5), (12.0, 11)])
def test_values_of_the_interval_by_linear_programming(deviations, first, n_groups, degrees):
    gaps = np.array([0.06, -0.05, 0.01, 0])
    found = Gaps(gaps, np.array(deviations), np.abs(ALIKE), n_groups)
    rng = np.random.default_rng(int(n_groups))
    wider = stats.t(degrees).ppf(0.975) / stats.norm.ppf(0.975)
    factor = wider * np.sqrt(n_groups / degrees)
    noise = rng.normal(0, 1, (25, 4)) * rng.uniform(0, 0.08, (25, 1))
    drawn = np.hstack([np.full((25, 4), 50), 200 * (gaps + noise / factor)])
    with np.errstate(all="raise"):
        values = found.rounds(drawn)
    by_shape = [sorted(highest(shape, row, 0.12) for row in noise) for shape in (first, ALIKE)]
    low, high = np.min(by_shape, axis=0), np.max(by_shape, axis=0)
    np.testing.assert_allclose(values, [*low[:12], *high[12:]], atol=1e-7)


def test_an_interval_around_no_gap_has_the_errors_that_the_noise_cancels():
    found = Gaps(np.zeros(2), np.zeros(2), np.full(2, 0.5), 1e12)
    drawn = np.array([10.0, -10, -30, -20, -40])
    totals = np.column_stack([np.full((5, 2), 50), drawn, drawn])
    assert found.rounds(totals) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8], abs=1e-9)
