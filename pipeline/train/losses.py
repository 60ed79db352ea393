"""What a network is trained for: one label a row, or several."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.nn import functional

from pipeline.config.sections import TrainParams
from pipeline.train.balance import class_weights, resampled_counts
from pipeline.train.batches import LEFT_OUT, Indices, Targets


class Objective:
    """The loss, and which rows count as correct.

    With one label a row: softmax and cross-entropy; a row is correct if its class has the highest
    logit. With several: a sigmoid for each class, and binary cross-entropy, the mean over rows and
    classes, where a class's weight is that of the rows that have it; a row is correct if exactly
    its classes are above one half.

    Args:
        y: the class of each row of the train split, or LEFT_OUT; of several labels, its label set.
        n_classes: the number of classes.
        train: the section.
        targets: the label sets, float32 [n_sets, n_classes] of 0 and 1; None: one label a row.

    Attributes:
        start: the logits that fit the shares of the classes, float32 [n_classes]. The last layer's
            bias starts there; else training would mostly learn the shares where classes are uneven
            and steps few. Source: Lin et al. 2017, "Focal loss for dense object detection".
        prior: with `train.balance: logit_adjustment` these logits, which the loss adds to those of
            the network; `start` is then 0. What is left for the network to learn are the classes
            as they would be if all had the same share. Source: Menon et al. 2021, "Long-tail
            learning via logit adjustment", with their tau of 1.
    """

    def __init__(
        self, y: Indices, n_classes: int, train: TrainParams, targets: Targets | None = None
    ) -> None:
        self.smoothing = train.label_smoothing
        self.targets = None if targets is None else torch.from_numpy(targets)
        if targets is None:
            counts = np.bincount(y[y != LEFT_OUT], minlength=n_classes)
        else:
            n_rows = np.bincount(y[y != LEFT_OUT], minlength=len(targets))
            counts = (n_rows @ targets).astype(np.int64)
        weights = class_weights(counts, train)
        self.weights = None if weights is None else torch.from_numpy(weights)
        shift = 0.0 if weights is None else np.log(weights.astype(np.float64))
        if targets is None:
            counts = resampled_counts(counts, train) if train.balance == "resample" else counts
            start = np.log(counts + 1.0) + shift
            start -= start.mean()
        else:
            start = np.log(counts + 1.0) - np.log(n_rows.sum() - counts + 1.0) + shift
        self.start = torch.from_numpy(start.astype(np.float32))
        self.prior = torch.zeros_like(self.start)
        if train.balance == "logit_adjustment":
            self.start, self.prior = self.prior, self.start

    def to(self, device: torch.device) -> None:
        """Move the tensors to *device*."""
        self.prior = self.prior.to(device)
        self.targets = None if self.targets is None else self.targets.to(device)
        self.weights = None if self.weights is None else self.weights.to(device)

    def loss(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of a minibatch, with prior, weights and label smoothing."""
        logits = logits + self.prior
        if self.targets is None:
            return functional.cross_entropy(logits, y, self.weights, label_smoothing=self.smoothing)
        smoothed = self.targets[y] * (1 - self.smoothing) + self.smoothing / 2
        return functional.binary_cross_entropy_with_logits(
            logits, smoothed, pos_weight=self.weights
        )

    def plain_loss(self, logits: torch.Tensor, y: torch.Tensor) -> float:
        """Return the sum of the rows' losses, without prior, weights or label smoothing."""
        logits = logits.double()
        if self.targets is None:
            return float(functional.cross_entropy(logits, y, reduction="sum"))
        losses = functional.binary_cross_entropy_with_logits(
            logits, self.targets[y].double(), reduction="none"
        )
        return float(losses.mean(1).sum())

    def correct(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return the number of correct rows."""
        if self.targets is None:
            return (logits.argmax(1) == y).sum()
        return ((logits > 0) == (self.targets[y] > 0)).all(1).sum()

    def rows_by_class(self, y: Indices) -> Iterator[Indices]:
        """Yield the rows of each class, and at the end those whose label set is empty."""
        if self.targets is None:
            for number in range(len(self.start)):
                yield np.flatnonzero(y == number)
            return
        has = self.targets.cpu().numpy() > 0
        for is_member in (*has.T, ~has.any(axis=1)):
            yield np.flatnonzero((y != LEFT_OUT) & is_member[y])
