"""Calibration: scores that are right as often as they say, by the calibration split alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config.sections import TrainParams
from pipeline.train.batches import Indices
from pipeline.train.model import Classifier, calibrated, mixed, softmax

Floats = NDArray[np.float64]

TINY = 1e-300
BINS = 15
HOTTEST = 20.0
"""Temperatures are looked for from 1/20 to 20."""

STEPS = 60
PRECISION = 1e-9
ROUNDS = 500
MOST_DOUBT = 0.5


def calibrate(
    classifier: Classifier, logits: Floats, y: Indices, train: TrainParams
) -> tuple[Classifier, dict[str, Any]]:
    """Choose what `train.calibration` names with the least log loss on the calibration split.

    Args:
        classifier: uncalibrated.
        logits: of the calibration split, [n, n_classes].
        y: its classes.
        train: the section.

    Returns:
        The classifier with the tensors that calibrate it, and what its card says of them.
    """
    if train.calibration == "none" or not len(y):
        why = "train.calibration is none" if len(y) else "no calibration chip has a known label"
        return classifier, {"method": "none", "why": why}
    found: dict[str, Floats] = {}
    if train.calibration == "temperature":
        found["temperature"] = np.array([fit_temperature(logits, y)])
    elif train.calibration == "mixture":
        temperature, doubt = fit_mixture(logits, y)
        found |= {"temperature": np.array([temperature]), "doubt": np.array([doubt])}
    else:
        slope, offset = fit_sigmoids(softmax(logits), y)
        found |= {"sigmoid.slope": slope, "sigmoid.offset": offset}
    own = {name: values.astype(np.float32) for name, values in found.items()}
    tensors = {**classifier.tensors, **own}
    before, after = softmax(logits), calibrated(logits, tensors)
    card = {
        "method": train.calibration,
        "log_loss_before": log_loss(before, y),
        "log_loss_after": log_loss(after, y),
        "ece_before": ece(before, y),
        "ece_after": ece(after, y),
        **{name: float(values[0]) for name, values in own.items() if "." not in name},
    }
    return Classifier(classifier.classes, tensors, classifier.card), card


def fit_temperature(logits: Floats, y: Indices) -> float:
    """Find the number that logits are to be divided by.

    The labels are smoothed by one part in n + 2, so that n chips that are all right do not make
    the classifier infinitely sure of itself.

    Sources: Guo et al. 2017, "On calibration of modern neural networks", section 4.2; Platt 1999,
    section 2.2, for the smoothing.
    """
    # The log loss is convex in 1 / temperature: Newton's steps, kept within what is left of the
    # bounds, halved where a step would leave them. (scipy.optimize takes longer to import.)
    shifted = logits - logits.max(axis=1, keepdims=True)
    doubt = 1 / (len(y) + 2)
    chosen = shifted[np.arange(len(y)), y]
    target = float(((1 - doubt) * chosen + doubt * shifted.mean(axis=1)).mean())
    low, high, at = 1 / HOTTEST, HOTTEST, 1.0
    for _ in range(STEPS):
        p = softmax(at * shifted)
        mean = (p * shifted).sum(axis=1)
        slope = float(mean.mean()) - target
        curve = float(((p * np.square(shifted)).sum(axis=1) - np.square(mean)).mean())
        low, high = (low, at) if slope > 0 else (at, high)
        step = at - slope / curve if curve > 0 else low
        at, before = (step if low < step < high else (low + high) / 2), at
        if abs(at - before) <= PRECISION * at:
            break
    return float(np.float32(1 / at))


def fit_mixture(logits: Floats, y: Indices) -> tuple[float, float]:
    """Find a temperature, and the share of labels that are any class, whatever the logits say.

    Where people err, no temperature is right for both the sure and the unsure. Labels are smoothed
    as in `fit_temperature`.

    Returns:
        Temperature and doubt: the probabilities are (1 - doubt) softmax(logits / temperature) +
        doubt / n_classes.

    Sources: Zhang, Kailkhura and Han 2020, "Mix-n-Match", section 4.2.2, without its uncalibrated
    third; Dempster, Laird and Rubin 1977, for the steps.
    """
    count, classes = logits.shape
    shifted = logits - logits.max(axis=1, keepdims=True)
    seen = np.full(logits.shape, 1 / (count + 2) / classes)
    seen[np.arange(count), y] += 1 - 1 / (count + 2)
    at, doubt, least = 1 / fit_temperature(logits, y), 0.02, np.inf
    found = at, doubt
    for _ in range(ROUNDS):
        p = softmax(at * shifted)
        whole = np.maximum(mixed(p, doubt), TINY)
        loss = -float((seen * np.log(whole)).sum()) / count
        if least - loss < PRECISION:
            break
        least, found = loss, (at, doubt)
        meant = seen * (1 - doubt) * p / whole  # what the logits, and no error, have said
        doubt = float(np.clip(1 - meant.sum() / count, 0, MOST_DOUBT))
        weight, mean = meant.sum(axis=1), (p * shifted).sum(axis=1)
        slope = float((meant * shifted).sum() - weight @ mean)
        curve = float(weight @ ((p * np.square(shifted)).sum(axis=1) - np.square(mean)))
        step = at + slope / curve if curve > 0 else at
        at = float(np.clip(step, max(at / 2, 1 / HOTTEST), min(at * 2, HOTTEST)))
    return float(np.float32(1 / found[0])), float(np.float32(found[1]))


def fit_sigmoids(probabilities: Floats, y: Indices) -> tuple[Floats, Floats]:
    """Fit a sigmoid for each class, or for the second of two, to whether a chip is of that class.

    Returns:
        Slopes and offsets [n_classes], or [1] of two classes: the probability is
        1 / (1 + exp(slope p + offset)), and the classes' are brought to a sum of 1.

    Sources: Platt 1999, section 2.2; scikit-learn's CalibratedClassifierCV with method="sigmoid",
    which PySpacer uses.
    """
    classes = range(probabilities.shape[1]) if probabilities.shape[1] > 2 else (1,)  # noqa: PLR2004
    found = [fit_sigmoid(probabilities[:, number], y == number) for number in classes]
    slopes, offsets = zip(*found, strict=True)
    return np.array(slopes), np.array(offsets)


def fit_sigmoid(p: Floats, positive: NDArray[np.bool_]) -> tuple[float, float]:
    """Fit one class's sigmoid; see `fit_sigmoids`."""
    from scipy.optimize import minimize

    yes, no = int(positive.sum()), int((~positive).sum())
    target = np.where(positive, (yes + 1) / (yes + 2), 1 / (no + 2))

    def loss(at: Floats) -> tuple[float, Floats]:
        value = at[0] * p + at[1]
        # -target log(q) - (1 - target) log(1 - q) with q = 1 / (1 + exp(value))
        losses = np.logaddexp(0, value) - (1 - target) * value
        slope = 1 / (1 + np.exp(-value)) - (1 - target)
        return float(losses.sum()), np.array([(slope * p).sum(), slope.sum()])

    start = np.array([0.0, np.log((no + 1) / (yes + 1))])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"gtol": 1e-6}).x
    return float(np.float32(found[0])), float(np.float32(found[1]))


def log_loss(probabilities: Floats, y: Indices) -> float:
    """Give the mean log loss of the classes *y*."""
    chosen = probabilities[np.arange(len(y)), y]
    return float(-np.log(np.maximum(chosen, TINY)).mean())


def ece(probabilities: Floats, y: Indices) -> float:
    """Give the mean distance between score and accuracy, in bins of equally many chips.

    Source: Nixon et al. 2019, "Measuring calibration in deep learning".
    """
    score = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == y
    order = np.argsort(score, kind="stable")
    bins = np.array_split(order, min(BINS, len(order)))
    gaps = [len(some) * abs(right[some].mean() - score[some].mean()) for some in bins]
    return float(sum(gaps) / len(y))
