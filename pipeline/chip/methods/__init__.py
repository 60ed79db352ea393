"""Chip methods: which windows of an image become chips. One file for each method.

A file of this folder defines `Settings`, a section with the method's settings, and `LEVEL`, what
its chips follow from: annotated points (`"point"`), the image alone (`"image"`), annotated objects
(`"object"`, see pipeline/chip/methods/_objects.py) or an instrument's tables (`"table"`).

At the levels point and image it also defines

    def windows(place: Place, params: Settings) -> Iterator[tuple[int, int, Window]]

which yields the row and column of the centre, and the window, of every chip of one place. At the
level table it defines `TABLES`, patterns of the tables' keys, `VERSION`, of the code that reads
them, and

    def read(key: str, data: bytes, images: pa.Table) -> Particles

see pipeline/chip/methods/flowcam.py.
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import registry
from pipeline.config.sections import AnnotationParams, ChipParams, NoData
from pipeline.config.templates import template
from pipeline.core import schemas
from pipeline.core.errors import SettingError
from pipeline.core.hashing import chip_id
from pipeline.core.rejects import Reject
from pipeline.images.windows import Window

VERSION = 1


@dataclass(frozen=True, slots=True)
class Place:
    """A point of an image around which a chip is cut; without row and column, the whole image."""

    image_height: int
    image_width: int
    row: int | None
    col: int | None


def find(params: ChipParams) -> Any:
    """Return the file of the chip method that *params* name."""
    return registry.find("chip.methods", params.method, key="chip.method")


def nodata(params: ChipParams) -> NoData | None:
    """Return the setting `nodata`, or None if the method has none or it is not set."""
    value: NoData | None = getattr(params, "nodata", None)
    return value


def masks(params: ChipParams) -> Callable[[str], str] | None:
    """Return a function from an image's key to its mask's; None if `nodata` names no masks."""
    value = nodata(params)
    if not isinstance(value, str) or value == "alpha":
        return None
    keys = template(value)

    def mask_of(key: str) -> str:
        path = PurePosixPath(key)
        folder = "" if path.parent == PurePosixPath() else str(path.parent)
        fields = {"key": str(path.with_suffix("")), "folder": folder, "stem": path.stem}
        return keys.format(fields).removeprefix("/")

    return mask_of


def check_levels(chip: ChipParams, annotations: AnnotationParams, annotated: str) -> None:
    """Raise SettingError if the chip method cannot use annotations of the level *annotated*.

    Objects fit every method. A method that reads tables fits every level: it finds a particle by a
    point in its window, by its image, or by its name.
    """
    if annotated != "object" and find(chip).LEVEL not in {annotated, "table"}:
        fits = ", ".join(
            name
            for name in registry.names("chip.methods")
            if annotated == registry.find("chip.methods", name, key="chip.method").LEVEL
        )
        raise SettingError(
            f"chip.method: {chip.method!r} cannot use annotations.format "
            f"{annotations.format!r}, which speaks of {annotated}s; set chip.method to {fits}"
        )


def of_known_images(
    annotations: pa.Table, images: pa.Table, name: str
) -> tuple[pa.Table, pa.Table, list[Reject]]:
    """Return the annotations of *images*, the image of each, and a reject for each other one.

    Args:
        annotations: schemas.ANNOTATIONS or schemas.OBJECTS.
        images: schemas.IMAGES.
        name: the annotation file's name, for messages.
    """
    place = pc.index_in(annotations["key"], value_set=images["key"].combine_chunks())
    unknown = annotations.filter(pc.is_null(place)).select(["key", "row", "col", "line"])
    similar = _SimilarKeys(images["key"].to_pylist() if unknown.num_rows else [])
    rejects = [_reject_unknown(row, name, similar) for row in unknown.to_pylist()]
    return annotations.filter(pc.is_valid(place)), images.take(place.drop_null()), rejects


def _fold(key: str) -> str:
    """Return *key* without what keys of the same image may differ in."""
    key = unicodedata.normalize("NFC", key.strip("\ufeff" + string.whitespace))
    return key.replace("\\", "/").removeprefix("./").lstrip("/").casefold()


MAX_SIMILAR = 100
"""Images of one name, in different folders, among which a key is looked for."""


class _SimilarKeys:
    """The keys of the index by what another spelling of them would have in common."""

    def __init__(self, keys: Sequence[str]) -> None:
        self.folded = {_fold(key): key for key in keys}
        self.named: dict[str, list[str]] = {}
        for folded, key in self.folded.items():
            self.named.setdefault(folded.rpartition("/")[2], []).append(key)

    def difference(self, key: str) -> str:
        """Return how *key* differs from a key of the index, for a message; empty if from all."""
        folded = _fold(key)
        if (similar := self.folded.get(folded)) is not None:
            return (
                f", which has {similar!a}: the same but for case, space, slashes or the form of a "
                "letter"
            )
        named = self.named.get(folded.rpartition("/")[2], [])
        longer = [other for other in named[:MAX_SIMILAR] if _fold(other).endswith(f"/{folded}")]
        if longer:
            before = longer[0][: len(longer[0]) - len(key)]
            return (
                f", which has {longer[0]!a}: the same with {before!a} before it "
                "(annotations.prefix)"
            )
        shorter = [other for other in named[:MAX_SIMILAR] if folded.endswith(f"/{_fold(other)}")]
        if shorter:
            before = key[: len(key) - len(shorter[0])]
            return (
                f", which has {shorter[0]!a}: the same without {before!a} before it "
                "(annotations.prefix, bucket.url)"
            )
        return ""


def _reject_unknown(row: dict[str, Any], name: str, similar: _SimilarKeys) -> Reject:
    detail = f"{name}:{row['line']}: no image {row['key']!r} in the index"
    detail += similar.difference(row["key"])
    return Reject("chip", row["key"], "no_such_image", detail, row=row["row"], col=row["col"])


def places(
    images: pa.Table, annotations: pa.Table, params: ChipParams, name: str
) -> tuple[pa.Table, list[Reject]]:
    """Return the places to cut chips at, as schemas.PLACES, and the annotations that have none.

    Args:
        images: schemas.IMAGES.
        annotations: schemas.ANNOTATIONS.
        params: the chip section.
        name: the annotation file's name, for messages.
    """
    annotations, annotated, rejects = of_known_images(annotations, images, name)
    at_points = find(params).LEVEL != "image"
    table = (annotated if at_points else images).select(["key", "version", "height", "width"])
    table = table.rename_columns(["key", "version", "image_height", "image_width"])
    for side in ("row", "col"):
        none = pa.nulls(table.num_rows, pa.int32())
        table = table.append_column(side, annotations[side] if at_points else none)
    if at_points:
        inside = pc.and_(
            pc.and_(
                pc.greater_equal(table["row"], 0), pc.less(table["row"], table["image_height"])
            ),
            pc.and_(pc.greater_equal(table["col"], 0), pc.less(table["col"], table["image_width"])),
        )
        outside = table.append_column("line", annotations["line"]).filter(pc.invert(inside))
        rejects += [_reject_outside(row, name) for row in outside.to_pylist()]
        table = table.filter(inside)
    return schemas.conform(table, schemas.PLACES), rejects


def _reject_outside(row: dict[str, Any], name: str) -> Reject:
    height, width = row["image_height"], row["image_width"]
    if row["row"] >= height:
        what = f"row {row['row']} lies below {row['key']}, which is {height} pixels high"
    elif row["col"] >= width:
        what = f"column {row['col']} lies right of {row['key']}, which is {width} pixels wide"
    else:
        what = f"({row['row']}, {row['col']}) is negative, outside {row['key']}"
    detail = f"{name}:{row['line']}: {what}"
    return Reject("chip", row["key"], "points_outside", detail, row=row["row"], col=row["col"])


def plan(wanted: pa.Table, params: ChipParams) -> pa.Table:
    """Return the chips at the places *wanted*, as schemas.CHIPS; each window is in it once.

    Args:
        wanted: schemas.PLACES; schemas.CHIPS are returned as they are.
        params: the chip section.
    """
    if "chip_id" in wanted.schema.names:
        return schemas.conform(wanted, schemas.CHIPS)
    part = find(params)
    chips: dict[bytes, tuple[Any, ...]] = {}
    for batch in wanted.to_batches(max_chunksize=schemas.ROW_GROUP_ROWS):
        for row in batch.to_pylist():
            place = Place(row["image_height"], row["image_width"], row["row"], row["col"])
            for centre_row, centre_col, window in part.windows(place, params):
                identity = chip_id(row["key"], row["version"], window)
                chips[identity] = (row["key"], row["version"], centre_row, centre_col, *window)
    return to_table(chips, schemas.CHIPS)


def to_table(chips: Mapping[bytes, tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    """Return the sorted table of *schema* that has a row for each chip_id and its other values."""
    columns: list[Any] = [list(chips), *zip(*chips.values(), strict=True)]
    columns = columns if chips else [()] * len(schema)
    arrays = [pa.array(values, field.type) for field, values in zip(schema, columns, strict=True)]
    return schemas.conform(pa.table(arrays, schema=schema), schema)


def centre(window: Window) -> tuple[int, int, Window]:
    """Return the row and column of the middle pixel of *window*, and *window*."""
    top, left, height, width = window
    return top + height // 2, left + width // 2, window
