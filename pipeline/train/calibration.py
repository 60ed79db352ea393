"""Calibration: probabilities that match the accuracy, fitted on the calibration split alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config.sections import TrainParams
from pipeline.train.batches import Indices, Targets
from pipeline.train.calibration_error import Gaps
from pipeline.train.model import BINARY, NOT_WANTED, Classifier, calibrated, mixed, softmax
from pipeline.train.thresholds import EVEN, choose_thresholds

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


TINY = 1e-300
HIGHEST_TEMPERATURE = 20.0
"""Temperatures are searched from 1/20 to 20."""

STEPS = 60
PRECISION = 1e-9
ROUNDS = 500
HIGHEST_DOUBT = 0.5


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The chips of the calibration split that have a class.

    Attributes:
        logits: [n, n_classes].
        y: the class of each chip, or the number of its label set, [n].
        groups: the number of each chip's group, [n].
        targets: the label sets, [n_sets, n_classes] of 0 and 1; None: one label a chip.
    """

    logits: Floats
    y: Indices
    groups: Indices
    targets: Targets | None = None

    @property
    def has(self) -> Flags:
        """Whether each chip has each class, [n, n_classes]."""
        if self.targets is None:
            return np.asarray(self.y[:, None] == np.arange(self.logits.shape[1]))
        return np.asarray(self.targets[self.y] > 0)

    @property
    def right(self) -> Indices:
        """The right one of each choice: of a class, or, of several labels a chip, no or yes."""
        return self.y if self.targets is None else self.has.ravel().astype(np.int64)


def calibrate(
    classifier: Classifier, held_out: HeldOut, train: TrainParams
) -> tuple[Classifier, dict[str, Any]]:
    """Fit what `train.calibration` names by the log loss on the calibration split.

    Of several labels a chip, each class of each chip is a choice between no and yes: temperature
    and mixture are fitted to all choices together, sigmoids to those of each class. Then each
    class's threshold is chosen.

    Returns:
        The calibrated classifier, and what its card says of the calibration.
    """
    method, is_multilabel = train.calibration, held_out.targets is not None
    tensors = dict(classifier.tensors)
    if is_multilabel:
        tensors["thresholds"] = np.full(len(classifier.classes), EVEN, np.float32)
    if not len(held_out.y):
        why = f"no calibration chip has a {'' if is_multilabel else 'known '}label"
        return replace(classifier, tensors=tensors), {"method": "none", "why": why}
    if method == "none" and not is_multilabel:
        return classifier, {"method": "none", "why": NOT_WANTED}
    before = dict(tensors)
    fitted = _fit(method, held_out, before)
    tensors |= {name: np.asarray(values, np.float32) for name, values in fitted.items()}
    card: dict[str, Any] = {"method": method}
    if is_multilabel:
        probabilities = calibrated(held_out.logits, tensors)
        tensors["thresholds"] = choose_thresholds(probabilities, held_out.has)
        rounded = [round(value, 6) for value in tensors["thresholds"].tolist()]
        card["thresholds"] = dict(zip(classifier.classes, rounded, strict=True))
        positives = held_out.has.sum(axis=0).tolist()
        card["positives"] = dict(zip(classifier.classes, positives, strict=True))
    for when, own in (("before", before), ("after", tensors)):
        card |= {f"{name}_{when}": value for name, value in _measure(own, held_out).items()}
    card |= {name: float(tensors[name][0]) for name in ("temperature", "doubt") if name in fitted}
    return replace(classifier, tensors=tensors), card


def _fit(
    method: str, held_out: HeldOut, tensors: Mapping[str, NDArray[np.float32]]
) -> dict[str, Any]:
    """Return the tensors that *method* adds to those of a classifier that is not calibrated."""
    logits, is_multilabel = held_out.logits, held_out.targets is not None
    choices = _no_and_yes(np.zeros_like(logits), logits) if is_multilabel else logits
    if method == "temperature":
        return {"temperature": [fit_temperature(choices, held_out.right)]}
    if method == "mixture":
        temperature, doubt = fit_mixture(choices, held_out.right)
        return {"temperature": [temperature], "doubt": [doubt]}
    if method == "sigmoid":
        # Of two classes, one of which a chip has, only the second has a sigmoid.
        first = 1 if not is_multilabel and logits.shape[1] == BINARY else 0
        before = calibrated(logits, tensors)
        slope, offset = fit_sigmoids(before[:, first:], held_out.has[:, first:])
        return {"sigmoid.slope": slope, "sigmoid.offset": offset}
    return {}


def loss_once_calibrated(held_out: HeldOut) -> float:
    """Return the log loss that the logits have with the temperature that suits them best."""
    choices = held_out.logits
    if held_out.targets is not None:
        choices = _no_and_yes(np.zeros_like(choices), choices)
    temperature = fit_temperature(choices, held_out.right)
    return log_loss(softmax(choices / temperature), held_out.right)


def _measure(tensors: Mapping[str, NDArray[np.float32]], held_out: HeldOut) -> dict[str, float]:
    """Return log loss and calibration error; the latter is left out if no label is predicted."""
    p = calibrated(held_out.logits, tensors)
    if held_out.targets is None:
        chosen = np.eye(p.shape[1], dtype=bool)[p.argmax(axis=1)]
        measured = {"log_loss": log_loss(p, held_out.right)}
    else:
        chosen = p.astype(np.float32) >= tensors["thresholds"]
        measured = {"log_loss": log_loss(_no_and_yes(1 - p, p), held_out.right)}
    groups = np.broadcast_to(held_out.groups[:, None], p.shape)[chosen]
    gaps = Gaps.between(p[chosen], held_out.has[chosen], groups)
    return measured if gaps is None else {**measured, "ece": gaps.error}


def _no_and_yes(no: Floats, yes: Floats) -> Floats:
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
