"""Labelled features for training: all of them in memory, or, beyond a budget, a part at a time.

In memory an epoch's order is one shuffle of all rows. Beyond it, blocks of rows (a row group of a
shard) are shuffled, read into a buffer of half the budget while the other half is learnt from, and
shuffled there. Either is a function of the seed and the epoch alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.core.hardware import cores

Features = NDArray[np.float32]
Indices = NDArray[np.int64]

LEFT_OUT = -1
"""Instead of a class: a row that is not learnt from."""

CHUNK = 8192
"""Rows that are measured at once."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Labelled rows of one split, read when they are wanted.

    Attributes:
        labels: the label of each row.
        dim: values in a feature.
        blocks: for each block, which rows it holds.
        read: gives a block's features by its number, float32 [rows, dim], in an array of its own.
    """

    labels: Sequence[str]
    dim: int
    blocks: Sequence[Indices]
    read: Callable[[int], Features]

    @classmethod
    def of(cls, features: Features, labels: Sequence[str]) -> Rows:
        """Give rows that are in memory already."""
        blocks = [np.arange(len(labels))] if len(labels) else []
        return cls(labels, features.shape[1], blocks, lambda _: features.astype(np.float32))


class Data:
    """The rows of a split that have a class, as they are learnt from.

    Args:
        rows: the split.
        y: class of each row, or LEFT_OUT.
        room: bytes that features may take.
    """

    def __init__(self, rows: Rows, y: Indices, room: int) -> None:
        self.rows, self.y, self.room = rows, y, room
        self.mean = np.zeros(rows.dim, np.float32)
        self.scale = np.ones(rows.dim, np.float32)
        self.at = np.flatnonzero(y != LEFT_OUT)
        self.whole: Features | None = None
        if len(self.at) * rows.dim * 4 <= room:
            self.whole = self._loaded()

    def __len__(self) -> int:
        return len(self.at)

    def _loaded(self) -> Features:
        """Read all blocks, several at once."""
        place = np.cumsum(self.y != LEFT_OUT) - 1
        whole = np.empty((len(self.at), self.rows.dim), np.float32)

        def load(number: int) -> None:
            for at, features in self._blocks([number]):
                whole[place[at]] = features

        with ThreadPoolExecutor(cores(), thread_name_prefix="read") as pool:
            for done in [pool.submit(load, number) for number in range(len(self.rows.blocks))]:
                done.result()
        return whole

    def _blocks(self, numbers: Iterable[int]) -> Iterator[tuple[Indices, Features]]:
        """Read blocks; give which rows they are, and their features, standardised."""
        for number in numbers:
            at = self.rows.blocks[number]
            kept = self.y[at] != LEFT_OUT
            if kept.any():
                features = self.rows.read(number)
                features = features if kept.all() else features[kept]
                yield at[kept], self._standard(features)

    def _standard(self, features: Features) -> Features:
        features -= self.mean
        features *= self.scale
        return features

    def standardize(self, mean: Features, scale: Features) -> None:
        """Give every row from now on less *mean*, times *scale*."""
        self.mean, self.scale = mean, scale
        if self.whole is not None:
            for start in range(0, len(self.whole), CHUNK):
                self._standard(self.whole[start : start + CHUNK])

    def measured(self) -> tuple[Features, Features]:
        """Give the mean of each value, and what to multiply it with: one number for all.

        With it their deviations are 1 in the root of the mean square, and keep their proportions: a
        network's weakest values are mostly noise, which a deviation of 1 each would blow up. A
        value that never changes is multiplied with 0.

        Source: Chan, Golub and LeVeque 1983, for adding up means and squares of parts.
        """
        count, mean, squares = 0, np.zeros(self.rows.dim), np.zeros(self.rows.dim)
        for some in self._chunks():
            parts = torch.var_mean(torch.from_numpy(some), dim=0, correction=0)
            own, ours = (part.double().numpy() for part in parts)
            own *= len(some)
            total = count + len(some)
            squares += own + np.square(ours - mean) * count * len(some) / total
            mean += (ours - mean) * len(some) / total
            count = total
        deviation = np.sqrt(np.maximum(squares, 0) / max(count, 1))
        # A value that never changes tells nothing; it must not blow up on the first that differs.
        tells = deviation > 1e-6 * (np.abs(mean) + 1e-6)
        common = np.sqrt(np.square(deviation[tells]).mean()) if tells.any() else 1.0
        scale = np.where(tells, 1 / common, 0)
        return mean.astype(np.float32), scale.astype(np.float32)

    def _chunks(self) -> Iterator[Features]:
        if self.whole is not None:
            for start in range(0, len(self.whole), CHUNK):
                yield self.whole[start : start + CHUNK]
        else:
            for _, features in self._blocks(range(len(self.rows.blocks))):
                yield features

    def passes(self, rng: np.random.Generator | None = None) -> Iterator[tuple[Indices, Features]]:
        """Give all rows once, in parts that fit into the budget; *rng* shuffles what comes when.

        The rows of a part are in their own order, for the caller to shuffle.
        """
        if self.whole is not None:
            yield self.at, self.whole
            return
        numbers = np.arange(len(self.rows.blocks))
        order = numbers if rng is None else rng.permutation(numbers)
        parts = self._parts(order.tolist())
        with ThreadPoolExecutor(1, thread_name_prefix="read") as ahead:
            part = ahead.submit(next, parts, None)
            while found := part.result():
                part = ahead.submit(next, parts, None)
                yield found

    def _parts(self, numbers: Sequence[int]) -> Iterator[tuple[Indices, Features]]:
        most = max(1, self.room // 2 // (self.rows.dim * 4))
        part: list[tuple[Indices, Features]] = []
        count = 0
        for found in self._blocks(numbers):
            if part and count + len(found[0]) > most:
                yield _joined(part)
                part, count = [], 0
            part.append(found)
            count += len(found[0])
        if part:
            yield _joined(part)


def _joined(part: list[tuple[Indices, Features]]) -> tuple[Indices, Features]:
    """Join blocks, letting go of each once it is copied."""
    at = np.concatenate([at for at, _ in part])
    features = np.empty((len(at), part[0][1].shape[1]), np.float32)
    start = len(at)
    while part:
        some = part.pop()[1]
        features[start - len(some) : start] = some
        start -= len(some)
    return at, features
