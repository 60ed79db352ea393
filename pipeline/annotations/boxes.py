"""Boxes: CSV or Parquet with image, label and a box: left, top and width, height or right, bottom.

Columns may be called `left` or `xmin`, `top` or `ymin`, `right` or `xmax`, `bottom` or `ymax`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from pipeline.annotations import AnnotationSource, _objects, _rows
from pipeline.annotations._objects import LEVEL, Object, number
from pipeline.core.errors import InputError, Rejected
from pipeline.core.rejects import Reject

__all__ = ["LEVEL", "Columns", "Settings", "read"]

SIDES = {
    "left": ("left", "xmin", "x_min", "xtl", "x1", "x"),
    "top": ("top", "ymin", "y_min", "ytl", "y1", "y"),
    "right": ("right", "xmax", "x_max", "xbr", "x2"),
    "bottom": ("bottom", "ymax", "y_max", "ybr", "y2"),
    "width": ("width", "w"),
    "height": ("height", "h"),
}


class Columns(_rows.Columns):
    """The names of the table's columns; null: the usual names, whatever their case."""

    left: str | None = None
    top: str | None = None
    right: str | None = None
    bottom: str | None = None
    width: str | None = None
    height: str | None = None

    def wanted(self) -> dict[str, tuple[str, ...]]:
        """Give, for each cell, the names that its column may have."""
        names = {cell: _rows.ALIASES[cell] for cell in ("image", "label", "group")}
        return {**names, **SIDES, **{cell: (name,) for cell, name in self.named().items()}}


class Settings(_objects.Settings):
    """The settings of `annotations.format: boxes`."""

    columns: Columns = Columns()
    encoding: str = "utf-8"


def read(source: AnnotationSource, params: Settings) -> tuple[pa.Table, list[Reject]]:
    """Read a table of boxes; see pipeline/annotations/__init__.py.

    Raises:
        InputError: the file is empty, wrongly encoded, or lacks a column.
    """
    wanted = params.columns.wanted()
    needed = ["image", "left", "top", *params.columns.named()]
    rejects: list[Reject] = []

    def objects() -> Iterator[Object]:
        for line, cells in _rows.records(source, params, wanted, needed):
            at = f"{source.name}:{line}"
            key = params.prefix + cells.get("image", "")
            try:
                _rows.image(cells, at)
                label = _rows.label(cells.get("label"), params.label_separator)
                window: dict[str, Any] = {**_objects.box(_edges(cells, source, at), at)}
                yield Object(key, label, line, group=_rows.text(cells.get("group")), **window)
            except Rejected as rejected:
                rejects.append(Reject("chip", key, rejected.reason, rejected.detail))

    return _objects.table(objects(), rejects)


def _edges(
    cells: dict[str, str], source: AnnotationSource, at: str
) -> tuple[float, float, float, float]:
    left, top = number(cells["left"], "left", at), number(cells["top"], "top", at)
    if {"right", "bottom"} <= set(cells):
        return left, top, number(cells["right"], "right", at), number(cells["bottom"], "bottom", at)
    if {"width", "height"} <= set(cells):
        width, height = number(cells["width"], "width", at), number(cells["height"], "height", at)
        return left, top, left + width, top + height
    raise InputError(f"{source.name}:1: no columns for width and height, or right and bottom")
