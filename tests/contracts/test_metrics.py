"""What every file of pipeline/validate/metrics/ promises."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_predictions import certain_table, random_table, table

from pipeline.config import registry
from pipeline.config.sections import ValidateParams
from pipeline.validate.evaluation import evaluate
from pipeline.validate.metrics import _bootstrap, values_of

NAMES = registry.names("validate.metrics")
parts = pytest.mark.parametrize(
    "part", [registry.find("validate.metrics", n, key="") for n in NAMES], ids=NAMES
)


@st.composite
def predictions(draw):
    """Any predictions: few chips or many, one class or more, certain or not, labels unseen."""
    n_classes, n = draw(st.integers(1, 7)), draw(st.integers(1, 40))
    classes = [f"c{i}" for i in range(n_classes)]
    labels = draw(st.lists(st.sampled_from([*classes, "new", "newer"]), min_size=n, max_size=n))
    groups = draw(st.lists(st.sampled_from("uvwx"), min_size=n, max_size=n))
    generator = np.random.default_rng(draw(st.integers(0, 99)))
    sharpness = draw(st.sampled_from([0.01, 1.0, 300.0]))
    logits = generator.normal(size=(n, n_classes)) * sharpness
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return table(labels, p / p.sum(axis=1, keepdims=True), classes, groups), classes


def values(part, made):
    """Return the metrics of a family, those without an interval too."""
    evaluation = evaluate(*made)
    figures = part.figures(evaluation) if hasattr(part, "figures") else {}
    return values_of(part, evaluation) | figures


@parts
@given(made=predictions())
@settings(deadline=None, max_examples=60)
def test_never_nan_and_within_its_range(part, made):
    for name, value in values(part, made).items():
        assert math.isfinite(value), name
        if part.METRICS[name].range:
            low, high = part.METRICS[name].range
            assert low - 1e-12 <= value <= high + 1e-12, name


@parts
@given(made=predictions())
@settings(deadline=None, max_examples=60)
def test_resamples_are_finite_and_within_the_range(part, made):
    evaluation = evaluate(*made)
    totals = _bootstrap.resample(part.sums(evaluation), ValidateParams(bootstrap_rounds=20))
    for name, drawn in part.from_sums(evaluation, totals).items():
        low, high = part.METRICS[name].range
        assert np.isfinite(drawn).all(), name
        assert ((low - 1e-12 <= drawn) & (drawn <= high + 1e-12)).all(), name


@parts
def test_the_order_of_rows_does_not_matter(part):
    made, classes = random_table(7, unseen=5)
    shuffled = made.take(np.random.default_rng(0).permutation(made.num_rows))
    expected = pytest.approx(values(part, (made, classes)), rel=1e-12)
    assert values(part, (shuffled, classes)) == expected


@parts
def test_perfect_predictions_give_the_best_value(part):
    classes = list("abcdefg")
    found = values(part, (certain_table(classes * 6, classes * 6, classes), classes))
    best = {
        name: part.METRICS[name].range[part.METRICS[name].better == "higher"]
        for name in found
        if part.METRICS[name].better
    }
    assert {name: found[name] for name in best} == pytest.approx(best, abs=1e-12)


@parts
def test_worse_predictions_give_a_worse_value(part):
    good, bad = (random_table(8, n=600, n_classes=7, hit=hit) for hit in (5.0, -5.0))
    well, badly = values(part, good), values(part, bad)
    for name, value in well.items():
        if better := part.METRICS[name].better:
            assert (value > badly[name]) == (better == "higher"), name


MULTILABEL = {"samples_f1", "micro_f1", "jaccard", "hamming_loss", "mean_average_precision"}
"""What only chips with several labels have."""


@parts
def test_every_metric_has_a_meaning(part):
    found = values(part, random_table(9, n_classes=7))
    assert found.keys() == part.METRICS.keys() - MULTILABEL
    assert all(metric.meaning for metric in part.METRICS.values())


def test_no_two_families_give_the_same_metric():
    names = [name for n in NAMES for name in registry.find("validate.metrics", n, key="").METRICS]
    assert len(names) == len(set(names))
