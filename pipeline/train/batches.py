"""Labelled features for training: all in memory, or, beyond a memory budget, a part at a time.

In memory, an epoch's order is one shuffle of all rows. Beyond the budget, blocks of rows (a row
group of a shard) are shuffled, read into a buffer of half the budget while the other half is
trained on, and shuffled there. Either order depends on the seed and the epoch alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.core.hardware import cores
from pipeline.train.labelled_features import LabelledFeatures

Features = NDArray[np.float32]
Indices = NDArray[np.int64]
Targets = NDArray[np.float32]

LEFT_OUT = -1
"""In place of a class: the row is not trained on."""

CHUNK = 8192
"""Rows that are standardised at once."""


class Data:
    """The rows of a split that have a class, standardised.

    Args:
        rows: the split.
        y: the class or the label set of each row, or LEFT_OUT.
        budget: bytes of memory that features may take.

    Attributes:
        at: the positions of the rows that have a class.
        features: all of their features, or None if these exceed the budget.
    """

    def __init__(self, rows: LabelledFeatures, y: Indices, budget: int) -> None:
        self.rows, self.y, self.budget = rows, y, budget
        self.mean = np.zeros(rows.dim, np.float32)
        self.scale = np.ones(rows.dim, np.float32)
        self.at = np.flatnonzero(y != LEFT_OUT)
        fits = len(self.at) * rows.dim * 4 <= budget
        self.features = self._load() if fits else None

    def __len__(self) -> int:
        return len(self.at)

    @property
    def place(self) -> Indices:
        """The place in `at` of each row that has a class."""
        return np.cumsum(self.y != LEFT_OUT) - 1

    def _load(self) -> Features:
        """Read all blocks, several at once."""
        place = self.place
        features = np.empty((len(self.at), self.rows.dim), np.float32)

        def load(number: int) -> None:
            for at, block in self._blocks([number]):
                features[place[at]] = block

        with ThreadPoolExecutor(cores(), thread_name_prefix="read") as pool:
            list(pool.map(load, range(len(self.rows.blocks))))
        return features

    def _blocks(self, numbers: Iterable[int]) -> Iterator[tuple[Indices, Features]]:
        """Yield the positions of each block's rows, and their standardised features."""
        for number in numbers:
            at = self.rows.blocks[number].at
            kept = self.y[at] != LEFT_OUT
            if kept.any():
                features = self.rows.read(number)
                features = features if kept.all() else features[kept]
                yield at[kept], self._standardize(features)

    def _standardize(self, features: Features) -> Features:
        """Standardise *features* in place."""
        features -= self.mean
        features *= self.scale
        return features

    def standardize(self, mean: Features, scale: Features) -> None:
        """Subtract *mean* [dim] from every row from now on, and multiply it by *scale* [dim]."""
        self.mean, self.scale = mean, scale
        if self.features is not None:
            for chunk in self._chunks():
                self._standardize(chunk)

    def mean_and_scale(self) -> tuple[Features, Features]:
        """Return the mean of each value, and one number for all by which to multiply them.

        It makes the root mean square of their deviations 1, and keeps their proportions: the
        weakest values of a network are mostly noise, which a deviation of 1 each would amplify. A
        constant value is multiplied by 0.

        Source: Chan, Golub and LeVeque 1983, for the sums of squares of parts.
        """
        count, mean, squares = 0, np.zeros(self.rows.dim), np.zeros(self.rows.dim)
        for chunk in self._chunks():
            statistics = torch.var_mean(torch.from_numpy(chunk), dim=0, correction=0)
            variance, chunk_mean = (part.double().numpy() for part in statistics)
            total = count + len(chunk)
            difference = chunk_mean - mean
            squares += variance * len(chunk) + np.square(difference) * count * len(chunk) / total
            mean += difference * len(chunk) / total
            count = total
        deviation = np.sqrt(np.maximum(squares, 0) / max(count, 1))
        # Divided by next to nothing, a constant value would be huge in the first row that differs.
        varies = deviation > 1e-6 * (np.abs(mean) + 1e-6)
        common = np.sqrt(np.square(deviation[varies]).mean()) if varies.any() else 1.0
        scale = np.where(varies, 1 / common, 0)
        return mean.astype(np.float32), scale.astype(np.float32)

    def _chunks(self) -> Iterator[Features]:
        """Yield the features of all rows, as views if they are in memory."""
        if self.features is not None:
            for start in range(0, len(self), CHUNK):
                yield self.features[start : start + CHUNK]
        else:
            for _, features in self._blocks(range(len(self.rows.blocks))):
                yield features

    def passes(self, rng: np.random.Generator | None = None) -> Iterator[tuple[Indices, Features]]:
        """Yield all rows once, in parts that fit into the budget: positions and features.

        *rng* shuffles the blocks. The rows of a part are not shuffled.
        """
        if self.features is not None:
            yield self.at, self.features
            return
        numbers = np.arange(len(self.rows.blocks))
        order = numbers if rng is None else rng.permutation(numbers)
        parts = self._parts(order.tolist())
        with ThreadPoolExecutor(1, thread_name_prefix="read") as reader:
            following = reader.submit(next, parts, None)
            while part := following.result():
                following = reader.submit(next, parts, None)
                yield part

    def _parts(self, numbers: Sequence[int]) -> Iterator[tuple[Indices, Features]]:
        """Yield the blocks, joined to parts of half the budget."""
        limit = max(1, self.budget // 2 // (self.rows.dim * 4))
        part: list[tuple[Indices, Features]] = []
        count = 0
        for block in self._blocks(numbers):
            if part and count + len(block[0]) > limit:
                yield _joined(part)
                part, count = [], 0
            part.append(block)
            count += len(block[0])
        if part:
            yield _joined(part)


def _joined(part: list[tuple[Indices, Features]]) -> tuple[Indices, Features]:
    """Join blocks, and free each one once it is copied."""
    at = np.concatenate([at for at, _ in part])
    features = np.empty((len(at), part[0][1].shape[1]), np.float32)
    end = len(at)
    while part:
        block = part.pop()[1]
        features[end - len(block) : end] = block
        end -= len(block)
    return at, features
