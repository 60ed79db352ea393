"""Labels: what each chip is said to show, which group it belongs to, and so which split.

They lie beside the chips and not in them, so that another label never touches a feature.
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
    """Give schemas.LABELS, one row a chip.

    Args:
        chips: schemas.CHIPS.
        images: schemas.IMAGES, and the fields of `index.pattern`.
        annotations: schemas.ANNOTATIONS, one row a place; at level "chip" schemas.SAID.
        level: "point" joins by key, row and column, "image" by key, "chip" by chip_id.
        split: how groups are made and divided.
    """
    on = {"point": ["key", "row", "col"], "image": ["key"], "chip": ["chip_id"]}[level]
    said = annotations.select([*on, "label", "group"])
    placed = chips.select(["chip_id", "key", "row", "col"])
    joined = placed.join(said, on, join_type="left outer")
    group = _groups(joined, images, split.by)
    columns = joined.drop_columns(["group"]).append_column("group", group)
    return schemas.conform(columns.append_column("split", _splits(group, split)), schemas.LABELS)


def _groups(joined: pa.Table, images: pa.Table, by: str) -> pa.ChunkedArray:
    """Give each chip's group; the image where nothing is said of one."""
    if by == "group":
        return pc.coalesce(joined["group"], joined["key"])
    return pc.coalesce(of_keys(joined["key"], images, by), joined["key"])


def of_keys(keys: pa.ChunkedArray, images: pa.Table, by: str) -> pa.ChunkedArray:
    """Give what *by* says of the image of each of *keys*: strings, null where it says nothing.

    Args:
        keys: of *images*.
        images: schemas.IMAGES, and the fields of `index.pattern`.
        by: image, folder, day (of `captured_at`), place (a cell of PLACE_DEGREES), or a field.
    """
    found = pa.chunked_array([_of_images(images, by)], pa.string())
    return found.take(pc.index_in(keys, value_set=images["key"]))


def _of_images(images: pa.Table, by: str) -> Any:
    if by == "image":
        return images["key"].combine_chunks()
    if by == "folder":
        return [str(PurePosixPath(key).parent) for key in images["key"].to_pylist()]
    if by == "day":
        return pc.strftime(images["captured_at"], format="%Y-%m-%d").combine_chunks()
    if by == "place":
        degrees = (images[name].to_pylist() for name in ("latitude", "longitude"))
        return [_place(*pair) for pair in zip(*degrees, strict=True)]
    return images[by].combine_chunks()


def _place(latitude: float | None, longitude: float | None) -> str | None:
    """Name the cell that a place lies in by the cell's own south-west corner."""
    if latitude is None or longitude is None:
        return None
    # Rounded first: 0.29 / 0.01 is a little less than 29.
    south, west = (
        math.floor(round(degrees / PLACE_DEGREES, 6)) for degrees in (latitude, longitude)
    )
    return f"{south * PLACE_DEGREES:.2f} {west * PLACE_DEGREES:.2f}"


def _splits(group: pa.ChunkedArray, split: SplitParams) -> pa.Array:
    coded = group.combine_chunks().dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    names = [
        split_of(name, validation=split.validation, calibration=split.calibration)
        for name in coded.dictionary.to_pylist()
    ]
    return pa.array(names, pa.string()).take(coded.indices)
