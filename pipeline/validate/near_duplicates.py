"""Near twins: judged chips that look nearly the same as chips the classifier has learnt from.

Features are read three times, a block at a time: the learnt ones' projections, the judged ones
against them, and the rows of what was found.
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
from pipeline.validate.metrics import _near
from pipeline.validate.metrics._near import Features, Floats, Indices
from pipeline.validate.report import NearTwins

MOST_JUDGED, MOST_LEARNT = 20_000, 200_000
"""Chips that are compared. Beyond them whole blocks of rows are left out, which are of images by
the hash of their keys: a random sample, and the report says of how many."""

MOST_PAIRS = 10_000
"""Pairs that are judged by the features themselves, the closest first: 100 MB of 1,280 values."""

LEARNT = ("train", "calibration")

PLACE = ("chip_id", "key", "row", "col", "split", "label")
TWIN = ("near_chip_id", "near_key", "near_row", "near_col", "near_split", "near_label")


def near(judged: labelled_features.LabelledFeatures, labels: pa.Table) -> NearTwins:
    """Find the chips of *judged* that look nearly the same as one that was learnt from.

    Args:
        judged: the labelled chips of the validation split.
        labels: schemas.LABELS.

    Returns:
        One row a judged chip, with its nearest learnt one: PLACE, TWIN, `distance` of their
        features and the `usual` distance around it; the closest for what is usual first.
    """
    of_learnt = pc.is_in(labels["split"], value_set=pa.array(LEARNT))
    wanted = labels.filter(pc.and_(of_learnt, pc.is_valid(labels["label"])))
    learnt = labelled_features.of_rows(wanted, judged.shards)
    own, theirs = _Side.of(judged, MOST_JUDGED), _Side.of(learnt, MOST_LEARNT)
    pairs = _pairs(own, theirs) if own.n and theirs.n else _Pairs.none()
    rows = [
        side.rows.labels.select(PLACE).take(pa.array(at)).rename_columns(names)
        for side, at, names in ((own, pairs.judged, PLACE), (theirs, pairs.learnt, TWIN))
    ]
    table = pd.concat([part.to_pandas() for part in rows], axis=1)
    table["distance"], table["usual"] = pairs.distance, pairs.usual
    order = np.argsort(pairs.distance / pairs.usual, kind="stable")
    for name in ("chip_id", "near_chip_id"):
        table[name] = [chip.hex() for chip in table[name]]
    return NearTwins(
        table.iloc[order].reset_index(drop=True),
        judged=own.n,
        learnt=theirs.n,
        of_judged=judged.labels.num_rows,
        of_learnt=learnt.labels.num_rows,
        more=len(table) == MOST_PAIRS,
    )


@dataclass(frozen=True, slots=True)
class _Side:
    """Chips that are compared: those of the first *blocks* of *rows*, in the blocks' *order*."""

    rows: labelled_features.LabelledFeatures
    blocks: int
    order: Indices

    @classmethod
    def of(cls, rows: labelled_features.LabelledFeatures, most: int) -> _Side:
        lengths = [len(block.at) for block in rows.blocks]
        blocks = int(np.searchsorted(np.cumsum(lengths), most, side="right"))
        blocks = max(blocks, min(1, len(lengths)))
        own = [np.zeros(0, np.int64), *(block.at for block in rows.blocks[:blocks])]
        return cls(rows, blocks, np.concatenate(own))

    @property
    def n(self) -> int:
        return len(self.order)

    @property
    def starts(self) -> Indices:
        """Where in `order` each block begins."""
        lengths = [len(block.at) for block in self.rows.blocks[: self.blocks]]
        return np.cumsum([0, *lengths[:-1]])

    def wanted(self, at: Indices) -> Features:
        """Read the features of the rows *at*, float32 [n, dim], in that order."""
        sorter = np.argsort(self.order)
        place = sorter[np.searchsorted(self.order, at, sorter=sorter)]
        starts = self.starts
        of_block = np.searchsorted(starts, place, side="right") - 1
        found = np.empty((len(at), self.rows.dim), np.float32)
        for number in np.unique(of_block).tolist():
            here = of_block == number
            found[here] = self.rows.read(number)[place[here] - starts[number]]
        return found


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Judged chips and the learnt ones nearest to them, by their rows."""

    judged: Indices
    learnt: Indices
    distance: Floats
    usual: Floats

    @classmethod
    def none(cls) -> _Pairs:
        return cls(*(np.zeros(0, kind) for kind in (np.int64, np.int64, float, float)))

    def only(self, where: NDArray[np.bool_] | Indices) -> _Pairs:
        return _Pairs(
            self.judged[where], self.learnt[where], self.distance[where], self.usual[where]
        )


def _pairs(own: _Side, theirs: _Side) -> _Pairs:
    """Find the near twins; the distances of the rest are not told."""
    matrix = _near.projection(theirs.rows.dim)
    drawn = _near.sample(theirs.n)
    flat, sampled = _projected(theirs, matrix, drawn)
    middle = flat.mean(axis=0)  # or single precision would lose small distances far from 0
    flat -= middle
    images = _codes(theirs.rows.labels["key"])[theirs.order]
    centre = sampled.mean(axis=0)
    sampled -= centre
    found, spread, count = [], [], 0
    for number in range(own.blocks):
        features = own.rows.read(number)
        some = (features if matrix is None else features @ matrix) - middle
        at, distance = _near.nearest(some, flat)
        around = _near.usual(features - centre, sampled, images[drawn], images[at])
        judged = own.rows.blocks[number].at
        found.append(_Pairs(judged, theirs.order[at], distance, around.distance))
        spread.append(around.spread)
        count = around.neighbours
    pairs = _joined(found)
    around = _near.Usual(pairs.usual, np.concatenate(spread), count)
    shares = _near.fractions(around, theirs.n)
    kept = _candidates(pairs, shares)
    pairs, shares = pairs.only(kept), shares[kept]
    exact = _near.apart(own.wanted(pairs.judged), theirs.wanted(pairs.learnt))
    pairs = _Pairs(pairs.judged, pairs.learnt, exact, pairs.usual)
    return pairs.only(exact < shares * pairs.usual)


def _candidates(pairs: _Pairs, shares: Floats) -> Indices:
    """Say which pairs may be near twins by their projections, in order; MOST_PAIRS at most."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share = pairs.distance / pairs.usual
    fit = np.flatnonzero(np.isfinite(pairs.usual) & (share < _near.SLACK * shares))
    order = np.argsort(share[fit], kind="stable")[:MOST_PAIRS]
    return np.sort(fit[order])


def _projected(side: _Side, matrix: Features | None, drawn: Indices) -> tuple[Features, Features]:
    """Give the projections of all chips of *side*, and the features of the *drawn* ones."""
    parts, own = [], []
    starts = side.starts.tolist()
    for number, (start, end) in enumerate(zip(starts, [*starts[1:], side.n], strict=True)):
        features = side.rows.read(number)
        parts.append(features if matrix is None else features @ matrix)
        own.append(features[drawn[(drawn >= start) & (drawn < end)] - start])
    return np.concatenate(parts), np.concatenate(own)


def _codes(groups: pa.ChunkedArray) -> Indices:
    """Number the groups."""
    codes = pc.index_in(groups, value_set=pc.unique(groups))
    return np.asarray(codes, np.int64)


def _joined(parts: Sequence[_Pairs]) -> _Pairs:
    columns = zip(*((p.judged, p.learnt, p.distance, p.usual) for p in parts), strict=True)
    return _Pairs(*(np.concatenate(column) for column in columns))
