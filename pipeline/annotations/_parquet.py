"""Annotation tables that are Parquet files: their cells as text, so that they are read as CSV's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.annotations import AnnotationSource
from pipeline.core.errors import InputError

MAGIC = b"PAR1"
ROWS = 10_000


def read(source: AnnotationSource) -> pa.Table:
    """Read the file whole; no column of it is decoded twice.

    Raises:
        InputError: it is damaged.
    """
    try:
        return pq.ParquetFile(pa.BufferReader(source.data)).read(use_threads=False)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # of a column's name
        said = " ".join(str(error).split())
        raise InputError(f"{source.name}: not a Parquet file that can be read: {said}") from error


def cells(
    table: pa.Table, places: Mapping[str, int], name: str
) -> Iterator[tuple[int, dict[str, str]]]:
    """Give the number of each row, from 1, and its wanted cells as text; a listed label is a row.

    Args:
        table: the file.
        places: the column of each wanted cell.
        name: the file's, for messages.

    Raises:
        InputError: a column is of a kind that has no text, or a cell of it is none.
    """
    for cell, place in places.items():
        _check(table.schema.field(place), name, lists=cell == "label")
    wanted = table.select(sorted(set(places.values())))
    order = {place: at for at, place in enumerate(sorted(set(places.values())))}
    number = 0
    for batch in wanted.to_batches(max_chunksize=ROWS):
        columns = [
            _values(column, number, f"{name}: the column {named!r}")
            for named, column in zip(batch.schema.names, batch.columns, strict=True)
        ]
        for row in zip(*columns, strict=True):
            number += 1
            for values in product(*row):  # one of each but the label
                yield number, {cell: values[order[place]] for cell, place in places.items()}


def _check(column: pa.Field, name: str, *, lists: bool) -> None:
    kind = column.type
    listed = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if lists and (listed or pa.types.is_fixed_size_list(kind)):
        kind = kind.value_type
    if pa.types.is_nested(kind):
        raise InputError(
            f"{name}: the column {column.name!r} is of {column.type}; a cell is a text or a "
            "number, and of labels a list of them"
        )


def _values(column: pa.Array, before: int, at: str) -> list[list[str]]:
    """Give the texts of every cell of *column*, whose first is row *before* + 1.

    Raises:
        InputError: a cell has none, as a text that is not UTF-8, or a day of no calendar.
    """
    try:
        return [_texts(value) for value in column.to_pylist()]
    except (ArithmeticError, ValueError, pa.ArrowException) as error:
        if len(column) > 1:  # look for the row
            half = len(column) // 2
            _values(column[:half], before, at)
            _values(column[half:], before + half, at)
        raise InputError(f"{at} of row {before + 1:,} is no text ({error})") from error


def _texts(value: Any) -> list[str]:
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)] or [""]
    if isinstance(value, bytes):
        return [value.decode()]
    return ["" if value is None else str(value)]
