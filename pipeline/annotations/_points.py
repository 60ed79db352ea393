"""What tables of points share: a row, a column, a label, and who said so."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from pipeline.annotations import AnnotationSource, _rows
from pipeline.core.errors import Rejected
from pipeline.core.rejects import Reject


class Columns(_rows.Columns):
    """The names of the table's columns; null: the usual names, whatever their case."""

    row: str | None = None
    column: str | None = None


class Settings(_rows.Table):
    """The settings of a table of points."""

    columns: Columns = Columns()
    keep_unconfirmed: bool = False


def read(source: AnnotationSource, params: Settings) -> tuple[pa.Table, list[Reject]]:
    """Read a points table; see pipeline/annotations/__init__.py.

    Raises:
        InputError: the file is empty, wrongly encoded, or lacks a column.
    """
    rejects: list[Reject] = []
    table, conflicts = _rows.settle(
        _points(source, params, rejects), source, params.label_separator
    )
    return table, rejects + conflicts


def _points(
    source: AnnotationSource, params: Settings, rejects: list[Reject]
) -> Iterator[_rows.Annotation]:
    wanted, needed = params.columns.wanted(), ["image", "row", "column", *params.columns.named()]
    for line, cells in _rows.records(source, params, wanted, needed):
        at = f"{source.name}:{line}"
        try:
            yield _point(cells, line, at, params)
        except Rejected as rejected:
            key = params.prefix + cells.get("image", "")
            rejects.append(Reject("chip", key, rejected.reason, rejected.detail))


def _point(cells: dict[str, str], line: int, at: str, params: Settings) -> _rows.Annotation:
    image = _rows.image(cells, at)
    robots = cells.get("annotator", "").strip().lower() == "robot"
    if (robots or _is_unverified(cells)) and not params.keep_unconfirmed:
        raise Rejected("unconfirmed", f"{at}: the label is a machine's, unconfirmed")
    return _rows.Annotation(
        key=params.prefix + image,
        row=_rows.pixel(cells["row"], "row", at),
        col=_rows.pixel(cells["column"], "column", at),
        label=_rows.label(cells.get("label"), params.label_separator),
        group=_rows.text(cells.get("group")),
        line=line,
    )


def _is_unverified(cells: dict[str, str]) -> bool:
    """Say whether CoralNet-Toolbox's column `Verified` says that nobody has confirmed the label."""
    return cells.get("verified", "").strip().lower() == "false"
