"""Image labels: a CSV with image, label and perhaps a group, one row an image."""

from __future__ import annotations

from pipeline.annotations import TableSettings
from pipeline.annotations._table import COLUMNS, ColumnNames, TableFormat

LEVEL = "image"


class Settings(TableSettings):
    """The settings of `annotations.format: images`."""

    columns: ColumnNames = ColumnNames()


TABLE = TableFormat(COLUMNS, required=("image", "label"))
read = TABLE.read
