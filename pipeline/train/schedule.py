"""How long and how fast a classifier is trained, where params.yaml leaves it open."""

from __future__ import annotations

import math
from typing import NamedTuple

from pipeline.config.sections import TrainParams

USUAL_DIM = 1280
"""Values in a feature of EfficientNet-B0, for which the rates were chosen."""

MANY_ROWS = 50_000
"""From here on PySpacer uses a larger network and a smaller learning rate."""

ENOUGH_ROWS = 400_000
"""Rows that all epochs take together, with a rate that falls to 0; twice as many did not improve
the classifier of a synthetic data set of 60,000 rows."""


class Schedule(NamedTuple):
    """Epochs, rows in a minibatch, the highest learning rate, and how it falls."""

    epochs: int
    batch: int
    rate: float
    kind: str

    @classmethod
    def of(cls, train: TrainParams, n_rows: int, dim: int) -> Schedule:
        """Return the schedule for *n_rows* training rows of features with *dim* values."""
        kind = schedule(train, n_rows)
        return cls(epochs(train, n_rows), batch(train, n_rows), rate(train, n_rows, dim), kind)

    def rate_after(self, epochs: float) -> float:
        """Return the learning rate after *epochs* epochs.

        Source: Loshchilov and Hutter 2017, "SGDR", for the cosine.
        """
        if self.kind == "cosine":
            return self.rate * 0.5 * (1 + math.cos(math.pi * epochs / self.epochs))
        return self.rate


def batch(train: TrainParams, n_rows: int) -> int:
    """Return the rows in a minibatch: as set, or a tenth of all rows, between 32 and 500."""
    return train.batch or min(max(n_rows // 10, 32), 500)


def schedule(train: TrainParams, n_rows: int) -> str:
    """Return how the rate changes: as set, or "cosine" (down to 0) from 50,000 rows on."""
    usual = "cosine" if n_rows >= MANY_ROWS and train.preset is None else "constant"
    return train.schedule or usual


def epochs(train: TrainParams, n_rows: int) -> int:
    """Return the number of epochs: as set, or by the number of rows.

    10 epochs; up to 40 for fewer than 10,000 rows. From 50,000 rows on 4 with a constant rate; with
    a cosine, whose last steps are small, as many as take 400,000 rows, but 2 to 4.
    """
    if train.epochs is not None:
        return train.epochs
    if n_rows < MANY_ROWS:
        return min(max(100_000 // max(n_rows, 1), 10), 40)
    return min(max(ENOUGH_ROWS // n_rows, 2), 4) if schedule(train, n_rows) == "cosine" else 4


def rate(train: TrainParams, n_rows: int, dim: int) -> float:
    """Return the highest learning rate: as set, or by the number of rows and the minibatch.

    From 50,000 rows on 5e-4, which in 4 epochs gives what PySpacer's 1e-4 gives in 10; with a
    cosine five times that, or half of it without a hidden layer. Without a hidden layer a step
    changes a logit in proportion to the number of values in a feature, so the rate is raised where
    there are few: with few, 1e-3 would be too slow.

    Sources: PySpacer 0.14, `train_classifier.py`, for 1e-3, and 1e-4 from 50,000 rows on, at
    batches of 200; Malladi et al. 2022, "On the SDEs and scaling rules for adaptive gradient
    algorithms", for the square root of the batch.
    """
    if train.learning_rate is not None:
        return train.learning_rate
    scaled = _rate(train, n_rows) * math.sqrt(batch(train, n_rows) / 200)
    if train.classifier == "lr" and train.preset is None:
        scaled *= min(math.sqrt(USUAL_DIM / dim), 10.0)
    return scaled


def _rate(train: TrainParams, n_rows: int) -> float:
    """Return the rate for batches of 200."""
    if n_rows < MANY_ROWS:
        return 1e-3
    if train.preset == "pyspacer":
        return 1e-4
    if schedule(train, n_rows) == "constant":
        return 5e-4
    return 1.25e-3 if train.classifier == "lr" else 2.5e-3
