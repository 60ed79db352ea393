"""From which score on predictions may be accepted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_predictions import random_table

from pipeline.validate.analyses import risk_coverage
from pipeline.validate.evaluation import evaluate
from pipeline.validate.metrics._intervals import share_intervals


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
def test_the_interval_of_a_threshold_is_that_of_the_share_of_each_group(seed, score):
    evaluation = evaluate(*random_table(seed, n=60, n_groups=5, hit=2.0))
    found = risk_coverage.interval(evaluation.decisions, score)
    sure = evaluation.score >= score
    cases = {"coverage": (sure, np.ones(60, bool)), "accuracy": (sure & evaluation.correct, sure)}
    for name, (are_hits, chips) in cases.items():
        if not chips.any():
            assert f"threshold_{name}_low" not in found
            continue
        hits, n = (np.bincount(evaluation.groups, weights=part) for part in (are_hits, chips))
        low, high, _ = share_intervals(np.zeros(5, int), hits, n)
        ends = [found[f"threshold_{name}_{end}"] for end in ("low", "high")]
        assert ends == pytest.approx([low[0], high[0]])


def test_with_one_group_a_threshold_has_the_whole_range():
    evaluation = evaluate(*random_table(0, n_groups=1))
    ends = risk_coverage.interval(evaluation.decisions, 0.5)
    assert set(ends.values()) == {0.0, 1.0}
