"""What all annotation tables share: decoding, columns by name, whole numbers, doubled rows."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Annotated, Any, TypeVar

import pyarrow as pa
from pydantic import Field

from pipeline import multilabel, schemas
from pipeline.annotations import Source, _parquet
from pipeline.errors import InputError, Rejected, SettingError
from pipeline.rejects import Reject
from pipeline.sections import Annotations, Section

ALIASES = {
    "image": ("image", "key", "name", "filename", "file", "image_name", "image name"),
    "row": ("row", "y"),
    "column": ("column", "col", "x"),
    "label": ("label code", "label", "label_code", "class", "label id"),
    "group": ("group",),
    "annotator": ("annotator",),
}
"""The usual names of columns, best first; case does not matter."""

SEPARATORS = (",", ";", "\t", "|")
INT32_MAX = 2**31 - 1

BOMS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


NO_TEXT = (
    (b"PK\x03\x04", "an Excel workbook or another zip file"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"\x1f\x8b", "compressed by gzip"),
    (b"PAR1", "Parquet"),
)

FAULT = "fault"
"""Stands for the cells of a line that cannot be read: why."""


class Columns(Section):
    """The names of a table's columns; null: the usual names."""

    image: str | None = None
    label: str | None = None
    group: str | None = None

    def wanted(self) -> dict[str, tuple[str, ...]]:
        """Give, for each cell, the names that its column may have."""
        return ALIASES | {cell: (name,) for cell, name in self.named().items()}

    def named(self) -> dict[str, str]:
        """Give the names that were set, by cell: those columns must be there."""
        return {cell: name for cell, name in self.model_dump().items() if name}


class File(Annotations):
    """The settings that every format with a file has.

    With a `label_separator` a chip may have several labels: in one cell, or one a row.
    """

    path: str
    prefix: str = ""
    label_separator: Annotated[str, Field(min_length=1)] | None = None


class Table(File):
    """The settings that every table has: separated text, or Parquet."""

    encoding: str = "utf-8"


@dataclass(frozen=True, slots=True)
class Annotation:
    """One row of an annotation table; *row* and *col* are None for a whole image.

    Attributes:
        line: the line of the file that says so, or the place in it.
    """

    key: str
    label: str | None
    line: int | str
    row: int | None = None
    col: int | None = None
    group: str | None = None

    @property
    def place(self) -> tuple[Any, ...]:
        """What two annotations of the same thing share."""
        return (self.key, self.row, self.col)


def decode(source: Source, encoding: str) -> str:
    """Give the file's text, by its byte-order mark, else as *encoding*.

    Raises:
        InputError: the bytes are not in that encoding.
        SettingError: there is no such encoding.
    """
    for mark, kind in NO_TEXT:
        if source.data.startswith(mark):
            raise InputError(
                f"{source.name}: is {kind} and no text; save the table as CSV in UTF-8"
            )
    for mark, marked in BOMS:
        if source.data.startswith(mark):
            encoding = marked
    try:
        return source.data.decode(encoding)
    except UnicodeDecodeError as error:
        line = source.data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{source.name}:{line}: cannot be read as {encoding} ({error}); "
            "save it as UTF-8, or set annotations.encoding, as to 'latin-1'"
        ) from error
    except LookupError as error:
        raise SettingError(f"annotations.encoding: {encoding!r} is not an encoding") from error


def records(
    source: Source, encoding: str, wanted: Mapping[str, Sequence[str]], needed: Sequence[str]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Give the line and the wanted cells of every row of a table: Parquet, or text with a header.

    A cell with a list of labels gives a row for each of them.

    A line with fewer cells than are wanted, or with more than the header has, gives FAULT alone.

    Args:
        source: the file.
        encoding: what it is read as where it has no byte-order mark.
        wanted: for each cell its possible column names, best first; case does not matter.
        needed: the cells without which the table cannot be used.

    Raises:
        InputError: the file is empty, is not in the encoding, or a needed column is missing.
    """
    if source.data.startswith(_parquet.MAGIC):
        table = _parquet.read(source)
        names = [name.strip().lower() for name in table.column_names]
        places = _found(source, names, wanted, needed)
        for row, cells in _parquet.cells(table, places):
            yield row, cells if cells["image"].strip() else {FAULT: "the line names no image"}
        return
    text = decode(source, encoding)
    header = next(io.StringIO(text, newline=""), "")
    if not header.strip():
        raise InputError(f"{source.name}: is empty; a header line with column names is needed")
    if "\0" in header:
        raise InputError(
            f"{source.name}:1: holds zero bytes; if it is UTF-16, set annotations.encoding to "
            "'utf-16-le' or 'utf-16-be'"
        )
    separator = max(SEPARATORS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    names = [name.strip().lower() for name in next(reader)]
    places = _found(source, names, wanted, needed)
    last = yield from _cells(reader, places, len(names), source.name)
    _check_closed(text, last, separator, source.name)


def _found(
    source: Source,
    names: Sequence[str],
    wanted: Mapping[str, Sequence[str]],
    needed: Sequence[str],
) -> dict[str, int]:
    """Give the place of each column among *names*.

    Raises:
        InputError: one of the *needed* is not there, or one is there twice.
    """
    places = _places(names, wanted)
    twice = [name for cell, name in _named(names, wanted) if names.count(name) > 1]
    if twice:
        raise InputError(
            f"{source.name}:1: {names.count(twice[0])} columns are named {twice[0]!r}; rename the "
            "others"
        )
    missing = [name for name in needed if name not in places]
    if missing:
        raise InputError(
            f"{source.name}:1: no column for {', '.join(missing)} among {', '.join(names)}; "
            f"set annotations.columns.{missing[0]} to the name of that column"
        )
    return places


def _places(names: Sequence[str], wanted: Mapping[str, Sequence[str]]) -> dict[str, int]:
    return {cell: names.index(name) for cell, name in _named(names, wanted)}


def _named(names: Sequence[str], wanted: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    for cell, options in wanted.items():
        found = [option.lower() for option in options if option.lower() in names]
        if found:
            yield cell, found[0]


def _cells(
    reader: Iterator[list[str]], places: Mapping[str, int], n_columns: int, name: str
) -> Generator[tuple[int, dict[str, str]], None, int]:
    """Give every row's line and cells; return the line of the last."""
    last: int
    last = line = reader.line_num + 1  # type: ignore[attr-defined]
    width, image = max(places.values()), places["image"]
    try:
        for cells in reader:
            if cells and len(cells) <= width:
                yield line, {FAULT: "the line has fewer cells than the header"}
            elif len(cells) > n_columns and any(map(str.strip, cells[n_columns:])):
                yield line, {FAULT: "the line has more cells than the header"}
            elif cells and (not cells[image] or cells[image].isspace()):
                yield line, {FAULT: "the line names no image"}
            elif cells:
                yield line, {cell: cells[place] for cell, place in places.items()}
            last, line = line, reader.line_num + 1  # type: ignore[attr-defined]
    except csv.Error as error:
        raise InputError(f"{name}:{line}: not a table: {error}") from error
    return last


def _check_closed(text: str, begun: int, separator: str, name: str) -> None:
    """See that the row that begins at line *begun*, the last, has not taken others into a quote.

    Raises:
        InputError: it has.
    """
    if text.count('"') % 2 == 0:
        return
    row = islice(io.StringIO(text, newline=""), begun - 1, None)
    try:
        list(csv.reader(row, delimiter=separator, strict=True))
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise InputError(f"{name}:{begun}: a quote is opened here and never closed") from error


def image(cells: Mapping[str, str], at: str) -> str:
    """Give the cell that names the image.

    Raises:
        Rejected: the line cannot be read; *at* says where it stands.
    """
    if fault := cells.get(FAULT):
        raise Rejected("unreadable_row", f"{at}: {fault}")
    return cells["image"]


def text(cell: str | None) -> str | None:
    """Give a label or group as it is compared: stripped, in Unicode's normal form C, or None."""
    return unicodedata.normalize("NFC", cell.strip()) or None if cell else None


def label(cell: str | None, separator: str | None) -> str | None:
    """Give a cell's label, or, with a *separator*, its labels as `multilabel.join` has them."""
    if separator is None or not cell:
        return text(cell)
    found = (text(part) for part in cell.split(separator))
    return multilabel.join((part for part in found if part), separator) or None


def pixel(cell: str, what: str, at: str) -> int:
    """Read *cell* as a row or column: a whole number, `10` or `10.0`.

    Raises:
        Rejected: it is not one; *at* says where it stands.
    """
    try:
        number = float(cell.strip()) if cell.strip().isascii() and "_" not in cell else None
    except ValueError:
        number = None
    if number is None or number != number or number % 1:  # noqa: PLR0124 - NaN is not itself
        raise Rejected("not_a_pixel", f"{at}: {what} {cell!r} is not a whole number")
    if abs(number) > INT32_MAX:
        raise Rejected("points_outside", f"{at}: {what} {cell} lies outside every image")
    return int(number)


Row = TypeVar("Row", bound=Annotation)


def settle(
    found: Iterable[Annotation], source: Source, separator: str | None = None
) -> tuple[pa.Table, list[Reject]]:
    """Make one row a place of *found*; see `settled`.

    Returns:
        schemas.ANNOTATIONS, sorted, and the rejects.
    """
    rows, rejects = settled(found, source.name, separator)
    return table(rows, schemas.ANNOTATIONS), rejects


def settled(
    found: Iterable[Row], name: str, separator: str | None = None
) -> tuple[list[Row], list[Reject]]:
    """Keep one of *found* a place: equal ones are one, an unlabelled one gives way.

    Two labels for one place are both rejected, and the message names both lines of the file *name*;
    with a *separator* the place has both.
    """
    kept: dict[tuple[Any, ...], Row] = {}
    conflicts: dict[tuple[Any, ...], str] = {}
    for annotation in found:
        place = annotation.place
        first = kept.setdefault(place, annotation)
        if first is annotation or annotation.label is None:
            continue
        if first.label is None:
            kept[place] = annotation
        elif separator is not None:
            both = [*first.label.split(separator), *annotation.label.split(separator)]
            kept[place] = replace(first, label=multilabel.join(both, separator))
        elif first.label != annotation.label:
            conflicts.setdefault(place, _conflict(first, annotation, name))
    rejects = []
    for place, detail in conflicts.items():
        said = kept[place]
        reject = Reject("chip", said.key, "label_conflict", detail, row=said.row, col=said.col)
        rejects.append(reject)
    return [said for place, said in kept.items() if place not in conflicts], rejects


def _conflict(first: Annotation, second: Annotation, name: str) -> str:
    place = "" if first.row is None else f" ({first.row}, {first.col})"
    where = f"line {first.line}" if str(first.line).isdigit() else first.line
    return (
        f"{name}:{second.line}: {first.key}{place} is {second.label!r} here and "
        f"{first.label!r} in {where}; both rejected as label_conflict"
    )


def table(rows: Sequence[Annotation], schema: pa.Schema) -> pa.Table:
    """Give *rows* as a table of *schema*, sorted."""
    columns = {name: [getattr(row, name) for row in rows] for name in schema.names}
    columns["line"] = [str(line) for line in columns["line"]]
    return schemas.conform(pa.table(columns, schema=schema), schema)
