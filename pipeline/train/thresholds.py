"""Of several labels: each one's probability calibrated, and from which on it is answered."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config.sections import TrainParams
from pipeline.train.calibration import (
    Floats,
    ece,
    fit_mixture,
    fit_sigmoid,
    fit_temperature,
    log_loss,
)
from pipeline.train.losses import Targets
from pipeline.train.model import Classifier, calibrated

EVEN = 0.5
"""The threshold where the calibration split says nothing of a class."""


def calibrate_several(
    classifier: Classifier, logits: Floats, truth: Targets, train: TrainParams
) -> tuple[Classifier, dict[str, Any]]:
    """Choose what `train.calibration` names, then each class's threshold, on the calibration split.

    Every class of every chip is a decision between two: temperature and mixture are fitted to all
    of them together, sigmoids to each class's.

    Args:
        classifier: uncalibrated, of several labels.
        logits: of the calibration split, [n, n_classes].
        truth: its labels, [n, n_classes] of 0 and 1.
        train: the section.

    Returns:
        The classifier with the tensors that calibrate it, and what its card says of them.
    """
    if not len(truth):
        return classifier, {"method": "none", "why": "no calibration chip has a label"}
    both, yes = _decisions(logits), truth.astype(np.int64).ravel()
    found: dict[str, Any] = {}
    if train.calibration == "temperature":
        found["temperature"] = [fit_temperature(both, yes)]
    elif train.calibration == "mixture":
        temperature, doubt = fit_mixture(both, yes)
        found |= {"temperature": [temperature], "doubt": [doubt]}
    elif train.calibration == "sigmoid":
        plain = calibrated(logits, classifier.tensors)
        fitted = [fit_sigmoid(p, own > 0) for p, own in zip(plain.T, truth.T, strict=True)]
        found["sigmoid.slope"], found["sigmoid.offset"] = zip(*fitted, strict=True)
    own: dict[str, NDArray[np.float32]] = {
        name: np.array(values, np.float32) for name, values in found.items()
    }
    tensors = {**classifier.tensors, **own}
    before, after = calibrated(logits, classifier.tensors), calibrated(logits, tensors)
    card: dict[str, Any] = {
        "method": train.calibration,
        **_said(before, yes, "before"),
        **_said(after, yes, "after"),
        **{name: float(values[0]) for name, values in own.items() if values.shape == (1,)},
    }
    tensors["thresholds"] = thresholds(after, truth)
    each = zip(classifier.classes, tensors["thresholds"].tolist(), strict=True)
    card["thresholds"] = {name: round(value, 6) for name, value in each}
    return Classifier(classifier.classes, tensors, classifier.card), card


def _decisions(logits: Floats) -> Floats:
    """Give, of every chip and class, the logits of no and of yes: [n n_classes, 2]."""
    flat = logits.ravel()
    return np.stack([np.zeros_like(flat), flat], axis=1)


def _said(probabilities: Floats, yes: NDArray[np.int64], when: str) -> dict[str, float]:
    p = probabilities.ravel()
    both = np.stack([1 - p, p], axis=1)
    return {f"log_loss_{when}": log_loss(both, yes), f"ece_{when}": ece(both, yes)}


def thresholds(probabilities: Floats, truth: Targets) -> NDArray[np.float32]:
    """Choose from which probability on each class is answered: what gives it the highest F1.

    A threshold lies halfway between two probabilities of the calibration split; of equally good
    ones it is the one nearest to one half, which is also that of a class that has no chip there.

    Source: Lipton, Elkan and Naryanaswamy 2014, "Optimal thresholding of classifiers to maximize
    F1 measure".
    """
    found = [_threshold(p, own > 0) for p, own in zip(probabilities.T, truth.T, strict=True)]
    return np.array(found, np.float32)


def _threshold(p: Floats, has: NDArray[np.bool_]) -> float:
    if not has.any():
        return EVEN
    p = p.astype(np.float32)  # as they are compared
    order = np.argsort(-p, kind="stable")
    values, right = p[order], np.cumsum(has[order])
    last = np.flatnonzero(np.append(values[:-1] > values[1:], True))  # of equal probabilities
    f1 = 2 * right[last] / (last + 1 + has.sum())
    above, below = values[last], np.append(values, p.dtype.type(0))[last + 1].astype(p.dtype)
    # Anything between the two probabilities answers the same chips: one half, if it is there.
    cuts = np.where((below < EVEN) & (above >= EVEN), np.float32(EVEN), (above + below) / 2)
    cuts = np.where(cuts <= below, above, cuts)  # neighbours have no number between them
    best = cuts[f1 >= f1.max() - 1e-12]
    return float(best[np.abs(best - EVEN).argmin()])
