"""Windows on images: four whole numbers, and the pixels that they cut out.

A window is top, left, height, width in the stored image's pixels and may reach over the border,
where the image is continued by reflection.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

VERSION = 1

Window = tuple[int, int, int, int]
Pixels = NDArray[np.uint8]


def around(row: int, col: int, size: int) -> Window:
    """Give the square window of *size* pixels whose centre is the pixel (*row*, *col*).

    The pixel lies at index [size / 2, size / 2] of the window, rounded up for an odd size.

    Source: PySpacer 0.14, `extractors/utils.py: crop_simple`.
    """
    half = (size + 1) // 2
    return row - half, col - half, size, size


def crop(pixels: Pixels, window: Window) -> Pixels:
    """Cut *window* out of *pixels*, reflecting what lies over the border.

    The edge pixel itself is not repeated, and a window larger than the image sees it reflected
    again and again, as `numpy.pad(mode="reflect")` has it; an axis of one pixel is repeated.

    Args:
        pixels: uint8 [H, W, 3]; not copied where the window lies inside.
        window: may reach over the border by any distance.

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
    """Fold positions *start*, … of an endless reflection back onto 0 … *size* - 1."""
    if size == 1:
        return np.zeros(length, dtype=np.intp)
    period = 2 * (size - 1)
    place = np.arange(start, start + length, dtype=np.intp) % period
    folded: NDArray[np.intp] = np.minimum(place, period - place)
    return folded
