"""FlowCam: every particle that a session's `.lst` table lists, cut from the collages beside it.

Line 1 of a table is its version, and line 2 the number of fields. A line with the name and type of
each field follows, then one line for each particle, with cells separated by bars. Fields are found
by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.chip.methods import centre, to_table
from pipeline.config.sections import ChipParams
from pipeline.core import schemas
from pipeline.core.errors import Rejected
from pipeline.core.hashing import chip_id
from pipeline.core.rejects import Reject
from pipeline.images.windows import Window

LEVEL = "table"
TABLES = ("*.lst",)
VERSION = 1

OLDEST = 17
"""Tables before version 017 have no header with their fields."""

WINDOW = ("image_y", "image_x", "image_h", "image_w")
NEEDED = ("id", "collage_file", *WINDOW)

NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
NO_NUMBER = r"^[+-]?(1\.#.*|nan.*|inf.*)?$"
"""What C++ on Windows writes where there is no number to write."""

PIXEL = r"^[+-]?[0-9]{1,9}$"
TIME = (
    r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[T ]"
    r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?$"
)

KINDS: dict[str, tuple[str, pa.DataType]] = {
    "int": (r"^[+-]?[0-9]{1,18}$", pa.int64()),
    "double": (NUMBER, pa.float64()),
    "float": (NUMBER, pa.float64()),
    "timestamp": (TIME, pa.timestamp("us")),
    "guid": (r"^\{?[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\}?$", pa.string()),
    "string": ("", pa.string()),
}
"""By type of a field, without its number of bits: the pattern of a cell, and the column's type."""

SESSION = re.compile(
    r"_(?P<lat>[+-]?\d+(?:\.\d+)?)_(?P<lon>[+-]?\d+(?:\.\d+)?)_(?P<day>\d{8})(?:_\d+)?$", re.ASCII
)
HALF_TURNS = {"lat": ("latitude", 90), "lon": ("longitude", 180)}


class Settings(ChipParams):
    """The settings of `chip.method: flowcam`: none besides those of every method."""


class Particles(NamedTuple):
    """The chips of one table.

    Attributes:
        chips: schemas.LISTED_WINDOWS.
        measured: schemas.MEASUREMENTS and the instrument's columns; a row for each chip, in its
            order.
        rejects: lines that gave no chip, and a session's name that cannot be right.
    """

    chips: pa.Table
    measured: pa.Table
    rejects: list[Reject]


class Session(NamedTuple):
    """What a session's name tells: the day of sampling, degrees north and east."""

    sampled_on: date | None = None
    latitude: float | None = None
    longitude: float | None = None


def session_name(key: str) -> str:
    """Return the session of the table *key*: its folder's name, or its own at the bucket's root."""
    path = PurePosixPath(key)
    return path.parent.name or path.stem


def read(key: str, data: bytes, images: pa.Table) -> Particles:
    """Read one `.lst` table, and make a chip of each particle inside one of *images*.

    A line that cannot be read is a reject, and the other lines are used.

    Args:
        key: the table's key.
        data: its bytes.
        images: schemas.WINDOW_TABLES: the images in the table's folder.
    """
    lines = _decode(data).split("\n")
    try:
        fields = _fields(lines)
    except Rejected as error:
        empty = schemas.LISTED_WINDOWS.empty_table(), schemas.MEASUREMENTS.empty_table()
        return Particles(*empty, list(_reject_table(key, lines, error)))
    session, fault = parse_session(session_name(key))
    rejects: list[Reject] = []
    if fault:
        detail = f"{key}: {fault}; its chips are kept without"
        rejects.append(Reject("chip", key, "session_name", detail))
    measured, numbers = _measured(key, lines, fields, rejects)
    chips, rows = _chips(key, measured, numbers, images, rejects)
    measured = _joined(chips, session_name(key), session, measured.take(rows))
    return Particles(chips, measured, rejects)


def _decode(data: bytes) -> str:
    """Decode UTF-8, or else Windows' Western encoding."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def _fields(lines: Sequence[str]) -> dict[str, str]:
    """Return the declared fields' types by name, in their order.

    Raises:
        Rejected: the header cannot be read; the detail begins with its line.
    """
    reason, version = "unreadable_table", lines[0].strip()
    if not re.fullmatch(r"[0-9]{3}", version) or int(version) < OLDEST:
        raise Rejected(reason, f"1: version {version[:40]!r} is not read; 017 and later are")
    count = re.fullmatch(r"num-fields\|([0-9]{1,6})\s*", lines[1] if len(lines) > 1 else "")
    if count is None:
        raise Rejected(reason, "2: the number of fields, num-fields|…, is not there")
    fields: dict[str, str] = {}
    for number in range(3, 3 + int(count[1])):
        line = lines[number - 1] if number <= len(lines) else ""
        name, bar, kind = (part.strip() for part in line.partition("|"))
        if not name or not bar or "|" in kind:
            what = f"{line[:40]!r} is not the name and type of one of {count[1]} fields"
            raise Rejected(reason, f"{number}: {what}")
        if name in fields:
            raise Rejected(reason, f"{number}: field {name!r} is declared twice")
        fields[name] = kind
    missing = [name for name in NEEDED if name not in fields]
    if missing:
        raise Rejected(reason, f"2: no field {', '.join(missing)} is declared")
    return fields


def _reject_table(key: str, lines: Sequence[str], error: Rejected) -> Iterator[Reject]:
    """Yield a reject for each particle of a table that is not read, so that they are counted."""
    numbers = [number for number, line in enumerate(lines, 1) if line.count("|") > 1] or [1]
    for number in numbers:
        line = "" if len(numbers) == 1 else f"{key}:{number}: not read: "
        yield Reject("chip", key, error.reason, f"{line}{key}:{error.detail}")


def _measured(
    key: str, lines: Sequence[str], fields: Mapping[str, str], rejects: list[Reject]
) -> tuple[pa.Table, list[int]]:
    """Return the rows below the header, a column for each field, and the line of each row."""
    numbers: list[int] = []
    rows: list[list[str]] = []
    faults: dict[int, str] = {}

    def reject(number: int, what: str) -> None:
        rejects.append(Reject("chip", key, "unreadable_row", f"{key}:{number}: {what}"))

    for number, line in enumerate(lines[2 + len(fields) :], 3 + len(fields)):
        cells = line.split("|")
        if len(cells) == len(fields):
            numbers.append(number)
            rows.append(cells)
        elif line.strip():
            reject(number, f"{len(cells):,} cells, and {len(fields):,} fields are declared")
    columns = zip(*rows, strict=True) if rows else ((),) * len(fields)
    typed = {
        name: _column(name, declared, pa.array(column, pa.string()), faults)
        for (name, declared), column in zip(fields.items(), columns, strict=True)
    }
    for row, what in sorted(faults.items()):
        reject(numbers[row], what)
    good = [row for row in range(len(rows)) if row not in faults]
    return pa.table(typed).take(pa.array(good, pa.int64())), [numbers[row] for row in good]


def _column(name: str, declared: str, cells: pa.Array, faults: dict[int, str]) -> pa.Array:
    """Return *cells* in the declared type; add what is wrong to *faults*, by row."""
    pattern, kind = KINDS.get(re.sub(r"^u?(\D*)\d*$", r"\1", declared.lower()), KINDS["string"])
    if name in WINDOW:
        pattern, kind = PIXEL, pa.int64()
    cells = pc.utf8_trim_whitespace(cells)
    empty = pc.equal(cells, "")
    if name in NEEDED:
        unknown = pa.repeat(pa.scalar(value=False), len(cells))
    elif pa.types.is_floating(kind):
        unknown = pc.match_substring_regex(cells, NO_NUMBER, ignore_case=True)
    else:
        unknown = empty
    known = pc.and_not(pc.match_substring_regex(cells, pattern), empty)
    column = _cast(pc.if_else(known, cells, None), kind)
    unreadable = pc.invert(pc.or_(known, unknown)), pc.and_(known, pc.is_null(column))
    for row in np.flatnonzero(np.asarray(pc.or_(*unreadable))).tolist():
        faults.setdefault(row, f"{name} {cells[row].as_py()[:40]!r} is no {declared}")
    return column


def _cast(cells: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return *cells* as *kind*; null where that is impossible, such as on the 31st of April."""
    try:
        return cells.cast(kind)
    except pa.ArrowInvalid:
        if len(cells) == 1:
            return pa.nulls(1, kind)
        return pa.concat_arrays([_cast(cells.slice(row, 1), kind) for row in range(len(cells))])


def _chips(
    key: str,
    measured: pa.Table,
    numbers: Sequence[int],
    images: pa.Table,
    rejects: list[Reject],
) -> tuple[pa.Table, list[int]]:
    """Return schemas.LISTED_WINDOWS of the particles inside *images*, and the row of each."""
    by_key = {row["key"]: row for row in images.to_pylist() if row["key"]}
    folder = key.removesuffix(PurePosixPath(key).name)
    prefix = folder or session_name(key) + "/"
    chips: dict[bytes, tuple[Any, ...]] = {}
    rows: dict[bytes, int] = {}
    columns = (measured[name].to_pylist() for name in NEEDED)
    for place, (particle, file, *corners) in enumerate(zip(*columns, strict=True)):
        window: Window = tuple(corners)
        image_key = folder + re.split(r"[/\\]", file)[-1]
        row, col, _ = centre(window)
        image = by_key.get(image_key, {})
        version = image.get("version", "")
        identity = chip_id(image_key, version, window)
        reason, what = _fault(window, image_key, image)
        if not reason and identity in rows:
            line = numbers[rows[identity]]
            reason = "doubled_window"
            what = f"{_text(window)} of {image_key} stands in line {line} already"
        if reason:
            detail = f"{key}:{numbers[place]}: {what}"
            rejects.append(Reject("chip", image_key, reason, detail, row=row, col=col))
        else:
            chips[identity] = (image_key, version, row, col, *window, f"{prefix}{particle}")
            rows[identity] = place
    table = to_table(chips, schemas.LISTED_WINDOWS)
    return table, [rows[identity] for identity in table["chip_id"].to_pylist()]


def _fault(window: Window, key: str, image: Mapping[str, Any]) -> tuple[str, str]:
    """Return the reason, and what is wrong, if *window* is not inside *image*; else empty texts."""
    if not image:
        return "no_such_image", f"no image {key!r} in the index"
    top, left, height, width = window
    high, wide = image["image_height"], image["image_width"]
    if min(top, left) < 0 or min(height, width) < 1 or top + height > high or left + width > wide:
        what = f"{_text(window)} does not lie inside {key}, which is {high} × {wide}"
        return "window_outside", what
    return "", ""


def _text(window: Window) -> str:
    top, left, height, width = window
    return f"window {top}, {left}, {height} × {width}"


def _joined(chips: pa.Table, name: str, session: Session, measured: pa.Table) -> pa.Table:
    """Return schemas.MEASUREMENTS and then *measured*, without the columns that both have."""
    constants = {"session": name, **session._asdict()}
    table = chips.select(
        [column for column in schemas.MEASUREMENTS.names if column not in constants]
    )
    for column, value in constants.items():
        kind = schemas.MEASUREMENTS.field(column).type
        table = table.append_column(column, pa.repeat(pa.scalar(value, kind), chips.num_rows))
    for column in measured.column_names:
        shown = f"measured_{column}" if column in schemas.MEASUREMENTS.names else column
        table = table.append_column(shown, measured[column])
    return schemas.conform(table, table.schema)


def parse_session(name: str) -> tuple[Session, str]:
    """Read the session's name `…_<latitude>_<longitude>_<DDMMYYYY>[_<n>]`.

    Returns:
        What it tells, nothing if it has another form; and what in it cannot be right, or "".
    """
    match = SESSION.search(name)
    if match is None:
        return Session(), ""
    faults: list[str] = []
    place: dict[str, float | None] = {}
    for part, (what, limit) in HALF_TURNS.items():
        degrees = place[what] = float(match[part])
        if abs(degrees) > limit:
            faults.append(f"its name has {what} {match[part]}, beyond {limit} degrees")
    day = match["day"]
    try:
        sampled_on = date(int(day[4:]), int(day[2:4]), int(day[:2]))
    except ValueError:
        sampled_on = None
        faults.append(f"its name has {day}, which is no day as DDMMYYYY")
    if any("degrees" in fault for fault in faults):
        place = dict.fromkeys(place)
    return Session(sampled_on, **place), " and ".join(faults)
