"""Search for windows of different splits that share pixels, and for images in several splits.

Groups may divide an image: two specimens in one photograph, two sites in one mosaic. Their windows
may then overlap, and the classifier has seen part of what it is evaluated on. Of each image that
is in several splits, the windows are compared by a sweep from left to right.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.core import schemas
from pipeline.validate.pairs import side_by_side

Indices = NDArray[np.int64]

MAX_ROWS = 10_000
"""Of a table: the pairs that share the largest part of a window, and the first images by key."""

CANDIDATES = 2**20
"""Pairs that are compared at once, in about 100 MB."""

EVALUATED = "validation"


@dataclass(frozen=True, slots=True)
class Overlaps:
    """What is in several splits.

    Attributes:
        table: pairs of chips of different splits whose windows share pixels: their columns as in
            pairs.py, the `shared_pixels`, and what `share` of the smaller window they are; the
            largest share first, at most MAX_ROWS.
        n_pairs: how many pairs there are.
        n_validation: how many validation chips share pixels with a chip of another split.
        images: images in more than one split: `key`, and their labelled chips in each split; by
            key, at most MAX_ROWS.
        n_images: how many images there are.
    """

    table: pd.DataFrame
    n_pairs: int
    n_validation: int
    images: pd.DataFrame
    n_images: int


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of windows by their rows, and how many pixels they share.

    Attributes:
        first, second: rows, int64 [n]; *first* is less.
        pixels: int64 [n].
        share: float64 [n], of the smaller window's pixels.
    """

    first: Indices
    second: Indices
    pixels: Indices
    share: NDArray[np.float64]

    def largest(self, most: int) -> Pairs:
        """Return the *most* pairs with the largest share, of equal ones the first."""
        order = np.lexsort((self.second, self.first, -self.share))[:most]
        return Pairs(self.first[order], self.second[order], self.pixels[order], self.share[order])

    def __add__(self, other: Pairs) -> Pairs:
        return Pairs(
            np.concatenate([self.first, other.first]),
            np.concatenate([self.second, other.second]),
            np.concatenate([self.pixels, other.pixels]),
            np.concatenate([self.share, other.share]),
        )


def find(labels: pa.Table, images: pa.Table, chips: Iterable[pa.Table]) -> Overlaps:
    """Find what is in several splits.

    Args:
        labels: schemas.LABELS of the labelled chips.
        images: `key`, `version`, `width` and `height` of the images. Those of one version have the
            same bytes, and are one image.
        chips: schemas.CHIPS, in parts; read only if an image is in several splits.
    """
    splits = pc.unique(labels["split"]).sort()
    of_key = _in_several(labels.select(["key", "split"]), "key")
    placed = labels.select(["key", "split"]).group_by(["key", "split"]).aggregate([])
    versions = _in_several(placed.join(images, "key", join_type="inner"), "version")
    images = images.filter(pc.is_in(images["version"], value_set=versions))
    rows, boxes, codes = _windows(labels, images, chips if images.num_rows else ())
    split_of = np.asarray(pc.index_in(labels["split"], value_set=splits), np.int64)[rows]
    n_pairs, pairs, overlaps = overlapping(boxes, codes, split_of, MAX_ROWS)
    is_validation = np.asarray(pc.equal(labels["split"], EVALUATED))[rows]
    table = side_by_side(*(labels.take(pa.array(rows[at])) for at in (pairs.first, pairs.second)))
    table["shared_pixels"], table["share"] = pairs.pixels, pairs.share
    n_validation = int((overlaps & is_validation).sum())
    by_split = _by_split(labels, of_key, splits)
    return Overlaps(table, n_pairs, n_validation, by_split, len(of_key))


def _in_several(table: pa.Table, name: str) -> pa.Array:
    """Return the values of the column *name* that are in more than one split, sorted."""
    counts = table.group_by(name).aggregate([("split", "count_distinct")])
    several = counts.filter(pc.greater(counts["split_count_distinct"], 1))
    return several[name].combine_chunks().sort()


def _by_split(labels: pa.Table, keys: pa.Array, splits: pa.Array) -> pd.DataFrame:
    """Return the number of chips of each split of the first MAX_ROWS of *keys*."""
    keys = keys[:MAX_ROWS]
    rows = labels.filter(pc.is_in(labels["key"], value_set=keys))
    at = np.asarray(pc.index_in(rows["key"], value_set=keys), np.int64)
    table = pd.DataFrame({"key": keys.to_pylist()})
    for name in splits.to_pylist():
        is_there = np.asarray(pc.equal(rows["split"], name))
        table[name] = np.bincount(at[is_there], minlength=len(keys))
    return table


def _windows(
    labels: pa.Table, images: pa.Table, chips: Iterable[pa.Table]
) -> tuple[Indices, Indices, Indices]:
    """Return the labelled chips of *images*, in the order of the labels.

    Returns:
        Their rows in *labels*, int64 [n], their windows inside the image, int64 [n, 4]: top, left,
        bottom and right; and a number for the version of their image, int64 [n].
    """
    columns = ["chip_id", "key", "top", "left", "height", "width"]
    keys = images["key"].combine_chunks()
    none = pa.table({name: pa.array([], schemas.CHIPS.field(name).type) for name in columns})
    parts = (part.select(columns) for part in chips)
    kept = [part.filter(pc.is_in(part["key"], value_set=keys)) for part in parts]
    found = pa.concat_tables([none, *kept])
    row_of = pc.index_in(found["chip_id"], value_set=labels["chip_id"].combine_chunks())
    found, row_of = found.filter(pc.is_valid(row_of)), row_of.drop_null()
    rows = np.asarray(row_of, np.int64)
    image = np.asarray(pc.index_in(found["key"], value_set=keys), np.int64)
    top, left, height, width = (np.asarray(found[name], np.int64) for name in columns[2:])
    # The size of an image whose header could not be read is unknown.
    edges = [np.asarray(pc.fill_null(images[n], 2**31 - 1), np.int64) for n in ("height", "width")]
    boxes = np.stack(
        [
            np.maximum(top, 0),
            np.maximum(left, 0),
            np.minimum(top + height, edges[0][image]),
            np.minimum(left + width, edges[1][image]),
        ],
        axis=1,
    )
    versions = pc.index_in(images["version"], value_set=pc.unique(images["version"]))
    order = np.argsort(rows)
    return rows[order], boxes[order], np.asarray(versions, np.int64)[image][order]


def overlapping(
    boxes: Indices, images: Indices, splits: Indices, most: int
) -> tuple[int, Pairs, NDArray[np.bool_]]:
    """Count the pairs of windows of one image and different splits that share pixels.

    Args:
        boxes: int64 [n, 4]: top, left, bottom and right of each window, which is empty unless
            bottom and right are greater; none is negative.
        images: int64 [n], a number for the image of each window.
        splits: int64 [n], a number for its split.
        most: how many pairs to return.

    Returns:
        The number of pairs, those with the largest share, and which windows are in any, bool [n].
    """
    top, left, bottom, right = boxes.T
    area = np.maximum(bottom - top, 0) * np.maximum(right - left, 0)
    none = np.zeros(0, np.int64)
    count, best = 0, Pairs(none, none, none, np.zeros(0))
    is_in_pair = np.zeros(len(boxes), bool)
    kept = np.flatnonzero(area)
    for a, b in _candidates(boxes[kept], images[kept]):
        first, second = kept[np.minimum(a, b)], kept[np.maximum(a, b)]
        apart = splits[first] != splits[second]
        first, second = first[apart], second[apart]
        rows = np.minimum(bottom[first], bottom[second]) - np.maximum(top[first], top[second])
        cols = np.minimum(right[first], right[second]) - np.maximum(left[first], left[second])
        shared = np.maximum(rows, 0) * cols
        where = np.flatnonzero(shared)
        count += len(where)
        first, second, shared = first[where], second[where], shared[where]
        is_in_pair[first] = is_in_pair[second] = True
        share = shared / np.minimum(area[first], area[second])
        best = (best + Pairs(first, second, shared, share)).largest(most)
    return count, best, is_in_pair


def _candidates(boxes: Indices, images: Indices) -> Iterator[tuple[Indices, Indices]]:
    """Yield pairs of windows that share columns, and come close in their rows; each pair once.

    An image is divided into bands as high as its average window, so that windows are in three
    bands on average at most. A pair is found in the first band that both are in.
    """
    if not len(boxes):
        return
    top, left, bottom, right = boxes.T
    heights = np.bincount(images, bottom - top) / np.maximum(np.bincount(images), 1)
    band_height = np.ceil(heights).astype(np.int64)[images]
    first = top // band_height
    n_bands = (bottom - 1) // band_height - first + 1
    window = np.repeat(np.arange(len(boxes)), n_bands)
    band = first[window] + _count_up(n_bands)
    group = np.unique(images[window] * (band.max() + 1) + band, return_inverse=True)[1]
    begin = group * (right.max() + 1) + left[window]
    end = begin + (right - left)[window]
    order = np.argsort(begin, kind="stable")
    window, band, begin, end = window[order], band[order], begin[order], end[order]
    following = np.searchsorted(begin, end) - np.arange(len(begin)) - 1
    totals = np.cumsum(following)
    start = 0
    while start < len(begin):
        done = totals[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(totals, done + CANDIDATES, side="right")))
        n_following = following[start:stop]
        at = np.repeat(np.arange(start, stop), n_following)
        a, b = window[at], window[at + 1 + _count_up(n_following)]
        is_first = band[at] == np.maximum(first[a], first[b])
        yield a[is_first], b[is_first]
        start = stop


def _count_up(lengths: Indices) -> Indices:
    """Return 0, 1, … for each of *lengths*, one after the other."""
    starts = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) - np.repeat(starts, lengths)
