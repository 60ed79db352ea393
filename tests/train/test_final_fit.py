"""The final fit on the chips of the calibration split, too (`train.final: all`)."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from test_checkpoint import CuttingCheckpoint
from training_rows import blobs, splits

from pipeline.config.sections import TrainParams
from pipeline.train.fit import Splits, fit, fit_on_all
from pipeline.train.labelled_features import LabelledFeatures


def features(rows):
    return np.concatenate([rows.read(number) for number in range(len(rows.blocks))])


def of_both(parts):
    x = np.concatenate([features(parts.train), features(parts.calibration)])
    return LabelledFeatures.of(x, [*parts.train.texts, *parts.calibration.texts])


def network(classifier):
    return {
        name: values.tobytes()
        for name, values in classifier.tensors.items()
        if name.startswith(("layers", "mean", "scale"))
    }


def calibration(classifier):
    return {
        name: values.tobytes()
        for name, values in classifier.tensors.items()
        if not name.startswith(("layers", "mean", "scale"))
    }


@pytest.fixture
def parts():
    return Splits(blobs(300), blobs(200, seed=1))


def nothing(dim):
    return LabelledFeatures.of(np.empty((0, dim), np.float32), [])


@pytest.mark.parametrize("more", [{}, {"balance": "resample", "dropout": 0.2}])
def test_it_is_a_training_on_all_rows_with_the_calibration_of_the_first(parts, more):
    train = TrainParams(epochs=4, **more)
    first = fit(parts, train, "cpu")
    final = fit_on_all(first, of_both(parts), "cpu")
    whole = fit(Splits(of_both(parts), nothing(12)), train, "cpu").classifier
    assert network(final) == network(whole)
    assert calibration(final) == calibration(first.classifier)
    assert final.tensors["temperature"] != 1
    assert final.card == {**first.classifier.card, "n_final": 500}


def test_with_patience_it_takes_as_many_epochs_as_were_best(parts):
    first = fit(parts, TrainParams(epochs=60, patience=2, learning_rate=0.02), "cpu")
    losses = [epoch.calibration_loss for epoch in first.curve]
    best = losses.index(min(losses)) + 1
    assert best < len(first.curve)
    seen = []
    fit_on_all(first, of_both(parts), "cpu", lambda curve: seen.append(len(curve)))
    assert seen == list(range(1, best + 1))


def test_logistic_regression_keeps_the_penalty_that_was_chosen(parts):
    first = fit(parts, TrainParams(classifier="lr"), "cpu")
    both = of_both(parts)
    final = fit_on_all(first, both, "cpu")
    x = (features(both) - final.tensors["mean"]) * final.tensors["scale"]
    strength = 1 / (first.classifier.card["weight_decay"] * 500)
    theirs = LogisticRegression(C=strength, tol=1e-8, max_iter=5000).fit(x, both.texts)
    np.testing.assert_allclose(final.layers[0][0], theirs.coef_, atol=2e-3)


def test_a_chip_whose_label_only_the_calibration_split_has_is_left_out(parts):
    held = LabelledFeatures.of(features(parts.calibration), ["new", *parts.calibration.texts[1:]])
    parts = Splits(parts.train, held)
    final = fit_on_all(fit(parts, TrainParams(epochs=2), "cpu"), of_both(parts), "cpu")
    assert final.classes == ("c0", "c1", "c2")
    assert final.card["n_final"] == 499


def test_several_labels_keep_their_thresholds():
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (400, 8)).astype(np.float32)
    texts = ["|".join(f"c{n}" for n in range(3) if row[n]) for row in x[:, :3] > 0.4]
    halves = (slice(250), slice(250, None))
    parts = Splits(*(LabelledFeatures.of(x[part], texts[part]) for part in halves), separator="|")
    first = fit(parts, TrainParams(epochs=10), "cpu")
    final = fit_on_all(first, of_both(parts), "cpu")
    assert final.tensors["thresholds"].tolist() == first.classifier.tensors["thresholds"].tolist()
    assert network(final) != network(first.classifier)


@pytest.mark.parametrize("cut", [1, 3])
def test_an_interrupted_final_fit_resumes_to_the_same_bytes(cut):
    parts = splits()
    first = fit(parts, TrainParams(epochs=5, batch=32), "cpu")
    whole = fit_on_all(first, of_both(parts), "cpu")
    kept = CuttingCheckpoint(cut)
    with pytest.raises(KeyboardInterrupt):
        fit_on_all(first, of_both(parts), "cpu", checkpoint=kept)
    assert fit_on_all(first, of_both(parts), "cpu", checkpoint=kept).files() == whole.files()
