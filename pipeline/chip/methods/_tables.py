"""Windows that tables in the bucket list, as instruments write them beside their images.

What a table says is checked against the images that lie in its folder; each window that is inside
one is a chip, and what the instrument measured of it is kept in columns that join by `chip_id`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import PurePosixPath
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from pipeline.annotations import AnnotationSource, _merge
from pipeline.chip.methods import centre
from pipeline.core import schemas
from pipeline.core.hashing import chip_id
from pipeline.core.rejects import Reject
from pipeline.images.windows import Window


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the bucket: its key and its bytes."""

    key: str
    data: bytes

    @property
    def session(self) -> str:
        """The name of the folder that it lies in; its own at the bucket's root."""
        path = PurePosixPath(self.key)
        return path.parent.name or path.stem


@dataclass(frozen=True, slots=True)
class Session:
    """What the session's name says: the day of sampling, degrees north and east; None: nothing."""

    sampled_on: date | None = None
    latitude: float | None = None
    longitude: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One window: its line in the table, what it is called there, its image's file, the window."""

    line: int
    number: str
    image: str
    window: Window


@dataclass(frozen=True, slots=True)
class Listed:
    """A table as it was read.

    Attributes:
        rows: its windows, as they stand there.
        measured: the instrument's own columns, one row a window.
        session: what the session's name says.
        rejects: lines that could not be read.
    """

    rows: Sequence[Row] = ()
    measured: pa.Table = field(default_factory=lambda: pa.table({}))
    session: Session = Session()
    rejects: Sequence[Reject] = ()


class Part(Protocol):
    """A chip method whose windows are listed in tables."""

    def read(self, table: Table) -> Listed:
        """Read one of its tables."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one table comes to.

    Attributes:
        chips: schemas.LISTED.
        measured: schemas.MEASURED and the instrument's columns, a row a chip, in the same order.
        rejects: lines that gave no chip.
    """

    chips: pa.Table
    measured: pa.Table
    rejects: list[Reject]


def measure(table: Table, beside: pa.Table, part: Part) -> Measured:
    """Read *table*; make a chip of every window that lies in one of the images beside it.

    Args:
        table: one of the tables that *part* reads.
        beside: schemas.BESIDE: the images of the table's folder.
        part: the chip method.
    """
    listed = part.read(table)
    images = {row["key"]: row for row in beside.to_pylist() if row["key"]}
    folder = table.key.removesuffix(PurePosixPath(table.key).name)
    rejects, kept = list(listed.rejects), []
    rows: dict[bytes, tuple[Any, ...]] = {}
    lines: dict[bytes, int] = {}
    for place, row in enumerate(listed.rows):
        key, window = folder + row.image, row.window
        image = images.get(key)
        identity = chip_id(key, image["version"], window) if image else b""
        fault = _fault(row, image, key) or _doubled(lines.get(identity), window, key)
        row_at, col_at, _ = centre(window)
        if image is None or fault is not None:
            reason, detail = fault or ("", "")
            detail = f"{table.key}:{row.line}: {detail}"
            rejects.append(Reject("chip", key, reason, detail, row=row_at, col=col_at))
            continue
        lines[identity] = row.line
        name = f"{folder or table.session + '/'}{row.number}"
        rows[identity] = (key, image["version"], row_at, col_at, *window, name)
        kept.append(place)
    chips = _columns(rows)
    more = listed.measured.take(pa.array(kept, pa.int64()))
    return Measured(*_sorted(chips, _beside(chips, table.session, listed.session, more)), rejects)


def _fault(row: Row, image: Mapping[str, Any] | None, key: str) -> tuple[str, str] | None:
    """Say why the window of *row* cannot be a chip: a reason and a sentence's end; None: it can."""
    if image is None:
        return "no_such_image", f"no image {key!r} in the index"
    top, left, height, width = row.window
    high, wide = image["image_height"], image["image_width"]
    if min(top, left) < 0 or min(height, width) < 1 or top + height > high or left + width > wide:
        return (
            "window_outside",
            (
                f"window {top}, {left}, {height} × {width} does not lie inside {key}, "
                f"which is {high} × {wide}"
            ),
        )
    return None


def _doubled(line: int | None, window: Window, key: str) -> tuple[str, str] | None:
    if line is None:
        return None
    top, left, height, width = window
    what = f"window {top}, {left}, {height} × {width} of {key} stands in line {line} already"
    return "doubled_window", what


def _columns(rows: Mapping[bytes, tuple[Any, ...]]) -> pa.Table:
    columns: list[Any] = [list(rows), *zip(*rows.values(), strict=True)]
    columns = columns if rows else [()] * len(schemas.LISTED)
    arrays = [
        pa.array(values, field.type) for field, values in zip(schemas.LISTED, columns, strict=True)
    ]
    return pa.table(arrays, schema=schemas.LISTED)


def _beside(chips: pa.Table, name: str, session: Session, measured: pa.Table) -> pa.Table:
    """Put what is known of each chip before what was measured; one of our names gives way."""
    constants = {
        "session": name,
        "sampled_on": session.sampled_on,
        "latitude": session.latitude,
        "longitude": session.longitude,
    }
    table = chips.select([name for name in schemas.MEASURED.names if name not in constants])
    for constant, value in constants.items():
        kind = schemas.MEASURED.field(constant).type
        column = pa.repeat(pa.scalar(value, kind), chips.num_rows)
        table = table.append_column(constant, column)
    for own in measured.column_names:
        shown = f"measured_{own}" if own in schemas.MEASURED.names else own
        table = table.append_column(shown, measured[own])
    return table


def _sorted(chips: pa.Table, measured: pa.Table) -> tuple[pa.Table, pa.Table]:
    return schemas.conform(chips, schemas.LISTED), schemas.conform(measured, measured.schema)


def common(schemas_found: Sequence[pa.Schema]) -> pa.Schema:
    """Give the columns of all of *schemas_found*, so that their tables can be read as one.

    A column of two kinds is a number if both are, else text.
    """
    kinds: dict[str, pa.DataType] = {f.name: f.type for f in schemas.MEASURED}
    for schema in schemas_found:
        for column in schema:
            known = kinds.setdefault(column.name, column.type)
            if known != column.type:
                numbers = pa.types.is_primitive(known) and pa.types.is_primitive(column.type)
                times = pa.types.is_timestamp(known) or pa.types.is_timestamp(column.type)
                kinds[column.name] = pa.float64() if numbers and not times else pa.string()
    return pa.schema(list(kinds.items()))


def widened(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Give *table* with the columns of *schema*; those that it has not are null."""
    for column in schema:
        if column.name not in table.column_names:
            table = table.append_column(column.name, pa.nulls(table.num_rows, column.type))
    return schemas.conform(table, schema)


def placed(
    chips: pa.Table, annotations: pa.Table, source: AnnotationSource, separator: str | None = None
) -> tuple[pa.Table, list[Reject]]:
    """Find the chip that each annotation speaks of.

    A row and column mean the window that they lie in; a particle's name means that particle, and
    an image's key all chips of the image.

    Args:
        chips: schemas.LISTED.
        annotations: schemas.ANNOTATIONS.
        source: where they stand; with the keys of all images.
        separator: `annotations.label_separator`.

    Returns:
        schemas.ANNOTATIONS with each chip's own row and column, and what speaks of no chip or says
        two things of one.
    """
    rejects: list[Reject] = []
    found = _found(chips, annotations, source, rejects)
    said, conflicts = _merge.merged(found, source.name, separator)
    return said, rejects + _merge.conflicts_by_chip(conflicts)


def _found(
    chips: pa.Table, annotations: pa.Table, source: AnnotationSource, rejects: list[Reject]
) -> Iterator[_merge.Annotation]:
    by_image, images = _ByImage(chips), set(source.keys)
    by_name: dict[str, list[int]] = {}
    for place, particle in enumerate(chips["particle"].to_pylist()):
        by_name.setdefault(particle, []).append(place)
    for said in annotations.to_pylist():
        key, row, col = said["key"], said["row"], said["col"]
        at = f"{source.name}:{said['line']}"
        if row is not None and col is not None and key in images:
            places: Sequence[int] = by_image.at(key, row, col)
            why = f"{at}: ({row}, {col}) of {key} lies in no window that a table lists"
            reason = "no_window"
        else:
            places = by_name.get(key) or by_image.all(key)
            why = f"{at}: no image, and no particle of a table, is called {key!r}"
            reason = "no_such_image"
        if not places and (reason == "no_window" or key not in images):
            rejects.append(Reject("chip", key, reason, why, row=row, col=col))
        for place in places:
            own = {column: by_image.columns[column][place] for column in ("key", "row", "col")}
            yield _merge.Annotation(**{**said, **own})


class _ByImage:
    """Chips by their image, for who looks for those of one, or for the one at a pixel."""

    def __init__(self, chips: pa.Table) -> None:
        self.columns = {name: chips[name].to_pylist() for name in ("key", "row", "col")}
        corners = [chips[name].to_numpy() for name in ("top", "left", "height", "width")]
        self.windows = np.stack(corners, axis=1).reshape(-1, 4)
        self.ranges: dict[str, tuple[int, int]] = {}
        for place, key in enumerate(self.columns["key"]):  # sorted by key
            self.ranges[key] = (self.ranges.get(key, (place, 0))[0], place + 1)

    def all(self, key: str) -> range:
        """Give the chips of an image; none if it has none."""
        return range(*self.ranges.get(key, (0, 0)))

    def at(self, key: str, row: int, col: int) -> list[int]:
        """Give the chip whose window holds the pixel; of several that with the nearest centre."""
        first, stop = self.ranges.get(key, (0, 0))
        top, left, height, width = self.windows[first:stop].T
        inside = (top <= row) & (row < top + height) & (left <= col) & (col < left + width)
        near = np.flatnonzero(inside)
        if not len(near):
            return []
        down, right = (top + height // 2)[near] - row, (left + width // 2)[near] - col
        return [first + int(near[np.argmin(down * down + right * right)])]
