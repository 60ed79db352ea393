"""What all annotation tables share: decoding, columns by name, whole numbers, doubled rows."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar

import pyarrow as pa
from pydantic import Field

from pipeline import multilabel, schemas
from pipeline.annotations import Source, _parquet
from pipeline.errors import InputError, Rejected
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
    """
    for mark, marked in BOMS:
        if source.data.startswith(mark):
            encoding = marked
    try:
        return source.data.decode(encoding)
    except (UnicodeDecodeError, LookupError) as error:
        raise InputError(
            f"{source.name}: cannot be read as {encoding} ({error}); "
            "save it as UTF-8, or set annotations.encoding, as to 'latin-1'"
        ) from error


def records(
    source: Source, encoding: str, wanted: Mapping[str, Sequence[str]], needed: Sequence[str]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Give the line and the wanted cells of every row of a table: Parquet, or text with a header.

    A cell with a list of labels gives a row for each of them.

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
        yield from _parquet.cells(table, places)
        return
    text = decode(source, encoding)
    header, _, _ = text.partition("\n")
    if not header.strip():
        raise InputError(f"{source.name}: is empty; a header line with column names is needed")
    separator = max(SEPARATORS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    names = [name.strip().lower() for name in next(reader)]
    yield from _cells(reader, _found(source, names, wanted, needed), source)


def _found(
    source: Source,
    names: Sequence[str],
    wanted: Mapping[str, Sequence[str]],
    needed: Sequence[str],
) -> dict[str, int]:
    """Give the place of each column among *names*.

    Raises:
        InputError: one of the *needed* is not there.
    """
    places = _places(names, wanted)
    missing = [name for name in needed if name not in places]
    if missing:
        raise InputError(
            f"{source.name}:1: no column for {', '.join(missing)} among {', '.join(names)}; "
            f"set annotations.columns.{missing[0]} to the name of that column"
        )
    return places


def _places(names: Sequence[str], wanted: Mapping[str, Sequence[str]]) -> dict[str, int]:
    places = {}
    for cell, options in wanted.items():
        found = [option.lower() for option in options if option.lower() in names]
        if found:
            places[cell] = names.index(found[0])
    return places


def _cells(
    reader: Iterator[list[str]], places: Mapping[str, int], source: Source
) -> Iterator[tuple[int, dict[str, str]]]:
    line = reader.line_num + 1  # type: ignore[attr-defined]
    width = max(places.values())
    try:
        for cells in reader:
            if cells and len(cells) <= width:
                yield line, {}
            elif cells:
                yield line, {cell: cells[place] for cell, place in places.items()}
            line = reader.line_num + 1  # type: ignore[attr-defined]
    except csv.Error as error:
        raise InputError(f"{source.name}:{line}: not a table: {error}") from error


def image(cells: Mapping[str, str], at: str) -> str:
    """Give the cell that names the image.

    Raises:
        Rejected: it is empty, or the line ends before it; *at* says where it stands.
    """
    found = cells.get("image")
    if not found:
        raise Rejected("unreadable_row", f"{at}: the line has fewer cells than the header")
    return found


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
