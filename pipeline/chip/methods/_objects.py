"""From annotated objects to chips: checked against their images, each a window, point or word.

What a chip method asks for decides: `boxes` makes a chip of each object, a method that starts from
points takes their middles, and chips that follow from the image (a grid's) have the label of what
covers them, see pipeline/chip/methods/_covered.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.annotations import _merge, file_name, label_separator
from pipeline.chip.methods import _folded, _stranger, centre
from pipeline.config.sections import AnnotationParams, ChipParams
from pipeline.core import schemas
from pipeline.core.hashing import chip_id
from pipeline.core.rejects import Reject
from pipeline.images.windows import Window, around

WINDOW = ("top", "left", "height", "width")


@dataclass(slots=True)
class Said(_merge.Annotation):
    """What is said of a chip."""

    chip_id: bytes = b""

    @property
    def place(self) -> tuple[Any, ...]:
        """Two annotations of one window speak of one chip."""
        return (self.chip_id,)


def checked(
    objects: pa.Table, images: pa.Table, params: AnnotationParams
) -> tuple[pa.Table, list[Reject]]:
    """Give the objects that lie in images of the index, with their images' sizes; and the others.

    Args:
        objects: schemas.OBJECTS.
        images: schemas.IMAGES.
        params: the annotations section.
    """
    name = file_name(params)
    sizes = {row["key"]: row for row in images.select(["key", "height", "width"]).to_pylist()}
    columns = ["key", "row", "col", *WINDOW, "image_height", "image_width", "line"]
    rejects: list[Reject] = []
    kept: list[int] = []
    near: dict[str, str] | None = None
    for place, row in enumerate(objects.select(columns).to_pylist()):
        image = sizes.get(row["key"])
        if image is None:
            near = _folded(list(sizes)) if near is None else near
            rejects.append(_stranger(row, name, near))
            continue
        fault = _fault(row, image)
        if fault is None:
            kept.append(place)
            continue
        detail = f"{name}:{row['line']}: {fault[1]}"
        at = {"row": row["row"], "col": row["col"]}
        rejects.append(Reject("chip", row["key"], fault[0], detail, **at))
    good = objects.take(pa.array(kept, pa.int64()))
    known = [sizes[key] for key in good["key"].to_pylist()]
    for side in ("height", "width"):
        at = good.schema.get_field_index(f"image_{side}")
        values = pa.array([size[side] for size in known], pa.int32())
        good = good.set_column(at, schemas.OBJECTS.field(at), values)
    return good, rejects


def inside(row: dict[str, Any]) -> Window | None:
    """Give what of an object's window lies in its image; None: it has none."""
    if row["top"] is None:
        return None
    top, left = max(row["top"], 0), max(row["left"], 0)
    bottom = min(row["top"] + row["height"], row["image_height"])
    right = min(row["left"] + row["width"], row["image_width"])
    return top, left, bottom - top, right - left


def _fault(row: dict[str, Any], image: dict[str, Any]) -> tuple[str, str] | None:
    """Say why an object cannot be used: a reason and a sentence's end; None: it can."""
    key, high, wide = row["key"], image["height"], image["width"]
    said = (row["image_height"] or high, row["image_width"] or wide)
    if said != (high, wide):
        return "other_size", (
            f"{key} is {said[0]} × {said[1]} here, and {high} × {wide} in the bucket; it was "
            "scaled, or turned by its EXIF orientation"
        )
    window = inside({**row, "image_height": high, "image_width": wide})
    if window is not None and min(window[2:]) < 1:
        return "window_outside", f"the object lies outside {key}, which is {high} × {wide}"
    if row["row"] is not None and not (0 <= row["row"] < high and 0 <= row["col"] < wide):
        where = f"({row['row']}, {row['col']})"
        return "points_outside", f"{where} lies outside {key}, which is {high} × {wide}"
    return None


def places(
    objects: pa.Table, images: pa.Table, chip: ChipParams, params: AnnotationParams
) -> tuple[pa.Table, pa.Table, list[Reject]]:
    """Make a chip of every object with a window.

    Args:
        objects: as `checked` gives them.
        images: schemas.IMAGES.
        chip: the chip section: its `size` is that of squares around the objects' middles; None:
            chips are their own windows.
        params: the annotations section.

    Returns:
        schemas.CHIPS, schemas.SAID, and what has no window or says two things of one.
    """
    name, size = file_name(params), getattr(chip, "size", None)
    versions = dict(zip(images["key"].to_pylist(), images["version"].to_pylist(), strict=True))
    rejects: list[Reject] = []
    chips: dict[bytes, tuple[Any, ...]] = {}

    def said() -> Iterator[Said]:
        for row in _single(objects, name, rejects):
            window = inside(row)
            if window is None:
                rejects.append(no_shape(row, name, "has no window"))
                continue
            row_at, col_at, own = centre(window)
            if size is not None:
                own = around(row_at, col_at, size)
            key, version = row["key"], versions[row["key"]]
            identity = chip_id(key, version, own)
            chips[identity] = (key, version, row_at, col_at, *own)
            yield Said(
                key,
                row["label"],
                row["line"],
                row=row_at,
                col=col_at,
                group=row["group"],
                chip_id=identity,
            )

    given, conflicts = _merge.merged(said(), name, label_separator(params), schemas.SAID)
    return _chips(chips), given, rejects + conflicts


def _chips(rows: dict[bytes, tuple[Any, ...]]) -> pa.Table:
    columns: list[Any] = [list(rows), *zip(*rows.values(), strict=True)]
    columns = columns if rows else [()] * len(schemas.CHIPS)
    arrays = [
        pa.array(values, field.type) for field, values in zip(schemas.CHIPS, columns, strict=True)
    ]
    return schemas.conform(pa.table(arrays, schema=schemas.CHIPS), schemas.CHIPS)


def middles(objects: pa.Table, params: AnnotationParams) -> tuple[pa.Table, list[Reject]]:
    """Give the point, or the window's middle, of every object, as schemas.ANNOTATIONS."""
    name = file_name(params)
    rejects: list[Reject] = []

    def said() -> Iterator[_merge.Annotation]:
        for row in _single(objects, name, rejects):
            at, window = (row["row"], row["col"]), inside(row)
            if window is not None:
                at = centre(window)[:2]
            if at[0] is None:
                rejects.append(no_shape(row, name, "has no point"))
                continue
            own = {"row": at[0], "col": at[1], "group": row["group"]}
            yield _merge.Annotation(row["key"], row["label"], row["line"], **own)

    given, conflicts = _merge.merged(said(), name, label_separator(params))
    return given, rejects + conflicts


def _single(objects: pa.Table, name: str, rejects: list[Reject]) -> Iterator[dict[str, Any]]:
    """Give the objects one by one; a region of many is none."""
    left_out = {"outline", "pixels"}
    wanted = objects.select([name for name in schemas.OBJECTS.names if name not in left_out])
    for batch in wanted.to_batches(max_chunksize=schemas.ROW_GROUP_ROWS):
        for row in batch.to_pylist():
            if row["crowd"]:
                rejects.append(no_shape(row, name, "is a crowd"))
            else:
                yield row


def no_shape(row: dict[str, Any], name: str, what: str) -> Reject:
    detail = f"{name}:{row['line']}: {what}, and chip.method asks for one; left out"
    return Reject("chip", row["key"], "no_shape", detail, row=row["row"], col=row["col"])
