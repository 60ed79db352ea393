"""What turns features into probabilities: one file a classifier, all trained in one way.

A file of this folder defines `VERSION` and

    def build(train: Train, dim: int, n_classes: int, n_rows: int) -> torch.nn.Module

which gives an untrained network from float32 [n, dim] to logits [n, n_classes], its own random
start drawn from torch's global generator: linear layers with ReLU between them, and dropout if it
likes, for that is all that a classifier's file says and whoever opens it computes. It may import
torch only inside, so that reading params costs nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pipeline.config import registry
from pipeline.config.sections import TrainParams
from pipeline.core.errors import SettingError

if TYPE_CHECKING:
    from torch import nn

USUAL_DIM = 1280
"""Values in a feature of EfficientNet-B0, for which the rates were found."""

MANY_ROWS = 50_000
"""From here on PySpacer takes a larger network and a smaller learning rate."""

ENOUGH_ROWS = 400_000
"""Rows that are learnt from in all, at a rate that goes down to nothing: twice as many brought a
made-up set of 60,000 rows no further."""


def build(train: TrainParams, dim: int, n_classes: int, n_rows: int) -> nn.Module:
    """Build the untrained network that *train* names, for *n_rows* rows of training.

    Raises:
        SettingError: a classifier's file could not hold it.
    """
    part = registry.find("train.classifiers", train.classifier, key="train.classifier")
    network: nn.Module = part.build(train, dim, n_classes, n_rows)
    return checked(network, train.classifier)


def checked(network: nn.Module, name: str) -> nn.Module:
    """Give *network* if it is linear layers with ReLU between them, and dropout at most.

    Raises:
        SettingError: it computes anything else, which would be lost with the network.
    """
    from torch import nn

    every = [part for _, part in network.named_modules(remove_duplicate=False)]
    kept = [part for part in every if type(part) not in {nn.Sequential, nn.Dropout}]
    linear, between = kept[::2], kept[1::2]
    if (
        [*map(type, linear)] != [nn.Linear] * (len(between) + 1)
        or [*map(type, between)] != [nn.ReLU] * len(between)
        or any(layer.bias is None for layer in linear)
    ):
        raise SettingError(
            f"train.classifier: {name!r} is {', '.join(type(part).__name__ for part in kept)}; a "
            "classifier is linear layers, each with a bias, with ReLU between them, in "
            "nn.Sequential if there are several, and with dropout at most"
        )
    return network


def batch(train: TrainParams, n_rows: int) -> int:
    """Give the rows of a minibatch: what is set, or 500; of few rows a tenth, 32 at least."""
    return train.batch or min(max(n_rows // 10, 32), 500)


def schedule(train: TrainParams, n_rows: int) -> str:
    """Give how the rate goes over the epochs: as set, or from 50,000 rows on down to nothing."""
    usual = "cosine" if n_rows >= MANY_ROWS and train.preset is None else "constant"
    return train.schedule or usual


def epochs(train: TrainParams, n_rows: int) -> int:
    """Give how often all rows are learnt from: what is set, or by the number of rows.

    10 times; of fewer than 10,000 rows up to 40 times. From 50,000 rows on 4 times, or, where the
    rate goes down to nothing, so that no step goes around what was found, until 400,000 were learnt
    from, but 2 times at least.
    """
    if train.epochs is not None:
        return train.epochs
    if n_rows < MANY_ROWS:
        return min(max(100_000 // max(n_rows, 1), 10), 40)
    return min(max(ENOUGH_ROWS // n_rows, 2), 4) if schedule(train, n_rows) == "cosine" else 4


def rate(train: TrainParams, n_rows: int, dim: int) -> float:
    """Give the learning rate at its highest: what is set, or by the number of rows and the batch.

    From 50,000 rows on half of 1e-3, which with 4 epochs gives what PySpacer's tenth gives with 10;
    five times that where it goes down to nothing, and without a hidden layer half of that.
    Where there is no hidden layer it goes by the values in a feature, too: a step changes a score
    by as much as there are values, and with few of them 1e-3 would not get anywhere.

    Sources: PySpacer 0.14, `train_classifier.py`, for 1e-3, and 1e-4 from 50,000 rows on, at
    batches of 200; Malladi et al. 2022, "On the SDEs and scaling rules for adaptive gradient
    algorithms", for the square root of the batch.
    """
    if train.learning_rate is not None:
        return train.learning_rate
    found = _rate(train, n_rows) * math.sqrt(batch(train, n_rows) / 200)
    if train.classifier == "lr" and train.preset is None:
        found *= min(math.sqrt(USUAL_DIM / dim), 10.0)
    return found


def _rate(train: TrainParams, n_rows: int) -> float:
    """Give the rate for batches of 200."""
    if n_rows < MANY_ROWS:
        return 1e-3
    if train.preset == "pyspacer":
        return 1e-4
    if schedule(train, n_rows) == "constant":
        return 5e-4
    return 1.25e-3 if train.classifier == "lr" else 2.5e-3


def version(train: TrainParams) -> int:
    """Give the version of the code of the classifier that *train* names."""
    return int(registry.find("train.classifiers", train.classifier, key="train.classifier").VERSION)
