from dataclasses import replace

import numpy as np
import pytest
from synthetic_predictions import multilabel_table, random_table, table

from pipeline.config.sections import ValidateParams
from pipeline.validate.evaluation import evaluate
from pipeline.validate.metrics import calibration, compute, values_of


def error(evaluation):
    """Return the mean distance of score and accuracy, with its noise."""
    return calibration.figures(evaluation)["ece_uncorrected"]


def reliability(evaluation):
    return calibration.reliability(evaluation.decisions)


def two_classes(scores, correct):
    """Make chips of two classes with the given scores (above 0.5), some of them correct."""
    scores = np.asarray(scores)
    labels = ["a" if yes else "b" for yes in correct]
    predictions = table(labels, np.stack([scores, 1 - scores], axis=1), ["a", "b"])
    return evaluate(predictions, ["a", "b"])


def test_the_error_by_hand():
    """20 chips, so two bins: of scores 0.6, 4 of 10 are correct, of scores 0.9, 10 of 10."""
    evaluation = two_classes([0.6] * 10 + [0.9] * 10, [1] * 4 + [0] * 6 + [1] * 10)
    assert error(evaluation) == pytest.approx((0.2 + 0.1) / 2, abs=1e-7)


def test_the_error_is_that_of_equal_pieces_of_the_sorted_scores():
    evaluation = evaluate(*random_table(2, n=450))
    order = np.argsort(evaluation.score)
    gaps = [
        abs(evaluation.score[piece].mean() - evaluation.correct[piece].mean())
        for piece in np.split(order, 15)
    ]
    assert error(evaluation) == pytest.approx(np.mean(gaps))


def test_bins_hold_equally_many_chips():
    assert reliability(evaluate(*random_table(0, n=300)))["n"].tolist() == [20] * 15


def test_few_chips_make_few_bins():
    assert len(reliability(evaluate(*random_table(0, n=35)))) == 3
    assert len(reliability(evaluate(*random_table(0, n=5)))) == 1


def test_equal_scores_are_never_parted():
    evaluation = two_classes([0.75] * 200, [1] * 150 + [0] * 50)
    table_of_bins = reliability(evaluation)
    assert table_of_bins[["n", "score", "accuracy"]].to_numpy().tolist() == [[200, 0.75, 0.75]]
    assert error(evaluation) == 0


def test_bins_cover_every_chip_once_and_rise():
    bins = reliability(evaluate(*random_table(1, n=333)))
    assert bins["n"].sum() == 333
    assert bins["score"].is_monotonic_increasing


def test_a_label_never_seen_counts_as_wrong():
    known, classes = random_table(4, n=100)
    unseen, _ = random_table(4, n=100, unseen=100)
    assert reliability(evaluate(known, classes))["accuracy"].max() > 0
    assert reliability(evaluate(unseen, classes))["accuracy"].max() == 0


def test_the_error_is_less_than_the_uncorrected_one_and_in_its_interval():
    generator = np.random.default_rng(0)
    scores = generator.uniform(0.5, 1, 600)
    evaluation = two_classes(scores, generator.random(600) < scores - 0.05)
    evaluation = replace(
        evaluation, groups=np.arange(600) // 10, group_names=[f"{i:03d}" for i in range(60)]
    )
    flat = compute(evaluation, ValidateParams(bootstrap_rounds=300))
    assert flat["ece_low"] <= flat["ece"] <= flat["ece_high"]
    assert 0 < flat["ece"] < flat["ece_uncorrected"]
    assert flat["ece"] == values_of(calibration, evaluation)["ece"]
    assert flat["ece_by_chance"] < flat["ece_uncorrected"]


def test_of_several_labels_those_that_are_predicted_count():
    """Nine of ten pairs of chip and label are sure true negatives, and say nothing."""
    n = 400
    truth = np.zeros((n, 10), bool)
    truth[: n // 2, 0] = True
    p = np.full((n, 10), 0.001)
    p[:, 0] = 0.9  # of which half is right
    classes = [f"c{at}" for at in range(10)]
    evaluation = evaluate(multilabel_table(truth, p >= 0.5, p, classes), classes, ";")
    assert evaluation.decisions.n == n
    assert calibration.figures(evaluation)["ece_uncorrected"] == pytest.approx(0.4, abs=1e-6)
    assert calibration.reliability(evaluation.decisions)["n"].sum() == n
    assert calibration.reliability(evaluation.decisions_for(3)).empty
