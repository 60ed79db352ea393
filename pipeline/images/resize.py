"""Resize a chip of any size to the extractor's square.

`stretch` stretches the whole chip to the square: its shape and its size are lost. `pad` keeps both:
all chips of the data set are brought to one scale, at which `extract.pad_extent` pixels fill the
square, and each is centred on its own background. Only a chip larger than that is shrunk further.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from pipeline.config.sections import ExtractParams
from pipeline.images.windows import Pixels

VERSION = 1


def resize_chip(chip: Pixels, size: int, extract: ExtractParams) -> Pixels:
    """Return *chip* resized to the extractor's square by `extract.resize`.

    Resizing is bilinear with antialiasing, as in torchvision's presets.

    Args:
        chip: uint8 [h, w, 3], of any size.
        size: side of the square.
        extract: `resize` and `pad_extent`.

    Returns:
        uint8 [size, size, 3]; *chip* itself if it already has that size.
    """
    if extract.resize == "stretch":
        return _resized(chip, size, size)
    height, width = chip.shape[:2]
    longest = max(extract.pad_extent, height, width)
    inner = _resized(chip, _scaled(height, size, longest), _scaled(width, size, longest))
    if inner.shape[:2] == (size, size):
        return inner
    square = np.empty((size, size, 3), np.uint8)
    square[:] = border_colour(chip)
    top, left = (size - inner.shape[0]) // 2, (size - inner.shape[1]) // 2
    square[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return square


def _scaled(length: int, size: int, longest: int) -> int:
    """Return length × size / longest, rounded half up, at least 1."""
    return max((2 * length * size + longest) // (2 * longest), 1)


def _resized(chip: Pixels, height: int, width: int) -> Pixels:
    if chip.shape[:2] == (height, width):
        return chip
    return np.asarray(Image.fromarray(chip).resize((width, height), Image.Resampling.BILINEAR))


def border_colour(chip: Pixels) -> Pixels:
    """Return the median colour of the outermost pixels, by channel: uint8 [3].

    For an even number of pixels it is the lower of the middle two, a value that occurs.
    """
    middle = chip[1:-1]
    sides = (chip[:1], chip[1:][-1:], middle[:, :1], middle[:, 1:][:, -1:])
    border = np.sort(np.concatenate([side.reshape(-1, 3) for side in sides]), axis=0)
    median: Pixels = border[(len(border) - 1) // 2]
    return median
