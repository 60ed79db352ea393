"""Squidle+: an export of annotations, with points as shares of the image, and boxes and outlines.

Read are `label.name`, `point.media.key` (or the end of `point.media.path_best` that is a key),
`point.x`, `point.y` and `point.polygon`, whose corners are counted from the point. A row without a
point speaks of the whole image. Rows that `needs_review` are left out, unless `keep_unconfirmed`.

Source: https://squidle.org/wiki, and the columns of `/api/annotation_set/<id>/export`
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from pipeline.annotations import Source, _objects, _rows
from pipeline.annotations._objects import LEVEL, Object, number
from pipeline.errors import Rejected
from pipeline.rejects import Reject

__all__ = ["LEVEL", "Params", "read"]

NAMES = {
    "image": ("point.media.key", "media.key"),
    "path": ("point.media.path_best", "media.path_best"),
    "x": ("point.x",),
    "y": ("point.y",),
    "polygon": ("point.polygon", "point.data.polygon"),
    "review": ("needs_review",),
}
NOTHING = {"", "nan", "none", "null", "[]"}
"""How pandas and Squidle+ write that there is no point, or no outline."""


class Params(_objects.Params):
    """The settings of `annotations.format: squidle`.

    *label* names the label's column, as `label.lineage_names` or `label.translated.name`; *group*
    another, as `point.media.deployment.key`.
    """

    encoding: str = "utf-8"
    label: str = "label.name"
    group: str | None = None
    keep_unconfirmed: bool = False


def read(source: Source, params: Params) -> tuple[pa.Table, list[Reject]]:
    """Read an export, CSV or Parquet; see pipeline/annotations/__init__.py.

    Raises:
        InputError: it lacks a column.
    """
    names = _objects.Names(source.keys, params.prefix)
    sizes = dict(zip(source.keys, source.sizes, strict=True))
    wanted = {**NAMES, "label": (params.label,)}
    wanted |= {"group": (params.group,)} if params.group else {}
    needed = [name for name in wanted if name not in {"path", "polygon", "review"}]
    rejects: list[Reject] = []

    def objects() -> Iterator[Object]:
        for line, cells in _rows.records(source, params.encoding, wanted, needed):
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


def _key(cells: dict[str, str], names: _objects.Names) -> str:
    key = names.key(cells.get("image", ""))
    path = names.key(cells.get("path", ""))
    return path if key not in names.keys and path in names.keys else key


def _size(key: str, sizes: Mapping[str, tuple[int, int]], at: str) -> tuple[int, int]:
    if key not in sizes:
        raise Rejected("no_such_image", f"{at}: no image {key!r} in the index")
    return sizes[key]


def _check(cells: dict[str, str], params: Params, at: str) -> None:
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
    except (ValueError, TypeError) as error:
        raise Rejected("not_a_box", f"{at}: point.polygon {outline[:80]!r} is none") from error
    return _objects.outlined([ring], at)
