"""What turns features into probabilities: one file a classifier, all trained in one way.

A file of this folder defines `VERSION` and

    def build(train: Train, dim: int, n_classes: int, n_rows: int) -> torch.nn.Module

which gives an untrained network from float32 [n, dim] to logits [n, n_classes], its own random
start drawn from torch's global generator. It may import torch only inside, so that reading params
costs nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pipeline import plugins
from pipeline.sections import Train

if TYPE_CHECKING:
    from torch import nn

USUAL_DIM = 1280
"""Values in a feature of EfficientNet-B0, for which the rates were found."""

MANY_ROWS = 50_000
"""From here on PySpacer takes a larger network and a smaller learning rate."""


def build(train: Train, dim: int, n_classes: int, n_rows: int) -> nn.Module:
    """Build the untrained network that *train* names, for *n_rows* rows of training."""
    part = plugins.find("classifiers", train.classifier, key="train.classifier")
    network: nn.Module = part.build(train, dim, n_classes, n_rows)
    return network


def batch(train: Train, n_rows: int) -> int:
    """Give the rows of a minibatch: what is set, or 500; of few rows a tenth, 32 at least."""
    return train.batch or min(max(n_rows // 10, 32), 500)


def epochs(train: Train, n_rows: int) -> int:
    """Give how often all rows are learnt from: what is set, or by the number of rows.

    4 times from 50,000 rows on, else 10 times; of fewer than 10,000 rows up to 40 times.
    """
    if train.epochs is not None:
        return train.epochs
    return 4 if n_rows >= MANY_ROWS else min(max(100_000 // max(n_rows, 1), 10), 40)


def rate(train: Train, n_rows: int, dim: int) -> float:
    """Give the learning rate: what is set, or by the number of rows and the batch.

    From 50,000 rows on half of 1e-3, which with 4 epochs gives what PySpacer's tenth gives with 10.
    Where there is no hidden layer it goes by the values in a feature, too: a step changes a score
    by as much as there are values, and with few of them 1e-3 would not get anywhere.

    Sources: PySpacer 0.14, `train_classifier.py`, for 1e-3, and 1e-4 from 50,000 rows on, at
    batches of 200; Malladi et al. 2022, "On the SDEs and scaling rules for adaptive gradient
    algorithms", for the square root of the batch.
    """
    if train.learning_rate is not None:
        return train.learning_rate
    many = 1e-4 if train.preset == "pyspacer" else 5e-4
    found = (1e-3 if n_rows < MANY_ROWS else many) * math.sqrt(batch(train, n_rows) / 200)
    if train.classifier == "lr" and train.preset is None:
        found *= min(math.sqrt(USUAL_DIM / dim), 10.0)
    return found


def version(train: Train) -> int:
    """Give the version of the code of the classifier that *train* names."""
    return int(plugins.find("classifiers", train.classifier, key="train.classifier").VERSION)
