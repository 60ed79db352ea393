import math
import warnings

import numpy as np
import pytest
from sklearn import metrics as sk
from synthetic_predictions import certain_table, random_table, table

from pipeline.core.errors import InputError
from pipeline.validate.evaluation import evaluate
from pipeline.validate.metrics import scores, values_of


def computed(evaluation):
    return values_of(scores, evaluation) | scores.figures(evaluation)


def test_no_validation_chips_is_an_error_that_says_what_to_do():
    empty = random_table(0)[0].slice(0, 0)
    with pytest.raises(InputError) as caught:
        evaluate(empty, ["a"])
    assert str(caught.value) == (
        "validate: there are no validation chips: no chip in that split has a label; "
        "set split.validation higher, or label chips of more groups"
    )


def test_predictions_of_another_classifier_are_refused():
    predictions, classes = random_table(0)
    with pytest.raises(ValueError, match="probabilities: a row of 4 values for 3 classes"):
        evaluate(predictions, classes[:3])


def test_a_prediction_that_is_no_class_is_refused():
    predictions, classes = random_table(0)
    with pytest.raises(ValueError, match="predicted: a label is not one of the classes"):
        evaluate(predictions, [*classes[:3], "other"])


def test_probabilities_sum_to_one_in_float64():
    evaluation = evaluate(*random_table(0))
    np.testing.assert_allclose(evaluation.probabilities.sum(axis=1), 1, rtol=0, atol=1e-15)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_classes", [2, 4, 9])
def test_scores_are_scikit_learns_where_every_label_is_known(seed, n_classes):
    evaluation = evaluate(*random_table(seed, n_classes=n_classes))
    y, p = evaluation.true.labels, evaluation.probabilities
    labels = list(range(n_classes))
    expected = {
        "accuracy": sk.accuracy_score(y, evaluation.predicted.labels),
        "balanced_accuracy": sk.balanced_accuracy_score(y, evaluation.predicted.labels),
        "macro_f1": sk.f1_score(y, evaluation.predicted.labels, average="macro"),
        "weighted_f1": sk.f1_score(y, evaluation.predicted.labels, average="weighted"),
        "matthews_correlation": sk.matthews_corrcoef(y, evaluation.predicted.labels),
        "cohen_kappa": sk.cohen_kappa_score(y, evaluation.predicted.labels),
        "log_loss": sk.log_loss(y, p, labels=labels),
        "brier": ((p - np.eye(n_classes)[y]) ** 2).sum(axis=1).mean(),
    }
    expected["mean_reciprocal_rank"] = sk.label_ranking_average_precision_score(
        np.eye(n_classes)[y], p
    )
    for k in (3, 5):
        if n_classes > k:
            expected[f"top_{k}_accuracy"] = sk.top_k_accuracy_score(y, p, k=k, labels=labels)
    found = computed(evaluation)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_scores_by_hand_with_an_unseen_label():
    """Four chips: two correct, one wrong, one of a label that cannot be predicted."""
    probabilities = [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]]
    predictions = table(["a", "b", "b", "new"], probabilities, ["a", "b"], "wxyy")
    found = computed(evaluate(predictions, ["a", "b"]))
    assert found == pytest.approx(
        {
            "accuracy": 2 / 4,
            "balanced_accuracy": (1 + 1 / 2 + 0) / 3,
            "macro_f1": (2 / 4 + 2 / 3 + 0) / 3,
            "weighted_f1": (1 * 2 / 4 + 2 * 2 / 3 + 0) / 4,
            # hits 2 of n 4; labels 1, 2, 1 and predictions 3, 1, 0: Σ labels·predictions is 5.
            "matthews_correlation": (2 * 4 - 5) / math.sqrt((16 - 6) * (16 - 10)),
            "cohen_kappa": (2 / 4 - 5 / 16) / (1 - 5 / 16),
            "log_loss": -(math.log(0.9) + math.log(0.8) + math.log(0.4)) / 3,
            "brier": (0.02 + 0.08 + 0.72 + (0.49 + 0.09 + 1)) / 4,
            # The last chip's label has no place among the classes.
            "mean_reciprocal_rank": (1 + 1 + 1 / 2 + 0) / 4,
            "baseline_accuracy": 2 / 4,
            "n_validation": 4,
            "n_groups": 3,
            "n_classes": 2,
            "n_unseen": 1,
        },
        abs=1e-7,  # the probabilities are float32
    )


def test_counts_are_whole_numbers():
    found = computed(evaluate(*random_table(0)))
    counts = ("n_validation", "n_groups", "n_classes", "n_unseen")
    assert [type(found[name]) for name in counts] == [int] * 4


@pytest.mark.parametrize(("n_classes", "tops"), [(3, []), (4, [3]), (5, [3]), (6, [3, 5])])
def test_top_k_is_left_out_where_any_classifier_would_reach_one(n_classes, tops):
    found = computed(evaluate(*random_table(0, n_classes=n_classes)))
    assert [k for k in (3, 5) if f"top_{k}_accuracy" in found] == tops


def test_of_equal_probabilities_the_earlier_class_comes_first():
    classes = list("abcd")
    predictions = table(classes, np.full((4, 4), 0.25), classes)
    assert computed(evaluate(predictions, classes))["top_3_accuracy"] == 3 / 4


def test_one_class_gives_numbers_and_no_warning():
    predictions = certain_table(["a"] * 5, ["a"] * 5, ["a"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = computed(evaluate(predictions, ["a"]))
    assert (found["accuracy"], found["log_loss"], found["brier"]) == (1, 0, 0)
    assert (found["matthews_correlation"], found["cohen_kappa"]) == (0, 0)


def test_only_unseen_labels_give_the_worst_log_loss():
    predictions = certain_table(["x"] * 3, ["a"] * 3, ["a", "b"])
    found = computed(evaluate(predictions, ["a", "b"]))
    assert found["log_loss"] == pytest.approx(34.538776394910684)
    assert (found["accuracy"], found["n_unseen"]) == (0, 3)


def test_a_probability_of_zero_for_the_label_costs_a_finite_loss():
    predictions = certain_table(["a", "b"], ["a", "a"], ["a", "b"])
    found = computed(evaluate(predictions, ["a", "b"]))
    assert found["log_loss"] == pytest.approx(34.538776394910684 / 2)
