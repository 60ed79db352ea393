"""From which score on predictions may be accepted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_predictions import random_table

from pipeline.config.sections import ValidateParams
from pipeline.validate.analyses import risk_coverage
from pipeline.validate.evaluation import evaluate

FEW = ValidateParams(bootstrap_rounds=40)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 999), st.sampled_from([1, 7, 150]), st.sampled_from([0.3, 0.6, 0.9, 1.0]))
def test_a_threshold_is_the_lowest_that_reaches_the_target(seed, n, target):
    evaluation = evaluate(*random_table(seed, n=n))
    found = risk_coverage.choose(evaluation.decisions, target)
    good = [
        score
        for score in evaluation.score
        if evaluation.correct[evaluation.score >= score].mean() >= target
    ]
    assert found.score == (min(good) if good else None)
    again = risk_coverage.measure(evaluation.decisions, found.score)
    assert again.coverage == pytest.approx(found.coverage)
    assert again.accuracy == (pytest.approx(found.accuracy) if good else None)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 999), st.sampled_from([1, 3, 150, 900]))
def test_the_curve_has_coverage_and_accuracy_of_every_threshold(seed, n):
    evaluation = evaluate(*random_table(seed, n=n))
    table = risk_coverage.curve(evaluation.decisions)
    assert len(table) <= risk_coverage.MAX_ROWS
    assert table["coverage"].is_monotonic_increasing
    assert table["coverage"].iloc[-1] == 1
    assert table["accuracy"].iloc[-1] == pytest.approx(evaluation.correct.mean())
    for row in table.itertuples():
        above = evaluation.score >= row.threshold
        assert row.coverage == pytest.approx(above.mean())
        assert row.accuracy == pytest.approx(evaluation.correct[above].mean())


@pytest.mark.parametrize(("seed", "score"), [(0, 0.5), (1, 0.9), (2, 0.999)])
def test_the_interval_of_a_threshold_is_that_of_a_loop_over_groups(seed, score):
    evaluation = evaluate(*random_table(seed, n=60, n_groups=5, hit=2.0))
    found = risk_coverage.interval(
        evaluation.decisions, score, ValidateParams(bootstrap_rounds=50, seed=seed)
    )
    generator = np.random.default_rng(seed)
    shares, accuracies = [], []
    for _ in range(50):
        drawn = generator.integers(0, evaluation.n_groups, size=evaluation.n_groups)
        rows = np.concatenate([np.flatnonzero(evaluation.groups == group) for group in drawn])
        sure = rows[evaluation.score[rows] >= score]
        shares.append(len(sure) / len(rows))
        accuracies += [evaluation.correct[sure].mean()] if len(sure) else []
    ends = (2.5, 97.5)
    expected = dict(zip(("low", "high"), np.percentile(shares, ends), strict=True))
    assert {end: found[f"threshold_coverage_{end}"] for end in expected} == pytest.approx(expected)
    if accuracies:
        expected = dict(zip(("low", "high"), np.percentile(accuracies, ends), strict=True))
        own = {end: found[f"threshold_accuracy_{end}"] for end in expected}
        assert own == pytest.approx(expected)
    assert all(np.isfinite(list(found.values())))


def test_with_one_group_a_threshold_has_the_whole_range():
    evaluation = evaluate(*random_table(0, n_groups=1))
    ends = risk_coverage.interval(evaluation.decisions, 0.5, ValidateParams(bootstrap_rounds=10))
    assert set(ends.values()) == {0.0, 1.0}
