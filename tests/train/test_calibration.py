"""Calibration: temperature, mixture and sigmoids."""

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_expit, log_softmax
from sklearn import metrics as sk
from training_rows import blobs, trained

from pipeline.config.sections import TrainParams
from pipeline.train import model
from pipeline.train.calibration import (
    HeldOut,
    calibrate,
    fit_mixture,
    fit_sigmoids,
    fit_temperature,
    log_loss,
)
from pipeline.train.calibration_error import Gaps
from pipeline.train.labelled_features import LabelledFeatures
from pipeline.train.model import Classifier
from pipeline.train.thresholds import choose_thresholds


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


def smoothed_loss(log_p, y):
    """Return the log loss with one part in n + 2 of each label divided among all classes."""
    smoothing = 1 / (len(y) + 2)
    chosen = log_p[np.arange(len(y)), y]
    return -((1 - smoothing) * chosen + smoothing * log_p.mean(axis=1)).mean()


def scores_and_labels(rng, n, n_classes, doubt=0.0, heat=1.3):
    """Make logits that are *heat* times too high; a share *doubt* of the labels is random."""
    logits = rng.standard_t(5, (n, n_classes)) * 2
    y = (model.softmax(logits).cumsum(1) > rng.random((n, 1))).argmax(1)
    return logits * heat, np.where(rng.random(n) < doubt, rng.integers(0, n_classes, n), y)


@pytest.mark.parametrize("heat", [0.08, 1.0, 1.5, 12.0])
@pytest.mark.parametrize(("n", "n_classes"), [(12, 2), (40, 5), (2000, 3)])
def test_a_temperature_reaches_the_lowest_loss_that_scipy_finds(n, n_classes, heat):
    logits, y = scores_and_labels(np.random.default_rng(n), n, n_classes, 0.1, heat)
    wanted = minimize_scalar(
        lambda at: smoothed_loss(log_softmax(at * logits, axis=1), y),
        bounds=(1 / 20, 20),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert 1 / fit_temperature(logits, y) == pytest.approx(wanted.x, rel=1e-5)


def test_temperatures_are_between_one_twentieth_and_twenty():
    logits = np.random.default_rng(0).normal(0, 0.1, (20_000, 3))
    assert fit_temperature(logits, logits.argmax(axis=1)) == pytest.approx(1 / 20)
    assert fit_temperature(logits * 100, logits.argmin(axis=1)) == pytest.approx(20)
    temperature, doubt = fit_mixture(logits, logits.argmax(axis=1))
    assert temperature == pytest.approx(1 / 20)
    assert doubt == pytest.approx(0, abs=1e-3)
    assert fit_mixture(logits * 100, logits.argmin(axis=1)) == (pytest.approx(20), 0.5)


def test_scores_that_are_all_the_same_can_be_calibrated():
    logits, y = np.full((9, 3), 2.0), np.arange(9) % 3
    assert 1 / 20 <= fit_temperature(logits, y) <= 20
    temperature, doubt = fit_mixture(logits, y)
    assert 1 / 20 <= temperature <= 20
    assert 0 <= doubt <= 0.5


def best_mixture(logits, y, start):
    """Return temperature and doubt as scipy finds them, and the loss of any others."""

    def loss(at):
        p = model.mixed(model.softmax(logits / at[0]), at[1], logits.shape[1])
        return smoothed_loss(np.log(p), y)

    bounds, tolerances = [(1 / 20, 20), (0, 0.5)], {"xatol": 1e-7, "fatol": 1e-10}
    found = minimize(loss, start, method="Nelder-Mead", bounds=bounds, options=tolerances)
    return found.x, loss


@pytest.mark.parametrize("heat", [0.2, 1.3, 9.0])
@pytest.mark.parametrize("doubt", [0.0, 0.1, 0.3])
@pytest.mark.parametrize(("n", "n_classes"), [(60, 6), (3000, 4)])
def test_a_mixture_reaches_the_lowest_loss_that_scipy_finds(n, n_classes, doubt, heat):
    logits, y = scores_and_labels(np.random.default_rng(2), n, n_classes, doubt, heat)
    wanted, loss = best_mixture(logits, y, [heat, 0.05])
    slack = 2e-8 if doubt else 1e-6  # near a doubt of 0 the steps get smaller and smaller
    assert loss(fit_mixture(logits, y)) < loss(wanted) + slack


def test_a_mixture_of_few_labels_is_smoothed():
    """With one part in 15 instead of 14, the doubt would be 0.235, not 0.239."""
    logits, y = scores_and_labels(np.random.default_rng(7), 12, 3, 0.3)
    (temperature, doubt), _ = best_mixture(logits, y, [0.5, 0.2])
    found = pytest.approx(temperature, rel=1e-3), pytest.approx(doubt, abs=5e-4)
    assert fit_mixture(logits, y) == found


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


@pytest.mark.parametrize("n", [2, 15, 4000])
def test_sigmoids_are_logistic_regressions_with_platts_targets(n):
    """A target of t is one row of each answer, with weights of t and 1 - t."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(n)
    p = rng.random((n, 3))
    has = np.c_[rng.random((n, 3)) < p**2, np.ones(n, bool), np.arange(n) > 0, np.arange(n) < 1]
    p = p[:, [0, 1, 2, 0, 1, 2]]
    for number, (slope, offset) in enumerate(zip(*fit_sigmoids(p, has), strict=True)):
        yes, no = has[:, number].sum(), (~has[:, number]).sum()
        target = np.where(has[:, number], (yes + 1) / (yes + 2), 1 / (no + 2))
        theirs = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12)
        column = np.tile(p[:, number], 2)[:, None]
        theirs.fit(column, np.repeat([True, False], n), np.append(target, 1 - target))
        wanted = -theirs.coef_[0, 0], -theirs.intercept_[0]
        assert (slope, offset) == pytest.approx(wanted, rel=1e-3, abs=1e-3)


def test_sigmoids_are_close_to_the_best_where_the_loss_is_flat():
    """Few chips, few of them of the class, and most probabilities near 0."""
    rng = np.random.default_rng(0)
    for power in [1, 3] * 60:
        n = int(10 ** rng.uniform(0.5, 3))
        p = rng.random(n) ** 4
        has = rng.random(n) < p**power
        target = np.where(has, (has.sum() + 1) / (has.sum() + 2), 1 / ((~has).sum() + 2))

        def loss(at, p=p, target=target):
            scores = at[0] * p + at[1]
            residual = target - expit(-scores)
            losses = target * log_expit(-scores) + (1 - target) * log_expit(scores)
            return -losses.sum(), np.array([residual @ p, residual.sum()])

        best = minimize(loss, [0, 0], jac=True, method="BFGS", options={"gtol": 1e-9}).x
        slope, offset = fit_sigmoids(p[:, None], has[:, None])
        found = expit(-(slope * p + offset))
        np.testing.assert_allclose(found, expit(-(best[0] * p + best[1])), atol=1.5e-5)


def test_the_log_loss_of_a_class_with_a_probability_of_0_is_finite():
    assert log_loss(np.array([[0.0, 1.0]]), np.array([0])) == pytest.approx(300 * np.log(10))


# What is fitted to a classifier, and what its card says.


MIXTURE = ("temperature", "doubt")


def not_calibrated(n_classes):
    names = ("a", "b", "c")[:n_classes]
    return Classifier(names, {"temperature": np.ones(1, np.float32)}, {"made": "by hand"})


def one_label(n_classes, n=600):
    """Chips of one label each, in groups of 20 whose accuracy differs; scores are too high."""
    rng = np.random.default_rng(n_classes)
    logits, y = scores_and_labels(rng, n, n_classes, 0.1, 3.0)
    groups = np.arange(n) // 20
    return HeldOut(logits, np.where(rng.random(n // 20)[groups] < 0.1, 0, y), groups)


SETS = np.array([[0, 0, 0], [0, 1, 0], [1, 1, 1], [1, 0, 0]], np.float32)


def several_labels(n=600):
    rng = np.random.default_rng(7)
    y, groups = rng.integers(0, 4, n), np.arange(n) // 20
    logits = 6 * (SETS[y] - 0.6) + rng.normal(0, 5, (n, 3)) + rng.normal(0, 2, (n // 20, 1))[groups]
    return HeldOut(logits, y, groups, SETS)


def added(held_out, method, n_classes=3):
    """Return what *method* adds to the tensors of a classifier, and the card's entry."""
    before = not_calibrated(n_classes)
    found, card = calibrate(before, held_out, TrainParams(calibration=method))
    assert found.classes == before.classes
    assert found.card == before.card
    assert all(values.dtype == np.float32 for values in found.tensors.values())
    assert before.tensors.keys() == {"temperature"}
    return found, card


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("method", ["temperature", "mixture", "sigmoid"])
def test_the_card_has_the_loss_and_the_error_before_and_after(method, n_classes):
    held_out = one_label(n_classes)
    logits, y = held_out.logits, held_out.y
    found, card = added(held_out, method, n_classes)
    wanted = {"method": method}
    plain, after = model.softmax(logits), model.calibrated(logits, found.tensors)
    for when, p in (("before", plain), ("after", after)):
        wanted[f"log_loss_{when}"] = pytest.approx(-np.log(p[np.arange(len(y)), y]).mean())
        gaps = Gaps.between(p.max(axis=1), p.argmax(axis=1) == y, held_out.groups)
        wanted[f"ece_{when}"] = pytest.approx(gaps.error)
    fitted = {"temperature": [1]}
    if method == "temperature":
        fitted = {"temperature": [fit_temperature(logits, y)]}
    elif method == "mixture":
        fitted = {
            name: [value] for name, value in zip(MIXTURE, fit_mixture(logits, y), strict=True)
        }
    else:
        first = 1 if n_classes == 2 else 0  # of two classes one sigmoid is enough
        has = y[:, None] == np.arange(n_classes)
        slope, offset = fit_sigmoids(plain[:, first:], has[:, first:])
        fitted |= {"sigmoid.slope": slope, "sigmoid.offset": offset}
    assert {name: values.tolist() for name, values in found.tensors.items()} == {
        name: pytest.approx(values) for name, values in fitted.items()
    }
    if method != "sigmoid":
        wanted |= {name: values[0] for name, values in fitted.items()}
    assert card == wanted
    assert card["ece_before"] > card["ece_after"]


@pytest.mark.parametrize("method", ["none", "temperature", "mixture", "sigmoid"])
def test_of_several_labels_each_is_a_choice_between_no_and_yes(method):
    held_out = several_labels()
    logits, has = held_out.logits, SETS[held_out.y] > 0
    found, card = added(held_out, method)
    choices, answers = np.c_[np.zeros(logits.size), logits.ravel()], has.ravel().astype(int)
    fitted = {"temperature": [1]}
    if method == "temperature":
        fitted = {"temperature": [fit_temperature(choices, answers)]}
    elif method == "mixture":
        fitted = dict(zip(MIXTURE, np.c_[fit_mixture(choices, answers)].T.tolist(), strict=True))
    elif method == "sigmoid":
        slope, offset = fit_sigmoids(expit(logits), has)
        fitted |= {"sigmoid.slope": slope, "sigmoid.offset": offset}
    thresholds = found.tensors["thresholds"]
    assert {name: values.tolist() for name, values in found.tensors.items()} == {
        name: pytest.approx(values) for name, values in {**fitted, "thresholds": thresholds}.items()
    }
    after = model.calibrated(logits, found.tensors)
    assert thresholds.tolist() == choose_thresholds(after, has).tolist()
    wanted = {
        "method": method,
        "thresholds": dict(zip("abc", np.round(thresholds.astype(float), 6), strict=True)),
        "positives": dict(zip("abc", has.sum(axis=0), strict=True)),
    }
    for when, p, limits in (("before", expit(logits), 0.5), ("after", after, thresholds)):
        chosen = p.astype(np.float32) >= limits
        groups = np.repeat(held_out.groups[:, None], 3, axis=1)
        wanted[f"log_loss_{when}"] = pytest.approx(sk.log_loss(answers, p.ravel()))
        gaps = Gaps.between(p[chosen], has[chosen], groups[chosen])
        wanted[f"ece_{when}"] = pytest.approx(gaps.error)
    if method in {"temperature", "mixture"}:
        wanted |= {name: values[0] for name, values in fitted.items()}
    assert card == wanted


def test_of_several_labels_that_are_never_predicted_there_is_no_error():
    sets = np.zeros((1, 2), np.float32)
    held_out = HeldOut(np.full((30, 2), -3.0), np.zeros(30, int), np.arange(30), sets)
    _, card = added(held_out, "none", 2)
    assert card["positives"] == {"a": 0, "b": 0}
    assert card["thresholds"] == {"a": 0.5, "b": 0.5}
    assert not {"ece_before", "ece_after"} & card.keys()
    assert card["log_loss_after"] == pytest.approx(-np.log(expit(3)))


def test_a_probability_that_is_one_half_in_float32_is_predicted():
    held_out = HeldOut(np.full((30, 2), -1e-9), np.zeros(30, int), np.arange(30), SETS[2:, :2])
    _, card = added(held_out, "none", 2)
    assert card["ece_before"] == pytest.approx(0.5)


def test_without_a_calibration_chip_or_a_wish_nothing_is_fitted():
    nothing = np.zeros(0, int)
    found, card = added(HeldOut(np.zeros((0, 3)), nothing, nothing), "temperature")
    assert card == {"method": "none", "why": "no calibration chip has a known label"}
    assert found.tensors.keys() == {"temperature"}
    found, card = added(HeldOut(np.zeros((0, 3)), nothing, nothing, SETS), "temperature")
    assert card == {"method": "none", "why": "no calibration chip has a label"}
    assert found.tensors["thresholds"].tolist() == [0.5] * 3
    found, card = added(one_label(3), "none")
    assert card == {"method": "none", "why": "train.calibration is none"}
    assert found.tensors.keys() == {"temperature"}
