"""FlowCam: every particle that a session's `.lst` table lists, cut from the collages beside it.

Line 1 of a table is its version, line 2 the number of fields, then stands a line with the name and
type of each, then a line a particle, its cells separated by bars. Fields are found by their names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.chip.methods._tables import Listed, Row, Session, Table
from pipeline.config.sections import ChipParams
from pipeline.core.errors import Rejected
from pipeline.core.rejects import Reject

LEVEL = "table"
TABLES = ("*.lst",)
VERSION = 1

OLDEST = 17
"""Tables of versions before 017 have no header that says what their fields are."""

WINDOW = ("image_y", "image_x", "image_h", "image_w")
NEEDED = ("id", "collage_file", *WINDOW)

NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
NO_NUMBER = r"^[+-]?(1\.#.*|nan.*|inf.*)?$"
"""What C++ on Windows writes where there is no number to write."""

PIXEL = r"^[+-]?[0-9]{1,9}$"

KINDS: dict[str, tuple[str, pa.DataType]] = {
    "int": (r"^[+-]?[0-9]{1,18}$", pa.int64()),
    "double": (NUMBER, pa.float64()),
    "float": (NUMBER, pa.float64()),
    "timestamp": (
        (
            r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[T ]"
            r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?$"
        ),
        pa.timestamp("us"),
    ),
    "guid": (r"^\{?[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\}?$", pa.string()),
    "string": ("", pa.string()),
}
"""By type of a field, whatever its number of bits: how a cell reads, and what it becomes."""

SESSION = re.compile(
    r"_(?P<lat>[+-]?\d+(?:\.\d+)?)_(?P<lon>[+-]?\d+(?:\.\d+)?)_(?P<day>\d{8})(?:_\d+)?$", re.ASCII
)
HALF_TURNS = {"lat": ("latitude", 90), "lon": ("longitude", 180)}


class Settings(ChipParams):
    """The settings of `chip.method: flowcam`: none of its own."""


def read(table: Table) -> Listed:
    """Read one `.lst` table; a line that cannot be read is a reject and the others stand."""
    lines = _decoded(table.data).split("\n")
    try:
        fields = _fields(lines)
    except Rejected as refused:
        return Listed(rejects=list(_refused(table.key, lines, refused)))
    rejects: list[Reject] = []
    session, fault = session_of(table.session)
    if fault:
        detail = f"{table.key}: {fault}; its chips are kept without"
        rejects.append(Reject("chip", table.key, "session_name", detail))
    numbers: list[int] = []
    rows: list[list[str]] = []
    for number, line in enumerate(lines[2 + len(fields) :], 3 + len(fields)):
        cells = line.split("|")
        if len(cells) == len(fields):
            numbers.append(number)
            rows.append(cells)
        elif line.strip():
            what = f"{len(cells):,} cells, and {len(fields):,} fields are declared"
            rejects.append(_unread(table.key, number, what))
    measured, faults = _typed(fields, rows)
    rejects += [_unread(table.key, numbers[row], what) for row, what in sorted(faults.items())]
    good = [row for row in range(len(rows)) if row not in faults]
    measured = measured.take(pa.array(good, pa.int64()))
    return Listed(_windows(measured, [numbers[row] for row in good]), measured, session, rejects)


def _decoded(data: bytes) -> str:
    """Give the text; what is no UTF-8 was written in Windows' Western encoding."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def _fields(lines: Sequence[str]) -> dict[str, str]:
    """Give the types of the declared fields, by name, in order.

    Raises:
        Rejected: the header is not one; the detail begins with its line.
    """
    version = lines[0].strip()
    if not re.fullmatch(r"[0-9]{3}", version) or int(version) < OLDEST:
        raise Rejected(
            "unreadable_table", f"1: version {version[:40]!r} is not read; 017 and later are"
        )
    declared = re.fullmatch(r"num-fields\|([0-9]{1,6})\s*", lines[1] if len(lines) > 1 else "")
    if declared is None:
        raise Rejected("unreadable_table", "2: the number of fields, num-fields|…, is not there")
    fields: dict[str, str] = {}
    for number in range(3, 3 + int(declared[1])):
        line = lines[number - 1] if number <= len(lines) else ""
        name, bar, kind = (part.strip() for part in line.partition("|"))
        if not name or not bar or "|" in kind:
            what = (
                f"{number}: {line[:40]!r} is not the name and type of one of {declared[1]} fields"
            )
            raise Rejected("unreadable_table", what)
        if name in fields:
            raise Rejected("unreadable_table", f"{number}: field {name!r} is declared twice")
        fields[name] = kind
    lacking = [name for name in NEEDED if name not in fields]
    if lacking:
        raise Rejected("unreadable_table", f"2: no field {', '.join(lacking)} is declared")
    return fields


def _refused(key: str, lines: Sequence[str], refused: Rejected) -> Iterator[Reject]:
    """Give a reject for each particle of a table that is not read, so that they are counted."""
    rows = [number for number, line in enumerate(lines, 1) if line.count("|") > 1] or [1]
    for number in rows:
        where = "" if len(rows) == 1 else f"{key}:{number}: not read: "
        yield Reject("chip", key, refused.reason, f"{where}{key}:{refused.detail}")


def _unread(key: str, line: int, what: str) -> Reject:
    return Reject("chip", key, "unreadable_row", f"{key}:{line}: {what}")


def _typed(
    fields: Mapping[str, str], rows: Sequence[Sequence[str]]
) -> tuple[pa.Table, dict[int, str]]:
    """Give every field as a column of its type, and what is wrong with which rows."""
    columns = zip(*rows, strict=True) if rows else ((),) * len(fields)
    faults: dict[int, str] = {}
    typed = {}
    for (name, declared), column in zip(fields.items(), columns, strict=True):
        pattern, kind = _kind(name, declared)
        cells = pc.utf8_trim_whitespace(pa.array(column, pa.string()))
        empty = pc.equal(cells, "")
        if name in NEEDED:
            unknown = pa.repeat(pa.scalar(value=False), len(cells))
        elif pa.types.is_floating(kind):
            unknown = pc.match_substring_regex(cells, NO_NUMBER, ignore_case=True)
        else:
            unknown = empty
        known = pc.and_not(pc.match_substring_regex(cells, pattern), empty)
        for row in np.flatnonzero(~np.asarray(pc.or_(known, unknown))).tolist():
            faults.setdefault(row, f"{name} {cells[row].as_py()[:40]!r} is no {declared}")
        typed[name] = _cast(pc.if_else(known, cells, None), kind)
        for row in np.flatnonzero(np.asarray(pc.and_(known, pc.is_null(typed[name])))).tolist():
            faults.setdefault(row, f"{name} {cells[row].as_py()!r} is no {declared}")
    return pa.table(typed), faults


def _kind(name: str, declared: str) -> tuple[str, pa.DataType]:
    """Give how a field's cells read and what they become; of an unknown type, text as it is."""
    if name in WINDOW:
        return PIXEL, pa.int64()
    return KINDS.get(re.sub(r"^u?(\D*)\d*$", r"\1", declared.lower()), KINDS["string"])


def _cast(cells: pa.Array, kind: pa.DataType) -> pa.Array:
    """Give *cells* as *kind*; null where that cannot be, as on the 31st of April."""
    try:
        return cells.cast(kind)
    except pa.ArrowInvalid:
        return pa.concat_arrays([_cast_one(cells.slice(row, 1), kind) for row in range(len(cells))])


def _cast_one(cell: pa.Array, kind: pa.DataType) -> pa.Array:
    try:
        return cell.cast(kind)
    except pa.ArrowInvalid:
        return pa.nulls(1, kind)


def _windows(measured: pa.Table, lines: Sequence[int]) -> list[Row]:
    files = (re.split(r"[/\\]", file)[-1] for file in measured["collage_file"].to_pylist())
    windows = zip(*(measured[name].to_pylist() for name in WINDOW), strict=True)
    numbers = map(str, measured["id"].to_pylist())
    return [Row(*row) for row in zip(lines, numbers, files, windows, strict=True)]


def session_of(name: str) -> tuple[Session, str]:
    """Read `…_<latitude>_<longitude>_<DDMMYYYY>[_<n>]`, a name that a session may have.

    Returns:
        What it says, and what in it cannot be: a sentence, or nothing.
    """
    found = SESSION.search(name)
    if found is None:
        return Session(), ""
    faults: list[str] = []
    place: dict[str, float | None] = {}
    for part, (what, limit) in HALF_TURNS.items():
        degrees = place[what] = float(found[part])
        if abs(degrees) > limit:
            faults.append(f"its name has {what} {found[part]}, beyond {limit} degrees")
    day = found["day"]
    try:
        sampled_on = date(int(day[4:]), int(day[2:4]), int(day[:2]))
    except ValueError:
        sampled_on = None
        faults.append(f"its name has {day}, which is no day as DDMMYYYY")
    if any("degrees" in fault for fault in faults):
        place = dict.fromkeys(place)
    return Session(sampled_on, **place), " and ".join(faults)
