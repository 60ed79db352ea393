"""Every table that Quadrat writes: its columns, their types, their order and what they mean.

A column is defined here and nowhere else. A table is written only after `conform`, so that equal
rows are equal bytes. DESCRIPTIONS are in no file, so that rewording one changes no byte;
docs/reference/tables.md is made from them.
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
"""Parquet's name of a list's items: a list with another name changes bytes when it is read back."""


def _columns(kind: pa.DataType, *names: str) -> list[pa.Field]:
    return [pa.field(name, kind) for name in names]


_ID = _columns(CHIP_ID, "chip_id")
_KEY = _columns(pa.string(), "key")
_IMAGE = _columns(pa.string(), "key", "version")
_IMAGE_SIZE = _columns(pa.int32(), "image_height", "image_width")
_CENTRE = _columns(pa.int32(), "row", "col")
_WINDOW = _columns(pa.int32(), "top", "left", "height", "width")
_PLACE = _columns(pa.float64(), "latitude", "longitude")
_LABELLED = _columns(pa.string(), "label", "group", "line")

LISTING = pa.schema([*_IMAGE, ("size", pa.int64())])

HEADERS = pa.schema(
    [
        *LISTING,
        *_columns(pa.int32(), "width", "height"),
        *_columns(pa.string(), "format", "mode"),
        ("orientation", pa.int8()),
        ("captured_at", pa.timestamp("us")),
        *_PLACE,
        ("more_frames", pa.bool_()),
    ]
)

IMAGES = pa.schema([*HEADERS, ("shard", pa.int32())])

ANNOTATIONS = pa.schema([*_KEY, *_CENTRE, *_LABELLED])

OUTLINE = pa.list_(pa.field(ELEMENT, pa.list_(pa.field(ELEMENT, pa.float64()))))

OBJECTS = pa.schema(
    [
        *_KEY,
        *_CENTRE,
        *_WINDOW,
        ("outline", OUTLINE),
        ("pixels", pa.binary()),
        ("crowd", pa.bool_()),
        *_IMAGE_SIZE,
        *_LABELLED,
    ]
)
"""Annotations of points (`row`, `col`), of objects with a window, or, with neither, of images."""

CHIP_ANNOTATIONS = pa.schema([*_ID, *ANNOTATIONS])
"""Annotations of chips."""

PLACES = pa.schema([*_IMAGE, *_IMAGE_SIZE, *_CENTRE])

CHIPS = pa.schema([*_ID, *_IMAGE, *_CENTRE, *_WINDOW])

WINDOW_TABLES = pa.schema([*_columns(pa.string(), "table", "table_version"), *_IMAGE, *_IMAGE_SIZE])
"""A table of windows in the bucket, and the images beside it: one row an image."""

LISTED_WINDOWS = pa.schema([*CHIPS, ("particle", pa.string())])
"""The windows in such a table, each with its name there."""

MEASUREMENTS = pa.schema(
    [
        *_ID,
        *_KEY,
        *_CENTRE,
        *_columns(pa.string(), "particle", "session"),
        ("sampled_on", pa.date32()),
        *_PLACE,
    ]
)
"""The first columns of an instrument's measurements of chips; the instrument's own follow."""

SCENE_PLACES = pa.schema([*PLACES, *_columns(pa.string(), "mask", "mask_version")])
"""Images whose no-data is stated by masks, with their keys; without a version there is none."""

SCENE_CHIPS = pa.schema([*CHIPS, ("valid_share", pa.float64()), ("mask_version", pa.string())])
"""Chips of images whose no-data is stated: `chip.nodata`."""

BOUNDS = pa.schema(
    [
        *_ID,
        *_KEY,
        *_CENTRE,
        ("crs", pa.string()),
        *_columns(pa.float64(), "x_min", "y_min", "x_max", "y_max"),
    ]
)
"""Where chips of georeferenced scenes are."""

LABELS = pa.schema([*_ID, *_KEY, *_CENTRE, *_columns(pa.string(), "label", "group", "split")])

REJECTS = pa.schema(
    [
        *_columns(pa.string(), "stage", "key"),
        *_CENTRE,
        *_columns(pa.string(), "reason", "detail"),
    ]
)

PREDICTIONS = pa.schema(
    [
        *_ID,
        *_KEY,
        *_CENTRE,
        *_columns(pa.string(), "group", "label", "predicted"),
        ("score", pa.float32()),
        ("probabilities", pa.list_(pa.field(ELEMENT, pa.float32()))),
    ]
)

EXPORTED = pa.schema(
    [
        ("name", pa.string()),
        *CHIPS,
        *_columns(pa.string(), "label", "group", "split"),
        ("captured_at", pa.timestamp("us")),
        *_PLACE,
        ("object", pa.string()),
        ("object_size", pa.int64()),
        *_columns(pa.string(), "sha256", "made_from"),
    ]
)
"""Chips as image files: the table that `python -m stages.export` writes beside them."""

DESCRIPTIONS: Mapping[str, str] = {
    "chip_id": "digest of key, version and window, in 16 bytes",
    "key": "the image's path below the bucket's root, as the bucket spells it",
    "version": "what identifies the image's bytes: the ETag, or the content's MD5 in a folder",
    "size": "the object's length in bytes",
    "width": "pixels from left to right, as stored",
    "height": "pixels from top to bottom, as stored",
    "format": "the image format by its content, as Pillow names it",
    "mode": "the pixel format, as Pillow names it; of TIFFs with deep or more bands as 4×uint16",
    "orientation": "the EXIF orientation, 1 to 8, or 1 if there is none; never applied",
    "captured_at": "when the picture was taken, by EXIF, in the camera's own time; null if unknown",
    "latitude": "degrees north by EXIF or the session's name, negative in the south; null: unknown",
    "longitude": "degrees east by EXIF or the session's name, negative in the west; null: unknown",
    "more_frames": "whether other pictures follow the first in its file; only the first is used",
    "shard": "the shard of the image, by hash of its key",
    "row": "the pixel row of the centre, counted from 0 at the top",
    "col": "the pixel column of the centre, counted from 0 at the left",
    "top": "the window's first row; negative where it reaches over the border",
    "left": "the window's first column; negative where it reaches over the border",
    "label": "the label in the annotations, several labels sorted and joined by "
    "`annotations.label_separator`; null: unlabelled",
    "group": "what is never divided between splits: a site, a survey, or else the image",
    "split": "train, calibration, validation or test, by hash of the group",
    "valid_share": "the share of the window's pixels inside the image that are not no-data",
    "mask": "the key of the mask that says where the image has data",
    "mask_version": "what identifies the mask's bytes; null where no-data is stated otherwise",
    "crs": "the scene's coordinate reference system, as EPSG:32632; WKT where it has no number",
    "x_min": "the lowest x of the window's corners, in the scene's own coordinates",
    "y_min": "the lowest y of the window's corners, in the scene's own coordinates",
    "x_max": "the highest x of the window's corners, in the scene's own coordinates",
    "y_max": "the highest y of the window's corners, in the scene's own coordinates",
    "feature": "the vector that the extractor computes of the chip",
    "decoder_warning": "what the decoder warned of while it read the image, whose pixels may be "
    "damaged; null if of nothing",
    "stage": "the stage that left the row out",
    "reason": "a short code for why the row was left out",
    "detail": "what is wrong with the row, and where, in one sentence",
    "predicted": "the class with the highest probability for this chip; of several labels those "
    "from their threshold on, joined as in `label`",
    "score": "the highest probability, between 0 and 1; of several labels that of the least sure "
    "decision",
    "probabilities": "one probability for each class, in the order of model.json's classes",
    "line": "the line of the annotation file, or the place in it",
    "outline": "the object's outline: for each of its parts x and y of the corners, one after the "
    "other, in pixels from the image's top left corner; null: the window, or its `pixels`",
    "crowd": "whether the outline is that of a region of many objects, and of no single one",
    "pixels": "which pixels of the window are the object's: bits, by rows; null: see the outline",
    "particle": "the particle's name: the session's folder in the bucket and the number there",
    "session": "the name of the session's folder",
    "sampled_on": "the day of sampling by the session's name; null: unknown",
    "table": "the key of a table of windows",
    "table_version": "what identifies that table's bytes",
    "name": "the chip's name by the requested template, without its extension",
    "object": "the chip's file, below the folder of the export",
    "object_size": "that file's length in bytes",
    "sha256": "the SHA-256 of that file's bytes",
    "made_from": "digest of all that the file was made from: pixels, settings and metadata",
    "image_height": "pixels from top to bottom of the whole image",
    "image_width": "pixels from left to right of the whole image",
}


def features(dim: int, dtype: str) -> pa.Schema:
    """Return the schema of a features table of *dim* values a chip, `float32` or `float16`."""
    value = pa.float16() if dtype == "float16" else pa.float32()
    vector = pa.list_(pa.field(ELEMENT, value), dim)
    warning = _columns(pa.string(), "decoder_warning")
    return pa.schema([*_ID, *_KEY, *_CENTRE, ("feature", vector), *warning])


def vectors(dim: int) -> pa.Schema:
    """Return the schema of features from elsewhere: key, row, column and feature, in float32."""
    fields = features(dim, "float32")
    return pa.schema([fields.field(name) for name in ("key", "row", "col", "feature")])


SORT_KEYS: tuple[str, ...] = ("key", "row", "col", "chip_id")
"""Boxes of different sizes can have the same centre: their chips are sorted by chip_id."""


def fingerprint(schema: pa.Schema) -> str:
    """Return a digest of the schema's names and types, a part of every recipe."""
    return digest([[field.name, str(field.type)] for field in schema])


def conform(table: pa.Table, schema: pa.Schema, sort: tuple[str, ...] = SORT_KEYS) -> pa.Table:
    """Return *table* with exactly *schema*'s columns and types, sorted, in one chunk a column.

    Raises:
        KeyError, pyarrow.ArrowInvalid: a column is missing or cannot be cast without loss.
    """
    shaped = table.select(schema.names).cast(schema)
    keys = [(name, "ascending") for name in sort if name in schema.names]
    if keys and shaped.num_rows:
        order = pc.sort_indices(shaped, sort_keys=keys)
        if not np.array_equal(order, np.arange(len(order))):  # copying features takes time
            shaped = shaped.take(order)
    return shaped.replace_schema_metadata(None).combine_chunks()


def writer(schema: pa.Schema, sink: Any) -> pq.ParquetWriter:
    """Open *sink*, a file or a path, for rows of *schema*.

    Features are written as they are in memory: float bits hardly compress, and a dictionary of
    them doubles the time to read them. All other columns are small and repetitive.
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
