"""Image labels: a CSV with image, label and perhaps a group, one row an image."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from pipeline.annotations import Source, _rows
from pipeline.annotations.points import ALIASES
from pipeline.params import Annotations, Section
from pipeline.rejects import Reject

LEVEL = "image"


class Columns(Section):
    """The names of the table's columns; null: the usual names, whatever their case."""

    image: str | None = None
    label: str | None = None
    group: str | None = None


class Params(Annotations):
    """The settings of `annotations.format: images`."""

    path: str
    columns: Columns = Columns()
    prefix: str = ""
    encoding: str = "utf-8"


def read(source: Source, params: Params) -> tuple[pa.Table, list[Reject]]:
    """Read a table of image labels; see pipeline/annotations/__init__.py.

    Raises:
        InputError: the file is empty, wrongly encoded, or lacks a column.
    """
    rejects: list[Reject] = []
    table, conflicts = _rows.settle(_images(source, params, rejects), source)
    return table, rejects + conflicts


def _images(source: Source, params: Params, rejects: list[Reject]) -> Iterator[_rows.Annotation]:
    chosen = {cell: name for cell, name in params.columns.model_dump().items() if name}
    wanted = {
        cell: (chosen[cell],) if cell in chosen else ALIASES[cell]
        for cell in ("image", "label", "group")
    }
    for line, cells in _rows.records(source, params.encoding, wanted, ["image", "label", *chosen]):
        if not cells.get("image"):
            detail = f"{source.name}:{line}: the line has fewer cells than the header"
            rejects.append(Reject("chip", "", "unreadable_row", detail))
            continue
        yield _rows.Annotation(
            key=params.prefix + cells["image"],
            label=_rows.text(cells["label"]),
            group=_rows.text(cells.get("group")),
            line=line,
        )
