"""Squidle+: an export of annotations, with points as shares of the image, and boxes and outlines.

The columns are `label.name`, `point.media.key` (or the end of `point.media.path_best` that is a
key), `point.x`, `point.y` and `point.polygon`, whose corners are relative to the point. A row
without a point is about the whole image. Rows with `needs_review` are rejects, unless
`keep_unconfirmed` is set. Results are written in the same columns.

Source: https://squidle.org/wiki, the columns of `/api/annotation_set/<id>/export`, and the README
of the `sqapi` package
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.annotations import (
    Annotations,
    AnnotationSource,
    ObjectSettings,
    TableSettings,
    _values,
)
from pipeline.annotations._objects import Objects, from_json
from pipeline.annotations._table import Cells, TableFormat
from pipeline.annotations._written import WrittenAnnotations, csv_bytes
from pipeline.core.errors import InputError, Rejected

LEVEL = "object"

COLUMNS = {
    "image": ("point.media.key", "media.key", "point.media.path_best", "media.path_best"),
    "address": ("point.media.path_best", "media.path_best"),
    "x": ("point.x",),
    "y": ("point.y",),
    "polygon": ("point.polygon", "point.data.polygon"),
    "review": ("needs_review",),
    "label": ("label.name",),
}
TABLE = TableFormat(COLUMNS, required=("image", "x", "y"))

EMPTY = {"", "nan", "none", "null", "[]"}
"""What pandas and Squidle+ write if there is no point or no outline."""


class Settings(ObjectSettings, TableSettings):
    """The settings of `annotations.format: squidle`.

    *label* names the label's column, such as `label.lineage_names` or `label.translated.name`;
    *group* another, such as `point.media.deployment.key`.
    """

    label: str = "label.name"
    group: str | None = None
    keep_unconfirmed: bool = False


def read(source: AnnotationSource, settings: Settings) -> Annotations:
    """Read an export as CSV, JSON or Parquet; raise InputError if it lacks a column."""
    objects = Objects(source, settings)
    names = objects.names
    is_json = source.data.lstrip().startswith((b"[", b"{"))
    rows = TABLE.rows(source, settings, objects.rejects)
    for line, cells in _json_rows(source, settings) if is_json else rows:
        key = names.key(cells.get("address", ""))
        if key not in names.keys or names.prefix + cells["image"] in names.keys:
            key = names.key(cells["image"])
        with objects.at(key, line):
            if cells.get("review", "").strip().lower() == "true" and not settings.keep_unconfirmed:
                raise Rejected("unconfirmed", "the label needs review")
            if key not in names.sizes:
                raise Rejected("no_such_image", f"no image {key!r} in the index")
            shape = _shape(cells, names.sizes[key])
            objects.add(cells["label"], group=_values.text(cells.get("group")), **shape)
    return objects.result()


def _json_rows(source: AnnotationSource, settings: Settings) -> Iterator[tuple[str, Cells]]:
    """Yield the place of each annotation in a list, or in a page of the API, and its cells."""
    whole = from_json(source)
    listed = whole.get("objects") if isinstance(whole, dict) else whole
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise InputError(f"{source.name}: is not a list of annotations, and has none in 'objects'")
    rows = [dict(_flat(item)) for item in listed]
    names = sorted({name for row in rows for name in row})
    places = TABLE.places(names, source, settings) if rows else {}
    for position, row in enumerate(rows):
        yield f"[{position}]", {field: row.get(names[at], "") for field, at in places.items()}


def _flat(item: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Yield the names of an object's values, with dots as in columns, and the values as text."""
    for name, value in item.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            is_text = value is None or isinstance(value, str)
            yield before + name, (value or "") if is_text else json.dumps(value)


def _shape(cells: Cells, size: tuple[int, int]) -> dict[str, Any]:
    height, width = size
    if cells["x"].strip().lower() in EMPTY or cells["y"].strip().lower() in EMPTY:
        return {}
    x, y = _values.number(cells["x"], "point.x"), _values.number(cells["y"], "point.y")
    polygon = cells.get("polygon", "").strip()
    if polygon.lower() in EMPTY:
        if not (0 <= x <= 1 and 0 <= y <= 1):
            raise Rejected("points_outside", f"{x:g}, {y:g} is outside: both must be from 0 to 1")
        # The far edge of the image belongs to its last pixel.
        pixel = _values.point(x * width, y * height)
        return {"row": min(pixel["row"], height - 1), "col": min(pixel["col"], width - 1)}
    try:
        corners = [(x + float(across), y + float(down)) for across, down in json.loads(polygon)]
    except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
        what = f"point.polygon {polygon[: _values.SHOWN]!r} is not a list of corners"
        raise Rejected("not_a_box", what) from error
    return _values.polygon((x * width, y * height) for x, y in corners)


def write(annotations: WrittenAnnotations) -> bytes:
    """Return a CSV with the columns of an export: predictions need review, people's labels do not.

    Chips of points are points, whole images rows without a point, other chips outlines.
    """
    fields = ("image", "x", "y", "polygon", "label", "review")
    *columns, review = (COLUMNS[field][0] for field in fields)
    rows = [[*columns, "likelihood", review]]
    for chip, label in annotations.labelled(annotations.rows):
        high, wide = chip.image_height, chip.image_width
        top, left, height, width = chip.inside
        x, y, outline = (left + width / 2) / wide, (top + height / 2) / high, ""
        if annotations.at_points:
            x, y = (chip.col + 0.5) / wide, (chip.row + 0.5) / high
        elif not chip.is_whole:
            across, down = width / 2 / wide, height / 2 / high
            corners = [(-across, -down), (across, -down), (across, down), (-across, down)]
            outline = json.dumps([*corners, corners[0]])
        place = ("", "", "") if chip.is_whole else (repr(x), repr(y), outline)
        likelihood = "" if chip.score is None else f"{chip.score:.6f}"
        facts = (label, likelihood, str(chip.score is not None))
        rows.append([annotations.name(chip.key), *place, *facts])
    return csv_bytes(rows)
