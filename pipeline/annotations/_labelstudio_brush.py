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
    """Return which pixels were painted: bool [height, width].

    The memory it takes is that of the result and of *packed*, whatever the runs claim.

    Raises:
        ValueError: it is not such a list of bytes, or of a picture of another size.
    """
    if not isinstance(packed, Sequence) or not all(type(byte) is int for byte in packed):
        raise ValueError("is no list of bytes")
    bits = "".join(f"{byte:08b}" for byte in bytes(packed))
    start = 0

    def take(count: int) -> str:
        nonlocal start
        start += count
        if start > len(bits):
            raise ValueError("ends early")
        return bits[start - count : start]

    total, size = int(take(32), 2), CHANNELS * height * width
    if total != size:
        raise ValueError(f"holds {total:,} values, and its image has {size:,}")
    each = int(take(5), 2) + 1
    widths = [int(take(4), 2) + 1 for _ in range(WIDTHS)]
    painted = np.zeros(height * width, np.bool_)
    place = 0
    while place < total:
        is_repeated = take(1) == "1"
        end = place + 1 + int(take(widths[int(take(2), 2)]), 2)
        if end > total:
            raise ValueError("its runs are longer than its picture")
        values = take(each if is_repeated else each * (end - place))
        digits = np.frombuffer(values.encode(), np.uint8).reshape(-1, each)
        is_set = (digits == ord("1")).any(axis=1)
        alphas = is_set if is_repeated else is_set[(CHANNELS - 1 - place) % CHANNELS :: CHANNELS]
        painted[place // CHANNELS : end // CHANNELS] = alphas  # the last of each four values
        place = end
    return painted.reshape(height, width)
