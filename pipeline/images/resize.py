"""Fit: a chip of any size in the extractor's square, by the rule that the recipe names.

`stretch` fills the whole chip to the square: its shape and its size are lost. `pad` keeps both:
every chip of the data set is brought to one scale, at which `span` pixels fill the square, and
stands in the middle of its own background. Only a chip that is larger is shrunk further.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from pipeline.config.sections import ExtractParams
from pipeline.images.windows import Pixels

VERSION = 1


def fit(chip: Pixels, size: int, extract: ExtractParams) -> Pixels:
    """Give *chip* as the extractor takes it.

    Resizing is bilinear with antialiasing, as torchvision's presets do it.

    Args:
        chip: uint8 [h, w, 3], of any size.
        size: of the extractor's square.
        extract: the rule.

    Returns:
        uint8 [size, size, 3]; *chip* itself where nothing is to be done.
    """
    if extract.resize == "stretch":
        return _resized(chip, size, size)
    height, width = chip.shape[:2]
    longest = max(extract.pad_extent, height, width)
    inner = _resized(chip, _scaled(height, size, longest), _scaled(width, size, longest))
    if inner.shape[:2] == (size, size):
        return inner
    square = np.empty((size, size, 3), np.uint8)
    square[:] = background(chip)
    top, left = (size - inner.shape[0]) // 2, (size - inner.shape[1]) // 2
    square[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return square


def _scaled(length: int, size: int, longest: int) -> int:
    """Scale *length* by size / longest, rounded half up; a pixel at least."""
    return max((2 * length * size + longest) // (2 * longest), 1)


def _resized(chip: Pixels, height: int, width: int) -> Pixels:
    if chip.shape[:2] == (height, width):
        return chip
    return np.asarray(Image.fromarray(chip).resize((width, height), Image.Resampling.BILINEAR))


def background(chip: Pixels) -> Pixels:
    """Give the median colour of the chip's border, each channel by itself: uint8 [3].

    Of an even number of pixels it is the lower of the middle two, so that it is a value that is
    there.
    """
    between = chip[1:-1]
    sides = (chip[:1], chip[1:][-1:], between[:, :1], between[:, 1:][:, -1:])
    border = np.sort(np.concatenate([side.reshape(-1, 3) for side in sides]), axis=0)
    median: Pixels = border[(len(border) - 1) // 2]
    return median
