"""Annotation tables that are separated text: decoded, and cut into rows that know their lines."""

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
BOM = "\ufeff"

NO_TEXT = (
    (b"PK\x03\x04", "an Excel workbook or another zip file"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"\x1f\x8b", "compressed by gzip"),
    (b"BZh", "compressed by bzip2"),
    (b"\xfd7zXZ", "compressed by xz"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd"),
    (b"PAR1", "Parquet"),
)


def rows(
    source: AnnotationSource, encoding: str, fits: Callable[[list[str]], bool]
) -> Iterator[tuple[int, list[str]]]:
    """Give the cells of every row, the header's too, and the line that it begins at.

    Args:
        source: the file.
        encoding: what it is read as where it has no byte-order mark.
        fits: whether these can be the names of the columns.

    Raises:
        InputError: the file is empty, is not in the encoding, or has a quote where none can be.
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
    return iter(_Rows(text, _separator(header, fits), source.name))


def _decoded(source: AnnotationSource, encoding: str) -> str:
    """Give the file's text, by its byte-order mark, else as *encoding*.

    Raises:
        InputError: the bytes are not in that encoding.
        SettingError: there is no such encoding.
    """
    check_text(source, "save the table as CSV in UTF-8")
    marked = (marked for mark, marked in BOMS if source.data.startswith(mark))
    encoding = next(marked, encoding)
    try:
        text = source.data.decode(encoding)
        text.encode()  # a few encodings can say half a character
    except UnicodeError as error:
        raise InputError(
            f"{source.name}:{_line_of(error)}: cannot be read as {encoding} ({error}); "
            "save it as UTF-8, or set annotations.encoding, as to 'latin-1'"
        ) from error
    except (LookupError, ValueError) as error:
        raise SettingError(f"annotations.encoding: {encoding!r} is not an encoding") from error
    return text.lstrip(BOM)  # files that were put together have it twice


def check_text(source: AnnotationSource, remedy: str) -> None:
    """See that the file is no archive and no workbook.

    Raises:
        InputError: it is one; the sentence ends with *remedy*.
    """
    for mark, kind in NO_TEXT:
        if source.data.startswith(mark):
            raise InputError(f"{source.name}: is {kind} and no text; {remedy}")


def _line_of(error: UnicodeError) -> int:
    if not isinstance(error, UnicodeDecodeError):
        return 1
    before = error.object[: error.start]
    return max(before.count(b"\n"), before.count(b"\r")) + 1


def _separator(header: str, fits: Callable[[list[str]], bool]) -> str:
    """Give what stands between columns: what makes them *fits*, or else the commonest."""
    likely = sorted(SEPARATORS, key=header.count, reverse=True)
    for separator in likely:
        with suppress(csv.Error):  # a cell that is too long: it is another
            if fits(next(csv.reader([header], delimiter=separator))):
                return separator
    return likely[0]


class _Rows:
    """The rows of a separated text, each with the line that it begins at.

    Raises:
        InputError: a quote is not closed, or where text follows, so that it took other rows in.
    """

    def __init__(self, text: str, separator: str, name: str) -> None:
        self.separator, self.name = separator, name
        self.lines = io.StringIO(text, newline="")
        self.row: list[str] = []
        self.reader = csv.reader(self._read(), delimiter=separator)

    def _read(self) -> Iterator[str]:
        for line in self.lines:
            self.row.append(line)
            yield line

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        begun, row = self.reader.line_num + 1, self.row
        try:
            for cells in self.reader:
                if len(self.row) > 1:
                    self._check(begun)
                yield begun, cells
                begun, row, self.row = self.reader.line_num + 1, self.row, []
        except csv.Error as error:
            quoted = len(self.row) > 1
            why = "a quote is opened here and closed nowhere near" if quoted else "not a table"
            raise InputError(f"{self.name}:{begun}: {why}: {error}") from error
        self.row = row
        self._check(begun - len(row))

    def _check(self, begun: int) -> None:
        try:
            list(csv.reader(self.row, delimiter=self.separator, strict=True))
        except csv.Error as error:
            if "unexpected end" in str(error):
                raise InputError(
                    f"{self.name}:{begun}: a quote is opened here and never closed"
                ) from error
            if len(self.row) > 1:
                last = begun + len(self.row) - 1
                raise InputError(
                    f"{self.name}:{begun}: a quote is opened here, and where it is closed, in line "
                    f"{last}, text follows; mend the quotes of these lines"
                ) from error
