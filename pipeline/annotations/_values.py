"""The values in annotation files: labels and numbers; points, boxes, outlines and masks.

A shape is the fields of an Object. Coordinates are pixels, and continuous: pixel (0, 0) reaches
from 0 to 1, so that a box from 2 to 5 contains the pixels 2, 3 and 4. All functions raise Rejected
for a value that is not valid, and for a shape without pixels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from pipeline.core import label_sets
from pipeline.core.errors import Rejected, shorten

INT32_MAX = 2**31 - 1
FARTHEST = 1e9
FRINGE = 1e-3
"""Pixels: a box that overlaps a pixel by less ends before it, because percents are rounded."""
CORNERS, PAIR, ELLIPSE_CORNERS = 3, 2, 64
SHOWN = 80
"""Characters of a value that a message shows."""
LONE_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a character, which JSON can spell and no file can contain."""

Shape = dict[str, Any]


def text(cell: str | None) -> str | None:
    """Return a label or a group, stripped and in Unicode's normal form C; None if it is blank."""
    return normalize("NFC", cell.strip()) or None if cell else None


def cell_label(cell: str | None, separator: str | None) -> str | None:
    """Return the label in a cell; with a *separator*, its labels as `label_sets.join` has them."""
    if separator is None or not cell:
        return text(cell)
    labels = (text(part) for part in cell.split(separator))
    return label_sets.join((label for label in labels if label), separator) or None


def label(value: Any, separator: str | None) -> str | None:
    """Return *value* as one label; raise Rejected if it contains the *separator*."""
    name = None if value is None else text(str(value))
    if name is not None and LONE_SURROGATE.search(name):
        raise Rejected("unreadable_row", f"the label {name!a} contains half a character")
    if name is not None and separator is not None and separator in name:
        what = f"the label {name!r} contains {separator!r}; set another label_separator"
        raise Rejected("unreadable_row", what)
    return name


def pixel(cell: str, what: str) -> int:
    """Return *cell*, as `10` or `10.0`, as a row or column; raise Rejected if it cannot be one."""
    try:
        # Python's float() also takes other digits than 0 to 9, and underscores.
        value = float(cell) if cell.strip().isascii() and "_" not in cell else math.nan
    except ValueError:
        value = math.nan
    if value % 1 != 0:  # NaN and infinity too
        raise Rejected("not_a_pixel", f"{what} {cell!r} is not a whole number")
    if abs(value) > INT32_MAX:
        raise Rejected("points_outside", f"{what} {cell} is outside every image")
    return int(value)


def number(value: Any, what: str) -> float:
    """Return *value* as a coordinate or length in pixels; raise Rejected if it is not finite."""
    try:
        pixels = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        pixels = math.nan
    if not abs(pixels) < FARTHEST:  # this way round, NaN is refused too
        shown = shorten(repr(value), SHOWN)
        raise Rejected("not_a_box", f"{what} {shown} is not a number of pixels")
    return pixels


def numbers(values: Mapping[str, Any], *names: str) -> list[float]:
    """Return these of the *values* as coordinates or lengths in pixels."""
    return [number(values.get(name), name) for name in names]


def point(x: float, y: float) -> Shape:
    """Return the pixel that a point is in."""
    return {"row": math.floor(y + FRINGE), "col": math.floor(x + FRINGE)}


def box(left: float, top: float, right: float, bottom: float, degrees: float = 0) -> Shape:
    """Return the window of a box; or, if it is turned about its centre, clockwise, its outline."""
    if not (right - left > FRINGE and bottom - top > FRINGE):
        where = f"{left:g}, {top:g} to {right:g}, {bottom:g}"
        raise Rejected("not_a_box", f"the box from {where} is empty")
    if degrees:
        corners = (left, top), (right, top), (right, bottom), (left, bottom)
        return turned(corners, ((left + right) / 2, (top + bottom) / 2), degrees)
    first = math.floor(top + FRINGE), math.floor(left + FRINGE)
    last = math.ceil(bottom - FRINGE), math.ceil(right - FRINGE)
    height, width = max(last[0] - first[0], 1), max(last[1] - first[1], 1)
    return {"top": first[0], "left": first[1], "height": height, "width": width}


def ellipse(x: float, y: float, across: float, down: float, degrees: float = 0) -> Shape:
    """Return the outline of an ellipse with this centre and radii, turned about it clockwise."""
    angles = np.linspace(0, 2 * math.pi, ELLIPSE_CORNERS, endpoint=False)
    ring = np.stack([x + across * np.cos(angles), y + down * np.sin(angles)], axis=1)
    return turned(ring, (x, y), degrees)


def turned(corners: Any, about: tuple[float, float], degrees: float) -> Shape:
    """Return the outline with these corners, [n, 2], turned about a point clockwise."""
    x, y = (np.asarray(corners) - about).T
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    across, down = about[0] + x * cosine - y * sine, about[1] + x * sine + y * cosine
    return polygon(np.stack([across, down], axis=1).tolist())


def polygon(corners: Iterable[Sequence[float]]) -> Shape:
    """Return the window and the outline of something with these corners."""
    return outline([[value for corner in corners for value in corner]])


def outline(rings: Iterable[Sequence[float]]) -> Shape:
    """Return the window and the outline of something with these parts, each x, y, x, y, …."""
    parts = tuple(tuple(number(value, "corner") for value in ring) for ring in rings)
    if not parts or any(len(part) < 2 * CORNERS or len(part) % 2 for part in parts):
        raise Rejected("not_a_box", "an outline needs three corners or more")
    xs = [x for part in parts for x in part[::2]]
    ys = [y for part in parts for y in part[1::2]]
    return {**box(min(xs), min(ys), max(xs), max(ys)), "outline": parts}


def pairs(points: Any) -> list[tuple[float, float]]:
    """Return a file's list of pairs as numbers."""
    is_list = isinstance(points, list)
    if not is_list or not all(isinstance(pair, list) and len(pair) == PAIR for pair in points):
        shown = shorten(repr(points), SHOWN)
        raise Rejected("not_a_box", f"its points {shown} are not a list of pairs")
    return [(number(x, "x"), number(y, "y")) for x, y in points]


def mask(pixels: NDArray[np.bool_], top: int = 0, left: int = 0) -> Shape:
    """Return the window and the mask of something; *pixels*: bool, those from *top*, *left* on."""
    rows, cols = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if not len(rows):
        raise Rejected("not_a_box", "the mask is empty")
    part = pixels[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    window = {"top": top + int(rows[0]), "left": left + int(cols[0])}
    size = {"height": part.shape[0], "width": part.shape[1]}
    return {**window, **size, "pixels": np.packbits(part).tobytes()}


def check_mask(size: tuple[int, ...], image: tuple[int, int] | None, *, is_whole: bool) -> None:
    """Check that a mask of this height and width fits its image, before it is unpacked."""
    if image is None:
        raise Rejected("no_such_image", "the image of its mask is not in the index")
    if size != image if is_whole else size[0] > image[0] or size[1] > image[1]:
        what = f"its mask has {size[0]} × {size[1]} pixels, and the image {image[0]} × {image[1]}"
        raise Rejected("other_size", what)


def unpacked(runs: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """Return a mask, bool [height, width], by the lengths of its runs; the first is outside."""
    size = height * width
    if any(length < 0 for length in runs) or sum(runs) != size:
        raise Rejected("not_a_box", f"the runs of its mask do not add up to {size:,} pixels")
    pixels = np.repeat(np.arange(len(runs)) % 2 == 1, np.asarray(runs, np.int64))
    return pixels.reshape(height, width)
