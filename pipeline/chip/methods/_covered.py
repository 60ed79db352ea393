"""Labels of chips by what covers them: annotated objects under the windows of a grid.

A pixel belongs to an object if its middle is in the object's outline (by the even-odd rule, each
part of an outline by itself), or if it is in the mask, or else in the window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.annotations import _merge, file_name, label_separator
from pipeline.chip.methods._objects import (
    WINDOW,
    ChipAnnotation,
    annotation,
    clip,
    inside,
    no_shape,
)
from pipeline.config.sections import AnnotationParams
from pipeline.core import schemas
from pipeline.core.rejects import Reject
from pipeline.images.windows import Window

Mask = NDArray[np.bool_]
Row = dict[str, Any]


def annotate(
    chips: pa.Table, objects: pa.Table, params: AnnotationParams
) -> tuple[pa.Table, list[Reject]]:
    """Return schemas.CHIP_ANNOTATIONS of the chips that *objects* cover, and rejects.

    An annotation of a whole image is one of all its chips, and a point of the chip whose middle it
    is. All chips of an image are in its objects' group.

    If `labelled_by` is "centre", a chip has the labels of the objects that cover its middle pixel;
    if it is "most", the labels whose objects together cover more than half of its pixels inside
    the image.

    Args:
        chips: schemas.CHIPS.
        objects: from `_objects.checked`.
        params: the annotations section.
    """
    name = file_name(params)
    rejects: list[Reject] = []
    annotations = _annotations(chips, objects, params, rejects)
    merged, conflicts = _merge.merged(
        annotations, name, label_separator(params), schemas.CHIP_ANNOTATIONS
    )
    return merged, rejects + _merge.conflicts_by_chip(conflicts)


def _annotations(
    chips: pa.Table, objects: pa.Table, params: AnnotationParams, rejects: list[Reject]
) -> Iterator[ChipAnnotation]:
    name, by_centre = file_name(params), getattr(params, "labelled_by", "centre") == "centre"
    for chips_of_image, objects_of_image in _by_image(chips, objects):
        rows = objects_of_image.to_pylist()
        windows = [row for row in rows if row["top"] is not None]
        points = [row for row in rows if row["row"] is not None]
        whole = [row for row in rows if row["top"] is None and row["row"] is None]
        ids = chips_of_image["chip_id"].to_pylist()
        columns = (chips_of_image[side].to_pylist() for side in ("row", "col"))
        centres = list(zip(*columns, strict=True))
        at: dict[tuple[int, int], list[int]] = {}
        for place, centre in enumerate(centres):
            at.setdefault(centre, []).append(place)
        labelled = [(place, row) for row in whole for place in range(len(ids))]
        for row in points:
            places = at.get((row["row"], row["col"]))
            labelled += [(place, row) for place in places or ()]
            if places is None:
                rejects.append(no_shape(row, name, "is a point that is no chip's middle"))
        labelled += _centres(centres, windows) if by_centre else _most(chips_of_image, windows)
        group = next((row["group"] for row in rows if row["group"] is not None), None)
        if group is not None:  # a chip of another group might be in another split: a leak
            unlabelled = {"key": rows[0]["key"], "label": None, "group": group, "line": ""}
            labelled += [(place, unlabelled) for place in range(len(ids))]
        for place, row in labelled:
            yield annotation(row, centres[place], ids[place])


def touched(chips: pa.Table, objects: pa.Table) -> pa.Array:
    """Return the ids of the *chips* that the window or point of one of *objects* overlaps."""
    ids: list[bytes] = []
    columns = ["key", "row", "col", *WINDOW, "image_height", "image_width"]
    for chips_of_image, objects_of_image in _by_image(chips, objects.select(columns)):
        boxes = _boxes(chips_of_image)
        overlapped = np.zeros(len(boxes), bool)
        for row in objects_of_image.to_pylist():
            window = inside(row)
            if window is None and row["row"] is not None:
                window = (row["row"], row["col"], 1, 1)
            if window is not None:
                overlapped |= _overlap(boxes, window)
        ids += chips_of_image["chip_id"].filter(pa.array(overlapped)).to_pylist()
    return pa.array(ids, schemas.CHIP_ID)


def _by_image(chips: pa.Table, objects: pa.Table) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Yield the chips and the objects of each image with objects; both are sorted by key."""
    of_image = _slices(chips["key"])
    for key, place in _slices(objects["key"]).items():
        yield chips.slice(*of_image.get(key, (0, 0))), objects.slice(*place)


def _slices(keys: pa.ChunkedArray) -> dict[str, tuple[int, int]]:
    """Return the first row of each key, and the number of its rows."""
    runs = pc.run_end_encode(keys.combine_chunks())
    slices, start = {}, 0
    for key, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
        slices[key] = (start, end - start)
        start = end
    return slices


def _boxes(table: pa.Table) -> NDArray[np.int64]:
    """Return the windows of *table*: int64 [n, 4]."""
    return np.stack([table[side].to_numpy() for side in WINDOW], axis=1).astype(np.int64)


def _overlap(boxes: NDArray[np.int64], window: Window) -> Mask:
    """Return which of *boxes* have a pixel in common with *window*: bool [n]."""
    top, left, height, width = boxes.T
    rows = (top < window[0] + window[2]) & (top + height > window[0])
    overlap: Mask = rows & (left < window[1] + window[3]) & (left + width > window[1])
    return overlap


def _centres(
    centres: Sequence[tuple[int, int]], objects: Sequence[Row]
) -> Iterator[tuple[int, Row]]:
    rows, cols = np.array(centres, np.int64).reshape(-1, 2).T
    for row in objects:
        top, left, height, width = (row[side] for side in WINDOW)
        near = (rows >= top) & (rows < top + height) & (cols >= left) & (cols < left + width)
        for place in np.flatnonzero(near).tolist():
            if covered(row, (*centres[place], 1, 1)).all():
                yield place, row


def _most(chips: pa.Table, objects: Sequence[Row]) -> Iterator[tuple[int, Row]]:
    if not objects:
        return
    boxes = np.array([clip(row) for row in objects], np.int64)
    size = {name: objects[0][name] for name in ("image_height", "image_width")}
    for place, chip in enumerate(chips.select(WINDOW).to_pylist()):
        window = clip(chip | size)
        masks: dict[str | None, Mask] = {}
        first: dict[str | None, Row] = {}
        for at in np.flatnonzero(_overlap(boxes, window)).tolist():
            label = objects[at]["label"]
            mask = covered(objects[at], window)
            masks[label] = masks[label] | mask if label in masks else mask
            first.setdefault(label, objects[at])
        for label, mask in masks.items():
            if 2 * int(mask.sum()) > mask.size:
                yield place, first[label]


def covered(shape: Row, window: Window) -> Mask:
    """Return which pixels of *window* belong to the object *shape*: bool [height, width]."""
    if shape["outline"] is not None:
        outlined = np.zeros(window[2:], bool)
        for ring in shape["outline"]:
            outlined |= _in_polygon(np.asarray(ring, np.float64).reshape(-1, 2), window)
        return outlined
    top, left, height, width = window
    own_top, own_left, own_height, own_width = (shape[side] for side in WINDOW)
    rows, cols = np.arange(height) + top - own_top, np.arange(width) + left - own_left
    in_rows, in_cols = (rows >= 0) & (rows < own_height), (cols >= 0) & (cols < own_width)
    mask: Mask = in_rows[:, None] & in_cols
    if shape["pixels"] is not None:
        bits = np.unpackbits(np.frombuffer(shape["pixels"], np.uint8), count=own_height * own_width)
        pixels = bits.reshape(own_height, own_width).astype(bool)
        mask &= pixels[np.ix_(rows.clip(0, own_height - 1), cols.clip(0, own_width - 1))]
    return mask


def _in_polygon(corners: NDArray[np.float64], window: Window) -> Mask:
    """Return the pixels whose middles have an odd number of the polygon's edges to their left.

    *corners* is float64 [n, 2]: x, y.
    """
    top, left, height, width = window
    middles = np.arange(top, top + height)[:, None] + 0.5
    x0, y0 = corners.T
    x1, y1 = np.roll(corners, -1, axis=0).T
    rows, edges = np.nonzero((y0 <= middles) != (y1 <= middles))
    slope = (x1[edges] - x0[edges]) / (y1[edges] - y0[edges])
    at = x0[edges] + (middles[rows, 0] - y0[edges]) * slope
    # The first pixel whose middle is to the right of the crossing, or on it.
    first = np.ceil(at - 0.5 - left).clip(0, width).astype(np.int64)
    crossings = np.zeros((height, width + 1), np.int64)
    np.add.at(crossings, (rows, first), 1)
    odd: Mask = np.cumsum(crossings, axis=1)[:, :width] % 2 == 1
    return odd
