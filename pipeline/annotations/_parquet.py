"""Annotation tables that are Parquet files: their cells as text, so that they are read as CSV's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.annotations import Source
from pipeline.errors import InputError

MAGIC = b"PAR1"
ROWS = 10_000


def read(source: Source) -> pa.Table:
    """Read the file whole; no column of it is decoded twice.

    Raises:
        InputError: it is damaged.
    """
    try:
        return pq.read_table(pa.BufferReader(source.data), use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{source.name}: not a Parquet file that can be read: {error}") from error


def cells(table: pa.Table, places: Mapping[str, int]) -> Iterator[tuple[int, dict[str, str]]]:
    """Give the number of each row, from 1, and its wanted cells as text; of a list one a row.

    Args:
        table: the file.
        places: the column of each wanted cell.
    """
    wanted = table.select(sorted(set(places.values())))
    order = {place: at for at, place in enumerate(sorted(set(places.values())))}
    number = 0
    for batch in wanted.to_batches(max_chunksize=ROWS):
        columns = [column.to_pylist() for column in batch.columns]
        for row in zip(*columns, strict=True):
            number += 1
            for values in product(*(_texts(value) for value in row)):
                yield number, {cell: values[order[place]] for cell, place in places.items()}


def _texts(value: Any) -> list[str]:
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)] or [""]
    if isinstance(value, bytes):
        return [value.decode("utf-8", errors="replace")]
    return ["" if value is None else str(value)]
