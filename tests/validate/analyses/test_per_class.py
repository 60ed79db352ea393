"""Precision, recall and F1 of each label, with intervals."""

import numpy as np
import pytest
from scipy import special, stats
from sklearn import metrics as sk
from synthetic_predictions import certain_table, random_table

from pipeline.validate.analyses import per_class
from pipeline.validate.evaluation import evaluate


def test_per_class_agrees_with_scikit_learn():
    evaluation = evaluate(*random_table(3, unseen=4))
    found = per_class.table(evaluation).set_index("label")
    n_labels = len(evaluation.labels)
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        evaluation.true.labels,
        evaluation.predicted.labels,
        labels=range(n_labels),
        zero_division=np.nan,
    )
    for at, label in enumerate(evaluation.labels):
        row = found.loc[label]
        expected = [support[at], precision[at], recall[at], f1[at]]
        got = [row["support"], row["precision"], row["recall"], row["f1"]]
        assert got == pytest.approx(expected, nan_ok=True)


def test_per_class_says_nothing_of_a_class_that_never_occurred():
    predictions = certain_table(["a", "a"], ["a", "a"], ["a", "b"])
    found = per_class.table(evaluate(predictions, ["a", "b"]))
    row = found.set_index("label").loc["b"]
    assert row[["precision", "recall", "f1"]].isna().all()
    assert row[["recall_low", "recall_high"]].isna().all()


def test_an_interval_of_a_class_is_a_t_interval_of_the_groups_by_hand():
    evaluation = evaluate(*random_table(5, n=400))
    found = per_class.table(evaluation).set_index("label")
    true, said, groups = evaluation.true.labels, evaluation.predicted.labels, evaluation.groups
    for at, label in enumerate(evaluation.labels):
        for name, score in (("recall", sk.recall_score), ("f1", sk.f1_score)):

            def value(weights, score=score, at=at):
                return score(true == at, said == at, sample_weight=weights)

            whole = value(np.ones(evaluation.n))
            influence = [
                2 * (whole - value(np.where(groups == group, 0.5, 1)))
                for group in range(evaluation.n_groups)
            ]
            variance, fourth = np.sum(np.square(influence)), np.sum(np.power(influence, 4))
            below = (true == at) * 1.0 + (name == "f1") * (said == at)
            sizes = np.bincount(groups, weights=below)
            effective = sizes.sum() ** 2 / (sizes**2).sum()
            freedom = min(effective, 3 * variance**2 / fourth) - 1
            reach = stats.t.ppf(0.975, freedom) * np.sqrt(variance) / (whole * (1 - whole))
            ends = special.expit(special.logit(whole) + np.array([-reach, reach]))
            got = found.loc[label, [f"{name}_low", f"{name}_high"]].tolist()
            assert got == pytest.approx(ends.tolist())


def test_a_score_of_one_group_has_no_interval_and_a_note_says_why():
    """Or 60 % of one site's chips would stand there as if every site were like it."""
    labels, answers = list("aaaaabbbb"), list("aaabbbbbb")
    made = certain_table(labels, answers, ["a", "b"], list("uuuuuuvwv"))
    found = per_class.table(evaluate(made, ["a", "b"])).set_index("label")
    one = found.loc["a"]
    assert (one["recall"], one["groups"]) == (0.6, 1)
    assert np.isnan([one["recall_low"], one["recall_high"], one["f1_low"]]).all()
    assert one["note"] == (
        "precision: chips of one group; recall: chips of one group; f1: chips of one group"
    )
    assert (found.loc["b", "groups"], found.loc["b", "note"]) == (3, "")


def test_a_label_without_mistakes_has_the_bounds_of_as_many_trials_as_groups():
    """No mistake in 5 of 5 equal sites is no proof that there are none elsewhere."""
    labels = list("ab" * 10)
    made = certain_table(labels, labels, ["a", "b"], [f"g{at // 4}" for at in range(20)])
    row = per_class.table(evaluate(made, ["a", "b"])).iloc[0]
    exact = stats.binomtest(5, 5).proportion_ci(0.95, "exact")
    assert (row["recall_low"], row["recall_high"]) == pytest.approx((exact.low, 1.0))
