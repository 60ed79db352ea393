"""Search a split for chips that share pixels with training chips, by their windows.

Only images with chips on both sides are looked at, one shard of the chips at a time. Their windows
are put into cells as large as the largest window of the image: two windows that overlap are in the
same cell or in neighbouring ones. So the time grows with the pairs that are near each other, and
not with all pairs of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.validate.near_duplicates import COLUMNS, TRAINING
from pipeline.validate.neighbours import Floats, Indices

WINDOW = ("top", "left", "height", "width")
PAIRS = 1 << 21
"""Pairs of windows that are compared at once: about 200 MB."""

MAX_ROWS = 10_000
"""Rows of the table, those with the largest shares; all are counted."""


@dataclass(frozen=True, slots=True)
class Overlaps:
    """What was found.

    Attributes:
        table: the validation chips that share most pixels with a training chip: their COLUMNS, the
            `near_` COLUMNS of the training chip with which each shares most, and `share`, that of
            the validation chip's pixels; the largest share first.
        n: validation chips that share pixels with a training chip.
        median: of their shares; 0 if there are none.
    """

    table: pd.DataFrame
    n: int
    median: float


class Windows(NamedTuple):
    """Windows of several images: int64 [n], the number of each one's image; int64 [n, 4]."""

    image: Indices
    window: Indices


def find(
    validation: pa.Table, labels: pa.Table, chips: Callable[[], Iterable[pa.Table]]
) -> Overlaps:
    """Find the chips of *validation* that share pixels with chips that were trained on.

    Args:
        validation: schemas.LABELS of the chips to be evaluated.
        labels: schemas.LABELS of the labelled chips of all splits.
        chips: yields schemas.CHIPS in shards; an image is in one of them. Called only if an image
            is on both sides.
    """
    training = labels.filter(pc.is_in(labels["split"], value_set=pa.array(TRAINING)))
    keys = validation["key"].unique()
    both = keys.filter(pc.is_in(keys, value_set=training["key"].unique()))
    one, other = (
        table.filter(pc.is_in(table["key"], value_set=both)).select(COLUMNS)
        for table in (validation, training)
    )
    found = [_search(one, other, shard) for shard in chips()] if len(both) else []
    none = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    rows, near, share = (np.concatenate(parts) for parts in zip(none, *found, strict=True))
    first = np.lexsort((rows, -share))[:MAX_ROWS]
    names = [f"near_{name}" for name in COLUMNS]
    sides = one.take(rows[first]), other.take(near[first]).rename_columns(names)
    table = pd.concat([side.to_pandas() for side in sides], axis=1)
    for name in ("chip_id", "near_chip_id"):
        table[name] = [chip.hex() for chip in table[name]]
    table["share"] = share[first]
    return Overlaps(table, len(share), float(np.median(share)) if len(share) else 0.0)


def _search(one: pa.Table, other: pa.Table, shard: pa.Table) -> tuple[Indices, Indices, Floats]:
    """Return the rows of *one* that overlap some of *other* in this shard, those, and shares."""
    keys = shard["key"].unique()
    sides, rows = [], []
    for table in (one, other):
        at = pc.index_in(table["chip_id"], value_set=shard["chip_id"])
        here = np.flatnonzero(at.is_valid().to_numpy())
        found = shard.select(["key", *WINDOW]).take(at.drop_null())
        image = pc.index_in(found["key"], value_set=keys).to_numpy().astype(np.int64)
        window = np.stack([found[name].to_numpy() for name in WINDOW], axis=1).astype(np.int64)
        sides.append(Windows(image, window))
        rows.append(here)
    at, share = most_shared(*sides)
    overlapping = np.flatnonzero(at >= 0)
    return rows[0][overlapping], rows[1][at[overlapping]], share[overlapping]


def most_shared(one: Windows, other: Windows) -> tuple[Indices, Floats]:
    """Return, for each window of *one*, that of *other* with which it shares most pixels.

    Returns:
        int64 [n], the row in *other*, the first of equals, or -1 if no pixel is shared; and
        float64 [n], the share of the window's own pixels.
    """
    most, best = np.zeros(len(one.image), np.int64), np.full(len(one.image), -1, np.int64)
    if len(one.image) and len(other.image):
        code, other_code, in_row = _cells(one, other)
        order = np.argsort(other_code, kind="stable")
        in_order = other_code[order]
        for cells in (-in_row, 0, in_row):  # the row of cells above, its own and the one below
            start = np.searchsorted(in_order, code + cells - 1, side="left")
            count = np.searchsorted(in_order, code + cells + 1, side="right") - start
            for rows in _blocks(count):
                candidates = order[_ranges(start[rows], count[rows])]
                at, area = _largest(one.window[rows], other.window, candidates, count[rows])
                better = (area > most[rows]) | ((area == most[rows]) & (at < best[rows]))
                better &= area > 0
                most[rows[better]], best[rows[better]] = area[better], at[better]
    return best, most / np.maximum(one.window[:, 2:].prod(axis=1), 1)


def _cells(one: Windows, other: Windows) -> tuple[Indices, Indices, int]:
    """Return a number for the cell of each window, and by how much it grows in a row of cells."""
    images = np.concatenate([one.image, other.image])
    windows = np.concatenate([one.window, other.window])
    size = np.ones((int(images.max()) + 1, 2), np.int64)
    np.maximum.at(size, images, windows[:, 2:])
    cells = windows[:, :2] // size[images]
    cells -= cells.min(axis=0) - 1  # with an empty cell at each border
    down, across = (cells.max(axis=0) + 2).tolist()
    code = (images * down + cells[:, 0]) * across + cells[:, 1]
    return code[: len(one.image)], code[len(one.image) :], across


def _blocks(count: Indices) -> list[Indices]:
    """Return the rows that have a count, in parts of PAIRS counts, or of one row with more."""
    rows = np.flatnonzero(count)
    ends = np.cumsum(count[rows])
    if not len(rows):
        return []
    return np.split(rows, np.unique(np.searchsorted(ends, np.arange(PAIRS, ends[-1], PAIRS))))


def _ranges(start: Indices, count: Indices) -> Indices:
    """Return the numbers start, start + 1, … of each range, one after another."""
    shift: Indices = np.repeat(start - (np.cumsum(count) - count), count)
    return shift + np.arange(len(shift))


def _largest(
    one: Indices, other: Indices, candidates: Indices, count: Indices
) -> tuple[Indices, Indices]:
    """Return, for each window of *one*, the candidate with the largest common area, and that area.

    *candidates* are rows of *other*, *count* for each window of *one*.
    """
    a, b = np.repeat(one, count, axis=0), other[candidates]
    ends = np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    sides = np.maximum(ends - np.maximum(a[:, :2], b[:, :2]), 0)
    area: NDArray[np.int64] = sides[:, 0] * sides[:, 1]
    firsts = np.cumsum(count) - count
    largest = np.maximum.reduceat(area, firsts)
    is_largest = area == np.repeat(largest, count)
    return np.minimum.reduceat(np.where(is_largest, candidates, len(other)), firsts), largest
