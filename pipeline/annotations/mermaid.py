"""MERMAID: confirmed points of its open data, as Parquet or CSV.

The label is the benthic attribute and the growth form, put together as MERMAID's classifier does:
`Acropora::Branching`, and `Sand::` where there is no form; with `growth_form: false` the attribute
alone. The image of a point is `<image_id>.png`.

Source: https://github.com/data-mermaid/image-classification-open-data
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from pipeline.annotations import AnnotationSource, _rows
from pipeline.core.errors import Rejected
from pipeline.core.rejects import Reject

LEVEL = "point"

BETWEEN = "::"
NAMES = {
    "image": ("image_id",),
    "row": ("row",),
    "column": ("col",),
    "label": ("benthic_attribute_name",),
    "form": ("growth_form_name",),
}


class Settings(_rows.Table):
    """The settings of `annotations.format: mermaid`; *group* names a column, as `region_name`."""

    growth_form: bool = True
    group: str | None = None


def read(source: AnnotationSource, params: Settings) -> tuple[pa.Table, list[Reject]]:
    """Read MERMAID's file; see pipeline/annotations/__init__.py.

    Raises:
        InputError: it is not one.
    """
    rejects: list[Reject] = []
    table, conflicts = _rows.settle(
        _points(source, params, rejects), source, params.label_separator
    )
    return table, rejects + conflicts


def _points(
    source: AnnotationSource, params: Settings, rejects: list[Reject]
) -> Iterator[_rows.Annotation]:
    wanted = {**NAMES, **({"group": (params.group,)} if params.group else {})}
    needed = [name for name in wanted if name != "form"]
    for line, cells in _rows.records(source, params, wanted, needed):
        key, at = f"{params.prefix}{cells.get('image', '')}.png", f"{source.name}:{line}"
        try:
            _rows.image(cells, at)
            yield _rows.Annotation(
                key=key,
                row=_rows.pixel(cells["row"], "row", at),
                col=_rows.pixel(cells["column"], "column", at),
                label=_label(cells, params),
                group=_rows.text(cells.get("group")),
                line=line,
            )
        except Rejected as rejected:
            rejects.append(Reject("chip", key, rejected.reason, rejected.detail))


def _label(cells: dict[str, str], params: Settings) -> str | None:
    attribute, form = _rows.text(cells["label"]), _rows.text(cells.get("form"))
    if attribute is None or not params.growth_form:
        return attribute
    return f"{attribute}{BETWEEN}{form or ''}"
