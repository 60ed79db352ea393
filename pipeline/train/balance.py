"""Uneven classes: weights in the loss, or rows that are repeated or skipped (`train.balance`)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pipeline.config.sections import TrainParams
from pipeline.train.batches import Indices

BETA = 0.999


def class_weights(counts: Indices, train: TrainParams) -> NDArray[np.float32] | None:
    """Return the weight in the loss of classes of *counts* rows, float32 [n_classes].

    The mean over all rows is 1; None: all weigh the same.

    Source: Cui et al. 2019, "Class-balanced loss based on effective number of samples".
    """
    if train.balance != "weights":
        return None
    effective = (1 - BETA) / -np.expm1(np.maximum(counts, 1) * np.log(BETA))
    weights: NDArray[np.float32] = effective.astype(np.float32)
    return weights * np.float32(counts.sum() / (effective * counts).sum())


def resampled_counts(counts: Indices | int, train: TrainParams) -> Indices:
    """Return how many rows an epoch takes of classes of *counts* rows; of an empty class none."""
    least = np.minimum(counts, 1) * train.min_per_class
    return np.clip(counts, least, train.max_per_class)


def repeats(
    rows_by_class: Iterable[Indices], n_rows: int, train: TrainParams, rng: np.random.Generator
) -> Indices | None:
    """Return how many times this epoch takes each row, int64 [n_rows]; None: once each.

    Of a class with more than `max_per_class` rows so many are drawn, others in every epoch; the
    rows of one with fewer than `min_per_class` are repeated. A row of several classes is taken as
    often as the class that needs it most asks for. *rng* draws the rows that are taken once more
    than others.
    """
    if train.balance != "resample":
        return None
    times = np.zeros(n_rows, np.int64)
    for rows in rows_by_class:
        if len(rows):
            whole, rest = divmod(int(resampled_counts(len(rows), train)), len(rows))
            needed = np.full(len(rows), whole)
            needed[rng.permutation(len(rows))[:rest]] += 1
            times[rows] = np.maximum(times[rows], needed)
    return times
