"""The rows of tables: of separated text, each with its first line, or of Parquet, numbered."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import product
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.annotations import AnnotationSource
from pipeline.core.errors import InputError, SettingError

Row = tuple[int, Sequence[str]]
SEPARATORS = (",", ";", "\t", "|")
BOMS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
PARQUET = b"PAR1"
NOT_TEXT = (
    (b"PK\x03\x04", "an Excel workbook or another zip file"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"\x1f\x8b", "compressed by gzip"),
    (b"BZh", "compressed by bzip2"),
    (b"\xfd7zXZ", "compressed by xz"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd"),
    (PARQUET, "Parquet"),
)
BATCH_ROWS = 10_000


def check_text(source: AnnotationSource, remedy: str) -> None:
    """Raise InputError, with the *remedy*, if the file is an archive or a workbook."""
    for mark, kind in NOT_TEXT:
        if source.data.startswith(mark):
            raise InputError(f"{source.name}: is {kind}, not text; {remedy}")


def text_rows(
    source: AnnotationSource, encoding: str, is_header: Callable[[list[str]], bool]
) -> Iterator[Row]:
    """Yield the first line of each row, and its cells; the header comes first.

    *encoding* is that of a file without a byte-order mark. The separator is the one with which
    *is_header* is true of the cells of the first line, or else the most frequent one in it.

    Raises:
        InputError: the file is empty, has another encoding, or a quote is not closed.
        SettingError: there is no such encoding.
    """
    text = _decoded(source, encoding)
    header = next((line for line in io.StringIO(text, newline="") if line.strip()), "")
    if not header:
        raise InputError(f"{source.name}: is empty; a header line with column names is needed")
    if "\0" in header:
        hint = "if it is UTF-16, set annotations.encoding to 'utf-16-le' or 'utf-16-be'"
        raise InputError(f"{source.name}:1: contains zero bytes; {hint}")
    likely = sorted(SEPARATORS, key=header.count, reverse=True)
    for separator in likely:
        with suppress(csv.Error):  # a cell is too long: it is another separator
            if is_header(next(csv.reader([header], delimiter=separator))):
                return _split(text, separator, source.name)
    return _split(text, likely[0], source.name)


def _decoded(source: AnnotationSource, encoding: str) -> str:
    check_text(source, "save the table as CSV in UTF-8")
    encoding = next((name for mark, name in BOMS if source.data.startswith(mark)), encoding)
    try:
        text = source.data.decode(encoding)
        text.encode()  # a few encodings can spell half a character
    except UnicodeError as error:
        before = error.object[: error.start] if isinstance(error, UnicodeDecodeError) else b""
        line = max(before.count(b"\n"), before.count(b"\r")) + 1
        hint = "save it as UTF-8, or set annotations.encoding, for example to 'latin-1'"
        what = f"cannot be read as {encoding} ({error}); {hint}"
        raise InputError(f"{source.name}:{line}: {what}") from error
    except (LookupError, ValueError) as error:
        raise SettingError(f"annotations.encoding: {encoding!r} is not an encoding") from error
    return text.lstrip("\ufeff")  # files that were concatenated have two byte-order marks


def _split(text: str, separator: str, name: str) -> Iterator[Row]:
    """Yield the first line of each row, and its cells; raise InputError for a misplaced quote."""
    lines: list[str] = []  # of the row that is being read

    def read() -> Iterator[str]:
        for line in io.StringIO(text, newline=""):
            lines.append(line)
            yield line

    reader = csv.reader(read(), delimiter=separator)
    first, row = 1, lines
    try:
        for cells in reader:
            if len(lines) > 1:
                _check_quotes(lines, separator, name, first)
            yield first, cells
            first, row, lines = reader.line_num + 1, lines, []
    except csv.Error as error:
        why = "a quote is opened here and not closed soon" if len(lines) > 1 else "not a table"
        raise InputError(f"{name}:{first}: {why}: {error}") from error
    _check_quotes(row, separator, name, first - len(row))


def _check_quotes(lines: list[str], separator: str, name: str, first: int) -> None:
    try:
        list(csv.reader(lines, delimiter=separator, strict=True))
    except csv.Error as error:
        last = f"line {first + len(lines) - 1}"
        what = f", and where it is closed, in {last}, text follows; fix the quotes of these lines"
        if "unexpected end" in str(error):
            what = " and never closed"
        elif len(lines) == 1:
            return  # text that follows a quote is more of the cell
        raise InputError(f"{name}:{first}: a quote is opened here{what}") from error


def read_parquet(source: AnnotationSource) -> pa.Table:
    """Read the whole file, its columns encoded as they are; raise InputError if it is damaged."""
    try:
        return pq.ParquetFile(pa.BufferReader(source.data)).read(use_threads=False)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last of a column's name
        why = " ".join(str(error).split())
        raise InputError(f"{source.name}: is not a readable Parquet file: {why}") from error


def parquet_rows(table: pa.Table, label: int | None, name: str) -> Iterator[Row]:
    """Yield the number of each row, from 1, and its cells as text; each label of a list is a row.

    *label* is the index of the labels' column. Raises InputError, with the file's *name*, if a
    column or a cell cannot be text, such as bytes that are not UTF-8, or a date after year 9999.
    """
    for place, column in enumerate(table.schema):
        kind = getattr(column.type, "value_type", column.type) if place == label else column.type
        if pa.types.is_nested(kind):
            raise InputError(
                f"{name}: the column {column.name!r} has the type {column.type}; a cell must be a "
                "text or a number, or for labels a list of these"
            )
    number = 0
    for batch in table.to_batches(max_chunksize=BATCH_ROWS):
        texts = [
            _texts_of(column, number, f"{name}: the column {title!r}")
            for title, column in zip(batch.schema.names, batch.columns, strict=True)
        ]
        for row in zip(*texts, strict=True):
            number += 1
            for cells in product(*row):  # only a cell of labels can have several texts
                yield number, cells


def _texts_of(column: pa.Array, before: int, at: str) -> list[list[str]]:
    """Return the texts of every cell of *column*, whose first is in row *before* + 1."""
    try:
        return [_texts(value) for value in column.to_pylist()]
    except (ArithmeticError, ValueError, pa.ArrowException) as error:
        if len(column) > 1:  # find the row
            half = len(column) // 2
            _texts_of(column[:half], before, at)
            _texts_of(column[half:], before + half, at)
        raise InputError(f"{at} of row {before + 1:,} is not text ({error})") from error


def _texts(value: Any) -> list[str]:
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)] or [""]
    if isinstance(value, bytes):
        return [value.decode()]
    return ["" if value is None else str(value)]
