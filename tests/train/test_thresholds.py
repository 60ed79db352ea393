"""Thresholds of several labels a chip, by hand."""

import numpy as np
import pytest

from pipeline.train.thresholds import choose_thresholds


def threshold(*rows):
    """Return the threshold of one class; *rows* are a probability, and chips with and without it.

    In one of two classes the chips come in the reverse order, and change nothing.
    """
    p = np.concatenate([np.full(yes + no, value) for value, yes, no in rows])
    has = np.concatenate([np.arange(yes + no) < yes for _, yes, no in rows])
    both = choose_thresholds(np.stack([p, p[::-1]], axis=1), np.stack([has, has[::-1]], axis=1))
    assert both.dtype == np.float32
    assert both[0] == both[1]
    return both[0]


def ranks(n, positives):
    """Return chips with probabilities of 1, 1 - 1/n, …; the *positives* are ranks from 1 on."""
    return [(1 - at / n, int(at + 1 in positives), int(at + 1 not in positives)) for at in range(n)]


def n_predicted(rows):
    chosen = threshold(*rows)
    return sum(yes + no for p, yes, no in rows if np.float32(p) >= chosen)


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        ([(0.95, 20, 0), (0.9, 0, 5)], 0.925),
        ([(0.3, 20, 0), (0.2, 0, 5)], 0.25),
        ([(0.8, 20, 0), (0.3, 0, 20)], 0.5),
        ([(0.5, 20, 0), (0.25, 0, 20)], 0.5),
        ([(0.75, 20, 0), (0.5, 0, 20)], 0.625),
        ([(0.3, 1, 0), (0.2, 19, 0)], 0.1),
        ([(0.6, 19, 0), (0.0, 1, 0)], 0.0),
    ],
)
def test_a_threshold_is_halfway_between_two_probabilities_or_one_half(rows, wanted):
    assert threshold(*rows) == pytest.approx(wanted, abs=1e-7)


def test_of_equally_good_thresholds_it_is_the_one_closest_to_one_half():
    """F1 is 20/30 from 0.8 on, and 40/60 from 0.25 on."""
    rows = [(0.9, 10, 0), (0.7, 0, 10), (0.4, 10, 10), (0.1, 0, 20)]
    assert threshold(*rows) == 0.25
    assert threshold(*[(p - 0.1, yes, no) for p, yes, no in rows]) == pytest.approx(0.7)


@pytest.mark.parametrize("above", np.float32([0.75, 0.2]).repeat(2) + np.float32([0, 2**-24] * 2))
def test_adjacent_probabilities_are_told_apart(above):
    below = np.nextafter(above, np.float32(0))
    assert below < threshold((above, 20, 0), (below, 0, 20)) <= above


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        (ranks(100, {1, 97, 98, 99, 100}), 3),  # 1^(5/20) 5^(15/20) = 3.3
        (ranks(100, {*range(36, 41)}), 8),  # 40^(5/20) 5^(15/20) = 8.4
        (ranks(400, {9, 10}), 2),  # 10^(2/20) 2^(18/20) = 2.3
        (ranks(1000, {*range(82, 101)}), 57),  # 100^(19/20) 19^(1/20) = 92, but at most 3 × 19
        (ranks(1000, {*range(81, 101)}), 60),  # 100, but at most 3 × 20
        (ranks(1000, {*range(41, 61)}), 60),  # 3 × 20
        (ranks(1000, {*range(21, 61)}), 60),  # which 40 of them have
        ([(0.9, 0, 50), (0.8, 0, 10), (0.7, 19, 21), (0.1, 0, 9)], 50),  # not 60 > 3 × 19
        ([(0.9, 0, 20), (0.8, 0, 20), (0.7, 20, 21)], 40),  # not 81 > 3 × 20
        ([(0.9, 0, 58), (0.8, 19, 1)], 0),  # not 58 > 3 × 19
        ([(0.9, 0, 61), (0.8, 20, 1)], 0),
    ],
)
def test_the_number_predicted_is_that_of_the_highest_f1_prevalence_and_cap(rows, wanted):
    assert n_predicted(rows) == wanted


def test_a_threshold_above_the_highest_probability_is_the_next_float():
    assert threshold((0.75, 1, 3)) == np.float32(0.75) + np.float32(2**-24)
    assert threshold((1.0, 1, 3)) == np.float32(1) + np.float32(2**-23)


def test_a_class_without_a_chip_has_one_half():
    assert threshold((0.9, 0, 5)) == 0.5
