"""Compute rows in blocks of one shape, so that no bit of a row depends on the rows beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray


def in_blocks(
    compute: Callable[[NDArray[Any]], NDArray[Any]], rows: NDArray[Any], size: int
) -> NDArray[Any]:
    """Return *compute* of *rows* [n, k], called with *size* rows at a time, the last padded.

    A matrix product of another shape may add up in another order.

    Args:
        compute: returns a new array with a row for each row.
        rows: [n, k].
        size: rows of a block.
    """
    block = np.zeros((size, rows.shape[1]), rows.dtype)
    computed = []
    for start in range(0, max(len(rows), 1), size):  # no rows: one block, for the result's width
        part = rows[start : start + size]
        block[: len(part)] = part
        computed.append(compute(block)[: len(part)])
    return np.concatenate(computed)
