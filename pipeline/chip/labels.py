"""Labels: the label of each chip, its group, and with the group its split.

They are in a table of their own, so that another label changes no chip and no feature.
"""

from __future__ import annotations

import math
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.sections import SplitParams
from pipeline.core import schemas
from pipeline.core.hashing import split_of

VERSION = 3

PLACE_DEGREES = 0.01
"""The side of a place: 1.1 km from north to south, and less from east to west off the equator."""


def make(
    chips: pa.Table, images: pa.Table, annotations: pa.Table, level: str, split: SplitParams
) -> pa.Table:
    """Return schemas.LABELS, one row for each chip.

    Args:
        chips: schemas.CHIPS.
        images: schemas.IMAGES, and the fields of `index.pattern`.
        annotations: schemas.ANNOTATIONS, one row for each place; at level chip
            schemas.CHIP_ANNOTATIONS.
        level: "point" joins by key, row and column, "image" by key, "chip" by chip_id.
        split: how groups are made and divided.
    """
    on = {"point": ["key", "row", "col"], "image": ["key"], "chip": ["chip_id"]}[level]
    annotations = annotations.select([*on, "label", "group"])
    rows = chips.select(["chip_id", "key", "row", "col"])
    rows = rows.join(annotations, on, join_type="left outer")
    group = rows["group"] if split.by == "group" else image_values(rows["key"], images, split.by)
    group = pc.coalesce(group, rows["key"])  # an image without one is a group by itself
    rows = rows.drop_columns(["group"]).append_column("group", group)
    return schemas.conform(rows.append_column("split", _splits(group, split)), schemas.LABELS)


def image_values(keys: pa.ChunkedArray, images: pa.Table, by: str) -> pa.ChunkedArray:
    """Return the value of *by* for the image of each of *keys*: strings, null if it is not known.

    Args:
        keys: of *images*.
        images: schemas.IMAGES, and the fields of `index.pattern`.
        by: image, folder, day (of `captured_at`), place (a cell of PLACE_DEGREES), or a field.
    """
    values = pa.chunked_array([_of_images(images, by)], pa.string())
    return values.take(pc.index_in(keys, value_set=images["key"]))


def _of_images(images: pa.Table, by: str) -> Any:
    if by == "folder":
        return [str(PurePosixPath(key).parent) for key in images["key"].to_pylist()]
    if by == "day":
        return pc.strftime(images["captured_at"], format="%Y-%m-%d").combine_chunks()
    if by == "place":
        degrees = (images[name].to_pylist() for name in ("latitude", "longitude"))
        return [_place(*pair) for pair in zip(*degrees, strict=True)]
    return images["key" if by == "image" else by].combine_chunks()


def _place(latitude: float | None, longitude: float | None) -> str | None:
    """Return the south-west corner of the cell with this latitude and longitude, as its name."""
    if latitude is None or longitude is None:
        return None
    # Rounded first: 0.29 / 0.01 is a little less than 29.
    south, west = (math.floor(round(deg / PLACE_DEGREES, 6)) for deg in (latitude, longitude))
    return f"{south * PLACE_DEGREES:.2f} {west * PLACE_DEGREES:.2f}"


def _splits(group: pa.ChunkedArray, split: SplitParams) -> pa.ChunkedArray:
    """Return the split of each chip's group."""
    groups = group.unique()
    shares = split.model_dump(include={"validation", "calibration", "test"})
    splits = pa.array([split_of(name, **shares) for name in groups.to_pylist()], pa.string())
    return splits.take(pc.index_in(group, value_set=groups))
