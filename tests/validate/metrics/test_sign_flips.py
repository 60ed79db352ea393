"""The test of two classifiers: a difference of whole groups, not of chips."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pipeline.validate.metrics._sign_flips import holm, p_value


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from([*range(-9, 0), *range(1, 10)]), min_size=2, max_size=11))
def test_p_is_that_of_scipys_permutation_test(differences):
    values = np.array(differences, float)
    expected = stats.permutation_test(
        (values,), np.sum, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert p_value(values, 0) == pytest.approx(expected)
    assert p_value(np.append(values, [0, 0]), 0) == pytest.approx(expected)


def test_without_a_difference_p_is_1():
    assert p_value(np.zeros(9), 0) == 1


def test_many_groups_are_drawn_and_agree_with_all_combinations():
    values = np.random.default_rng(3).integers(-6, 8, 16).astype(float)
    exact = stats.permutation_test(
        (values,), np.sum, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert p_value(values, 0) == pytest.approx(exact, abs=0.015)
    assert p_value(values, 0) == p_value(values, 0)


def test_no_combination_of_many_groups_gives_the_least_p_value():
    """Source: Phipson and Smyth 2010, "Permutation p-values should never be zero"."""
    assert p_value(np.ones(40), 0) == 1 / 10_000


def test_thirteen_groups_are_counted_exactly():
    assert p_value(np.ones(13), 0) == 2 / 2**13


def test_equal_classifiers_differ_in_5_of_100_tests_however_alike_a_groups_chips_are():
    """McNemar's test, which takes chips for independent, said so of 29 of 100."""
    generator = np.random.default_rng(0)
    ps = []
    for seed in range(400):
        better = generator.normal(0, 1.5, 50)
        only_this = generator.binomial(25, 0.2 / (1 + np.exp(-better)))
        only_other = generator.binomial(25, 0.2 / (1 + np.exp(better)))
        ps.append(p_value((only_this - only_other).astype(float), seed))
    assert 0.025 <= np.mean(np.array(ps) < 0.05) <= 0.075


def test_four_groups_cannot_prove_a_difference():
    assert p_value(np.array([9.0, 8, 7, 9]), 0) == 2 / 2**4


def test_several_comparisons_are_corrected_by_holms_method():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.6, 0.9]) == pytest.approx([1.0, 1.0, 1.0])
    assert holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []
