"""Precision, recall and F1 of each label, with intervals."""

import numpy as np
import pytest
from sklearn import metrics as sk
from synthetic_predictions import certain_table, random_table

from pipeline.config.sections import ValidateParams
from pipeline.validate.analyses import per_class
from pipeline.validate.evaluation import evaluate
from pipeline.validate.metrics import _bootstrap


def test_per_class_agrees_with_scikit_learn():
    evaluation = evaluate(*random_table(3, unseen=4))
    found = per_class.table(evaluation, ValidateParams(bootstrap_rounds=50)).set_index("label")
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
    found = per_class.table(evaluate(predictions, ["a", "b"]), ValidateParams(bootstrap_rounds=50))
    row = found.set_index("label").loc["b"]
    assert row[["precision", "recall", "f1"]].isna().all()
    assert row[["recall_low", "recall_high"]].isna().all()


def test_intervals_of_classes_are_those_of_resampled_groups():
    evaluation = evaluate(*random_table(5, n=400))
    found = per_class.table(evaluation, ValidateParams(bootstrap_rounds=40, seed=3)).set_index(
        "label"
    )
    drawn = _bootstrap.draws(np.random.default_rng(3), 40, evaluation.n_groups)
    recalls = []
    for times in drawn.astype(int):
        rows = np.repeat(np.arange(evaluation.n), times[evaluation.groups])
        true, said = evaluation.true.labels[rows], evaluation.predicted.labels[rows]
        recalls.append(sk.recall_score(true, said, labels=range(4), average=None))
    low, high = np.quantile(recalls, (0.025, 0.975), axis=0)
    for at, label in enumerate(evaluation.labels):
        assert found.loc[label, "recall_low"] == pytest.approx(low[at])
        assert found.loc[label, "recall_high"] == pytest.approx(high[at])
    alone = evaluate(*random_table(5, n_groups=1))
    row = per_class.table(alone, ValidateParams(bootstrap_rounds=40)).iloc[0]
    assert (row["f1_low"], row["f1_high"]) == (0, 1)


def test_a_label_of_one_group_has_an_interval_that_says_nothing():
    """Or 60 % of one site's chips would stand there as if every site were like it."""
    labels, answers = list("aaaaabbbb"), list("aaabbbbbb")
    made = certain_table(labels, answers, ["a", "b"], list("uuuuuuvwv"))
    found = per_class.table(
        evaluate(made, ["a", "b"]), ValidateParams(bootstrap_rounds=50)
    ).set_index("label")
    assert found.loc["a", ["recall", "recall_low", "recall_high"]].tolist() == [0.6, 0, 1]
    assert found.loc["b", "recall_low"] == 1  # all right in all three groups
