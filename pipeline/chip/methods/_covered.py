"""Labels of chips by what covers them: objects of annotation files under the windows of a grid.

A pixel is an object's if its middle lies in the outline (by the even-odd rule, each part of an
outline by itself), in the mask, or else in the window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.annotations import _merge, file_name, label_separator
from pipeline.chip.methods._objects import WINDOW, Said, inside, no_shape
from pipeline.config.sections import AnnotationParams
from pipeline.core import schemas
from pipeline.core.rejects import Reject
from pipeline.images.windows import Window

Mask = NDArray[np.bool_]


def said(
    chips: pa.Table, objects: pa.Table, params: AnnotationParams
) -> tuple[pa.Table, list[Reject]]:
    """Give what objects say of the chips that they cover, as schemas.SAID.

    A word about a whole image speaks of all of its chips, and a point of the chip whose middle it
    is. Two labels for one chip are a conflict,
    or both, as everywhere.

    Args:
        chips: schemas.CHIPS.
        objects: as `_objects.checked` gives them.
        params: the annotations section; `labelled_by` is "centre": objects that cover the chip's
            middle pixel, or "most": labels whose objects together cover more than half of those of
            its pixels that lie in the image.
    """
    name = file_name(params)
    rejects: list[Reject] = []
    found = _said(chips, objects, params, rejects)
    given, conflicts = _merge.merged(found, name, label_separator(params), schemas.SAID)
    return given, rejects + _merge.conflicts_by_chip(conflicts)


def _said(
    chips: pa.Table, objects: pa.Table, params: AnnotationParams, rejects: list[Reject]
) -> Iterator[Said]:
    name, by_centre = file_name(params), getattr(params, "labelled_by", "centre") == "centre"
    of_image = _slices(chips["key"])
    for key, (start, count) in _slices(objects["key"]).items():
        shapes = objects.slice(start, count).to_pylist()
        windows = [row for row in shapes if row["top"] is not None]
        words = [row for row in shapes if row["top"] is None and row["row"] is None]
        own = chips.slice(*of_image.get(key, (0, 0)))
        corners = np.stack([own[side].to_numpy() for side in WINDOW], axis=1).reshape(-1, 4)
        ids = own["chip_id"].to_pylist()
        at = list(zip(own["row"].to_pylist(), own["col"].to_pylist(), strict=True))
        covers = _centres(at, windows) if by_centre else _most(corners, windows)
        middles: dict[tuple[int, int], list[int]] = {}
        for place, middle in enumerate(at):
            middles.setdefault(middle, []).append(place)
        points = [row for row in shapes if row["row"] is not None]
        bare = [row for row in points if (row["row"], row["col"]) not in middles]
        rejects += [no_shape(row, name, "is a point that is no chip's middle") for row in bare]
        exactly = (
            (place, row) for row in points for place in middles.get((row["row"], row["col"]), [])
        )
        everywhere = ((place, row) for row in words for place in range(len(ids)))
        group = next((row["group"] for row in shapes if row["group"] is not None), None)
        # All chips of an image are of its group: an image in two splits would leak.
        nothing = {"label": None, "group": group, "line": ""}
        unlabelled = ((place, nothing) for place in range(len(ids)) if group is not None)
        for place, row in (*everywhere, *exactly, *covers, *unlabelled):
            yield Said(
                key,
                row["label"],
                row["line"],
                row=at[place][0],
                col=at[place][1],
                group=row["group"],
                chip_id=ids[place],
            )


def near(chips: pa.Table, objects: pa.Table) -> pa.Array:
    """Give the ids of chips that an object's window, or a point, reaches into.

    Args:
        chips: schemas.CHIPS.
        objects: as `_objects.checked` gives them.
    """
    found: list[bytes] = []
    of_image = _slices(chips["key"])
    columns = ["key", "row", "col", *WINDOW, "image_height", "image_width"]
    places = objects.select(columns)
    for key, (start, count) in _slices(places["key"]).items():
        own = chips.slice(*of_image.get(key, (0, 0)))
        top, left, height, width = (own[side].to_numpy() for side in WINDOW)
        reached = np.zeros(own.num_rows, bool)
        for row in places.slice(start, count).to_pylist():
            window = inside(row)
            if window is None and row["row"] is not None:
                window = (row["row"], row["col"], 1, 1)
            if window is not None:
                down = (top < window[0] + window[2]) & (top + height > window[0])
                reached |= down & (left < window[1] + window[3]) & (left + width > window[1])
        found += own.filter(pa.array(reached))["chip_id"].to_pylist()
    return pa.array(found, schemas.CHIP_ID)


def _slices(keys: pa.ChunkedArray) -> dict[str, tuple[int, int]]:
    """Give where the rows of each key begin, and how many there are; they are sorted by it."""
    runs = pc.run_end_encode(keys.combine_chunks())
    found, start = {}, 0
    for key, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
        found[key] = (start, end - start)
        start = end
    return found


def _centres(
    at: Sequence[tuple[int, int]], objects: Sequence[dict[str, Any]]
) -> Iterator[tuple[int, dict[str, Any]]]:
    rows, cols = np.array(at, np.int64).reshape(-1, 2).T
    for row in objects:
        top, left, height, width = (row[side] for side in WINDOW)
        near = (rows >= top) & (rows < top + height) & (cols >= left) & (cols < left + width)
        for place in np.flatnonzero(near).tolist():
            if covered(row, (*at[place], 1, 1)).all():
                yield place, row


def _most(
    corners: NDArray[np.int64], objects: Sequence[dict[str, Any]]
) -> Iterator[tuple[int, dict[str, Any]]]:
    if not objects:
        return
    boxes = np.array([inside(row) for row in objects], np.int64)
    high, wide = objects[0]["image_height"], objects[0]["image_width"]
    for place, (top, left, height, width) in enumerate(corners.tolist()):
        first, last = (
            (max(top, 0), max(left, 0)),
            (min(top + height, high), min(left + width, wide)),
        )
        window = (*first, last[0] - first[0], last[1] - first[1])
        near = (
            (boxes[:, 0] < last[0])
            & (boxes[:, 0] + boxes[:, 2] > first[0])
            & (boxes[:, 1] < last[1])
            & (boxes[:, 1] + boxes[:, 3] > first[1])
        )
        masks: dict[str | None, Mask] = {}
        lines: dict[str | None, dict[str, Any]] = {}
        for at in np.flatnonzero(near).tolist():
            label = objects[at]["label"]
            mask = covered(objects[at], window)
            masks[label] = masks[label] | mask if label in masks else mask
            lines.setdefault(label, objects[at])
        for label, mask in masks.items():
            if 2 * int(mask.sum()) > mask.size:
                yield place, lines[label]


def covered(shape: dict[str, Any], window: Window) -> Mask:
    """Give which pixels of *window* are the object's: bool [height, width].

    Args:
        shape: `top`, `left`, `height`, `width`, `outline` and `pixels`, as in schemas.OBJECTS.
        window: not empty.
    """
    if shape["outline"] is not None:
        found = np.zeros(window[2:], bool)
        for ring in shape["outline"]:
            found |= _inside(np.asarray(ring, np.float64).reshape(-1, 2), window)
        return found
    top, left, height, width = window
    own = tuple(shape[side] for side in WINDOW)
    rows, cols = np.arange(top, top + height) - own[0], np.arange(left, left + width) - own[1]
    inside: Mask = ((rows >= 0) & (rows < own[2]))[:, None] & ((cols >= 0) & (cols < own[3]))
    if shape["pixels"] is None:
        return inside
    bits = np.unpackbits(np.frombuffer(shape["pixels"], np.uint8), count=own[2] * own[3])
    mask = bits.reshape(own[2:]).astype(bool)
    own_pixels: Mask = inside & mask[np.ix_(rows.clip(0, own[2] - 1), cols.clip(0, own[3] - 1))]
    return own_pixels


def _inside(corners: NDArray[np.float64], window: Window) -> Mask:
    """Give which pixels' middles lie in a polygon, by how many of its edges are to their left.

    Args:
        corners: float64 [n, 2]: x, y.
        window: the pixels.
    """
    top, left, height, width = window
    middles = np.arange(top, top + height)[:, None] + 0.5
    x0, y0 = corners.T
    x1, y1 = np.roll(corners, -1, axis=0).T
    crossing = (y0 <= middles) != (y1 <= middles)
    rows, edges = np.nonzero(crossing)
    slope = (x1[edges] - x0[edges]) / (y1[edges] - y0[edges])
    at = x0[edges] + (middles[rows, 0] - y0[edges]) * slope
    # The first pixel whose middle lies to the right of the crossing, or on it.
    first = np.ceil(at - 0.5 - left).clip(0, width).astype(np.int64)
    crossed = np.zeros((height, width + 1), np.int64)
    np.add.at(crossed, (rows, first), 1)
    odd: Mask = np.cumsum(crossed, axis=1)[:, :width] % 2 == 1
    return odd
