"""Cover: the share of an image that each label has."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, stats
from synthetic_predictions import certain_table, random_table, with_keys

from pipeline.validate.analyses import cover
from pipeline.validate.evaluation import evaluate


def test_cover_by_hand():
    """Two images: one of 4 chips, half sand, one of 2, all sand; one sand is taken for rock."""
    made = certain_table(
        ["sand", "sand", "rock", "rock", "sand", "sand"],
        ["sand", "rock", "rock", "rock", "sand", "sand"],
        ["rock", "sand"],
    )
    found = cover.table(evaluate(with_keys(made, list("aaaabb")), ["rock", "sand"]))
    sand = found.set_index("label").loc["sand"]
    assert found["label"].tolist() == ["sand", "rock"]  # the most cover first
    assert sand["images"] == 2
    assert sand["cover"] == pytest.approx((0.5 + 1) / 2)
    assert sand["predicted_cover"] == pytest.approx((0.25 + 1) / 2)
    assert sand["bias"] == pytest.approx(-0.25 / 2)
    assert sand["rmse"] == pytest.approx(np.sqrt(0.25**2 / 2))
    assert sand["r2"] == pytest.approx(1 - 0.25**2 / (2 * 0.25**2))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 999), st.integers(1, 6), st.integers(0, 4))
def test_cover_is_what_loops_give(seed, n_images, unseen):
    made, classes = random_table(seed, n=60, unseen=unseen)
    keys = np.random.default_rng(seed).integers(0, n_images, 60).astype(str)
    evaluation = evaluate(with_keys(made, keys.tolist()), classes)
    found = cover.table(evaluation).set_index("label")
    assert found["cover"].sum() == pytest.approx(1)
    assert found["predicted_cover"].sum() == pytest.approx(1)
    for at, label in enumerate(evaluation.labels):
        true, predicted = [], []
        for key in sorted(set(keys)):
            own = keys == key
            true.append(np.mean(evaluation.true.labels[own] == at))
            predicted.append(np.mean(evaluation.predicted.labels[own] == at))
        error = np.subtract(predicted, true)
        assert found.loc[label, "bias"] == pytest.approx(error.mean())
        assert found.loc[label, "rmse"] == pytest.approx(np.sqrt((error**2).mean()))
        if np.ptp(true):
            r2 = 1 - (error**2).sum() / ((true - np.mean(true)) ** 2).sum()
            assert found.loc[label, "r2"] == pytest.approx(r2)
        else:
            assert np.isnan(found.loc[label, "r2"])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_interval_of_a_bias_is_a_t_interval_of_the_groups_by_hand(seed):
    made, classes = random_table(seed, n=400, n_groups=6, unseen=3)
    groups = made["group"].to_pylist()
    keys = [f"{group}/{at % 3}" for at, group in enumerate(groups)]
    evaluation = evaluate(with_keys(made, keys), classes)
    found = cover.table(evaluation).set_index("label")
    images = sorted(set(keys))
    of_group = np.array([int(key[1]) for key in images])
    true, predicted = cover.shares(evaluation)
    n = np.bincount(of_group)
    for at, label in enumerate(evaluation.labels):
        errors = predicted[:, at] - true[:, at]
        sums = np.bincount(of_group, weights=errors)
        influence = (sums - errors.mean() * n) / (n.sum() - n / 2)
        variance, fourth = (influence**2).sum(), (influence**4).sum()
        freedom = max(min(n.sum() ** 2 / (n**2).sum(), 3 * variance**2 / fourth) - 1, 1)
        reach = stats.t.ppf(0.975, freedom) * np.sqrt(variance)
        ends = [errors.mean() - reach, errors.mean() + reach]
        assert found.loc[label, ["bias_low", "bias_high"]].tolist() == pytest.approx(ends)


def test_an_image_of_several_groups_counts_in_each_by_its_share():
    """Image x has three chips of group g and one of h; y is h's alone."""
    made = certain_table(
        ["sand", "sand", "rock", "rock", "sand"],
        ["sand", "rock", "rock", "rock", "sand"],
        ["rock", "sand"],
        ["g", "g", "g", "h", "h"],
    )
    evaluation = evaluate(with_keys(made, list("xxxxy")), ["rock", "sand"])
    images = np.array([[1.0, 10.0], [1.0, 1000.0]])
    found = cover._by_group(evaluation, sparse.csr_array(images)).toarray()
    assert found.tolist() == [[0.75, 7.5], [1.25, 1002.5]]


def test_cover_of_one_group_has_no_interval():
    found = cover.table(evaluate(*random_table(1, n_groups=1)))
    ends = [name for name in found if name.endswith(("_low", "_high"))]
    assert len(ends) == 6
    assert found[ends].isna().all(axis=None)
