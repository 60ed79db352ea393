"""Label Studio's brush: the runs in which it packs a picture of what was painted.

Source: `rle-pack` of https://github.com/thi-ng/umbrella, which Label Studio packs with: 32 bits for
the number of values, 5 for the bits of one, 4 for each of the four widths that lengths are written
in; then runs, each of one bit (one value repeated, or values), 2 bits for the width of its length,
its length less one, and the value or the values. The picture is RGBA; painted is what is not
transparent (https://github.com/HumanSignal/label-studio-converter, `brush.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHANNELS = 4
WIDTHS = 4


def unpack(packed: Any, height: int, width: int) -> NDArray[np.bool_]:
    """Give which pixels were painted: bool [height, width].

    The memory it takes is that of the result and of *packed*, whatever the runs claim.

    Raises:
        ValueError: it is no such list of bytes, or of a picture of another size.
    """
    bits = _Bits(packed)
    total, size = bits.read(32), CHANNELS * height * width
    if total != size:
        raise ValueError(f"holds {total:,} values, and its image has {size:,}")
    each = bits.read(5) + 1
    widths = [bits.read(4) + 1 for _ in range(WIDTHS)]
    painted = np.zeros(height * width, np.bool_)
    place = 0
    while place < total:
        is_repeated = bits.read(1)
        end = place + 1 + bits.read(widths[bits.read(2)])
        if end > total:
            raise ValueError("its runs are longer than its picture")
        alphas = slice(place // CHANNELS, end // CHANNELS)  # the last of each four values
        if is_repeated:
            painted[alphas] = bits.read(each) > 0
        else:
            first = (CHANNELS - 1 - place) % CHANNELS
            painted[alphas] = bits.values(end - place, each)[first::CHANNELS]
        place = end
    return painted.reshape(height, width)


class _Bits:
    """Numbers of any width, one after the other, the highest bit first."""

    def __init__(self, packed: Any) -> None:
        if not isinstance(packed, Sequence) or not all(type(byte) is int for byte in packed):
            raise ValueError("is no list of bytes")
        self.data = bytes(packed)  # ValueError: one is no byte
        self.place = 0

    def read(self, width: int) -> int:
        first, self.place = self.place, self.place + width
        if self.place > 8 * len(self.data):
            raise ValueError("ends early")
        end = -(-self.place // 8)
        number = int.from_bytes(self.data[first // 8 : end], "big")
        return (number >> (8 * end - self.place)) & ((1 << width) - 1)

    def values(self, count: int, width: int) -> NDArray[np.bool_]:
        """Say of *count* numbers of *width* which are not 0."""
        first, self.place = self.place, self.place + count * width
        if self.place > 8 * len(self.data):
            raise ValueError("ends early")
        part = np.frombuffer(self.data[first // 8 : -(-self.place // 8)], np.uint8)
        bits = np.unpackbits(part)[first % 8 :][: count * width]
        return np.asarray(bits.reshape(count, width).any(axis=1))
