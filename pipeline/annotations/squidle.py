"""Squidle+: an export of annotations, with points as shares of the image, and boxes and outlines.

Read are `label.name`, `point.media.key` (or the end of `point.media.path_best` that is a key),
`point.x`, `point.y` and `point.polygon`, whose corners are counted from the point. A row without a
point speaks of the whole image. Rows that `needs_review` are left out, unless `keep_unconfirmed`.
Answers are written in the same columns.

Source: https://squidle.org/wiki, the columns of `/api/annotation_set/<id>/export`, and the README
of the `sqapi` package
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from pipeline.annotations import AnnotationSource, _objects, _rows
from pipeline.annotations._answers import AnnotatedChip, WrittenAnnotations
from pipeline.annotations._objects import LEVEL, Object, number
from pipeline.core.errors import InputError, Rejected
from pipeline.core.rejects import Reject

__all__ = ["LEVEL", "Settings", "read", "write"]

NAMES = {
    "image": ("point.media.key", "media.key", "point.media.path_best", "media.path_best"),
    "path": ("point.media.path_best", "media.path_best"),
    "x": ("point.x",),
    "y": ("point.y",),
    "polygon": ("point.polygon", "point.data.polygon"),
    "review": ("needs_review",),
}
NOTHING = {"", "nan", "none", "null", "[]"}
"""How pandas and Squidle+ write that there is no point, or no outline."""


class Settings(_objects.Settings):
    """The settings of `annotations.format: squidle`.

    *label* names the label's column, as `label.lineage_names` or `label.translated.name`; *group*
    another, as `point.media.deployment.key`.
    """

    encoding: str = "utf-8"
    label: str = "label.name"
    group: str | None = None
    keep_unconfirmed: bool = False


def read(source: AnnotationSource, params: Settings) -> tuple[pa.Table, list[Reject]]:
    """Read an export: CSV, JSON or Parquet; see pipeline/annotations/__init__.py.

    Raises:
        InputError: it lacks a column.
    """
    names = _objects.Names(source, params.prefix)
    sizes = dict(zip(source.keys, source.sizes, strict=True))
    rejects: list[Reject] = []

    def objects() -> Iterator[Object]:
        for line, cells in _records(source, params):
            at = f"{source.name}:{line}"
            key = _key(cells, names)
            try:
                _rows.image(cells, at)
                _check(cells, params, at)
                size = _size(key, sizes, at)
                label = _objects.label(cells["label"], params.label_separator, at)
                group = _rows.text(cells.get("group"))
                shape = _shape(cells, size, at)
                yield Object(key, label, line, group=group, **shape)
            except Rejected as rejected:
                rejects.append(Reject("chip", key, rejected.reason, rejected.detail))

    return _objects.table(objects(), rejects)


def _records(
    source: AnnotationSource, params: Settings
) -> Iterator[tuple[int | str, dict[str, str]]]:
    """Give the line and the wanted cells of every row, or object of JSON."""
    wanted = {**NAMES, "label": (params.label,)}
    wanted |= {"group": (params.group,)} if params.group else {}
    needed = [name for name in wanted if name not in {"path", "polygon", "review"}]
    if not source.data.lstrip().startswith((b"[", b"{")):
        yield from _rows.records(source, params, wanted, needed)
        return
    rows = [dict(_flat(said)) for said in _listed(source)]
    names = sorted({name for row in rows for name in row})
    places = _rows.places_of(source, names, wanted, needed, params) if rows else {}
    for number_of, row in enumerate(rows):
        cells = {cell: row.get(names[place], "") for cell, place in places.items()}
        yield f"[{number_of}]", cells


def _listed(source: AnnotationSource) -> list[Any]:
    """Give the objects of a JSON export: a list, or a page of what the API lists."""
    whole = _objects.from_json(source)
    found = whole.get("objects") if isinstance(whole, dict) else whole
    if not isinstance(found, list) or not all(isinstance(said, dict) for said in found):
        raise InputError(f"{source.name}: is no list of annotations, and has none in 'objects'")
    return found


def _flat(said: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Give the values of an object as text, by names with dots as the columns have them."""
    for name, value in said.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        elif isinstance(value, str):
            yield before + name, value
        else:
            yield before + name, "" if value is None else json.dumps(value)


def _key(cells: dict[str, str], names: _objects.Names) -> str:
    """Give the image's key: what is called so, or lies at the address, or is without its ending."""
    name, path = cells.get("image", ""), names.key(cells.get("path", ""))
    if path in names.keys and names.prefix + name not in names.keys:
        return path
    return names.key(name)


def _size(key: str, sizes: Mapping[str, tuple[int, int]], at: str) -> tuple[int, int]:
    if key not in sizes:
        raise Rejected("no_such_image", f"{at}: no image {key!r} in the index")
    return sizes[key]


def _check(cells: dict[str, str], params: Settings, at: str) -> None:
    if cells.get("review", "").strip().lower() == "true" and not params.keep_unconfirmed:
        raise Rejected("unconfirmed", f"{at}: the label needs review")


def _shape(cells: dict[str, str], size: tuple[int, int], at: str) -> dict[str, Any]:
    height, width = size
    if cells["x"].strip().lower() in NOTHING or cells["y"].strip().lower() in NOTHING:
        return {}
    x, y = number(cells["x"], "point.x", at), number(cells["y"], "point.y", at)
    outline = cells.get("polygon", "").strip()
    if outline.lower() in NOTHING:
        if not (0 <= x <= 1 and 0 <= y <= 1):
            raise Rejected("points_outside", f"{at}: {x:g}, {y:g} are no shares of an image")
        # The far edge of the image belongs to its last pixel.
        place = _objects.pixel(x * width, y * height)
        return {"row": min(place["row"], height - 1), "col": min(place["col"], width - 1)}
    try:
        corners = json.loads(outline)
        ring = [
            value
            for across, down in corners
            for value in ((x + float(across)) * width, (y + float(down)) * height)
        ]
    except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
        raise Rejected("not_a_box", f"{at}: point.polygon {outline[:80]!r} is none") from error
    return _objects.outlined([ring], at)


def write(answers: WrittenAnnotations) -> bytes:
    """Give a CSV with the columns of an export: the answers need review, people's labels do not.

    Chips of points are points, whole images rows without a point, other chips outlines.
    """
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    columns = [NAMES[name][0] for name in ("image", "x", "y", "polygon")]
    writer.writerow([*columns, "label.name", "likelihood", *NAMES["review"]])
    for chip in answers.rows:
        place = _place(chip, answers.at_points)
        likelihood = "" if chip.score is None else f"{chip.score:.6f}"
        for label in answers.split(chip.answer):
            said = [label, likelihood, str(chip.score is not None)]
            writer.writerow([answers.name(chip.key), *place, *said])
    return sink.getvalue().encode()


def _place(chip: AnnotatedChip, at_points: bool) -> tuple[str, str, str]:  # noqa: FBT001
    """Give the cells of point.x, point.y and point.polygon."""
    if chip.is_whole:
        return "", "", ""
    high, wide = chip.image_height, chip.image_width
    if at_points:
        return repr((chip.col + 0.5) / wide), repr((chip.row + 0.5) / high), ""
    top, left, height, width = chip.inside
    x, y = (left + width / 2) / wide, (top + height / 2) / high
    across, down = width / 2 / wide, height / 2 / high
    corners = [(-across, -down), (across, -down), (across, down), (-across, down)]
    return repr(x), repr(y), json.dumps([*corners, corners[0]])
