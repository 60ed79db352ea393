"""Boxes: CSV or Parquet with image, label and a box: left, top and width, height or right, bottom.

Columns may be called `left` or `xmin`, `top` or `ymin`, `right` or `xmax`, `bottom` or `ymax`.
"""

from __future__ import annotations

from typing import Any

from pipeline.annotations import ObjectSettings, TableSettings
from pipeline.annotations._objects import AnnotatedObject
from pipeline.annotations._table import COLUMNS, Cells, ColumnNames, TableFormat, labelled
from pipeline.annotations._values import box, numbers

LEVEL = "object"


class BoxColumns(ColumnNames):
    """The names of the table's columns; null: the usual names."""

    left: str | None = None
    top: str | None = None
    right: str | None = None
    bottom: str | None = None
    width: str | None = None
    height: str | None = None


class Settings(ObjectSettings, TableSettings):
    """The settings of `annotations.format: boxes`."""

    columns: BoxColumns = BoxColumns()


def _box(cells: Cells, settings: Settings) -> dict[str, Any]:
    left, top = numbers(cells, "left", "top")
    if "right" in cells and "bottom" in cells:
        right, bottom = numbers(cells, "right", "bottom")
    else:
        width, height = numbers(cells, "width", "height")
        right, bottom = left + width, top + height
    return {**labelled(cells, settings), **box(left, top, right, bottom)}


TABLE = TableFormat(
    columns={
        **{field: COLUMNS[field] for field in ("image", "label", "group")},
        "left": ("left", "xmin", "x_min", "xtl", "x1", "x"),
        "top": ("top", "ymin", "y_min", "ytl", "y1", "y"),
        "right": ("right", "xmax", "x_max", "xbr", "x2"),
        "bottom": ("bottom", "ymax", "y_max", "ybr", "y2"),
        "width": ("width", "w"),
        "height": ("height", "h"),
    },
    required=("image", "left", "top"),
    one_of=(("width", "height"), ("right", "bottom")),
    parse=_box,
    kind=AnnotatedObject,
)
read = TABLE.read
