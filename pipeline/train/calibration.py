"""Calibration: probabilities that match the accuracy, fitted on the calibration split alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config.sections import TrainParams
from pipeline.train.batches import Indices, Targets
from pipeline.train.model import BINARY, Classifier, calibrated, mixed, softmax
from pipeline.train.thresholds import EVEN, choose_thresholds

Floats = NDArray[np.float64]

TINY = 1e-300
BINS = 15
HIGHEST_TEMPERATURE = 20.0
"""Temperatures are searched from 1/20 to 20."""

STEPS = 60
PRECISION = 1e-9
ROUNDS = 500
HIGHEST_DOUBT = 0.5


def calibrate(
    classifier: Classifier,
    logits: Floats,
    y: Indices,
    train: TrainParams,
    targets: Targets | None = None,
) -> tuple[Classifier, dict[str, Any]]:
    """Fit what `train.calibration` names by the log loss on the calibration split.

    Of several labels a chip, each class of each chip is a decision between no and yes: temperature
    and mixture are fitted to all decisions together, sigmoids to those of each class. Then each
    class's threshold is chosen.

    Args:
        classifier: not calibrated yet.
        logits: of the calibration split, [n, n_classes].
        y: the class of each chip, or the number of its label set, [n].
        train: the section.
        targets: the label sets, [n_sets, n_classes] of 0 and 1; None: one label a chip.

    Returns:
        The calibrated classifier, and what its card says of the calibration.
    """
    tensors, method = dict(classifier.tensors), train.calibration
    if targets is not None:
        tensors["thresholds"] = np.full(len(classifier.classes), EVEN, np.float32)
    if not len(y):
        why = f"no calibration chip has a {'known ' if targets is None else ''}label"
        return replace(classifier, tensors=tensors), {"method": "none", "why": why}
    if method == "none" and targets is None:
        return classifier, {"method": "none", "why": "train.calibration is none"}
    before = calibrated(logits, tensors)
    if targets is None:
        is_of_class, decisions = y[:, None] == np.arange(logits.shape[1]), logits
    else:
        is_of_class, decisions = targets[y] > 0, _decisions(np.zeros_like(logits), logits)
        y = is_of_class.ravel().astype(np.int64)
    fitted: dict[str, Any] = {}
    if method == "temperature":
        fitted["temperature"] = [fit_temperature(decisions, y)]
    elif method == "mixture":
        temperature, doubt = fit_mixture(decisions, y)
        fitted |= {"temperature": [temperature], "doubt": [doubt]}
    elif method == "sigmoid":
        # Of two classes, one of which a chip has, only the second has a sigmoid.
        first = 1 if targets is None and logits.shape[1] == BINARY else 0
        slope, offset = fit_sigmoids(before[:, first:], is_of_class[:, first:])
        fitted |= {"sigmoid.slope": slope, "sigmoid.offset": offset}
    tensors |= {name: np.asarray(values, np.float32) for name, values in fitted.items()}
    after = calibrated(logits, tensors)
    card: dict[str, Any] = {"method": method}
    for when, p in (("before", before), ("after", after)):
        probabilities = p if targets is None else _decisions(1 - p, p)
        card[f"log_loss_{when}"] = log_loss(probabilities, y)
        card[f"ece_{when}"] = ece(probabilities, y)
    card |= {name: float(tensors[name][0]) for name in ("temperature", "doubt") if name in fitted}
    if targets is not None:
        tensors["thresholds"] = choose_thresholds(after, is_of_class)
        rounded = [round(value, 6) for value in tensors["thresholds"].tolist()]
        card["thresholds"] = dict(zip(classifier.classes, rounded, strict=True))
    return replace(classifier, tensors=tensors), card


def _decisions(no: Floats, yes: Floats) -> Floats:
    """Return the scores of no and yes for each class of each chip, [n n_classes, 2]."""
    return np.stack([no.ravel(), yes.ravel()], axis=1)


def fit_temperature(logits: Floats, y: Indices) -> float:
    """Return the temperature, by which logits are divided.

    The labels are smoothed by one part in n + 2: n correct predictions do not make the classifier
    infinitely certain.

    Sources: Guo et al. 2017, "On calibration of modern neural networks", section 4.2; Platt 1999,
    section 2.2, for the smoothing.
    """
    # The log loss is convex in 1 / temperature: Newton's steps, or bisection where one would leave
    # the bounds. (scipy.optimize takes longer to import.)
    shifted = logits - logits.max(axis=1, keepdims=True)
    smoothing = 1 / (len(y) + 2)
    chosen = shifted[np.arange(len(y)), y]
    target = float(((1 - smoothing) * chosen + smoothing * shifted.mean(axis=1)).mean())
    low, high, at = 1 / HIGHEST_TEMPERATURE, HIGHEST_TEMPERATURE, 1.0
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
    """Return a temperature, and the doubt: the share of labels that are random.

    The probabilities are (1 - doubt) softmax(logits / temperature) + doubt / n_classes. Where some
    labels are wrong, no temperature alone suits both high and low scores. Labels are smoothed as in
    `fit_temperature`.

    Sources: Zhang, Kailkhura and Han 2020, "Mix-n-Match", section 4.2.2, without its uncalibrated
    third; Dempster, Laird and Rubin 1977, for the steps.
    """
    count, n_classes = logits.shape
    shifted = logits - logits.max(axis=1, keepdims=True)
    labels = np.full(logits.shape, 1 / (count + 2) / n_classes)
    labels[np.arange(count), y] += 1 - 1 / (count + 2)
    at, doubt, least = 1 / fit_temperature(logits, y), 0.02, np.inf
    best = at, doubt
    for _ in range(ROUNDS):
        p = softmax(at * shifted)
        mixture = np.maximum(mixed(p, doubt, n_classes), TINY)
        loss = -float((labels * np.log(mixture)).sum()) / count
        if least - loss < PRECISION:
            break
        least, best = loss, (at, doubt)
        explained = labels * (1 - doubt) * p / mixture  # the share that is not random
        doubt = float(np.clip(1 - explained.sum() / count, 0, HIGHEST_DOUBT))
        weight, mean = explained.sum(axis=1), (p * shifted).sum(axis=1)
        slope = float((explained * shifted).sum() - weight @ mean)
        curve = float(weight @ ((p * np.square(shifted)).sum(axis=1) - np.square(mean)))
        step = at + slope / curve if curve > 0 else at
        lowest, highest = max(at / 2, 1 / HIGHEST_TEMPERATURE), min(at * 2, HIGHEST_TEMPERATURE)
        at = float(np.clip(step, lowest, highest))
    return float(np.float32(1 / best[0])), float(np.float32(best[1]))


def fit_sigmoids(probabilities: Floats, is_of_class: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return slopes and offsets [k] of sigmoids, one for each of k classes.

    A class's calibrated probability is 1 / (1 + exp(slope p + offset)).

    Args:
        probabilities: of k classes, [n, k].
        is_of_class: whether each chip is of each class, [n, k].

    Sources: Platt 1999, section 2.2; scikit-learn's CalibratedClassifierCV with method="sigmoid",
    which PySpacer uses.
    """
    sigmoids = [
        _fit_sigmoid(*columns) for columns in zip(probabilities.T, is_of_class.T, strict=True)
    ]
    slopes, offsets = zip(*sigmoids, strict=True)
    return np.array(slopes), np.array(offsets)


def _fit_sigmoid(p: Floats, positive: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the slope and the offset of one class's sigmoid."""
    from scipy.optimize import minimize

    yes, no = int(positive.sum()), int((~positive).sum())
    target = np.where(positive, (yes + 1) / (yes + 2), 1 / (no + 2))

    def loss_and_gradient(at: Floats) -> tuple[float, Floats]:
        value = at[0] * p + at[1]
        # -target log(q) - (1 - target) log(1 - q) with q = 1 / (1 + exp(value))
        losses = np.logaddexp(0, value) - (1 - target) * value
        slope = 1 / (1 + np.exp(-value)) - (1 - target)
        return float(losses.sum()), np.array([(slope * p).sum(), slope.sum()])

    start = np.array([0.0, np.log((no + 1) / (yes + 1))])
    options = {"gtol": 1e-6}
    at = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options=options).x
    return float(np.float32(at[0])), float(np.float32(at[1]))


def log_loss(probabilities: Floats, y: Indices) -> float:
    """Return the mean log loss of the classes *y*."""
    chosen = probabilities[np.arange(len(y)), y]
    return float(-np.log(np.maximum(chosen, TINY)).mean())


def ece(probabilities: Floats, y: Indices) -> float:
    """Return the calibration error: the mean of |score - accuracy| over bins of equally many chips.

    Source: Nixon et al. 2019, "Measuring calibration in deep learning".
    """
    score = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == y
    order = np.argsort(score, kind="stable")
    bins = np.array_split(order, min(BINS, len(order)))
    gaps = [len(rows) * abs(correct[rows].mean() - score[rows].mean()) for rows in bins]
    return float(sum(gaps) / len(y))
