import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn import metrics as sk
from synthetic_predictions import random_table

from pipeline.config.sections import ValidateParams
from pipeline.validate import metrics
from pipeline.validate.evaluation import evaluate
from pipeline.validate.metrics import _bootstrap, scores


def naive(evaluation, rounds, seed):
    """Draw the groups' rows in a loop, and score each round with scikit-learn."""
    generator = np.random.default_rng(seed)
    members = [np.flatnonzero(evaluation.groups == group) for group in range(evaluation.n_groups)]
    for _ in range(rounds):
        drawn = generator.integers(0, evaluation.n_groups, size=evaluation.n_groups)
        rows = np.concatenate([members[group] for group in drawn])
        y, predicted = evaluation.true.labels[rows], evaluation.predicted.labels[rows]
        p = evaluation.probabilities[rows]
        occurring = np.unique(y)
        known = y < evaluation.n_classes
        padded = np.pad(p, ((0, 0), (0, len(evaluation.labels) - evaluation.n_classes)))
        labels = list(range(len(evaluation.labels)))
        yield {
            "accuracy": sk.accuracy_score(y, predicted),
            "balanced_accuracy": sk.recall_score(y, predicted, labels=occurring, average="macro"),
            "macro_f1": sk.f1_score(y, predicted, average="macro", zero_division=0),
            "weighted_f1": sk.f1_score(y, predicted, average="weighted", zero_division=0),
            "matthews_correlation": sk.matthews_corrcoef(y, predicted),
            "cohen_kappa": sk.cohen_kappa_score(y, predicted),
            "top_3_accuracy": sk.top_k_accuracy_score(y, padded, k=3, labels=labels),
            "log_loss": sk.log_loss(y[known], p[known], labels=list(range(evaluation.n_classes))),
            "brier": ((padded - np.eye(len(labels))[y]) ** 2).sum(axis=1).mean(),
        }


@pytest.mark.parametrize(("seed", "unseen"), [(0, 0), (1, 0), (2, 6), (3, 1)])
def test_every_round_equals_a_loop_over_scikit_learn(seed, unseen):
    evaluation = evaluate(*random_table(seed, n=120, n_classes=5, n_groups=7, unseen=unseen))
    totals = _bootstrap.resample(
        scores.sums(evaluation), ValidateParams(bootstrap_rounds=40, seed=seed)
    )
    found = scores.from_sums(evaluation, totals)
    for at, expected in enumerate(naive(evaluation, 40, seed)):
        assert {name: found[name][at] for name in expected} == pytest.approx(expected, abs=1e-9)


@given(st.integers(1, 30), st.integers(1, 40), st.integers(1, 200))
@settings(deadline=None, max_examples=50)
def test_the_size_of_a_block_changes_no_draw(n_groups, rounds, block_values):
    sums = sparse.eye_array(n_groups, format="csr")
    validate = ValidateParams(bootstrap_rounds=rounds, seed=5)
    whole = _bootstrap.resample(sums, validate)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_bootstrap, "BLOCK_VALUES", block_values)
        pieces = _bootstrap.resample(sums, validate)
    assert np.array_equal(whole, pieces)


@given(st.integers(1, 50), st.integers(1, 20), st.integers(0, 9))
@settings(deadline=None, max_examples=50)
def test_a_round_draws_as_many_groups_as_there_are(n_groups, rounds, seed):
    drawn = _bootstrap.draws(np.random.default_rng(seed), rounds, n_groups)
    assert drawn.sum(axis=1).tolist() == [n_groups] * rounds


def test_the_seed_decides_the_interval_of_a_resampled_metric_alone():
    evaluation = evaluate(*random_table(6))
    first, again, other = (
        metrics.compute(evaluation, ValidateParams(seed=seed)) for seed in (1, 1, 2)
    )
    assert first == again
    resampled = {name for name in first if first[name] != other[name]}
    assert resampled
    assert resampled <= {"ece_low", "ece_high", "ece_by_chance"}


def test_one_group_gives_the_whole_range():
    flat = metrics.compute(evaluate(*random_table(0, n_groups=1)), ValidateParams())
    assert (flat["accuracy_low"], flat["accuracy_high"]) == (0, 1)
    assert (flat["matthews_correlation_low"], flat["matthews_correlation_high"]) == (-1, 1)


def test_as_many_groups_as_chips_need_little_memory():
    """Dense draws of 1,000 rounds over 40,000 groups would be 320 MB."""
    sums = sparse.eye_array(40_000, 8, format="csr")
    tracemalloc.start()
    _bootstrap.resample(sums, ValidateParams())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150e6


def test_the_names_that_scripts_read_are_there():
    flat = metrics.compute(evaluate(*random_table(0)), ValidateParams(bootstrap_rounds=10))
    promised = {"accuracy", "accuracy_low", "accuracy_high", "balanced_accuracy", "macro_f1"}
    assert promised | {"log_loss", "ece", "n_validation"} <= flat.keys()
