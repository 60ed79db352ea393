"""MERMAID: confirmed points of its open data, as Parquet or CSV.

The label is the benthic attribute and the growth form, as MERMAID's classifier has its classes:
`Acropora::Branching`, or `Sand::` without a form; with `growth_form: false` the attribute alone.

Source: https://github.com/data-mermaid/image-classification-open-data
"""

from __future__ import annotations

from typing import Any

from pipeline.annotations import TableSettings
from pipeline.annotations._table import Cells, TableFormat
from pipeline.annotations._values import pixel, text

LEVEL = "point"


class Settings(TableSettings):
    """The settings of `annotations.format: mermaid`; *group*: a column, such as `region_name`."""

    growth_form: bool = True
    group: str | None = None


def _point(cells: Cells, settings: Settings) -> dict[str, Any]:
    row, col = pixel(cells["row"], "row"), pixel(cells["column"], "column")
    label = text(cells["label"])
    if label is not None and settings.growth_form:
        label = f"{label}::{text(cells.get('form')) or ''}"
    return {"row": row, "col": col, "label": label, "group": text(cells.get("group"))}


TABLE = TableFormat(
    columns={
        "image": ("image_id",),
        "row": ("row",),
        "column": ("col",),
        "label": ("benthic_attribute_name",),
        "form": ("growth_form_name",),
    },
    required=("image", "row", "column", "label"),
    parse=_point,
    image_name="{}.png".format,
)
read = TABLE.read
