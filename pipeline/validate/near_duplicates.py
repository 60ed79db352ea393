"""Search a split for near duplicates of training chips; see neighbours.py for the method.

Features are read three times, block by block: the projections of the training chips, the validation
chips against them, and the rows that were found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.train import labelled_features
from pipeline.train.labelled_features import LabelledFeatures
from pipeline.validate import neighbours
from pipeline.validate.neighbours import Features, Floats, Indices

MAX_VALIDATION, MAX_TRAINING = 20_000, 200_000
"""Chips that are compared. Beyond them whole blocks of rows are left out; as blocks are of images
by the hash of their keys, the rest is a random sample."""

MAX_PAIRS = 10_000
"""Pairs that are confirmed with the features themselves, the closest first."""

TRAINING = ("train", "calibration")
COLUMNS = ("chip_id", "key", "row", "col", "split", "label")


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """What was found, and among how many chips.

    Attributes:
        table: one row for each validation chip that is a near duplicate of a training chip: its
            COLUMNS, the `near_` COLUMNS of the nearest training chip, the `distance` of their
            features, and the `usual_distance` around the validation chip; the relatively closest
            first.
        n_validation: validation chips that were compared, of *all_validation*.
        n_training: training chips that they were compared with, of *all_training*.
    """

    table: pd.DataFrame
    n_validation: int
    n_training: int
    all_validation: int
    all_training: int

    @property
    def is_sample(self) -> bool:
        """Whether some chips were not compared."""
        return self.n_validation < self.all_validation or self.n_training < self.all_training

    @property
    def may_have_more(self) -> bool:
        """Whether the table has reached its greatest length."""
        return len(self.table) == MAX_PAIRS


def find(validation: LabelledFeatures, labels: pa.Table) -> NearDuplicates:
    """Find the chips of *validation* that look almost like a chip of the other splits.

    Args:
        validation: the labelled chips of the validation split.
        labels: schemas.LABELS of the labelled chips.
    """
    wanted = labels.filter(pc.is_in(labels["split"], value_set=pa.array(TRAINING)))
    training = labelled_features.of_rows(wanted, validation.shards)
    one, other = _Sample.of(validation, MAX_VALIDATION), _Sample.of(training, MAX_TRAINING)
    pairs = _search(one, other) if one.n and other.n else _Pairs.none()
    places = [
        side.chips.labels.select(COLUMNS)
        .take(pa.array(at))
        .rename_columns([f"{prefix}{name}" for name in COLUMNS])
        .to_pandas()
        for side, at, prefix in ((one, pairs.validation, ""), (other, pairs.training, "near_"))
    ]
    table = pd.concat(places, axis=1)
    table["distance"], table["usual_distance"] = pairs.distance, pairs.usual
    for name in ("chip_id", "near_chip_id"):
        table[name] = [chip.hex() for chip in table[name]]
    order = np.argsort(pairs.distance / pairs.usual, kind="stable")
    return NearDuplicates(
        table.iloc[order].reset_index(drop=True),
        n_validation=one.n,
        n_training=other.n,
        all_validation=validation.labels.num_rows,
        all_training=training.labels.num_rows,
    )


@dataclass(frozen=True, slots=True)
class _Sample:
    """The chips that are compared: those of the first *blocks* of *chips*, in the blocks' order."""

    chips: LabelledFeatures
    blocks: int
    order: Indices

    @classmethod
    def of(cls, chips: LabelledFeatures, most: int) -> _Sample:
        lengths = [len(block.at) for block in chips.blocks]
        blocks = int(np.searchsorted(np.cumsum(lengths), most, side="right"))
        blocks = max(blocks, min(1, len(lengths)))
        parts = [np.zeros(0, np.int64), *(block.at for block in chips.blocks[:blocks])]
        return cls(chips, blocks, np.concatenate(parts))

    @property
    def n(self) -> int:
        return len(self.order)

    @property
    def starts(self) -> Indices:
        """Where in `order` each block begins."""
        lengths = [len(block.at) for block in self.chips.blocks[: self.blocks]]
        return np.cumsum([0, *lengths[:-1]])

    def read(self, at: Indices) -> Features:
        """Read the features of the rows *at*, float32 [n, dim], in that order."""
        sorter = np.argsort(self.order)
        place = sorter[np.searchsorted(self.order, at, sorter=sorter)]
        starts = self.starts
        block_of = np.searchsorted(starts, place, side="right") - 1
        features = np.empty((len(at), self.chips.dim), np.float32)
        for number in np.unique(block_of).tolist():
            here = block_of == number
            features[here] = self.chips.read(number)[place[here] - starts[number]]
        return features


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Validation chips and the training chips nearest to them, by their rows."""

    validation: Indices
    training: Indices
    distance: Floats
    usual: Floats

    @classmethod
    def none(cls) -> _Pairs:
        return cls(*(np.zeros(0, kind) for kind in (np.int64, np.int64, float, float)))

    def only(self, where: NDArray[np.bool_] | Indices) -> _Pairs:
        return _Pairs(
            self.validation[where], self.training[where], self.distance[where], self.usual[where]
        )


def _search(one: _Sample, other: _Sample) -> _Pairs:
    """Return the near duplicates."""
    matrix = neighbours.projection(other.chips.dim)
    drawn = neighbours.sample(other.n)
    flat, sampled = _project(other, matrix, drawn)
    middle = flat.mean(axis=0)  # single precision would lose small distances far from 0
    flat -= middle
    images = _codes(other.chips.labels["key"])[other.order]
    centre = sampled.mean(axis=0)
    sampled -= centre
    parts, spreads, count = [], [], 0
    for number in range(one.blocks):
        features = one.chips.read(number)
        projected = (features if matrix is None else features @ matrix) - middle
        at, distance = neighbours.nearest(projected, flat)
        around = neighbours.usual(features - centre, sampled, images[drawn], images[at])
        rows = one.chips.blocks[number].at
        parts.append(_Pairs(rows, other.order[at], distance, around.distance))
        spreads.append(around.spread)
        count = around.neighbours
    pairs = _concatenate(parts)
    usual = neighbours.Usual(pairs.usual, np.concatenate(spreads), count)
    shares = neighbours.fractions(usual, other.n)
    kept = _candidates(pairs, shares)
    pairs, shares = pairs.only(kept), shares[kept]
    exact = neighbours.distances(one.read(pairs.validation), other.read(pairs.training))
    pairs = _Pairs(pairs.validation, pairs.training, exact, pairs.usual)
    return pairs.only(exact < shares * pairs.usual)


def _candidates(pairs: _Pairs, shares: Floats) -> Indices:
    """Return which pairs may be near duplicates by their projections, sorted; at most MAX_PAIRS."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share = pairs.distance / pairs.usual
    near = np.flatnonzero(np.isfinite(pairs.usual) & (share < neighbours.SLACK * shares))
    order = np.argsort(share[near], kind="stable")[:MAX_PAIRS]
    return np.sort(near[order])


def _project(side: _Sample, matrix: Features | None, drawn: Indices) -> tuple[Features, Features]:
    """Return the projections of all chips of *side*, and the features of the *drawn* ones."""
    parts, sampled = [], []
    starts = side.starts.tolist()
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], side.n], strict=True)):
        features = side.chips.read(number)
        parts.append(features if matrix is None else features @ matrix)
        sampled.append(features[drawn[(drawn >= start) & (drawn < end)] - start])
    return np.concatenate(parts), np.concatenate(sampled)


def _codes(keys: pa.ChunkedArray) -> Indices:
    """Return a number for each key."""
    return np.asarray(pc.index_in(keys, value_set=pc.unique(keys)), np.int64)


def _concatenate(parts: Sequence[_Pairs]) -> _Pairs:
    columns = zip(*((p.validation, p.training, p.distance, p.usual) for p in parts), strict=True)
    return _Pairs(*(np.concatenate(column) for column in columns))
