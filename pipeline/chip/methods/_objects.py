"""Annotated objects: checked against their images, then made into chips or points.

`boxes` makes a chip of each object, and a method that cuts around points takes the objects'
middles. The chips of a method that follow from the image, such as a grid's, have the label of what
covers them, see pipeline/chip/methods/_covered.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.annotations import _merge, file_name, label_separator
from pipeline.chip.methods import centre, of_known_images, to_table
from pipeline.config.sections import AnnotationParams, ChipParams
from pipeline.core import schemas
from pipeline.core.errors import Rejected
from pipeline.core.hashing import chip_id
from pipeline.core.rejects import Reject
from pipeline.images.windows import Window, around

WINDOW = ("top", "left", "height", "width")

Row = dict[str, Any]


@dataclass(slots=True)
class ChipAnnotation(_merge.Annotation):
    """An annotation of a chip."""

    chip_id: bytes = b""

    @property
    def place(self) -> tuple[Any, ...]:
        """Annotations of one window are annotations of one chip."""
        return (self.chip_id,)


def annotation(row: Row, centre: tuple[int, int], identity: bytes) -> ChipAnnotation:
    """Return the object *row* as an annotation of the chip *identity*, which has this centre."""
    return ChipAnnotation(
        row["key"], row["label"], row["line"], *centre, row["group"], chip_id=identity
    )


def checked(
    objects: pa.Table, images: pa.Table, params: AnnotationParams
) -> tuple[pa.Table, list[Reject]]:
    """Return the objects inside *images*, with their images' sizes, and a reject of each other."""
    name = file_name(params)
    objects, images, rejects = of_known_images(objects, images, name)
    columns = ["key", "row", "col", *WINDOW, "image_height", "image_width", "line"]
    rows = objects.select(columns).to_pylist()
    sizes = zip(images["height"].to_pylist(), images["width"].to_pylist(), strict=True)
    usable: list[int] = []
    for place, (row, size) in enumerate(zip(rows, sizes, strict=True)):
        try:
            _check(row, *size)
            usable.append(place)
        except Rejected as error:
            rejects.append(_reject(row, name, error.reason, error.detail))
    for side in ("height", "width"):
        at = objects.schema.get_field_index(f"image_{side}")
        field = schemas.OBJECTS.field(at)
        objects = objects.set_column(at, field, images[side].cast(field.type))
    return objects.take(pa.array(usable, pa.int64())), rejects


def _check(row: Row, height: int, width: int) -> None:
    """Check an object against its image; raise Rejected if it cannot be used."""
    key = row["key"]
    annotated = (row["image_height"] or height, row["image_width"] or width)
    if annotated != (height, width):
        raise Rejected(
            "other_size",
            f"{key} is {annotated[0]} × {annotated[1]} here, and {height} × {width} in the "
            "bucket; it was scaled, or turned by its EXIF orientation (see annotations.frame)",
        )
    window = inside({**row, "image_height": height, "image_width": width})
    if window is not None and min(window[2:]) < 1:
        raise Rejected(
            "window_outside", f"the object lies outside {key}, which is {height} × {width}"
        )
    if row["row"] is not None and not (0 <= row["row"] < height and 0 <= row["col"] < width):
        point = f"({row['row']}, {row['col']})"
        raise Rejected("points_outside", f"{point} lies outside {key}, which is {height} × {width}")


def inside(row: Row) -> Window | None:
    """Return the part of an object's window inside its image; None if it has no window."""
    return None if row["top"] is None else clip(row)


def clip(row: Row) -> Window:
    """Return the part of a window inside its image; its size is not positive if there is none."""
    top, left = max(row["top"], 0), max(row["left"], 0)
    bottom = min(row["top"] + row["height"], row["image_height"])
    right = min(row["left"] + row["width"], row["image_width"])
    return top, left, bottom - top, right - left


def places(
    objects: pa.Table, images: pa.Table, chip: ChipParams, params: AnnotationParams
) -> tuple[pa.Table, pa.Table, list[Reject]]:
    """Make a chip of every object's window; with `chip.size`, a square around its middle.

    Returns:
        schemas.CHIPS; schemas.CHIP_ANNOTATIONS; rejects of objects without a window, and of
        conflicts.
    """
    name, size = file_name(params), getattr(chip, "size", None)
    versions = dict(zip(images["key"].to_pylist(), images["version"].to_pylist(), strict=True))
    rejects: list[Reject] = []
    chips: dict[bytes, tuple[Any, ...]] = {}

    def annotations() -> Iterator[ChipAnnotation]:
        for row, window in _with_windows(objects, name, rejects):
            if window is None:
                rejects.append(no_shape(row, name, "has no window"))
                continue
            middle = centre(window)[:2]
            cut = window if size is None else around(*middle, size)
            key, version = row["key"], versions[row["key"]]
            identity = chip_id(key, version, cut)
            chips[identity] = (key, version, *middle, *cut)
            yield annotation(row, middle, identity)

    separator = label_separator(params)
    merged, conflicts = _merge.merged(annotations(), name, separator, schemas.CHIP_ANNOTATIONS)
    return to_table(chips, schemas.CHIPS), merged, rejects + conflicts


def middles(objects: pa.Table, params: AnnotationParams) -> tuple[pa.Table, list[Reject]]:
    """Return each object's point, or its window's middle, as schemas.ANNOTATIONS, and rejects."""
    name = file_name(params)
    rejects: list[Reject] = []

    def annotations() -> Iterator[_merge.Annotation]:
        for row, window in _with_windows(objects, name, rejects):
            point = (row["row"], row["col"]) if window is None else centre(window)[:2]
            if point[0] is None:
                rejects.append(no_shape(row, name, "has no point"))
                continue
            row_at, col_at = point
            yield _merge.Annotation(
                row["key"], row["label"], row["line"], row_at, col_at, row["group"]
            )

    merged, conflicts = _merge.merged(annotations(), name, label_separator(params))
    return merged, rejects + conflicts


def _with_windows(
    objects: pa.Table, name: str, rejects: list[Reject]
) -> Iterator[tuple[Row, Window | None]]:
    """Yield the objects, without outline and mask, and their windows; a crowd is a reject."""
    objects = objects.drop_columns(["outline", "pixels"])
    for batch in objects.to_batches(max_chunksize=schemas.ROW_GROUP_ROWS):
        for row in batch.to_pylist():
            if row["crowd"]:
                rejects.append(no_shape(row, name, "is a crowd"))
            else:
                yield row, inside(row)


def no_shape(row: Row, name: str, what: str) -> Reject:
    """Return the reject of an object that has not the shape that the chip method takes."""
    return _reject(row, name, "no_shape", f"{what}, and chip.method asks for one; left out")


def _reject(row: Row, name: str, reason: str, what: str) -> Reject:
    detail = f"{name}:{row['line']}: {what}"
    return Reject("chip", row["key"], reason, detail, row=row["row"], col=row["col"])
