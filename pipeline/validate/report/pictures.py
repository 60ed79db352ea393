"""Pictures of chips for the report."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw

from pipeline.images.windows import Pixels, Window

FEW = 60
SIDE_OF_FEW = 320
SIDE_OF_MANY = 176
"""Pixels. Noise compresses worst: 60 and 200 pictures of it are 6.2 and 6.3 MB in base64, so that
the page stays below 10 MB."""

TINY = 96
"""Up to so many pixels wide and high, a picture keeps every pixel: 200 of them are 7.4 MB."""

QUALITY = 85
SURROUNDINGS = 2
"""A picture is so many times as wide and high as its chip."""


def picture(pixels: Pixels, window: Window, count: int) -> bytes:
    """Return a chip in its surroundings as WebP, in a frame.

    A chip that is its whole image has no surroundings, and no frame.

    Args:
        pixels: uint8 [height, width, 3], the whole image; not modified.
        window: of the chip; it may reach over the image's edge, the picture does not.
        count: how many pictures the page has.
    """
    chip = _inside(window, pixels)
    top, left, height, width = _inside(_around(window), pixels)
    image = Image.fromarray(np.ascontiguousarray(pixels[top : top + height, left : left + width]))
    side = SIDE_OF_FEW if count <= FEW else SIDE_OF_MANY
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    if chip != (top, left, height, width):
        shrink = width / image.width
        row, col = (chip[0] - top) / shrink, (chip[1] - left) / shrink
        _frame(image, (col, row, col + chip[3] / shrink, row + chip[2] / shrink))
    sink = io.BytesIO()
    image.save(sink, "WEBP", quality=QUALITY, lossless=max(image.size) <= TINY)
    return sink.getvalue()


def _around(window: Window) -> Window:
    top, left, height, width = window
    rows, cols = height * (SURROUNDINGS - 1) // 2, width * (SURROUNDINGS - 1) // 2
    return top - rows, left - cols, height + 2 * rows, width + 2 * cols


def _inside(window: Window, pixels: Pixels) -> Window:
    """Return the part of *window* that is inside the image."""
    top, left, height, width = window
    bottom, right = min(top + height, pixels.shape[0]), min(left + width, pixels.shape[1])
    top, left = max(top, 0), max(left, 0)
    return top, left, bottom - top, right - left


def _frame(image: Image.Image, box: tuple[float, float, float, float]) -> None:
    """Draw a white frame in a black one just outside *box*: one of them shows on any background."""
    left, top, right, bottom = (round(value) for value in box)
    draw = ImageDraw.Draw(image)
    for away, colour in ((1, "white"), (2, "white"), (3, "black")):
        draw.rectangle((left - away, top - away, right + away - 1, bottom + away - 1), None, colour)
