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

from pipeline.core.errors import Rejected

CHANNELS = 4


def unpack(packed: Any, height: int, width: int) -> NDArray[np.bool_]:
    """Return which pixels were painted: bool [height, width]; raise Rejected if that is unclear.

    The memory it takes is that of the result and of *packed*, whatever the runs claim.
    """
    is_list = isinstance(packed, Sequence) and all(type(byte) is int for byte in packed)
    if not is_list or not all(0 <= byte < 256 for byte in packed):  # noqa: PLR2004 - bytes
        raise Rejected("not_a_box", "its brush is not a list of bytes")
    bits = "".join(f"{byte:08b}" for byte in packed)
    start = 0

    def take(count: int) -> str:
        nonlocal start
        start += count
        if start > len(bits):
            raise Rejected("not_a_box", "its brush ends early")
        return bits[start - count : start]

    total, size = int(take(32), 2), CHANNELS * height * width
    if total != size:
        what = f"its brush has {total:,} values, and its image {size:,}"
        raise Rejected("not_a_box", what)
    each = int(take(5), 2) + 1
    widths = [int(take(4), 2) + 1 for _ in range(4)]
    painted = np.zeros(height * width, np.bool_)
    place = 0
    while place < total:
        is_repeated = take(1) == "1"
        end = place + 1 + int(take(widths[int(take(2), 2)]), 2)
        if end > total:
            raise Rejected("not_a_box", "its brush has runs that are longer than its image")
        values = take(each if is_repeated else each * (end - place))
        digits = np.frombuffer(values.encode(), np.uint8).reshape(-1, each)
        is_set = (digits == ord("1")).any(axis=1)
        alphas = is_set if is_repeated else is_set[(CHANNELS - 1 - place) % CHANNELS :: CHANNELS]
        painted[place // CHANNELS : end // CHANNELS] = alphas  # the last of each four values
        place = end
    return painted.reshape(height, width)
