"""Which windows of an image become chips: one file a method, all giving one table.

A file of this folder defines `Settings`, a section with the method's own settings; `LEVEL`,
`"point"` if chips stand around annotated points, `"image"` if they follow from the image alone,
`"object"` if each annotated object has its own (pipeline/chip/methods/_objects.py makes them); and

    def windows(place: Place, params: Settings) -> Iterator[tuple[int, int, Window]]

which gives the centre's row and column, and the window, of every chip of one place.

Where an instrument lists windows in a table beside its images, `LEVEL` is `"table"`, `TABLES` are
the patterns of such tables' names, `VERSION` is the reader's, and instead of `windows` it has

    def read(table: Table) -> Listed

of pipeline/chip/methods/_tables.py, which makes chips of what is read.
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import registry
from pipeline.config.sections import AnnotationParams, ChipParams, NoData
from pipeline.config.templates import Template, template
from pipeline.core import schemas
from pipeline.core.errors import SettingError
from pipeline.core.hashing import chip_id
from pipeline.core.rejects import Reject
from pipeline.images.windows import Window

VERSION = 1


@dataclass(frozen=True, slots=True)
class Place:
    """Where chips are wanted: a point of an image, or, with no row and column, all of it."""

    image_height: int
    image_width: int
    row: int | None
    col: int | None


def level(params: ChipParams) -> str:
    """Say whether the method of *params* starts from points or from images."""
    return str(registry.find("chip.methods", params.method, key="chip.method").LEVEL)


def tables(params: ChipParams) -> tuple[str, ...]:
    """Give the patterns of the tables that the method of *params* reads in the bucket."""
    part = registry.find("chip.methods", params.method, key="chip.method")
    return tuple(getattr(part, "TABLES", ()))


def nodata(params: ChipParams) -> NoData | None:
    """Give what pixels without data have, where the method of *params* looks for such."""
    found: NoData | None = getattr(params, "nodata", None)
    return found


def masks(params: ChipParams) -> Template | None:
    """Give how masks are named; None where no-data is not stated by masks."""
    asked = nodata(params)
    return template(asked) if isinstance(asked, str) and asked != "alpha" else None


def mask_of(named: Template, key: str) -> str:
    """Give the key of the mask of the image *key*."""
    path = PurePosixPath(key)
    folder = "" if path.parent == PurePosixPath() else str(path.parent)
    own = {"key": str(path.with_suffix("")), "folder": folder, "stem": path.stem}
    return named.format(own).removeprefix("/")


def max_nodata(params: ChipParams) -> float:
    """Give the largest share of no-data that a chip may have."""
    most: float = getattr(params, "max_nodata", 1.0)
    return most


def check_levels(chip: ChipParams, annotations: AnnotationParams, annotated: str) -> None:
    """Check that the chip method can use what the annotation format gives.

    Raises:
        SettingError: one speaks of points and the other of images.
    """
    by_either = "table"  # a window is found by a point in it, by its image or by its own name
    if annotated != "object" and level(chip) not in {annotated, by_either}:
        fits = ", ".join(
            name
            for name in registry.names("chip.methods")
            if annotated == registry.find("chip.methods", name, key="chip.method").LEVEL
        )
        raise SettingError(
            f"chip.method: {chip.method!r} cannot use annotations.format "
            f"{annotations.format!r}, which speaks of {annotated}s; set chip.method to {fits}"
        )


def places(
    images: pa.Table, annotations: pa.Table, params: ChipParams, name: str
) -> tuple[pa.Table, list[Reject]]:
    """Give where chips are wanted, as schemas.PLACES, and the annotations that cannot be used.

    Args:
        images: schemas.IMAGES.
        annotations: schemas.ANNOTATIONS.
        params: the chip section.
        name: the annotation file's name, for messages.
    """
    known = images.select(["key", "version"]).append_column("image_height", images["height"])
    known = known.append_column("image_width", images["width"])
    strangers = annotations.join(known, "key", join_type="left anti")
    near = _folded(images["key"].to_pylist()) if strangers.num_rows else {}
    rejects = [_stranger(row, name, near) for row in strangers.to_pylist()]
    if level(params) == "image":
        empty = pa.nulls(known.num_rows, pa.int32())
        found = known.append_column("row", empty).append_column("col", empty)
        return schemas.conform(found, schemas.PLACES), rejects
    joined = annotations.join(known, "key", join_type="inner")
    inside = pc.and_(
        pc.and_(pc.greater_equal(joined["row"], 0), pc.less(joined["row"], joined["image_height"])),
        pc.and_(pc.greater_equal(joined["col"], 0), pc.less(joined["col"], joined["image_width"])),
    )
    rejects += [_outside(row, name) for row in joined.filter(pc.invert(inside)).to_pylist()]
    return schemas.conform(joined.filter(inside), schemas.PLACES), rejects


def _folded(keys: list[str]) -> dict[str, str]:
    """Give *keys* by what differs from them only in case, space, slashes and Unicode's form."""
    return {_fold(key): key for key in keys}


def _fold(key: str) -> str:
    key = unicodedata.normalize("NFC", key.strip("\ufeff" + string.whitespace))
    return key.replace("\\", "/").removeprefix("./").lstrip("/").casefold()


def _stranger(row: dict[str, Any], name: str, near: Mapping[str, str]) -> Reject:
    detail = f"{name}:{row['line']}: no image {row['key']!r} in the index"
    if (other := near.get(_fold(row["key"]))) is not None:
        detail += (
            f", which has {other!a}: the same but for case, space, slashes or the form of a letter"
        )
    return Reject("chip", row["key"], "no_such_image", detail, row=row["row"], col=row["col"])


def _outside(row: dict[str, Any], name: str) -> Reject:
    high, wide = row["image_height"], row["image_width"]
    if row["row"] >= high:
        what = f"row {row['row']} lies below {row['key']}, which is {high} pixels high"
    elif row["col"] >= wide:
        what = f"column {row['col']} lies right of {row['key']}, which is {wide} pixels wide"
    else:
        what = f"({row['row']}, {row['col']}) is negative, outside {row['key']}"
    detail = f"{name}:{row['line']}: {what}"
    return Reject("chip", row["key"], "points_outside", detail, row=row["row"], col=row["col"])


def plan(wanted: pa.Table, params: ChipParams) -> pa.Table:
    """Turn schemas.PLACES into schemas.CHIPS by the method of *params*; no window stands twice.

    Windows that a table lists are chips already.
    """
    if "chip_id" in wanted.schema.names:
        return schemas.conform(wanted, schemas.CHIPS)
    part = registry.find("chip.methods", params.method, key="chip.method")
    rows: dict[bytes, tuple[Any, ...]] = {}
    for row in _rows(wanted):
        place = Place(row["image_height"], row["image_width"], row["row"], row["col"])
        for centre_row, centre_col, window in part.windows(place, params):
            identity = chip_id(row["key"], row["version"], window)
            rows[identity] = (row["key"], row["version"], centre_row, centre_col, *window)
    columns: list[Any] = list(zip(*rows.values(), strict=True))
    arrays = [list(rows), *columns] if rows else [()] * len(schemas.CHIPS)
    named = {
        field.name: pa.array(values, field.type)
        for field, values in zip(schemas.CHIPS, arrays, strict=True)
    }
    return schemas.conform(pa.table(named), schemas.CHIPS)


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=schemas.ROW_GROUP_ROWS):
        yield from batch.to_pylist()


def centre(window: Window) -> tuple[int, int, Window]:
    """Give the middle pixel of *window* before the window itself."""
    top, left, height, width = window
    return top + height // 2, left + width // 2, window
