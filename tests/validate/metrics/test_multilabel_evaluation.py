"""Predictions of chips with several labels: metrics, tables and comparison."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import data_of, html_of, run, with_validate
from sklearn import metrics as sk
from synthetic_predictions import multilabel_table

from pipeline.config.sections import ValidateParams
from pipeline.core import label_sets
from pipeline.validate import label_issues, metrics
from pipeline.validate.analyses import comparison, confusion, cover, per_class
from pipeline.validate.comparable import Comparable
from pipeline.validate.evaluation import evaluate
from pipeline.validate.valresult import valresult

FEW = ValidateParams(bootstrap_rounds=20)
MULTILABEL = {
    *("accuracy", "balanced_accuracy", "baseline_accuracy", "hamming_loss", "jaccard"),
    *("macro_f1", "micro_f1", "samples_f1", "weighted_f1", "mean_average_precision"),
    *("brier", "log_loss", "n_classes", "n_groups", "n_unseen", "n_validation"),
}


def made(seed, n=40, n_classes=4, unseen=(), hit=0.8):
    rng = np.random.default_rng(seed)
    classes = [f"c{at}" for at in range(n_classes)]
    p = rng.uniform(0, 1, (n, n_classes)).round(2)
    truth = rng.uniform(0, 1, p.shape) < hit * p
    predicted = p >= rng.uniform(0.3, 0.7, n_classes)
    table = multilabel_table(truth, predicted, p, classes, unseen)
    return truth, predicted, p, evaluate(table, classes, ";")


cases = st.builds(
    made,
    st.integers(0, 9999),
    n=st.integers(1, 40),
    n_classes=st.integers(1, 5),
    unseen=st.sets(st.integers(0, 40), max_size=3),
    hit=st.sampled_from([0.0, 0.5, 1.0]),
)


@settings(max_examples=80, deadline=None)
@given(cases)
def test_every_metric_is_finite_and_in_its_range(case):
    found = metrics.compute(case[3], ValidateParams(bootstrap_rounds=10))
    known = metrics.definitions()
    for name, value in found.items():
        assert math.isfinite(value), name
        metric = known[name.removesuffix("_low").removesuffix("_high")]
        if metric.range:
            low, high = metric.range
            assert low - 1e-12 <= value <= high + 1e-12, name
    calibration = {"ece", "ece_uncorrected", "ece_by_chance"} if case[1].any() else set()
    names = {name for name in found if "low" not in name and "high" not in name}
    assert names == MULTILABEL | calibration


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9999))
def test_metrics_agree_with_scikit_learn(seed):
    truth, predicted, p, evaluation = made(seed, n=60)
    p = p.astype(np.float32).astype(float)
    found = metrics.compute(evaluation, FEW)
    hits, sizes = (truth & predicted).sum(1), truth.sum(1) + predicted.sum(1)
    each = [2 * h / s if s else 1.0 for h, s in zip(hits, sizes, strict=True)]
    assert found["samples_f1"] == pytest.approx(np.mean(each))
    assert found["accuracy"] == sk.accuracy_score(truth, predicted)
    assert found["hamming_loss"] == pytest.approx(np.mean(truth != predicted))
    assert found["micro_f1"] == pytest.approx(2 * hits.sum() / max(sizes.sum(), 1))
    wanted = [sk.balanced_accuracy_score(truth[:, at], predicted[:, at]) for at in range(4)]
    occurs = truth.any(axis=0)
    assert found["balanced_accuracy"] == pytest.approx(np.array(wanted)[occurs].mean())
    losses = [sk.log_loss(truth[:, at], p[:, at], labels=[0, 1]) for at in range(4)]
    if ((p > 0) & (p < 1)).all():
        assert found["log_loss"] == pytest.approx(np.mean(losses))
    briers = [sk.brier_score_loss(truth[:, at], p[:, at], pos_label=1) for at in range(4)]
    assert found["brier"] == pytest.approx(np.mean(briers), abs=1e-6)
    precision = per_class.table(evaluation).set_index("label")
    for at, name in enumerate(evaluation.classes):
        if predicted[:, at].any():
            wanted = sk.precision_score(truth[:, at], predicted[:, at])
            assert precision.loc[name, "precision"] == pytest.approx(wanted)
        assert precision.loc[name, "support"] == truth[:, at].sum()


def test_intervals_contain_the_value():
    found = metrics.compute(made(3, n=400)[3], ValidateParams(bootstrap_rounds=200))
    names = [name.removesuffix("_low") for name in found if name.endswith("_low")]
    assert "accuracy" in names
    assert "mean_average_precision" not in names
    for name in names:
        assert found[f"{name}_low"] - 1e-9 <= found[name] <= found[f"{name}_high"] + 1e-9, name


def test_a_label_is_taken_for_itself_or_for_none():
    classes = ["a", "b"]
    truth = np.array([[1, 1], [1, 0], [0, 0], [0, 1]], bool)
    predicted = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], bool)
    p = np.where(predicted, 0.9, 0.1)
    table = multilabel_table(truth, predicted, p, classes, unseen={3})
    evaluation = evaluate(table, classes, ";")
    counts, names = confusion.confusion(evaluation)
    assert names == ["a", "b", "zz", "(none)"]
    # Rows are labels, columns predictions.
    assert counts.tolist() == [
        [2, 0, 0, 0],
        [0, 1, 0, 1],
        [0, 0, 0, 1],
        [0, 1, 0, 1],
    ]
    assert evaluation.correct.tolist() == [False, False, True, False]
    covers = cover.table(evaluation).set_index("label")
    # One image has the first two chips, two others one each.
    assert covers.loc["b", "cover"] == pytest.approx(np.mean([1 / 2, 0, 1]))
    assert covers.loc["zz", "cover"] == pytest.approx(1 / 3)
    assert covers.loc["zz", "predicted_cover"] == 0


def test_a_missing_label_and_a_wrong_one_are_issues():
    rng = np.random.default_rng(0)
    truth = rng.uniform(size=(200, 3)) < 0.5
    p = np.where(truth, 0.9, 0.1) + rng.uniform(-0.05, 0.05, truth.shape)
    p[[5, 9]] = np.where(truth[[5, 9]], 0.97, 0.03)
    wrong = truth.copy()
    wrong[5, 1], wrong[9, 2] = ~truth[5, 1], ~truth[9, 2]
    predictions = multilabel_table(wrong, p >= 0.5, p, ["a", "b", "c"])
    evaluation = evaluate(predictions, ["a", "b", "c"], ";")
    splits = pa.chunked_array([["validation"] * 200])
    found = label_issues.table(evaluation, predictions, splits, ";")
    assert set(found["row"]) == {5, 9}
    for row in found.itertuples():
        right = (name for name, has in zip("abc", truth[row.row], strict=True) if has)
        assert row.predicted_label == label_sets.join(right, ";")
        assert row.label_quality < -0.6
        assert row.predicted_probability > 0.8


def test_classifiers_of_several_labels_are_compared_chip_by_chip():
    truth, predicted, p, this = made(1, n=200)
    table = multilabel_table(truth, ~predicted, 1 - p, this.classes)
    other = evaluate(table, this.classes, ";")
    found = comparison.compare({"worse": Comparable(this, other)}, FEW).iloc[0]
    assert found["accuracy_difference"] == pytest.approx(
        (truth == predicted).all(1).mean() - (truth == ~predicted).all(1).mean()
    )
    assert (
        found["only_this_correct"]
        == ((truth == predicted).all(1) & ~(truth == ~predicted).all(1)).sum()
    )


def test_valresult_gives_lists_of_places():
    truth, predicted, p, evaluation = made(2, n=5)
    table = multilabel_table(truth, predicted, p, evaluation.classes)
    found = valresult(table["score"], evaluation)
    assert found["gt"] == [np.flatnonzero(row).tolist() for row in truth]
    assert found["est"] == [np.flatnonzero(row).tolist() for row in predicted]


def test_a_classifier_that_predicts_nothing_has_no_threshold_and_no_coverage():
    """It is right about most pairs of a chip and a label, and of no use."""
    classes = ["a", "b", "c"]
    truth = np.zeros((300, 3), bool)
    truth[:17, 1] = True
    p = np.full((300, 3), 0.02)
    predictions = multilabel_table(truth, np.zeros((300, 3), bool), p, classes)
    data = data_of(predictions, classes, ";")
    data.calibration_predictions = data.predictions
    html = html_of(data)
    metrics = {name: v for result in data.results for name, v in result.metrics.items()}
    assert not {name for name in metrics if name.startswith(("threshold", "ece"))}
    assert "No label is predicted on the calibration split" in html
    assert "predicts no label for any validation chip" in html


def test_the_threshold_is_for_predicted_labels_and_is_measured_for_each_label():
    """a is predicted for 100 chips and right for all; b for 60, at a lower score, for 30."""
    classes = ["a", "b", "c"]
    truth, p = np.zeros((400, 3), bool), np.full((400, 3), 0.01)
    p[:100, 0], truth[:100, 0] = 0.9, True
    p[100:160, 1], truth[100:130, 1] = 0.6, True
    predictions = multilabel_table(truth, p >= 0.5, p, classes)
    data = data_of(predictions, classes, ";")
    data.calibration_predictions = data.predictions
    results = run(with_validate(data, target_accuracy=0.95))
    metrics = {name: value for result in results for name, value in result.metrics.items()}
    assert metrics["threshold"] == pytest.approx(0.9)
    assert metrics["threshold_coverage"] == pytest.approx(100 / 160)
    assert metrics["threshold_accuracy"] == 1
    tables = {name: table for result in results for name, table in result.tables.items()}
    labels = tables["predicted_labels"].set_index("label")
    assert labels["predicted"].to_dict() == {"a": 100, "b": 60, "c": 0}
    assert labels["accepted"].to_dict() == {"a": 100, "b": 0, "c": 0}
    assert labels.loc["b", "precision"] == 0.5
    assert labels.loc["b", "score"] == pytest.approx(0.6)
    assert labels.loc["a", "accepted_precision"] == 1
    assert labels.loc["c"].drop(["predicted", "accepted"]).isna().all()
    assert labels.loc["b", "ece_low"] <= 0.1 <= labels.loc["b", "ece_high"]
    assert set(tables["reliability_by_label"]["label"]) == {"a", "b"}
