"""Thresholds of several labels a chip: the probability from which on a class is predicted."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

EVEN = 0.5
"""The threshold of a class that no chip of the calibration split has."""

ENOUGH = 20
"""Chips with a class from which on the threshold with the highest F1 is taken as it is."""

MOST_PREDICTED = 3
"""A class is predicted for at most so many times the chips that have it."""


def choose_thresholds(
    probabilities: NDArray[np.floating[Any]], has: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return the threshold of each class that gives it the highest F1 score, [n_classes].

    Of few chips with a class, the threshold with the highest F1 may be anywhere. With fewer than 20
    it therefore moves towards the threshold that predicts the class as often as it occurs: the
    number of chips that are predicted is the geometric mean of both, the first with a weight of
    n / 20. In no case is a class predicted for more than 3 times the chips that have it.

    A threshold is halfway between two probabilities of the calibration split; of equally good ones
    it is the one closest to one half.

    Args:
        probabilities: [n, n_classes].
        has: whether each chip has each class, [n, n_classes].

    Source: Lipton, Elkan and Naryanaswamy 2014, "Optimal thresholding of classifiers to maximize
    F1 measure".
    """
    columns = zip(probabilities.T, has.T, strict=True)
    return np.array([_threshold(*column) for column in columns], np.float32)


def _threshold(p: NDArray[np.floating[Any]], has: NDArray[np.bool_]) -> float:
    positives = int(has.sum())
    if not positives:
        return EVEN
    p = p.astype(np.float32)  # as they are compared
    order = np.argsort(-p)
    values, correct = p[order], np.cumsum(has[order])
    last = np.flatnonzero(np.append(values[:-1] > values[1:], True))  # of equal probabilities
    predicted = last + 1
    f1 = 2 * correct[last] / (predicted + positives)
    above, below = values[last], np.append(values, np.float32(0))[last + 1]
    # All values between two probabilities give the same predictions: one half, if it is one.
    cuts = np.where((below < EVEN) & (above >= EVEN), np.float32(EVEN), (above + below) / 2)
    cuts = np.where(cuts <= below, above, cuts)  # adjacent floats have nothing between them
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    chosen = best[np.abs(cuts[best] - EVEN).argmin()]
    weight = min(1.0, positives / ENOUGH)
    wanted = np.log(predicted[chosen]) * weight + np.log(positives) * (1 - weight)
    wanted = min(wanted, np.log(MOST_PREDICTED * positives))
    chosen = np.abs(np.log(predicted) - wanted).argmin()
    while chosen and predicted[chosen] > MOST_PREDICTED * positives:
        chosen -= 1
    if predicted[chosen] > MOST_PREDICTED * positives:  # too many have the highest probability
        return float(np.nextafter(values[0], np.float32(2)))
    return float(cuts[chosen])
