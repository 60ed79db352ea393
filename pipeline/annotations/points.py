"""Points: CSV or Parquet with image, row, column, label and perhaps a group; CoralNet's export too.

CoralNet's `Label code` (or, in older exports, `Label`) is the label. Rows whose `Annotator` is
`robot`, and those that are not `Verified` in CoralNet-Toolbox, have a machine's label that is not
confirmed: they are rejects, unless `keep_unconfirmed` is set.
"""

from __future__ import annotations

from typing import Any

from pipeline.annotations import TableSettings
from pipeline.annotations._table import COLUMNS, Cells, ColumnNames, TableFormat, labelled
from pipeline.annotations._values import pixel
from pipeline.core.errors import Rejected

LEVEL = "point"


class PointColumns(ColumnNames):
    """The names of the table's columns; null: the usual names."""

    row: str | None = None
    column: str | None = None


class Settings(TableSettings):
    """The settings of `annotations.format: points`."""

    columns: PointColumns = PointColumns()
    keep_unconfirmed: bool = False


def _point(cells: Cells, settings: Settings) -> dict[str, Any]:
    is_robot = cells.get("annotator", "").strip().lower() == "robot"
    is_unverified = cells.get("verified", "").strip().lower() == "false"
    if (is_robot or is_unverified) and not settings.keep_unconfirmed:
        raise Rejected("unconfirmed", "the label is a machine's and not confirmed")
    row, col = pixel(cells["row"], "row"), pixel(cells["column"], "column")
    return {"row": row, "col": col, **labelled(cells, settings)}


TABLE = TableFormat(COLUMNS, required=("image", "row", "column"), parse=_point)
read = TABLE.read
