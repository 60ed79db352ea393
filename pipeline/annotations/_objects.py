"""What formats with points, boxes, outlines and tags in one file share: numbers, windows, names.

Coordinates are continuous, as all of these formats have them: pixel (0, 0) reaches from 0 to 1, so
that a box from 2 to 5 holds the pixels 2, 3 and 4.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.annotations import AnnotationSource, _rows, _text
from pipeline.core import schemas
from pipeline.core.errors import InputError, Rejected, shorten
from pipeline.core.rejects import Reject
from pipeline.core.urls import shown

LEVEL = "object"

Ring = Sequence[float]
"""One closed part of an outline: x and y of its corners, one after the other."""

FRINGE = 1e-3
"""Pixels: a box that reaches so little into a pixel stops before it; percents do not divide."""

FARTHEST = 1e9
CORNERS = 3
SHOWN = 80
"""Letters of a value that a message shows."""


class Settings(_rows.File):
    """The settings of a format that speaks of objects.

    `labelled_by` is for chips that do not follow the objects, as those of a grid: which object's
    label they have, the one that covers their `centre` or the one that covers `most` of them.
    """

    labelled_by: Literal["centre", "most"] = "centre"


@dataclass(frozen=True, slots=True)
class Object(_rows.Annotation):
    """A point (row, col), a thing with a window, or, with neither, a word about the whole image.

    Attributes:
        outline: see schemas.OBJECTS; None: the window, or its pixels, is all that is known.
        pixels: see schemas.OBJECTS; None: see the outline.
        crowd: whether it is a region of many, and no object.
        image_height, image_width: of the image, as the file has it; None where it does not say.
    """

    top: int | None = None
    left: int | None = None
    height: int | None = None
    width: int | None = None
    outline: tuple[tuple[float, ...], ...] | None = None
    pixels: bytes | None = None
    crowd: bool = False
    image_height: int | None = None
    image_width: int | None = None


def table(found: Iterable[Object], rejects: list[Reject]) -> tuple[pa.Table, list[Reject]]:
    """Give what a format returns: schemas.OBJECTS of *found*, in its order, and *rejects*."""
    rows = list(found)
    columns = {name: [getattr(row, name) for row in rows] for name in schemas.OBJECTS.names}
    columns["line"] = [str(line) for line in columns["line"]]
    made = pa.table(columns, schema=schemas.OBJECTS)
    return schemas.conform(made, schemas.OBJECTS, sort=("key",)), rejects


def number(value: Any, what: str, at: str) -> float:
    """Give a coordinate or a length in pixels.

    Raises:
        Rejected: it is no finite number; *at* says where it stands.
    """
    try:
        found = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not abs(found) < FARTHEST:  # NaN is not less either
        shown = shorten(repr(value), SHOWN)
        raise Rejected("not_a_box", f"{at}: {what} {shown} is not a number of pixels")
    return found


def pixel(x: float, y: float) -> dict[str, int]:
    """Give the pixel that a point lies in."""
    return {"row": math.floor(y + FRINGE), "col": math.floor(x + FRINGE)}


def box(edges: Sequence[float], at: str) -> dict[str, int]:
    """Give the smallest window that holds the box with these left, top, right and bottom edges.

    Raises:
        Rejected: there is nothing in it.
    """
    left, top, right, bottom = edges
    if not (right - left > FRINGE and bottom - top > FRINGE):
        raise Rejected(
            "not_a_box", f"{at}: the box from {left:g}, {top:g} to {right:g}, {bottom:g} is empty"
        )
    first = math.floor(top + FRINGE), math.floor(left + FRINGE)
    last = math.ceil(bottom - FRINGE), math.ceil(right - FRINGE)
    height, width = max(last[0] - first[0], 1), max(last[1] - first[1], 1)
    return {"top": first[0], "left": first[1], "height": height, "width": width}


def turned_box(edges: Sequence[float], degrees: float, at: str) -> dict[str, Any]:
    """Give the window of a box, and its outline if it is turned about its middle, clockwise.

    Raises:
        Rejected: there is nothing in it.
    """
    left, top, right, bottom = edges
    upright = box(edges, at)
    if not degrees:
        return dict(upright)
    corners = rectangle(left, top, right - left, bottom - top)
    return outlined([turned(corners, ((left + right) / 2, (top + bottom) / 2), degrees)], at)


def outlined(rings: Iterable[Ring], at: str) -> dict[str, Any]:
    """Give the window and the outline of something with these parts.

    Raises:
        Rejected: a part has fewer than three corners, or there is nothing in them.
    """
    parts = tuple(tuple(number(value, "corner", at) for value in ring) for ring in rings)
    if not parts or any(len(part) < 2 * CORNERS or len(part) % 2 for part in parts):
        raise Rejected("not_a_box", f"{at}: an outline needs three corners or more")
    xs = [x for part in parts for x in part[::2]]
    ys = [y for part in parts for y in part[1::2]]
    window = box((min(xs), min(ys), max(xs), max(ys)), at)
    return {**window, "outline": parts}


def masked(mask: NDArray[np.bool_], top: int, left: int, at: str) -> dict[str, Any]:
    """Give the window and the pixels of something.

    Args:
        mask: bool [H, W]: which pixels it has, of those from *top*, *left* on.
        top: the first row.
        left: the first column.
        at: where the file says so.

    Raises:
        Rejected: it has none.
    """
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise Rejected("not_a_box", f"{at}: the mask is empty")
    part = mask[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    window = {"top": top + int(rows[0]), "left": left + int(cols[0])}
    size = {"height": part.shape[0], "width": part.shape[1]}
    return {**window, **size, "pixels": np.packbits(part).tobytes()}


def check_mask(
    size: tuple[int, int], image: tuple[int, int] | None, at: str, *, is_whole: bool
) -> None:
    """See that a mask of *size* fits its image in the index, before it is unpacked.

    Raises:
        Rejected: it has not the size of the *image*, or of a part of it; or there is none.
    """
    if image is None:
        raise Rejected("no_such_image", f"{at}: the image of its mask is not in the index")
    if size != image if is_whole else size[0] > image[0] or size[1] > image[1]:
        high, wide = image
        what = f"its mask has {size[0]} × {size[1]} pixels, and the image {high} × {wide}"
        raise Rejected("other_size", f"{at}: {what}")


def runs(counts: Sequence[int], size: int, at: str) -> NDArray[np.bool_]:
    """Give *size* pixels of a mask by the lengths of its runs, the first outside of it.

    Raises:
        Rejected: the runs do not fill it.
    """
    if any(count < 0 for count in counts) or sum(counts) != size:
        raise Rejected("not_a_box", f"{at}: the runs of its mask do not add up to {size:,} pixels")
    return np.repeat(np.arange(len(counts)) % 2 == 1, np.asarray(counts, np.int64))


def turned(corners: Ring, about: tuple[float, float], degrees: float) -> list[float]:
    """Turn *corners* clockwise, as they are seen, about a point."""
    x, y = np.asarray(corners[::2]) - about[0], np.asarray(corners[1::2]) - about[1]
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    ahead, down = about[0] + x * cosine - y * sine, about[1] + x * sine + y * cosine
    return [float(value) for value in np.stack([ahead, down], axis=1).ravel()]


def rectangle(left: float, top: float, width: float, height: float) -> list[float]:
    """Give the corners of an upright box."""
    return [left, top, left + width, top, left + width, top + height, left, top + height]


def ellipse(x: float, y: float, across: float, down: float, corners: int = 64) -> list[float]:
    """Give an outline of *corners* corners for the ellipse with these centre and radii."""
    turn = np.linspace(0, 2 * math.pi, corners, endpoint=False)
    at = np.stack([x + across * np.cos(turn), y + down * np.sin(turn)], axis=1)
    return [float(value) for value in at.ravel()]


def label(value: Any, separator: str | None, at: str) -> str | None:
    """Give one label as it is compared.

    Raises:
        Rejected: it holds what stands between labels.
    """
    found = _rows.text(str(value)) if value is not None else None
    if found is not None and not _is_text(found):
        raise Rejected("unreadable_row", f"{at}: the label {found!a} holds half a character")
    if found is not None and separator is not None and separator in found:
        raise Rejected(
            "unreadable_row",
            f"{at}: the label {found!r} holds {separator!r}; set another label_separator",
        )
    return found


def _is_text(found: str) -> bool:
    """Say whether *found* can be written: JSON can name half a character."""
    try:
        found.encode()
    except UnicodeEncodeError:
        return False
    return True


def from_json(source: AnnotationSource) -> Any:
    """Read a JSON file, in UTF-8, -16 or -32.

    Raises:
        InputError: it is none.
    """
    _text.check_text(source, "unpack it and name the JSON file in it")
    try:
        return json.loads(source.data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source.name}: not JSON: {error}") from error


UPLOADED = re.compile(r"^[0-9a-f]{8}-(?=.)")
"""What Label Studio puts before the name of an uploaded file."""

FROM_ELSEWHERE = re.compile(r"([A-Za-z]:)?/|\.{1,2}/|.*://", re.DOTALL)
"""How names begin that are addresses, or paths on somebody's machine: none of them can be a key."""


class Names:
    """The keys of images by the names and addresses that annotation tools give them.

    Args:
        source: with the keys of all images, and their sizes.
        prefix: `annotations.prefix`: what stands before a name in its key.
    """

    def __init__(self, source: AnnotationSource, prefix: str) -> None:
        self.keys, self.prefix = frozenset(source.keys), prefix
        self.sizes = dict(zip(source.keys, source.sizes, strict=False))

    def key(self, name: str) -> str:
        """Give the key that *name* means: with the prefix; or, of an address, the longest end.

        Windows' backslashes are slashes, unless there is such a key. What has no ending is the one
        image that has that name before its ending. Of an address that means none, it is what may be
        shown of it: it can be a signed one.
        """
        whole = self.prefix + name
        if whole in self.keys:
            return whole
        if not _is_text(name):
            return self.prefix + ascii(name)
        name = name.replace("\\", "/")
        whole = self.prefix + (shown(name) if "://" in name else name)
        found = next((end for end in self._ends(name) if end in self.keys), None)
        if found is None and name and "." not in whole.rpartition("/")[2]:
            found = self._stems.get(whole)
        return found or whole

    @cached_property
    def _stems(self) -> dict[str, str]:
        """Give the key of every name without its ending, and nothing where it has two."""
        stems: dict[str, str] = {}
        for key in self.keys:
            stem = key.rpartition(".")[0]
            stems[stem] = "" if stem in stems else key
        return stems

    def _ends(self, name: str) -> Iterator[str]:
        if not FROM_ELSEWHERE.match(name):
            return
        try:
            parts = urlsplit(name)
        except ValueError:
            return
        path = (parse_qs(parts.query).get("d") or [unquote(parts.path)])[0]
        steps = path.replace("\\", "/").lstrip("/").split("/")
        for start in range(len(steps)):
            yield self.prefix + "/".join(steps[start:])
        yield self.prefix + UPLOADED.sub("", steps[-1])
