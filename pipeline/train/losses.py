"""What a network is trained for: the one label of each chip, or each of several."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.config.sections import TrainParams
from pipeline.train import classes
from pipeline.train.batches import LEFT_OUT, Indices

Targets = NDArray[np.float32]


class Objective(Protocol):
    """What the loop asks of it; *y* is on the device of *logits* [n, n_classes].

    Attributes:
        start: the logits that fit the shares of the classes, float32 [n_classes]: where the last
            layer's bias starts, or all training would go into learning them where classes are
            uneven and steps few. Source: Lin et al. 2017, "Focal loss for dense object detection".
    """

    start: torch.Tensor

    def to(self, device: torch.device) -> None:
        """Bring what it holds to *device*."""

    def loss(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Give the mean loss of a minibatch, as it is trained on."""

    def plain_loss(self, logits: torch.Tensor, y: torch.Tensor) -> float:
        """Give the sum of the rows' losses, without weights or smoothing."""

    def right(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Count the rows that are wholly right."""

    def members(self, y: Indices) -> Iterator[Indices]:
        """Give the rows of each class, class by class."""


class OneLabel:
    """Softmax and cross-entropy; *y* is the class."""

    def __init__(self, data_y: Indices, n_classes: int, train: TrainParams) -> None:
        self.n_classes, self.smoothing = n_classes, train.label_smoothing
        counts = np.bincount(data_y[data_y != LEFT_OUT], minlength=n_classes)
        found = classes.weights(counts, train)
        self.weights = None if found is None else torch.from_numpy(found)
        learnt = classes.wanted(counts, train) if train.balance == "resample" else counts
        self.start = _centred(np.log(learnt + 1.0) + _logarithm(found))

    def to(self, device: torch.device) -> None:
        """See Objective."""
        self.weights = None if self.weights is None else self.weights.to(device)

    def loss(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """See Objective."""
        return nn.functional.cross_entropy(logits, y, self.weights, label_smoothing=self.smoothing)

    def plain_loss(self, logits: torch.Tensor, y: torch.Tensor) -> float:
        """See Objective."""
        return float(nn.functional.cross_entropy(logits.double(), y, reduction="sum"))

    def right(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """See Objective."""
        return (logits.argmax(1) == y).sum()

    def members(self, y: Indices) -> Iterator[Indices]:
        """See Objective."""
        return (np.flatnonzero(y == number) for number in range(self.n_classes))


class SeveralLabels:
    """A sigmoid for each class; *y* is which of the sets of classes a row has.

    The loss is binary cross-entropy, the mean over rows and classes. A class's weight is that of
    the rows that have it. A row is right if exactly its classes are above one half.

    Args:
        targets: the sets, float32 [n_sets, n_classes] of 0 and 1.
        data_y: the set of each row that is learnt from, or LEFT_OUT.
        train: the section.
    """

    def __init__(self, targets: Targets, data_y: Indices, train: TrainParams) -> None:
        self.sets, self.smoothing = targets, train.label_smoothing
        often = np.bincount(data_y[data_y != LEFT_OUT], minlength=len(targets))
        found = classes.weights((often @ targets).astype(np.int64), train)
        self.weights = None if found is None else torch.from_numpy(found)
        self.targets = torch.from_numpy(targets)
        has = often @ targets
        odds = np.log(has + 1.0) - np.log(often.sum() - has + 1.0)
        self.start = torch.from_numpy((odds + _logarithm(found)).astype(np.float32))

    def to(self, device: torch.device) -> None:
        """See Objective."""
        self.targets = self.targets.to(device)
        self.weights = None if self.weights is None else self.weights.to(device)

    def loss(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """See Objective."""
        wanted = self.targets[y] * (1 - self.smoothing) + self.smoothing / 2
        return nn.functional.binary_cross_entropy_with_logits(
            logits, wanted, pos_weight=self.weights
        )

    def plain_loss(self, logits: torch.Tensor, y: torch.Tensor) -> float:
        """See Objective."""
        wanted = self.targets[y].double()
        losses = nn.functional.binary_cross_entropy_with_logits(
            logits.double(), wanted, reduction="none"
        )
        return float(losses.mean(1).sum())

    def right(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """See Objective."""
        return ((logits > 0) == (self.targets[y] > 0)).all(1).sum()

    def members(self, y: Indices) -> Iterator[Indices]:
        """See Objective; the rows of no class come last, as if they had one of their own."""
        has = np.concatenate([self.sets, self.sets.sum(1, keepdims=True) == 0], axis=1) > 0
        kept = y != LEFT_OUT
        for column in has.T:
            yield np.flatnonzero(kept & column[y])


def _logarithm(weights: Targets | None) -> NDArray[np.float64] | float:
    return 0.0 if weights is None else np.log(weights.astype(np.float64))


def _centred(values: NDArray[np.float64]) -> torch.Tensor:
    return torch.from_numpy((values - values.mean()).astype(np.float32))


def objective(
    data_y: Indices, n_classes: int, targets: Targets | None, train: TrainParams
) -> Objective:
    """Give what to train for: several labels where there are *targets*."""
    if targets is None:
        return OneLabel(data_y, n_classes, train)
    return SeveralLabels(targets, data_y, train)
