"""Labels: what each chip is said to show, which group it belongs to, and so which split.

They lie beside the chips and not in them, so that another label never touches a feature.
"""

from __future__ import annotations

from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import schemas
from pipeline.hashing import split_of
from pipeline.sections import Split

VERSION = 1


def make(chips: pa.Table, annotations: pa.Table, level: str, split: Split) -> pa.Table:
    """Give schemas.LABELS, one row a chip.

    Args:
        chips: schemas.CHIPS.
        annotations: schemas.ANNOTATIONS, one row a place; at level "chip" schemas.SAID.
        level: "point" joins by key, row and column, "image" by key, "chip" by chip_id.
        split: how groups are made and divided.
    """
    on = {"point": ["key", "row", "col"], "image": ["key"], "chip": ["chip_id"]}[level]
    said = annotations.select([*on, "label", "group"])
    placed = chips.select(["chip_id", "key", "row", "col"])
    joined = placed.join(said, on, join_type="left outer")
    group = _groups(joined, split.by)
    columns = joined.drop_columns(["group"]).append_column("group", group)
    return schemas.conform(columns.append_column("split", _splits(group, split)), schemas.LABELS)


def _groups(joined: pa.Table, by: str) -> pa.ChunkedArray:
    if by == "group":
        return pc.coalesce(joined["group"], joined["key"])
    if by == "image":
        return joined["key"]
    folders = [str(PurePosixPath(key).parent) for key in joined["key"].to_pylist()]
    return pa.chunked_array([pa.array(folders, pa.string())])


def _splits(group: pa.ChunkedArray, split: Split) -> pa.Array:
    coded = group.combine_chunks().dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    names = [
        split_of(name, validation=split.validation, calibration=split.calibration)
        for name in coded.dictionary.to_pylist()
    ]
    return pa.array(names, pa.string()).take(coded.indices)
