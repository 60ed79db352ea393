"""The values in annotation files: texts, labels, pixels and numbers, as they are compared."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Any

from pipeline.core import label_sets
from pipeline.core.errors import Rejected, shorten

INT32_MAX = 2**31 - 1
FARTHEST = 1e9
SHOWN = 80
"""Characters of a value that a message shows."""

LONE_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a character, which JSON can spell and no file can hold."""


def text(cell: str | None) -> str | None:
    """Return a label or a group: stripped, in Unicode's normal form C; None if it is blank."""
    return unicodedata.normalize("NFC", cell.strip()) or None if cell else None


def cell_label(cell: str | None, separator: str | None) -> str | None:
    """Return the label in a cell; with a *separator*, its labels as `label_sets.join` has them."""
    if separator is None or not cell:
        return text(cell)
    labels = (text(part) for part in cell.split(separator))
    return label_sets.join((label for label in labels if label), separator) or None


def label(value: Any, separator: str | None) -> str | None:
    """Return *value* as one label; raise Rejected if it contains the *separator*."""
    found = None if value is None else text(str(value))
    if found is not None and LONE_SURROGATE.search(found):
        raise Rejected("unreadable_row", f"the label {found!a} holds half a character")
    if found is not None and separator is not None and separator in found:
        what = f"the label {found!r} holds {separator!r}; set another label_separator"
        raise Rejected("unreadable_row", what)
    return found


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
        raise Rejected("points_outside", f"{what} {cell} lies outside every image")
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
