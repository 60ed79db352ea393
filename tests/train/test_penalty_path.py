"""Logistic regression without settings: its optimum, with the penalty that suits held-out chips."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from training_rows import blobs, files, trained

from pipeline.config.sections import TrainParams
from pipeline.train import penalty_path
from pipeline.train.fit import Splits, fit
from pipeline.train.labelled_features import LabelledFeatures

LR = TrainParams(classifier="lr")


def noisy(count, seed, dim=40, classes=4, spread=4.0):
    return blobs(count, seed, dim=dim, classes=classes, spread=spread)


def features(rows):
    return np.concatenate([rows.read(number) for number in range(len(rows.blocks))])


def standardized(classifier, rows):
    return (features(rows) - classifier.tensors["mean"]) * classifier.tensors["scale"]


def peer(x, y, penalty, **settings):
    """scikit-learn minimises C times the sum of the losses plus half of the squared weights."""
    return LogisticRegression(C=1 / (penalty * len(y)), tol=1e-8, max_iter=5000, **settings).fit(
        x, y
    )


def loss_with_best_temperature(logits, y):
    logits = logits.astype(np.float64)

    def loss(log_temperature):
        return log_loss(y, softmax(logits / np.exp(log_temperature), axis=1))

    return minimize_scalar(loss, bounds=(-3, 3), method="bounded").fun


def test_it_is_scikit_learns_optimum_at_the_penalty_that_the_card_names():
    rows, held = noisy(300, 0), noisy(200, 1)
    classifier = trained(LR, rows, held).classifier
    penalty = classifier.card["weight_decay"]
    x = standardized(classifier, rows)
    theirs = peer(x, rows.texts, penalty)
    ours = softmax(classifier.logits(features(held)), axis=1)
    expected = theirs.predict_proba(standardized(classifier, held))
    np.testing.assert_allclose(ours, expected, atol=2e-4)


@pytest.mark.parametrize(("spread", "count"), [(5.0, 120), (1.6, 300)])
def test_the_penalty_has_the_lowest_loss_of_all_on_the_calibration_split(spread, count):
    rows, held = noisy(count, 0, spread=spread), noisy(400, 1, spread=spread)
    classifier = trained(LR, rows, held).classifier
    x, x_held = standardized(classifier, rows), standardized(classifier, held)

    def loss(penalty):
        return loss_with_best_temperature(
            peer(x, rows.texts, penalty).decision_function(x_held), held.texts
        )

    losses = [loss(penalty) for penalty in penalty_path.PENALTIES]
    assert loss(classifier.card["weight_decay"]) <= min(losses) + 1e-3


def test_the_learning_curve_has_a_row_for_each_penalty_and_ends_soon_after_the_best():
    seen = []
    parts = Splits(noisy(300, 0), noisy(200, 1))
    fitted = fit(parts, LR, "cpu", lambda curve: seen.append(len(curve)))
    best = penalty_path.PENALTIES.index(fitted.classifier.card["weight_decay"])
    assert [row.epoch for row in fitted.curve] == seen == list(range(1, best + 4))
    losses = [row.train_loss for row in fitted.curve]
    assert losses == sorted(losses, reverse=True)  # the weaker the penalty, the closer the fit
    assert all(0 < row.calibration_accuracy <= 1 for row in fitted.curve)


def test_several_labels_are_solved_class_by_class():
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (500, 20)).astype(np.float32)
    has = x[:, :3] + rng.normal(0, 1, (500, 3)) > 0.5
    texts = ["|".join(f"c{n}" for n in range(3) if row[n]) for row in has]
    parts = (slice(300), slice(300, None))
    splits = Splits(*(LabelledFeatures.of(x[part], texts[part]) for part in parts), separator="|")
    classifier = fit(splits, LR, "cpu").classifier
    scaled = (x - classifier.tensors["mean"]) * classifier.tensors["scale"]
    # The loss is the mean over chips and classes: of each class alone, a third.
    penalty = 3 * classifier.card["weight_decay"]
    for number in range(3):
        theirs = peer(scaled[:300], has[:300, number], penalty)
        ours = classifier.logits(x[300:])[:, number]
        np.testing.assert_allclose(ours, theirs.decision_function(scaled[300:]), atol=2e-3)


def test_without_a_calibration_chip_the_penalty_is_the_usual_one():
    rows = noisy(300, 0)
    nothing = LabelledFeatures.of(np.empty((0, 40), np.float32), [])
    fitted = fit(Splits(rows, nothing), LR, "cpu")
    assert fitted.classifier.card["weight_decay"] == penalty_path.USUAL_PENALTY
    assert len(fitted.curve) == 1


def test_classes_can_weigh_the_same():
    rows, held = noisy(300, 0), noisy(200, 1)
    classifier = trained(TrainParams(classifier="lr", balance="weights"), rows, held).classifier
    x = standardized(classifier, rows)
    texts = np.array(rows.texts)
    counts = {name: (texts == name).sum() for name in set(texts)}
    weight = {name: (1 - 0.999) / (1 - 0.999**count) for name, count in counts.items()}
    total = sum(weight[text] for text in texts)
    # The weighted loss is divided by the sum of the weights; scikit-learn's is not.
    theirs = LogisticRegression(
        C=1 / (classifier.card["weight_decay"] * total),
        class_weight=weight,
        tol=1e-8,
        max_iter=5000,
    ).fit(x, texts)
    ours = softmax(classifier.logits(features(held)), axis=1)
    expected = theirs.predict_proba(standardized(classifier, held))
    np.testing.assert_allclose(ours, expected, atol=2e-4)


def test_logit_adjustment_takes_the_shares_of_the_classes_out_of_the_scores():
    """The optimum is that without it, less the logarithms of the shares (Menon et al. 2021)."""
    rows, held = noisy(300, 0), noisy(200, 1)
    rows = LabelledFeatures.of(features(rows)[:200], [min(text, "c2") for text in rows.texts[:200]])
    train = TrainParams(classifier="lr", balance="logit_adjustment")
    classifier = trained(train, rows, held).classifier
    x, texts = standardized(classifier, rows), np.array(rows.texts)
    theirs = peer(x, texts, classifier.card["weight_decay"])
    counts = np.array([(texts == name).sum() for name in classifier.classes])
    difference = (
        theirs.decision_function(x) - np.log(counts + 1) - classifier.logits(features(rows))
    )
    np.testing.assert_allclose(difference - difference[:, :1], 0, atol=5e-3)


def test_the_same_rows_give_the_same_bytes():
    assert files(trained(LR, noisy(200, 0), noisy(100, 1))) == files(
        trained(LR, noisy(200, 0), noisy(100, 1))
    )


@pytest.mark.parametrize(
    "setting",
    [
        {"epochs": 2},
        {"batch": 50},
        {"learning_rate": 0.01},
        {"schedule": "cosine"},
        {"patience": 3},
        {"weight_decay": 0.01},
        {"balance": "resample"},
        {"preset": "pyspacer"},
        {"classifier": "mlp"},
    ],
)
def test_a_setting_of_minibatches_is_followed(setting):
    train = TrainParams(**{"classifier": "lr", **setting})
    assert not penalty_path.applies(train, 100, 10)
    fitted = trained(train.model_copy(update={"epochs": 2}), noisy(100, 0), noisy(60, 1))
    assert fitted.classifier.card["weight_decay"] == train.decay
    assert len(fitted.curve) == 2


def test_larger_data_are_trained_by_minibatches():
    assert penalty_path.applies(LR, 30_000, 1000)
    assert not penalty_path.applies(LR, 30_001, 1000)
