"""Rows for training: a split's features as one array, and the order of an epoch.

The array is in memory, or, beyond a memory budget, in a scratch file that the system reads as it
is needed. The budget decides nothing else: the order of an epoch depends on the rows, the seed and
the epoch alone, so a classifier is the same to the byte with any budget.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.core.errors import cannot_write
from pipeline.core.hardware import cores
from pipeline.core.hashing import MAX_SHARDS, shard_of
from pipeline.train.labelled_features import LabelledFeatures

Features = NDArray[np.float32]
Indices = NDArray[np.int64]
Targets = NDArray[np.float32]

LEFT_OUT = -1
"""In place of a class: the row is not trained on."""

CHUNK = 8192
"""Rows that are standardised at once."""

WINDOW = 65_536
"""Rows that are shuffled together; with 1,280 values in a feature they take 336 MB."""

BLOCK = 256
"""Rows that stay together when a larger split is divided into windows, anew in each epoch."""

SCRATCH = Path(".quadrat")
"""Where the scratch file is: on the disk of the checkout, since /tmp is often in memory."""


class Data:
    """The rows of a split that have a class, standardised.

    Args:
        rows: the split.
        y: the class or the label set of each row, or LEFT_OUT.
        budget: bytes of memory that features may take.

    Attributes:
        at: the positions in the split of the rows that have a class, in the order of `features`.
        features: their features, float32 [n, dim].

    Raises:
        StorageError: features beyond the budget find no room on the disk, either.
    """

    def __init__(self, rows: LabelledFeatures, y: Indices, budget: int) -> None:
        self.rows, self.y = rows, y
        self.mean = np.zeros(rows.dim, np.float32)
        self.scale = np.ones(rows.dim, np.float32)
        self.at = np.flatnonzero(y != LEFT_OUT)
        if len(self.at) > WINDOW:
            self.at = self.at[_by_key_hash(rows, self.at)]
        shape = (len(self.at), rows.dim)
        size = len(self.at) * rows.dim * 4
        self.features: Features = np.empty(shape, np.float32) if size <= budget else _scratch(shape)
        self._load()

    def __len__(self) -> int:
        return len(self.at)

    def _load(self) -> None:
        """Read all blocks, several at once."""
        place = np.full(len(self.y), LEFT_OUT)
        place[self.at] = np.arange(len(self.at))

        def load(number: int) -> None:
            places = place[self.rows.blocks[number].at]
            kept = places != LEFT_OUT
            if kept.any():
                self.features[places[kept]] = self.rows.read(number)[kept]

        with ThreadPoolExecutor(cores(), thread_name_prefix="read") as pool:
            list(pool.map(load, range(len(self.rows.blocks))))

    def chunks(self) -> Iterator[Features]:
        """Yield the features as views of at most CHUNK rows."""
        for start in range(0, len(self), CHUNK):
            yield self.features[start : start + CHUNK]

    def standardize(self, mean: Features, scale: Features) -> None:
        """Subtract *mean* [dim] from every row, and multiply it by *scale* [dim]."""
        self.mean, self.scale = mean, scale
        for chunk in self.chunks():
            np.subtract(chunk, mean, out=chunk)
            np.multiply(chunk, scale, out=chunk)

    def mean_and_scale(self) -> tuple[Features, Features]:
        """Return the mean of each value, and one number for all by which to multiply them.

        It makes the root mean square of their deviations 1, and keeps their proportions: the
        weakest values of a network are mostly noise, which a deviation of 1 each would amplify. A
        constant value is multiplied by 0.

        Source: Chan, Golub and LeVeque 1983, for the sums of squares of parts.
        """
        count, mean, squares = 0, np.zeros(self.rows.dim), np.zeros(self.rows.dim)
        for chunk in self.chunks():
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

    def order(self, rng: np.random.Generator, times: Indices | None = None) -> Indices:
        """Return the rows of `features` in the order of one epoch, shuffled by *rng*.

        Up to WINDOW rows are one shuffle. More are divided into windows of random blocks, and each
        window is shuffled: rows that are near each other in time are near each other in the scratch
        file. Since the rows are in the order of their keys' hashes, a block has rows of many
        images.

        Args:
            rng: of the epoch.
            times: how often each row occurs, int64 [n]; once if not given.
        """
        blocks = np.arange(-(-len(self) // BLOCK))
        per_window = WINDOW // BLOCK
        if len(self) <= WINDOW:
            windows = [np.arange(len(self))]
        else:
            shuffled = rng.permutation(blocks)
            starts = range(0, len(blocks), per_window)
            windows = [_rows_of(shuffled[at : at + per_window], len(self)) for at in starts]
        if times is not None:
            windows = [np.repeat(rows, times[rows]) for rows in windows]
        return np.concatenate([rng.permutation(rows) for rows in windows])


def _by_key_hash(rows: LabelledFeatures, at: Indices) -> Indices:
    """Return the order of the rows *at* by the hashes of their keys, as shards are ordered.

    A shard's rows are then in one part of the scratch file, whatever the number of shards.
    """
    if "key" not in rows.labels.schema.names:
        return np.arange(len(at))
    keys = rows.labels["key"].combine_chunks().dictionary_encode()
    hashes = np.array([shard_of(key, MAX_SHARDS) for key in keys.dictionary.to_pylist()])
    return np.argsort(hashes[keys.indices.to_numpy()][at], kind="stable")


def _scratch(shape: tuple[int, int]) -> Features:
    """Return an empty array in a file that the system deletes when the process ends.

    Raises:
        StorageError: the disk has no room for it.
    """
    size = shape[0] * shape[1] * 4
    try:
        SCRATCH.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=SCRATCH) as file:
            if hasattr(os, "posix_fallocate"):  # else a full disk would kill the process later
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            return np.memmap(file, np.float32, "r+", shape=shape)
    except OSError as error:
        raise cannot_write(SCRATCH, error) from error


def _rows_of(blocks: Indices, count: int) -> Indices:
    """Return the rows of *blocks*, of *count* rows in all."""
    rows = (blocks[:, None] * BLOCK + np.arange(BLOCK)).ravel()
    return rows[rows < count]
