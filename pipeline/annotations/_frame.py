"""The frame of annotations: the image as it is stored, or as EXIF says that it is displayed.

A camera that is held upright stores the picture lying, with an EXIF orientation; some tools show it
turned, with places in what they show. Chips are windows of the stored image.

Source: EXIF 2.32, tag 274: 2 is mirrored, 3 turned by 180°, 4 mirrored top to bottom, 5 transposed,
6 turned clockwise, 7 transposed about the other diagonal, 8 turned counter-clockwise.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.annotations import frame
from pipeline.config.sections import AnnotationParams
from pipeline.core import schemas
from pipeline.core.errors import Rejected
from pipeline.core.rejects import Reject
from pipeline.core.run_log import pluralize

log = logging.getLogger(__name__)

FLIPPED_ROWS, FLIPPED_COLS, SIDEWAYS = {3, 4, 6, 7}, {2, 3, 7, 8}, {5, 6, 7, 8}
"""Orientations whose stored rows or columns run backwards; that exchange the two, before that."""

WINDOW = ("top", "left", "height", "width")

NAMED = 3
"""Images in a message."""

Window = tuple[int, int, int, int]
Row = dict[str, Any]


def displayed_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return height and width as displayed of an image stored with this *size*."""
    return size[::-1] if orientation in SIDEWAYS else size


def stored_window(window: Window, size: tuple[int, int], orientation: int) -> Window:
    """Return a window of the displayed image as one of the image stored with this *size*."""
    top, left, height, width = window
    if orientation in SIDEWAYS:
        top, left, height, width = left, top, width, height
    return _flipped((top, left, height, width), size, orientation)


def displayed_window(window: Window, size: tuple[int, int], orientation: int) -> Window:
    """Return a window of the image stored with this *size* as one of the displayed image."""
    top, left, height, width = _flipped(window, size, orientation)
    return (left, top, width, height) if orientation in SIDEWAYS else (top, left, height, width)


def _flipped(window: Window, size: tuple[int, int], orientation: int) -> Window:
    top, left, height, width = window
    top = size[0] - top - height if orientation in FLIPPED_ROWS else top
    left = size[1] - left - width if orientation in FLIPPED_COLS else left
    return top, left, height, width


def _turned(annotations: pa.Table, images: pa.Table) -> list[str]:
    """Return the keys of the images with a place in *annotations* that are displayed turned."""
    is_place = pc.is_valid(annotations["row"])
    if "top" in annotations.schema.names:
        is_place = pc.or_(is_place, pc.is_valid(annotations["top"]))
    keys = annotations["key"].filter(is_place)
    images = images.filter(pc.not_equal(images["orientation"], 1))
    return sorted(images["key"].filter(pc.is_in(images["key"], value_set=keys)).to_pylist())


def report_turned(annotations: pa.Table, images: pa.Table, params: AnnotationParams) -> None:
    """Log which annotated images are displayed turned; warn if nobody has set their frame."""
    turned = _turned(annotations, images)
    if not turned:
        return
    is_set = getattr(params, "frame", None) is not None
    log.log(
        logging.INFO if is_set else logging.WARNING,
        "chip: %s with annotations %s an EXIF orientation, such as %s; rows and columns are read "
        "as those of the %s image%s",
        pluralize(len(turned), "images"),
        "has" if len(turned) == 1 else "have",
        ", ".join(turned[:NAMED]),
        frame(params),
        "" if is_set else f", as in {params.format}; annotations.frame says which",
    )


def to_stored(annotations: pa.Table, images: pa.Table, name: str) -> tuple[pa.Table, list[Reject]]:
    """Return *annotations* of displayed images as those of the stored ones, and rejects.

    Args:
        annotations: schemas.ANNOTATIONS or schemas.OBJECTS.
        images: schemas.IMAGES.
        name: the annotation file's name, for messages.
    """
    columns = ["key", "height", "width", "orientation"]
    sides = {row["key"]: row for row in images.select(columns).to_pylist()}
    keys = pa.array(_turned(annotations, images), pa.string())
    is_turned = pc.is_in(annotations["key"], value_set=keys)
    rows, rejects = [], []
    for row in annotations.filter(is_turned).to_pylist():
        image = sides[row["key"]]
        try:
            rows.append(_to_stored(row, (image["height"], image["width"]), image["orientation"]))
        except Rejected as error:
            detail = f"{name}:{row['line']}: {error.detail}"
            place = {"row": row["row"], "col": row["col"]}
            rejects.append(Reject("chip", row["key"], error.reason, detail, **place))
    schema = annotations.schema
    stored = pa.Table.from_pylist(rows, schema=schema)
    others = annotations.filter(pc.invert(is_turned))
    sort = ("key",) if schema.equals(schemas.OBJECTS) else schemas.SORT_KEYS
    return schemas.conform(pa.concat_tables([others, stored]), schema, sort), rejects


def _to_stored(row: Row, size: tuple[int, int], orientation: int) -> Row:
    """Return an annotation of an image stored with this *size*; raise Rejected if it is outside."""
    shown = displayed_size(size, orientation)
    stated = row.get("image_height") or shown[0], row.get("image_width") or shown[1]
    if stated != shown:
        raise Rejected(
            "other_size",
            f"{row['key']} is {stated[0]} × {stated[1]} here, and its EXIF orientation displays it "
            f"as {shown[0]} × {shown[1]}; it was scaled, or annotations.frame should be stored",
        )
    row = {**row, **({"image_height": None, "image_width": None} if "top" in row else {})}
    if row["row"] is not None:
        point = row["row"], row["col"]
        if not (0 <= point[0] < shown[0] and 0 <= point[1] < shown[1]):
            what = f"lies outside {row['key']}, which is displayed as {shown[0]} × {shown[1]}"
            raise Rejected("points_outside", f"{point} {what}")
        row["row"], row["col"] = stored_window((*point, 1, 1), size, orientation)[:2]
    if row.get("top") is None:
        return row
    window = row["top"], row["left"], row["height"], row["width"]
    row |= dict(zip(WINDOW, stored_window(window, size, orientation), strict=True))
    if row["outline"] is not None:
        row["outline"] = [_stored_ring(ring, size, orientation) for ring in row["outline"]]
    if row["pixels"] is not None:
        row["pixels"] = _stored_mask(row["pixels"], window[2:], orientation)
    return row


def _stored_ring(ring: list[float], size: tuple[int, int], orientation: int) -> list[float]:
    """Return an outline's part, x, y, x, y, …, of the displayed image as one of the stored."""
    xs, ys = np.asarray(ring[::2]), np.asarray(ring[1::2])
    if orientation in SIDEWAYS:
        xs, ys = ys, xs
    xs = size[1] - xs if orientation in FLIPPED_COLS else xs
    ys = size[0] - ys if orientation in FLIPPED_ROWS else ys
    corners: list[float] = np.stack([xs, ys], axis=1).ravel().tolist()
    return corners


def _stored_mask(pixels: bytes, size: tuple[int, int], orientation: int) -> bytes:
    """Return a mask, packed bits of a window of this *size*, turned as its window is."""
    bits = np.unpackbits(np.frombuffer(pixels, np.uint8), count=size[0] * size[1]).reshape(size)
    if orientation in SIDEWAYS:
        bits = bits.T
    bits = bits[::-1] if orientation in FLIPPED_ROWS else bits
    bits = bits[:, ::-1] if orientation in FLIPPED_COLS else bits
    return np.packbits(bits).tobytes()
