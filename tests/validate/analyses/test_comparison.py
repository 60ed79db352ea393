"""Two classifiers on the same chips."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk
from synthetic_predictions import certain_table, multilabel_table, random_table, table

from pipeline.config.sections import ValidateParams
from pipeline.validate.analyses import comparison
from pipeline.validate.comparable import Comparable
from pipeline.validate.evaluation import evaluate
from pipeline.validate.metrics import scores, values_of

SETTINGS = ValidateParams()


def row_of(this, other, **more):
    """Compare two evaluations, and return the row of the table."""
    return comparison.compare({"old": Comparable(this, other, **more)}, SETTINGS).iloc[0]


def test_a_classifier_is_no_better_than_itself():
    evaluation = evaluate(*random_table(3))
    row = row_of(evaluation, evaluation)
    for name in comparison.COMPARED:
        assert row[name] == pytest.approx(values_of(scores, evaluation)[name])
        assert [row[f"{name}{end}"] for end in ("_difference", "_low", "_high")] == [0, 0, 0]
    assert (row["only_this_correct"], row["only_other_correct"]) == (0, 0)
    assert (row["p"], row["p_holm"], row["note"]) == (1, 1, "")


def of_seven_groups():
    """Evaluate two classifiers, of which one is wrong every 5th time, and one every 3rd."""
    labels = list("ab" * 60)
    groups = [f"g{n % 7}" for n in range(120)]
    swapped = {"a": "b", "b": "a"}
    return [
        evaluate(certain_table(labels, answers, ["a", "b"], groups), ["a", "b"])
        for answers in (
            [swapped[label] if n % every == 0 else label for n, label in enumerate(labels)]
            for every in (5, 3)
        )
    ]


def test_a_difference_has_a_t_interval_of_the_differences_of_groups_by_hand():
    own, other = of_seven_groups()
    row = row_of(own, other)
    n = np.bincount(own.groups)
    won = np.bincount(own.groups, weights=own.correct * 1.0 - other.correct)
    difference = won.sum() / 120
    influence = (won - difference * n) / (120 - n / 2)
    variance, fourth = (influence**2).sum(), (influence**4).sum()
    freedom = min(120**2 / (n**2).sum(), 3 * variance**2 / fourth) - 1
    reach = stats.t.ppf(0.975, freedom) * np.sqrt(variance)
    assert row["accuracy_difference"] == pytest.approx(difference)
    ends = [row["accuracy_low"], row["accuracy_high"]]
    assert ends == pytest.approx([difference - reach, difference + reach])
    # Every fifteenth is wrong in both: of 24 and 40 wrong ones, 8.
    assert (row["only_other_correct"], row["only_this_correct"]) == (16, 32)
    exact = stats.permutation_test(
        (won[won != 0],), np.sum, permutation_type="samples", n_resamples=np.inf
    )
    assert row["p"] == pytest.approx(exact.pvalue)


def test_several_comparisons_are_corrected_for_their_number():
    own, other = of_seven_groups()
    pairs = {name: Comparable(own, other) for name in "abc"}
    found = comparison.compare(pairs, SETTINGS)
    assert found["p_holm"].tolist() == pytest.approx([min(1, 3 * found["p"][0])] * 3)


def test_one_group_has_no_interval_of_a_difference():
    evaluation = evaluate(*random_table(3, n_groups=1))
    row = row_of(evaluation, evaluation)
    assert np.isnan(row["accuracy_low"])
    assert row["note"] == "all chips are of one group, which does not show how groups differ."


def test_log_loss_is_of_the_chips_whose_label_both_know():
    """Or a classifier that does not know the difficult classes would look the surest of all."""
    generator = np.random.default_rng(0)
    classes = ["a", "b", "c"]
    labels = [classes[at] for at in generator.integers(0, 3, 300)]
    groups = [f"g{at % 10}" for at in range(300)]
    hard = np.array([label == "c" for label in labels])
    p = generator.dirichlet([1.0, 1, 1], 300) + np.eye(3)[[classes.index(x) for x in labels]]
    p[hard] = generator.dirichlet([1.0, 1, 1], hard.sum())
    p /= p.sum(axis=1, keepdims=True)
    known = p[:, :2] / p[:, :2].sum(axis=1, keepdims=True)
    this = evaluate(table(labels, p, classes, groups), classes)
    other = evaluate(table(labels, known, ["a", "b"], groups), ["a", "b"])
    row = row_of(this, other)
    easy = np.array(labels)[~hard]
    wanted = sk.log_loss(easy, known[~hard].astype(np.float32), labels=["a", "b"])
    own = sk.log_loss(easy, p[~hard].astype(np.float32), labels=classes)
    assert row["log_loss"] == pytest.approx(wanted, rel=1e-5)
    assert row["log_loss_difference"] == pytest.approx(own - wanted, rel=1e-4)
    assert row["n_log_loss"] == (~hard).sum()
    assert (row["n_labels_unknown"], row["n_labels_unknown_other"]) == (0, 1)


def test_if_no_label_is_known_to_both_there_is_no_log_loss():
    labels, groups = ["a", "b"] * 10, [f"g{at % 4}" for at in range(20)]
    one, other = (
        evaluate(certain_table(labels, [only] * 20, [only], groups), [only]) for only in "ab"
    )
    row = row_of(one, other)
    assert np.isnan([row["log_loss"], row["log_loss_difference"], row["log_loss_low"]]).all()
    assert row["n_log_loss"] == 0
    assert row["note"] == (
        "of the labels, this classifier does not know 1, the earlier one 1; the log loss is of the "
        "0 chips whose label both know."
    )


def test_the_log_loss_of_several_labels_is_over_the_classes_that_both_know():
    generator = np.random.default_rng(1)
    truth = generator.random((60, 3)) < 0.4
    p = np.clip(truth * 0.5 + generator.random((60, 3)) * 0.45, 0.01, 0.99).round(3)
    this = evaluate(multilabel_table(truth, p > 0.5, p, ["a", "b", "c"]), ["a", "b", "c"], ";")
    fewer = truth[:, 1:], p[:, 1:] > 0.5, p[:, 1:], ["b", "c"]
    row = row_of(this, evaluate(multilabel_table(*fewer), ["b", "c"], ";"))
    wanted = np.mean([sk.log_loss(truth[:, at], p[:, at]) for at in (1, 2)])
    assert row["log_loss"] == pytest.approx(wanted, rel=1e-5)
    assert row["log_loss_difference"] == pytest.approx(0, abs=1e-9)


def test_a_note_says_what_weakens_a_comparison():
    evaluation = evaluate(*random_table(3))
    row = row_of(evaluation, evaluation, n_used=34)
    assert row["n_used"] == 34
    assert row["note"] == (
        "it was trained on the groups of 34 validation chips; both are compared on the other 200 "
        "chips of 9 groups."
    )
    row = row_of(evaluation, evaluation, has_record=False)
    assert row["note"] == (
        "it does not record what it was trained on; if these chips were among it, it looks better "
        "than it is."
    )


def test_if_each_label_is_in_one_group_a_note_says_why_means_over_labels_have_no_interval():
    labels = ["a", "b"] * 10
    made = certain_table(labels, labels, ["a", "b"], labels)
    row = row_of(evaluate(made, ["a", "b"]), evaluate(made, ["a", "b"]))
    assert np.isnan([row["balanced_accuracy_low"], row["macro_f1_high"]]).all()
    assert row["accuracy_low"] == 0
    assert row["note"] == (
        "each label is in one group, so balanced accuracy and macro F1 have no interval."
    )
