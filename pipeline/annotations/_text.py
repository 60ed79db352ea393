"""Tables that are separated text: decoded, and cut into rows that know their lines."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from contextlib import suppress

from pipeline.annotations import AnnotationSource
from pipeline.core.errors import InputError, SettingError

SEPARATORS = (",", ";", "\t", "|")

BOMS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)

NO_TEXT = (
    (b"PK\x03\x04", "an Excel workbook or another zip file"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"\x1f\x8b", "compressed by gzip"),
    (b"BZh", "compressed by bzip2"),
    (b"\xfd7zXZ", "compressed by xz"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd"),
    (b"PAR1", "Parquet"),
)


def check_text(source: AnnotationSource, remedy: str) -> None:
    """Raise InputError, with the *remedy*, if the file is an archive or a workbook."""
    for mark, kind in NO_TEXT:
        if source.data.startswith(mark):
            raise InputError(f"{source.name}: is {kind} and no text; {remedy}")


def rows(
    source: AnnotationSource, encoding: str, is_header: Callable[[list[str]], bool]
) -> Iterator[tuple[int, list[str]]]:
    """Yield the line that each row begins at, and its cells; the header comes first.

    *encoding* is that of a file without a byte-order mark. The separator is the one that makes
    cells for which *is_header* returns True of the first line, or else the commonest in it.

    Raises:
        InputError: the file is empty, has another encoding, or a quote is not closed.
        SettingError: there is no such encoding.
    """
    text = _decoded(source, encoding)
    header = next((line for line in io.StringIO(text, newline="") if line.strip()), "")
    if not header:
        raise InputError(f"{source.name}: is empty; a header line with column names is needed")
    if "\0" in header:
        raise InputError(
            f"{source.name}:1: holds zero bytes; if it is UTF-16, set annotations.encoding to "
            "'utf-16-le' or 'utf-16-be'"
        )
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
        raise InputError(
            f"{source.name}:{line}: cannot be read as {encoding} ({error}); "
            "save it as UTF-8, or set annotations.encoding, as to 'latin-1'"
        ) from error
    except (LookupError, ValueError) as error:
        raise SettingError(f"annotations.encoding: {encoding!r} is not an encoding") from error
    return text.lstrip("\ufeff")  # files that were concatenated have two byte-order marks


def _split(text: str, separator: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line of each row, and its cells.

    A quote that is not closed, or closed before more text, takes in other rows: csv lets it pass.
    """
    lines: list[str] = []  # those of the row that is being read

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
        why = "a quote is opened here and closed nowhere near" if len(lines) > 1 else "not a table"
        raise InputError(f"{name}:{first}: {why}: {error}") from error
    _check_quotes(row, separator, name, first - len(row))


def _check_quotes(lines: list[str], separator: str, name: str, first: int) -> None:
    try:
        list(csv.reader(lines, delimiter=separator, strict=True))
    except csv.Error as error:
        last = f"line {first + len(lines) - 1}"
        what = f", and where it is closed, in {last}, text follows; mend the quotes of these lines"
        if "unexpected end" in str(error):
            what = " and never closed"
        elif len(lines) == 1:
            return  # text that follows a quote is more of the cell
        raise InputError(f"{name}:{first}: a quote is opened here{what}") from error
