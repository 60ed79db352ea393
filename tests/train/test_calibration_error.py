"""The calibration error, without what is only noise."""

import numpy as np
import pytest
from scipy.stats import norm

from pipeline.train.calibration_error import Gaps, sum_gaps

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
    assert gaps.by_chance == pytest.approx(deviation * 2 * norm.pdf(0))
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
