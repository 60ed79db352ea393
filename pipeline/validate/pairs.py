"""Pairs of chips as a table: one chip's columns, and beside them those of another."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

COLUMNS = ("chip_id", "key", "row", "col", "split", "label")


def side_by_side(one: pa.Table, other: pa.Table) -> pd.DataFrame:
    """Return the COLUMNS of *one*, and those of *other* as `near_…`, with each chip_id in hex.

    Args:
        one: schemas.LABELS of the first chip of each pair.
        other: the same of the second, in the same order.
    """
    names = [f"near_{name}" for name in COLUMNS]
    sides = one.select(COLUMNS), other.select(COLUMNS).rename_columns(names)
    table = pd.concat([side.to_pandas() for side in sides], axis=1)
    for name in ("chip_id", "near_chip_id"):
        table[name] = [chip.hex() for chip in table[name]]
    return table
