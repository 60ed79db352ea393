"""Points: a CSV with image, row, column, label and perhaps a group; CoralNet's export as it is.

CoralNet's `Label code` (or, in older exports, `Label`) is the label. Rows whose `Annotator` is
`robot` are a machine's guesses that nobody has confirmed; they are left out and counted, unless
`keep_unconfirmed` is set.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from pipeline.annotations import Source, _rows
from pipeline.errors import Rejected
from pipeline.params import Annotations, Section
from pipeline.rejects import Reject

LEVEL = "point"

ALIASES = {
    "image": ("image", "key", "name", "filename", "file", "image_name", "image name"),
    "row": ("row", "y"),
    "column": ("column", "col", "x"),
    "label": ("label code", "label", "label_code", "class", "label id"),
    "group": ("group",),
    "annotator": ("annotator",),
}


class Columns(Section):
    """The names of the table's columns; null: the usual names, whatever their case."""

    image: str | None = None
    row: str | None = None
    column: str | None = None
    label: str | None = None
    group: str | None = None


class Params(Annotations):
    """The settings of `annotations.format: points`."""

    path: str
    columns: Columns = Columns()
    prefix: str = ""
    encoding: str = "utf-8"
    keep_unconfirmed: bool = False


def read(source: Source, params: Params) -> tuple[pa.Table, list[Reject]]:
    """Read a points table; see pipeline/annotations/__init__.py.

    Raises:
        InputError: the file is empty, wrongly encoded, or lacks a column.
    """
    rejects: list[Reject] = []
    table, conflicts = _rows.settle(_points(source, params, rejects), source)
    return table, rejects + conflicts


def _points(source: Source, params: Params, rejects: list[Reject]) -> Iterator[_rows.Annotation]:
    wanted = _wanted(params.columns)
    needed = ["image", "row", "column", *_set(params.columns)]
    for line, cells in _rows.records(source, params.encoding, wanted, needed):
        at = f"{source.name}:{line}"
        try:
            yield _point(cells, line, at, params)
        except Rejected as rejected:
            key = params.prefix + cells.get("image", "")
            rejects.append(Reject("chip", key, rejected.reason, rejected.detail))


def _wanted(columns: Columns) -> dict[str, tuple[str, ...]]:
    chosen = columns.model_dump()
    return {
        cell: (chosen.get(cell) or "",) if chosen.get(cell) else names
        for cell, names in ALIASES.items()
    }


def _set(columns: Columns) -> list[str]:
    return [cell for cell, name in columns.model_dump().items() if name]


def _point(cells: dict[str, str], line: int, at: str, params: Params) -> _rows.Annotation:
    if not cells.get("image"):
        raise Rejected("unreadable_row", f"{at}: the line has fewer cells than the header")
    if cells.get("annotator", "").strip().lower() == "robot" and not params.keep_unconfirmed:
        raise Rejected("unconfirmed", f"{at}: the label is a machine's, unconfirmed")
    return _rows.Annotation(
        key=params.prefix + cells["image"],
        row=_rows.pixel(cells["row"], "row", at),
        col=_rows.pixel(cells["column"], "column", at),
        label=_rows.text(cells.get("label")),
        group=_rows.text(cells.get("group")),
        line=line,
    )
