"""Search a split for near duplicates of training chips; see neighbours.py for the method.

Features are read a row group at a time and put in the order of the labels, so that nothing depends
on how chips are divided into shards. In memory are those of the validation chips that are compared,
and projections of the training chips.
"""

from __future__ import annotations

from collections.abc import Iterator
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
from pipeline.validate.pairs import side_by_side

MAX_VALIDATION, MAX_TRAINING = 20_000, 200_000
"""Chips that are compared. Beyond them those with the lowest chip_id, which is a digest: a random
sample."""

MAX_PAIRS = 10_000
"""Pairs that are confirmed with the features themselves, the closest first."""

TRAINING = ("train", "calibration")


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """What was found, and among how many chips.

    Attributes:
        table: one row for each validation chip that is a near duplicate of a training chip: its
            columns and those of the nearest training chip as in pairs.py, the `distance` of their
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
    table = side_by_side(one.labels(pairs.validation), other.labels(pairs.training))
    table["distance"], table["usual_distance"] = pairs.distance, pairs.usual
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
    """The chips that are compared: those in these *rows* of the labels, sorted."""

    chips: LabelledFeatures
    rows: Indices

    @classmethod
    def of(cls, chips: LabelledFeatures, most: int) -> _Sample:
        ids = chips.labels["chip_id"]
        if len(ids) <= most:
            return cls(chips, np.arange(len(ids)))
        return cls(chips, np.sort(np.asarray(pc.sort_indices(ids), np.int64)[:most]))

    @property
    def n(self) -> int:
        return len(self.rows)

    def labels(self, wanted: Indices) -> pa.Table:
        """Return schemas.LABELS of the *wanted* chips."""
        return self.chips.labels.take(pa.array(self.rows[wanted]))

    def parts(self, wanted: Indices) -> Iterator[tuple[Indices, Features]]:
        """Yield the features of the *wanted* chips, with their places there, by row groups."""
        place = np.full(self.chips.labels.num_rows, -1)
        place[self.rows[wanted]] = np.arange(len(wanted))
        for number, block in enumerate(self.chips.blocks):
            places = place[block.at]
            if (here := places >= 0).any():
                yield places[here], self.chips.read(number)[here]

    def read(self, wanted: Indices) -> Features:
        """Read the features of the *wanted* chips, float32 [n, dim], in that order."""
        each, places = np.unique(wanted, return_inverse=True)
        features = np.empty((len(each), self.chips.dim), np.float32)
        for here, part in self.parts(each):
            features[here] = part
        return features if len(each) == len(wanted) and (each == wanted).all() else features[places]


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Validation chips and the training chips nearest to them, by their places in the samples."""

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
    features = one.read(np.arange(one.n))
    projected = neighbours.project(features, matrix)
    middle = flat.mean(axis=0)  # single precision would lose small distances far from 0
    flat -= middle
    at, distance = neighbours.nearest(projected - middle, flat)
    images = _codes(other.chips.labels["key"])[other.rows]
    centre = sampled.mean(axis=0)
    features -= centre
    around = neighbours.usual(features, sampled - centre, images[drawn], images[at])
    del features
    pairs = _Pairs(np.arange(one.n), at, distance, around.distance)
    shares = neighbours.fractions(around, other.n)
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
    flat = np.empty((side.n, side.chips.dim if matrix is None else matrix.shape[1]), np.float32)
    sampled = np.empty((len(drawn), side.chips.dim), np.float32)
    row = np.full(side.n, -1)
    row[drawn] = np.arange(len(drawn))
    for places, features in side.parts(np.arange(side.n)):
        flat[places] = neighbours.project(features, matrix)
        is_drawn = row[places] >= 0
        sampled[row[places][is_drawn]] = features[is_drawn]
    return flat, sampled


def _codes(keys: pa.ChunkedArray) -> Indices:
    """Return a number for each key."""
    return np.asarray(pc.index_in(keys, value_set=pc.unique(keys)), np.int64)
