"""Calibration: temperature, mixture and sigmoids."""

import numpy as np
import pytest
from scipy.optimize import minimize
from training_rows import blobs, trained

from pipeline.config.sections import TrainParams
from pipeline.train import model
from pipeline.train.calibration import fit_mixture, fit_sigmoids, fit_temperature, log_loss
from pipeline.train.labelled_features import LabelledFeatures


@pytest.mark.parametrize("true", [0.3, 1.0, 2.5])
def test_a_known_temperature_is_recovered(true):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 5))
    shares = model.softmax(logits)
    y = np.array([rng.choice(5, p=share) for share in shares])
    assert fit_temperature(logits * true, y) == pytest.approx(true, rel=0.05)


def test_a_few_correct_predictions_do_not_make_it_infinitely_certain():
    logits = np.eye(3)[[0, 1, 2] * 5] * 4.0
    y = np.array([0, 1, 2] * 5)
    temperature = fit_temperature(logits, y)
    assert model.softmax(logits / temperature).max() < 0.99


@pytest.mark.parametrize("doubt", [0.0, 0.08, 0.3])
@pytest.mark.parametrize("heat", [0.4, 1.0, 2.5])
def test_a_known_share_of_random_labels_is_recovered(doubt, heat):
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 3, (20_000, 5))
    shares = model.softmax(logits)
    y = (shares.cumsum(1) > rng.random((20_000, 1))).argmax(1)
    y = np.where(rng.random(20_000) < doubt, rng.integers(0, 5, 20_000), y)
    found_heat, found = fit_mixture(logits * heat, y)
    assert found == pytest.approx(doubt, abs=0.02)
    assert found_heat == pytest.approx(heat, rel=0.06)
    after = model.mixed(model.softmax(logits * heat / found_heat), found, 5)
    plain = model.softmax(logits * heat / fit_temperature(logits * heat, y))
    assert log_loss(after, y) <= log_loss(plain, y) + 1e-6


def test_a_mixture_reaches_the_lowest_loss_that_scipy_finds():
    rng = np.random.default_rng(2)
    logits = rng.standard_t(3, (3000, 4)) * 2
    shares = model.softmax(logits / 1.3)
    y = (shares.cumsum(1) > rng.random((3000, 1))).argmax(1)
    y = np.where(rng.random(3000) < 0.2, rng.integers(0, 4, 3000), y)

    def loss(at):
        scores = model.mixed(model.softmax(logits / at[0]), at[1], 4)
        smooth = 1 / 3002
        return (1 - smooth) * log_loss(scores, y) - smooth * np.log(scores).mean()

    wanted = minimize(loss, [1.0, 0.1], method="Nelder-Mead", options={"xatol": 1e-7}).fun
    assert loss(fit_mixture(logits, y)) == pytest.approx(wanted, abs=1e-6)


def test_calibration_lowers_the_loss_of_an_overtrained_network():
    rows, held = blobs(80, spread=3), blobs(400, seed=1, spread=3)
    card = trained(TrainParams(epochs=300, learning_rate=0.01), rows, held).classifier.card[
        "calibration"
    ]
    assert card["temperature"] > 1.5
    assert card["log_loss_after"] < card["log_loss_before"]


def test_without_calibration_chips_the_card_gives_the_reason():
    nothing = LabelledFeatures.of(np.zeros((0, 12), np.float32), [])
    fitted = trained(TrainParams(epochs=1), held=nothing)
    assert fitted.classifier.card["calibration"] == {
        "method": "none",
        "why": "no calibration chip has a known label",
    }
    assert fitted.curve[0].calibration_loss is None


@pytest.mark.parametrize("classes", [2, 5])
def test_sigmoids_agree_with_scikit_learn(classes):
    """PySpacer calibrates with CalibratedClassifierCV, sigmoid, on a fitted classifier."""
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.calibration import CalibratedClassifierCV

    class FixedProbabilities(ClassifierMixin, BaseEstimator):
        """Returns its input as probabilities."""

        def fit(self, x, y):
            self.classes_ = np.unique(y)
            return self

        def predict_proba(self, x):
            return x

        def predict(self, x):
            return self.classes_[x.argmax(1)]

    rng = np.random.default_rng(0)
    p = model.softmax(rng.normal(0, 2, (3000, classes)))
    y = np.array([rng.choice(classes, p=share) for share in p**0.5 / (p**0.5).sum(1)[:, None]])
    theirs = CalibratedClassifierCV(FixedProbabilities(), method="sigmoid", ensemble=False).fit(
        p, y
    )
    is_of_class = y[:, None] == np.arange(classes)
    first = 1 if classes == 2 else 0
    slope, offset = fit_sigmoids(p[:, first:], is_of_class[:, first:])
    found = model.sigmoids(p, slope, offset)
    np.testing.assert_allclose(found, theirs.predict_proba(p), atol=2e-4)
    assert found.sum(1) == pytest.approx(1)
