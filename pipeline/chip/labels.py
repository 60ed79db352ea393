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
from pipeline.core.rejects import Reject

VERSION = 4

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

    Where groups are those of the annotations, a chip without one is in the group of its image: the
    only one that annotations of the image name.
    """
    on = {"point": ["key", "row", "col"], "image": ["key"], "chip": ["chip_id"]}[level]
    rows = chips.select(["chip_id", "key", "row", "col"])
    annotated = annotations.select([*on, "label", "group"])
    rows = rows.join(annotated, on, join_type="left outer")
    if split.by == "group":
        of_image = _only_group(rows["key"], _named_groups(annotations))
        group = pc.coalesce(rows["group"], of_image)
    else:
        group = image_values(rows["key"], images, split.by)
    group = pc.coalesce(group, rows["key"])  # an image without one is a group by itself
    rows = rows.drop_columns(["group"]).append_column("group", group)
    return schemas.conform(rows.append_column("split", _splits(group, split)), schemas.LABELS)


def fill_groups(annotations: pa.Table, name: str) -> tuple[pa.Table, list[Reject]]:
    """Return *annotations*, those without a group in that of their image, and rejects.

    A label without a group is rejected if the annotations of its image name several: its chip can
    share pixels with chips of any of them, so in a group by itself it would leak.

    Args:
        annotations: of any schema with `key`, `row`, `col`, `label`, `group` and `line`.
        name: the annotation file's name, for messages.
    """
    named = _named_groups(annotations)
    group = pc.coalesce(annotations["group"], _only_group(annotations["key"], named))
    annotations = annotations.set_column(
        annotations.schema.get_field_index("group"), annotations.schema.field("group"), group
    )
    named = named.filter(pc.greater(named["group_count_distinct"], 1))
    unknown = pc.and_(
        pc.and_(pc.is_valid(annotations["label"]), pc.is_null(annotations["group"])),
        pc.is_in(annotations["key"], value_set=named["key"]),
    )
    columns = ["key", "row", "col", "line"]
    rejected = annotations.filter(unknown).select(columns).to_pylist()
    groups = {row["key"]: row for row in named.to_pylist()} if rejected else {}
    rejects = []
    for row in rejected:
        of_image = groups[row["key"]]
        detail = (
            f"{name}:{row['line']}: no group, and the annotations of {row['key']} name "
            f"{of_image['group_count_distinct']:,}, such as {of_image['group_min']!r} and "
            f"{of_image['group_max']!r}; name the group of this one"
        )
        rejects.append(
            Reject("chip", row["key"], "no_group", detail, row=row["row"], col=row["col"])
        )
    return annotations.filter(pc.invert(unknown)), rejects


def _named_groups(annotations: pa.Table) -> pa.Table:
    """Return the number of different groups, the first and the last by name, of each image."""
    named = annotations.select(["key", "group"]).filter(pc.is_valid(annotations["group"]))
    wanted = [("group", what) for what in ("count_distinct", "min", "max")]
    return named.group_by("key", use_threads=False).aggregate(wanted)


def _only_group(keys: pa.ChunkedArray, named: pa.Table) -> pa.ChunkedArray:
    """Return the group of the image of each of *keys*; null if annotations name none or several."""
    one = named.filter(pc.equal(named["group_count_distinct"], 1))
    return one["group_min"].take(pc.index_in(keys, value_set=one["key"]))


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
