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
    """Epochs, rows in a minibatch, the highest learning rate, and "constant" or "cosine"."""

    epochs: int
    batch: int
    rate: float
    kind: str

    @classmethod
    def of(cls, train: TrainParams, n_rows: int, dim: int) -> Schedule:
        """Return what *train* sets, and for nulls what suits *n_rows* rows of *dim* values.

        A minibatch is a tenth of the rows, between 32 and 500. There are 10 epochs, and up to 40
        for fewer than 10,000 rows. From 50,000 rows on the rate falls to 0 in a cosine, over as
        many epochs as take 400,000 rows, but 2 to 4; a constant rate has 4 epochs.

        The rate grows with the square root of the minibatch. Without a hidden layer a step changes
        a logit in proportion to `dim`, so the rate is raised where that is small.

        Source: Malladi et al. 2022, "On the SDEs and scaling rules for adaptive gradient
        algorithms", for the square root.
        """
        many = n_rows >= MANY_ROWS
        kind = train.schedule or ("cosine" if many and train.preset is None else "constant")
        batch = train.batch or min(max(n_rows // 10, 32), 500)
        epochs = min(max(100_000 // max(n_rows, 1), 10), 40)
        if many:
            epochs = min(max(ENOUGH_ROWS // n_rows, 2), 4) if kind == "cosine" else 4
        rate = train.learning_rate
        if rate is None:
            rate = _rate(train, kind, n_rows) * math.sqrt(batch / 200)
            if train.classifier == "lr" and train.preset is None:
                rate *= min(math.sqrt(USUAL_DIM / dim), 10.0)
        return cls(train.epochs or epochs, batch, rate, kind)

    def rate_after(self, epochs: float) -> float:
        """Return the learning rate after *epochs* epochs.

        Source: Loshchilov and Hutter 2017, "SGDR", for the cosine.
        """
        if self.kind == "cosine":
            return self.rate * 0.5 * (1 + math.cos(math.pi * epochs / self.epochs))
        return self.rate


def _rate(train: TrainParams, kind: str, n_rows: int) -> float:
    """Return the learning rate for batches of 200 rows.

    From 50,000 rows on 5e-4, which in 4 epochs gives what PySpacer's 1e-4 gives in 10; with a
    cosine five times that, or half of it without a hidden layer.

    Source: PySpacer 0.14, `train_classifier.py`, for 1e-3, and 1e-4 from 50,000 rows on, at
    batches of 200.
    """
    if n_rows < MANY_ROWS:
        return 1e-3
    if train.preset == "pyspacer":
        return 1e-4
    if kind == "constant":
        return 5e-4
    return 1.25e-3 if train.classifier == "lr" else 2.5e-3
