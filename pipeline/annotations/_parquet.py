"""Tables that are Parquet files: their cells as text, so that they are parsed like those of CSV."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.annotations import AnnotationSource
from pipeline.core.errors import InputError

MAGIC = b"PAR1"
ROWS = 10_000


def read(source: AnnotationSource) -> pa.Table:
    """Read the whole file, its columns encoded as they are; raise InputError if it is damaged."""
    try:
        return pq.ParquetFile(pa.BufferReader(source.data)).read(use_threads=False)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last of a column's name
        why = " ".join(str(error).split())
        raise InputError(f"{source.name}: not a Parquet file that can be read: {why}") from error


def rows(table: pa.Table, label: int | None, name: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield the number of each row, from 1, and its cells as text; each label of a list is a row.

    *label* is the place of the labels' column. Raises InputError, with the *name* of the file, if a
    column or a cell cannot be text.
    """
    for place, column in enumerate(table.schema):
        kind = getattr(column.type, "value_type", column.type) if place == label else column.type
        if pa.types.is_nested(kind):
            raise InputError(
                f"{name}: the column {column.name!r} is of {column.type}; a cell is a text or a "
                "number, and of labels a list of them"
            )
    number = 0
    for batch in table.to_batches(max_chunksize=ROWS):
        texts = [
            _texts_of(column, number, f"{name}: the column {title!r}")
            for title, column in zip(batch.schema.names, batch.columns, strict=True)
        ]
        for row in zip(*texts, strict=True):
            number += 1
            for cells in product(*row):  # of all columns but the labels', a cell is one text
                yield number, cells


def _texts_of(column: pa.Array, before: int, at: str) -> list[list[str]]:
    """Return the texts of every cell of *column*, whose first is in row *before* + 1.

    Raises InputError if a cell has none, such as bytes that are not UTF-8, or a day of no calendar.
    """
    try:
        return [_texts(value) for value in column.to_pylist()]
    except (ArithmeticError, ValueError, pa.ArrowException) as error:
        if len(column) > 1:  # find the row
            half = len(column) // 2
            _texts_of(column[:half], before, at)
            _texts_of(column[half:], before + half, at)
        raise InputError(f"{at} of row {before + 1:,} is no text ({error})") from error


def _texts(value: Any) -> list[str]:
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)] or [""]
    if isinstance(value, bytes):
        return [value.decode()]
    return ["" if value is None else str(value)]
