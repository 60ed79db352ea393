"""Every table that Quadrat writes: its columns, their types, their order and what they mean.

A column is spelled here and nowhere else decides what it is. `conform` is the only way to a file:
with it, equal rows are equal bytes. The sentences are not written into files, so that rewording
one changes no byte; docs/reference/tables.md is made from them.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.core.hashing import CHIP_ID_BYTES, digest

ROW_GROUP_ROWS = 10_000

CHIP_ID = pa.binary(CHIP_ID_BYTES)

ELEMENT = "element"
"""Parquet's own word: a list named otherwise would, once read back, be written as other bytes."""

LISTING = pa.schema([("key", pa.string()), ("version", pa.string()), ("size", pa.int64())])

HEADERS = pa.schema(
    [
        *LISTING,
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("format", pa.string()),
        ("mode", pa.string()),
        ("orientation", pa.int8()),
        ("captured_at", pa.timestamp("us")),
        ("latitude", pa.float64()),
        ("longitude", pa.float64()),
        ("more_frames", pa.bool_()),
    ]
)

IMAGES = pa.schema([*HEADERS, ("shard", pa.int32())])

ANNOTATIONS = pa.schema(
    [
        ("key", pa.string()),
        ("row", pa.int32()),
        ("col", pa.int32()),
        ("label", pa.string()),
        ("group", pa.string()),
        ("line", pa.string()),
    ]
)

OUTLINE = pa.list_(pa.field(ELEMENT, pa.list_(pa.field(ELEMENT, pa.float64()))))

OBJECTS = pa.schema(
    [
        ("key", pa.string()),
        ("row", pa.int32()),
        ("col", pa.int32()),
        ("top", pa.int32()),
        ("left", pa.int32()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("outline", OUTLINE),
        ("pixels", pa.binary()),
        ("crowd", pa.bool_()),
        ("image_height", pa.int32()),
        ("image_width", pa.int32()),
        ("label", pa.string()),
        ("group", pa.string()),
        ("line", pa.string()),
    ]
)
"""What is said of points (`row`, `col`), of things with a window, or (neither) of whole images."""

SAID = pa.schema([("chip_id", CHIP_ID), *ANNOTATIONS])
"""What is said of chips: annotations whose chip is known."""

PLACES = pa.schema(
    [
        ("key", pa.string()),
        ("version", pa.string()),
        ("image_height", pa.int32()),
        ("image_width", pa.int32()),
        ("row", pa.int32()),
        ("col", pa.int32()),
    ]
)

CHIPS = pa.schema(
    [
        ("chip_id", CHIP_ID),
        ("key", pa.string()),
        ("version", pa.string()),
        ("row", pa.int32()),
        ("col", pa.int32()),
        ("top", pa.int32()),
        ("left", pa.int32()),
        ("height", pa.int32()),
        ("width", pa.int32()),
    ]
)

BESIDE = pa.schema(
    [
        ("table", pa.string()),
        ("table_version", pa.string()),
        ("key", pa.string()),
        ("version", pa.string()),
        ("image_height", pa.int32()),
        ("image_width", pa.int32()),
    ]
)
"""A table of windows in the bucket, and the images beside it: one row an image."""

LISTED = pa.schema([*CHIPS, ("particle", pa.string())])
"""The windows that such a table lists, and what each is called."""

MEASURED = pa.schema(
    [
        ("chip_id", CHIP_ID),
        ("key", pa.string()),
        ("row", pa.int32()),
        ("col", pa.int32()),
        ("particle", pa.string()),
        ("session", pa.string()),
        ("sampled_on", pa.date32()),
        ("latitude", pa.float64()),
        ("longitude", pa.float64()),
    ]
)
"""What an instrument says of each chip begins so; the instrument's own columns follow."""

SCENE_PLACES = pa.schema([*PLACES, ("mask", pa.string()), ("mask_version", pa.string())])
"""Images whose no-data is stated by masks, with their keys; without a version there is none."""

SCENE_CHIPS = pa.schema([*CHIPS, ("valid_share", pa.float64()), ("mask_version", pa.string())])
"""Chips of images whose no-data is stated: `chip.nodata`."""

BOUNDS = pa.schema(
    [
        ("chip_id", CHIP_ID),
        ("key", pa.string()),
        ("row", pa.int32()),
        ("col", pa.int32()),
        ("crs", pa.string()),
        ("x_min", pa.float64()),
        ("y_min", pa.float64()),
        ("x_max", pa.float64()),
        ("y_max", pa.float64()),
    ]
)
"""Where chips of georeferenced scenes lie."""

LABELS = pa.schema(
    [
        ("chip_id", CHIP_ID),
        ("key", pa.string()),
        ("row", pa.int32()),
        ("col", pa.int32()),
        ("label", pa.string()),
        ("group", pa.string()),
        ("split", pa.string()),
    ]
)

REJECTS = pa.schema(
    [
        ("stage", pa.string()),
        ("key", pa.string()),
        ("row", pa.int32()),
        ("col", pa.int32()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)

PREDICTIONS = pa.schema(
    [
        ("chip_id", CHIP_ID),
        ("key", pa.string()),
        ("row", pa.int32()),
        ("col", pa.int32()),
        ("group", pa.string()),
        ("label", pa.string()),
        ("predicted", pa.string()),
        ("score", pa.float32()),
        ("probabilities", pa.list_(pa.field(ELEMENT, pa.float32()))),
    ]
)

EXPORTED = pa.schema(
    [
        ("name", pa.string()),
        *CHIPS,
        *(LABELS.field(name) for name in ("label", "group", "split")),
        *(HEADERS.field(name) for name in ("captured_at", "latitude", "longitude")),
        ("object", pa.string()),
        ("object_size", pa.int64()),
        ("sha256", pa.string()),
        ("made_from", pa.string()),
    ]
)
"""Chips as image files: what `python -m stages.export` writes beside them."""

SENTENCES: Mapping[str, str] = {
    "chip_id": "digest of key, version and window, in 16 bytes",
    "key": "the image's path below the bucket's root, as the bucket spells it",
    "version": "what identifies the image's bytes: the ETag, or the content's MD5 in a folder",
    "size": "the object's length in bytes",
    "width": "pixels from left to right, as stored",
    "height": "pixels from top to bottom, as stored",
    "format": "the image format by its content, as Pillow names it",
    "mode": "the pixel format, as Pillow names it; of TIFFs with deep or more bands as 4×uint16",
    "orientation": "the EXIF orientation, 1 to 8, and 1 where there is none; never applied",
    "captured_at": "when the picture was taken, by EXIF, in the camera's own time; null if unknown",
    "latitude": "degrees north by EXIF or the session's name, negative in the south; null: unknown",
    "longitude": "degrees east by EXIF or the session's name, negative in the west; null: unknown",
    "more_frames": "whether other pictures follow the first in its file; only the first is used",
    "shard": "the shard of the image, by hash of its key",
    "row": "the pixel row of the centre, counted from 0 at the top",
    "col": "the pixel column of the centre, counted from 0 at the left",
    "top": "the window's first row; negative where it reaches over the border",
    "left": "the window's first column; negative where it reaches over the border",
    "label": "what the annotation says the chip shows, several labels sorted and joined by "
    "`annotations.label_separator`; null where nobody has said",
    "group": "what must not straddle a split: a site, a survey, the image if nothing else is given",
    "split": "train, calibration or validation, by hash of the group",
    "valid_share": "the share of the window's pixels inside the image that are not no-data",
    "mask": "the key of the mask that says where the image has data",
    "mask_version": "what identifies the mask's bytes; null where no-data is stated otherwise",
    "crs": "the scene's coordinate reference system, as EPSG:32632; WKT where it has no number",
    "x_min": "the lowest x of the window's corners, in the scene's own coordinates",
    "y_min": "the lowest y of the window's corners, in the scene's own coordinates",
    "x_max": "the highest x of the window's corners, in the scene's own coordinates",
    "y_max": "the highest y of the window's corners, in the scene's own coordinates",
    "feature": "the vector that the extractor gives for the chip",
    "stage": "the stage that left the row out",
    "reason": "a short code for why the row was left out",
    "detail": "one sentence saying what is wrong with the row, and where",
    "predicted": "the class with the highest probability for this chip; of several labels those "
    "from their threshold on, joined as in `label`",
    "score": "the highest probability, between 0 and 1; of several labels that of the least sure "
    "decision",
    "probabilities": "one probability a class, in the order of model.json's classes",
    "line": "the line of the annotation file that says so, or the place in it",
    "outline": "the object's outline: for each of its parts x and y of the corners, one after the "
    "other, in pixels from the image's top left corner; null: the window, or its `pixels`",
    "crowd": "whether the outline is that of a region of many objects, and of no single one",
    "pixels": "which pixels of the window are the object's: bits, by rows; null: see the outline",
    "particle": "the particle's name: the session's folder in the bucket and the number there",
    "session": "the name of the session's folder",
    "sampled_on": "the day of sampling, by the session's name; null where it does not say",
    "table": "the key of a table of windows",
    "table_version": "what identifies that table's bytes",
    "name": "the chip's name, by the template that was asked for, without its ending",
    "object": "the file that holds the chip, below the folder that chips went to",
    "object_size": "that file's length in bytes",
    "sha256": "the SHA-256 of that file's bytes",
    "made_from": "digest of all that the file was made from: pixels, settings, what it says",
    "image_height": "pixels from top to bottom of the whole image",
    "image_width": "pixels from left to right of the whole image",
}


def features(dim: int, store: str) -> pa.Schema:
    """Give the schema of a features table of *dim* values a chip, `float32` or `float16`."""
    value = pa.float16() if store == "float16" else pa.float32()
    vector = pa.list_(pa.field(ELEMENT, value), dim)
    columns = ["chip_id", "key", "row", "col"]
    return pa.schema([*(CHIPS.field(name) for name in columns), ("feature", vector)])


def vectors(dim: int) -> pa.Schema:
    """Give the schema of features that were made elsewhere: without `chip_id`, in float32."""
    return features(dim, "float32").remove(0)


SORT_KEYS: tuple[str, ...] = ("key", "row", "col", "chip_id")
"""Boxes of two sizes can have one centre: their chips then go by their names."""


def fingerprint(schema: pa.Schema) -> str:
    """Give a digest of the schema's names and types, a part of every recipe."""
    return digest([[field.name, str(field.type)] for field in schema])


def conform(table: pa.Table, schema: pa.Schema, sort: tuple[str, ...] = SORT_KEYS) -> pa.Table:
    """Give *table* with exactly *schema*'s columns and types, sorted, in one chunk a column.

    Raises:
        KeyError, pyarrow.ArrowInvalid: a column is missing or cannot be cast without loss.
    """
    shaped = table.select(schema.names).cast(schema)
    keys = [(name, "ascending") for name in sort if name in schema.names]
    if keys and shaped.num_rows:
        order = pc.sort_indices(shaped, sort_keys=keys)
        if not np.array_equal(order, np.arange(len(order))):  # to copy features takes its time
            shaped = shaped.take(order)
    return shaped.replace_schema_metadata(None).combine_chunks()


def writer(schema: pa.Schema, sink: Any) -> pq.ParquetWriter:
    """Open *sink* for rows of *schema*; a file or a path.

    Features are written as they are in memory: float bits hardly compress, and a dictionary of
    them doubles the cost of reading. Everything else is small and repeats itself.
    """
    plain = {"feature", "chip_id", "probabilities"}
    names = schema.names
    lists = {f"{name}.list.{ELEMENT}" for name in names if name in {"feature", "probabilities"}}
    return pq.ParquetWriter(
        sink,
        schema,
        compression={**dict.fromkeys(names, "zstd"), **dict.fromkeys(lists, "none")},
        use_dictionary=[name for name in names if name not in plain],
        write_statistics=[name for name in names if name not in plain],
        store_schema=True,
    )


def to_bytes(table: pa.Table) -> bytes:
    """Write *table* as Parquet: the same rows give the same bytes."""
    sink = io.BytesIO()
    with writer(table.schema, sink) as stream:
        stream.write_table(table, row_group_size=ROW_GROUP_ROWS)
    return sink.getvalue()


def from_bytes(data: bytes) -> pa.Table:
    """Read a table that `to_bytes` wrote."""
    return pq.read_table(pa.BufferReader(data))
