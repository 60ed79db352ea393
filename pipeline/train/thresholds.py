"""Thresholds of several labels a chip: the probability from which on a class is predicted."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

EVEN = 0.5
"""The threshold of a class that no chip of the calibration split has."""


def choose_thresholds(
    probabilities: NDArray[np.floating[Any]], has: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return the threshold of each class that gives it the highest F1 score, [n_classes].

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
    if not has.any():
        return EVEN
    p = p.astype(np.float32)  # as they are compared
    order = np.argsort(-p, kind="stable")
    values, correct = p[order], np.cumsum(has[order])
    last = np.flatnonzero(np.append(values[:-1] > values[1:], True))  # of equal probabilities
    f1 = 2 * correct[last] / (last + 1 + has.sum())
    above, below = values[last], np.append(values, p.dtype.type(0))[last + 1].astype(p.dtype)
    # All values between two probabilities give the same predictions: one half, if it is one.
    cuts = np.where((below < EVEN) & (above >= EVEN), np.float32(EVEN), (above + below) / 2)
    cuts = np.where(cuts <= below, above, cuts)  # adjacent floats have nothing between them
    best = cuts[f1 >= f1.max() - 1e-12]
    return float(best[np.abs(best - EVEN).argmin()])
