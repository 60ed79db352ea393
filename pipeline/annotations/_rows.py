"""What all annotation tables share: columns by name, whole numbers, doubled rows."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar

import pyarrow as pa
from pydantic import Field

from pipeline.annotations import AnnotationSource, _parquet, _text
from pipeline.config.sections import AnnotationParams, Section
from pipeline.core import label_sets, schemas
from pipeline.core.errors import InputError, Rejected, shorten
from pipeline.core.rejects import Reject

ALIASES = {
    "image": (
        *("image", "key", "name", "filename", "file", "image_name", "image name"),
        *("file_name", "image_path"),
    ),
    "row": ("row", "y"),
    "column": ("column", "col", "x"),
    "label": (
        *("label code", "label", "label_code", "class", "label id"),
        *("class_name", "label_name", "category", "category_name"),
    ),
    "group": ("group",),
    "annotator": ("annotator",),
    "verified": ("verified",),
}
"""The usual names of columns, best first; case does not matter."""

INT32_MAX = 2**31 - 1

SHOWN = 20
LONGEST = 40
"""Columns that a message lists, and letters of each."""

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


class File(AnnotationParams):
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


def records(
    source: AnnotationSource,
    params: Any,
    wanted: Mapping[str, Sequence[str]],
    needed: Sequence[str],
) -> Iterator[tuple[int, dict[str, str]]]:
    """Give the line and the wanted cells of every row of a table: Parquet, or text with a header.

    A cell with a list of labels gives a row for each of them.

    A line with fewer cells than are wanted, or with more than the header has, gives FAULT alone.

    Args:
        source: the file.
        params: the section; `encoding` is what text without a byte-order mark is read as, and
            where there are `columns` they can name the columns.
        wanted: for each cell its possible column names, best first; case does not matter.
        needed: the cells without which the table cannot be used.

    Raises:
        InputError: the file is empty, is not in the encoding, or a needed column is missing.
    """
    if source.data.startswith(_parquet.MAGIC):
        table = _parquet.read(source)
        places = places_of(source, table.column_names, wanted, needed, params)
        for row, cells in _parquet.cells(table, places, source.name):
            yield row, cells if cells["image"].strip() else {FAULT: "the line names no image"}
        return
    rows = _text.rows(
        source,
        params.encoding,
        lambda names: set(needed) <= dict(_named(list(map(_plain, names)), wanted)).keys(),
    )
    names = next((cells for _, cells in rows if any(map(str.strip, cells))), [])
    places = places_of(source, names, wanted, needed, params)
    yield from _cells(rows, places, len(names))


def _plain(name: str) -> str:
    """Give a column's name as it is compared."""
    return unicodedata.normalize("NFC", name.strip()).lower()


def places_of(
    source: AnnotationSource,
    names: Sequence[str],
    wanted: Mapping[str, Sequence[str]],
    needed: Sequence[str],
    params: Any,
) -> dict[str, int]:
    """Give the place of each column among *names*; case does not matter.

    Raises:
        InputError: one of the *needed* is not there, or one is there twice.
    """
    names = list(map(_plain, names))
    found = dict(_named(names, wanted))
    twice = [name for name in found.values() if names.count(name) > 1]
    if twice:
        raise InputError(
            f"{source.name}:1: {names.count(twice[0])} columns are named {twice[0]!r}; rename the "
            "others"
        )
    missing = [cell for cell in needed if cell not in found]
    if missing:
        options = wanted[missing[0]]
        hint = f"set annotations.columns.{missing[0]} to the name of that column"
        if not hasattr(params, "columns"):
            hint = f"it is called {' or '.join(options)} in this format"
        elif len(options) == 1:
            hint = f"needed is {options[0]!r}"
        raise InputError(
            f"{source.name}:1: no column for {', '.join(missing)} among {_listed(names)}; {hint}"
        )
    return {cell: names.index(name) for cell, name in found.items()}


def _named(names: Sequence[str], wanted: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    for cell, options in wanted.items():
        found = [option for option in map(_plain, options) if option in names]
        if found:
            yield cell, found[0]


def _listed(names: Sequence[str]) -> str:
    """Give *names* for a message: the file may be no table at all, and its line of any length."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(shorten(name, LONGEST) or "''" for name in names[:SHOWN]) + more


def _cells(
    rows: Iterable[tuple[int, list[str]]], places: Mapping[str, int], n_columns: int
) -> Iterator[tuple[int, dict[str, str]]]:
    """Give every row's line and cells."""
    width, image = max(places.values()), places["image"]
    for line, cells in rows:
        if cells and len(cells) <= width:
            yield line, {FAULT: "the line has fewer cells than the header"}
        elif len(cells) > n_columns and any(map(str.strip, cells[n_columns:])):
            yield line, {FAULT: "the line has more cells than the header"}
        elif cells and (not cells[image] or cells[image].isspace()):
            yield line, {FAULT: "the line names no image"}
        elif cells:
            yield line, {cell: cells[place] for cell, place in places.items()}


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
    return label_sets.join((part for part in found if part), separator) or None


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

NAMED = 3
"""Other lines that the message of a conflict names."""


def settle(
    found: Iterable[Annotation], source: AnnotationSource, separator: str | None = None
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
    """Keep one of *found* a place: the first, or the first that has a label.

    Every other one is a reject: `said_again`, or, where two labels are said of a place, each of
    them `label_conflict`, and its message names the other lines of the file *name*. With a
    *separator* the place has all labels.
    """
    kept: dict[tuple[Any, ...], Row] = {}
    more: dict[tuple[Any, ...], list[Row]] = {}
    for annotation in found:
        if kept.setdefault(annotation.place, annotation) is not annotation:
            more.setdefault(annotation.place, []).append(annotation)
    rejects: dict[tuple[Any, ...], Reject] = {}
    for place, others in more.items():
        every = [kept[place], *others]
        labelled = [said for said in every if said.label is not None]
        if separator is None and len({said.label for said in labelled}) > 1:
            del kept[place]
            refused = [(said, "label_conflict", _conflict(said, every)) for said in every]
        else:
            kept[place], again = _one(labelled or every, separator)
            again += [said for said in every if said.label is None] if labelled else []
            refused = [(said, "said_again", _again(said, kept[place])) for said in again]
        for said, reason, detail in refused:
            whole = f"{name}:{said.line}: {said.key}{_place(said)} {detail}"
            reject = Reject("chip", said.key, reason, whole, row=said.row, col=said.col)
            rejects.setdefault((*place, said.line), reject)  # a list of labels is of one line
    lines = {(*place, said.line) for place, said in kept.items() if place in more}
    return list(kept.values()), [said for at, said in rejects.items() if at not in lines]


def of_chips(rejects: Iterable[Reject]) -> list[Reject]:
    """Give of what `settled` rejects one conflict a chip: many lines may speak of many chips."""
    found: dict[tuple[Any, ...], Reject] = {}
    for said in rejects:
        if said.reason == "label_conflict":
            found.setdefault((said.key, said.row, said.col), said)
    return list(found.values())


def _one(every: list[Row], separator: str | None) -> tuple[Row, list[Row]]:
    """Give what *every* one of a place comes to, and those that add nothing to it."""
    first, again = every[0], []
    for said in every[1:]:
        both = [] if separator is None else [*_split(first, separator), *_split(said, separator)]
        label = first.label if separator is None else label_sets.join(both, separator)
        again += [said] if label == first.label else []
        first = replace(first, label=label or None)
    return first, again


def _split(said: Annotation, separator: str) -> tuple[str, ...]:
    return label_sets.split(said.label or "", separator)


def _place(said: Annotation) -> str:
    return "" if said.row is None else f" ({said.row}, {said.col})"


def _where(said: Annotation) -> str:
    return f"line {said.line}" if str(said.line).isdigit() else str(said.line)


def _conflict(said: Annotation, every: Sequence[Annotation]) -> str:
    def of(one: Annotation) -> str:
        return "unlabelled" if one.label is None else repr(one.label)

    labelled = [one for one in every if one.label is not None]
    others = [one for one in labelled if one.label != said.label]
    named = [f"{of(one)} in {_where(one)}" for one in others[:NAMED]]
    named += [f"{len(others) - NAMED:,} more"] if len(others) > NAMED else []
    both = "both" if len(labelled) == 2 else "all"  # noqa: PLR2004 - a pair
    return f"is {of(said)} here and {' and '.join(named)}; {both} rejected as label_conflict"


def _again(said: Annotation, kept: Annotation) -> str:
    return f"is said in {_where(kept)} already{'' if said.label else ', with a label'}"


def table(rows: Sequence[Annotation], schema: pa.Schema) -> pa.Table:
    """Give *rows* as a table of *schema*, sorted."""
    columns = {name: [getattr(row, name) for row in rows] for name in schema.names}
    columns["line"] = [str(line) for line in columns["line"]]
    return schemas.conform(pa.table(columns, schema=schema), schema)
