"""Windows: rectangles in an image, and the pixels in them.

A window is top, left, height and width in the stored image's pixels. It may extend beyond the
border, where the image is continued by reflection.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

VERSION = 1

Window = tuple[int, int, int, int]
Pixels = NDArray[np.uint8]


def around(row: int, col: int, size: int) -> Window:
    """Return the square window of *size* pixels around the pixel (*row*, *col*).

    The pixel is at [size / 2, size / 2] of the window, rounded up for an odd size.

    Source: PySpacer 0.14, `extractors/utils.py: crop_simple`.
    """
    half = (size + 1) // 2
    return row - half, col - half, size, size


def crop(pixels: Pixels, window: Window) -> Pixels:
    """Return the pixels in *window*, reflected where it extends beyond the border.

    As in `numpy.pad(mode="reflect")`, the edge pixel itself is not repeated, and a window larger
    than the image shows it reflected several times; an axis of one pixel is repeated.

    Args:
        pixels: uint8 [H, W, 3]; not copied where the window is inside.
        window: may extend beyond the border by any distance.

    Returns:
        uint8 [height, width, 3]: a view or a new array, not to be written to.

    Source: bit-equal to PySpacer 0.14, `extractors/utils.py: crop_patches`.
    """
    top, left, height, width = window
    rows, cols = pixels.shape[:2]
    if top >= 0 and left >= 0 and top + height <= rows and left + width <= cols:
        return pixels[top : top + height, left : left + width]
    return pixels[np.ix_(_reflected(top, height, rows), _reflected(left, width, cols))]


def _reflected(start: int, length: int, size: int) -> NDArray[np.intp]:
    """Return the indices 0 … *size* - 1 that positions *start*, … of an endless reflection show."""
    if size == 1:
        return np.zeros(length, dtype=np.intp)
    period = 2 * (size - 1)
    position = np.arange(start, start + length, dtype=np.intp) % period
    indices: NDArray[np.intp] = np.minimum(position, period - position)
    return indices
