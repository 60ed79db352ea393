"""Image labels: a CSV with image, label and perhaps a group, one row an image."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from pipeline.annotations import AnnotationSource, _rows
from pipeline.core.rejects import Reject

LEVEL = "image"


class Settings(_rows.Table):
    """The settings of `annotations.format: images`."""

    columns: _rows.Columns = _rows.Columns()


def read(source: AnnotationSource, params: Settings) -> tuple[pa.Table, list[Reject]]:
    """Read a table of image labels; see pipeline/annotations/__init__.py.

    Raises:
        InputError: the file is empty, wrongly encoded, or lacks a column.
    """
    rejects: list[Reject] = []
    table, conflicts = _rows.settle(
        _images(source, params, rejects), source, params.label_separator
    )
    return table, rejects + conflicts


def _images(
    source: AnnotationSource, params: Settings, rejects: list[Reject]
) -> Iterator[_rows.Annotation]:
    wanted, needed = params.columns.wanted(), ["image", "label", *params.columns.named()]
    for line, cells in _rows.records(source, params, wanted, needed):
        if fault := cells.get(_rows.FAULT):
            detail = f"{source.name}:{line}: {fault}"
            rejects.append(Reject("chip", "", "unreadable_row", detail))
            continue
        yield _rows.Annotation(
            key=params.prefix + cells["image"],
            label=_rows.label(cells["label"], params.label_separator),
            group=_rows.text(cells.get("group")),
            line=line,
        )
