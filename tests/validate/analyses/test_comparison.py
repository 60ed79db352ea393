"""Two classifiers on the same chips."""

from math import comb

import numpy as np
import pytest
from synthetic_predictions import certain_table, random_table

from pipeline.config.sections import ValidateParams
from pipeline.validate.analyses import comparison
from pipeline.validate.evaluation import evaluate
from pipeline.validate.metrics import _bootstrap, scores, values_of

FEW = ValidateParams(bootstrap_rounds=40)


def test_a_classifier_is_no_better_than_itself():
    evaluation = evaluate(*random_table(3))
    row = comparison.compare(
        evaluation, {"it": evaluation}, ValidateParams(bootstrap_rounds=30)
    ).iloc[0]
    for name in comparison.COMPARED:
        assert row[name] == pytest.approx(values_of(scores, evaluation)[name])
        assert [row[f"{name}{end}"] for end in ("_difference", "_low", "_high")] == [0, 0, 0]
    assert (row["only_this_correct"], row["only_other_correct"], row["mcnemar_p"]) == (0, 0, 1)


def test_differences_are_of_the_same_resamples_of_groups():
    labels = list("ab" * 60)
    groups = [f"g{n % 7}" for n in range(120)]
    swapped = {"a": "b", "b": "a"}
    own, other = (
        evaluate(certain_table(labels, answers, ["a", "b"], groups), ["a", "b"])
        for answers in (
            [swapped[label] if n % every == 0 else label for n, label in enumerate(labels)]
            for every in (5, 3)
        )
    )
    row = comparison.compare(own, {"old": other}, ValidateParams(bootstrap_rounds=60, seed=4)).iloc[
        0
    ]
    drawn = _bootstrap.draws(np.random.default_rng(4), 60, 7).astype(int)
    differences = []
    for times in drawn:
        rows = np.repeat(np.arange(120), times[own.groups])
        differences.append(own.correct[rows].mean() - other.correct[rows].mean())
    low, high = np.quantile(differences, (0.025, 0.975))
    assert row["accuracy_difference"] == pytest.approx(own.correct.mean() - other.correct.mean())
    assert [row["accuracy_low"], row["accuracy_high"]] == pytest.approx([low, high])
    # Every fifteenth is wrong in both: of 24 and 40 wrong ones, 8.
    assert (row["only_other_correct"], row["only_this_correct"]) == (16, 32)
    tail = sum(comb(48, k) for k in range(17)) / 2**48
    assert row["mcnemar_p"] == pytest.approx(2 * tail)


def test_one_group_has_no_interval_of_a_difference():
    evaluation = evaluate(*random_table(3, n_groups=1))
    row = comparison.compare(
        evaluation, {"it": evaluation}, ValidateParams(bootstrap_rounds=30)
    ).iloc[0]
    assert np.isnan(row["accuracy_low"])
