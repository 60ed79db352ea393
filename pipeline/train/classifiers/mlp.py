"""MLP: hidden layers with ReLU, by default of PySpacer's sizes."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from pipeline.config.sections import TrainParams
from pipeline.train.schedule import MANY_ROWS

if TYPE_CHECKING:
    from torch import nn

VERSION = 1


def hidden(train: TrainParams, n_rows: int) -> tuple[int, ...]:
    """Return the sizes of the hidden layers.

    Source: PySpacer 0.14, `train_classifier.py`: 100, and 200-100 above 50,000 labels.
    """
    if train.hidden is not None:
        return train.hidden
    return (200, 100) if n_rows >= MANY_ROWS else (100,)


def build(train: TrainParams, dim: int, n_classes: int, n_rows: int) -> nn.Module:
    """Build the network; see pipeline/train/classifiers/__init__.py."""
    from torch import nn

    sizes = (dim, *hidden(train, n_rows), n_classes)
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(train.dropout)]
    return nn.Sequential(*layers[:-2])
