"""The reader of tables: a format declares its columns, and how a row is parsed.

A table is Parquet, or text with a header line in any usual encoding and with any usual separator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import normalize

from pipeline.annotations import Annotations, AnnotationSource, _merge, _objects, _rows
from pipeline.annotations._values import cell_label, text
from pipeline.config.sections import Section
from pipeline.core import schemas
from pipeline.core.errors import InputError, Rejected, shorten
from pipeline.core.rejects import Reject

COLUMNS: dict[str, tuple[str, ...]] = {
    "image": (
        *("image", "key", "name", "filename", "file", "image_name", "image name"),
        *("file_name", "image_path"),
    ),
    "row": ("row", "y"),
    "column": ("column", "col", "x"),
    "label": (
        *("label code", "label", "label_code", "class", "label id"),
        *("class_name", "label_name", "category", "category_name"),
    ),
    "group": ("group",),
    "annotator": ("annotator",),
    "verified": ("verified",),
}
"""The usual names of columns."""
SHOWN, LONGEST = 20, 40
"""How many columns a message lists, and how many characters of each."""
Cells = Mapping[str, str]
"""The cells of a row, by field; a field whose column the table lacks is missing."""


class ColumnNames(Section):
    """The names of a table's columns; null: the usual names."""

    image: str | None = None
    label: str | None = None
    group: str | None = None


def labelled(cells: Cells, settings: Any) -> dict[str, Any]:
    """Return the label and the group of a row."""
    label = cell_label(cells.get("label"), settings.label_separator)
    return {"label": label, "group": text(cells.get("group"))}


@dataclass(frozen=True, slots=True)
class TableFormat:
    """What the tables of a format look like.

    Attributes:
        columns: the names that the column of each field can have, best first; case does not matter.
            The settings can name columns, in `columns`, or else in `label` and `group`.
        required: the fields that a table must have, besides those that the settings name.
        one_of: sets of fields, one of which a table must have.
        parse: returns the fields of an annotation, except its key and line, from the cells of a
            row; None: the row is left out. Raises Rejected if the row cannot be used.
        image_name: returns the image's name from the cell of "image".
        kind: Annotation, or Object at level "object".
    """

    columns: Mapping[str, tuple[str, ...]]
    required: tuple[str, ...]
    one_of: tuple[tuple[str, ...], ...] = ()
    parse: Callable[[Cells, Any], dict[str, Any] | None] = labelled
    image_name: Callable[[str], str] = str
    kind: type[_merge.Annotation] = _merge.Annotation

    def read(self, source: AnnotationSource, settings: Any) -> Annotations:
        """Read a table; raise InputError if it is empty, undecodable, or lacks a column."""
        rejects: list[Reject] = []
        parse, name_of, prefix = self.parse, self.image_name, settings.prefix

        def annotations() -> Iterator[_merge.Annotation]:
            for line, cells in self.rows(source, settings, rejects):
                key = prefix + name_of(cells["image"])
                try:
                    fields = parse(cells, settings)
                except Rejected as rejected:
                    rejects.append(source.reject(key, line, rejected))
                    continue
                if fields is not None:
                    yield self.kind(key=key, line=line, **fields)

        if self.kind is _objects.AnnotatedObject:
            return _merge.to_table(list(annotations()), schemas.OBJECTS), rejects
        table, more = _merge.merged(annotations(), source.name, settings.label_separator)
        return table, rejects + more

    def check(self, source: AnnotationSource, settings: Any) -> None:
        """Raise InputError if the table is empty, undecodable, or lacks a column."""
        next(self.rows(source, settings, []), None)

    def rows(
        self, source: AnnotationSource, settings: Any, rejects: list[Reject]
    ) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield the line or number of each row, and its cells; unusable rows go to *rejects*."""
        if source.data.startswith(_rows.PARQUET):
            table = _rows.read_parquet(source)
            places = self.places(table.column_names, source, settings)
            table = table.select(sorted(set(places.values())))
            names, places = table.column_names, self.places(table.column_names, source, settings)
            rows = _rows.parquet_rows(table, places.get("label"), source.name)
        else:
            columns, required = self._columns(settings)
            rows = _rows.text_rows(
                source,
                settings.encoding,
                lambda names: required.keys() <= _best(columns, names).keys(),
            )
            names = next((cells for _, cells in rows if any(map(str.strip, cells))), [])
            places = self.places(names, source, settings)
        last, image, count = max(places.values()), places["image"], len(names)
        for line, cells in rows:
            if len(cells) > count and any(map(str.strip, cells[count:])):
                fault = "the line has more cells than the header"
            elif len(cells) <= last:
                fault = "the line has fewer cells than the header" if cells else ""
            elif not cells[image].strip():
                fault = "the line names no image"
            else:
                yield line, {field: cells[place] for field, place in places.items()}
                continue
            if fault:
                key = settings.prefix + self.image_name("")
                rejects.append(source.reject(key, line, Rejected("unreadable_row", fault)))

    def places(
        self, names: Sequence[str], source: AnnotationSource, settings: Any
    ) -> dict[str, int]:
        """Return the index of each field's column; raise InputError for one that is missing."""
        columns, required = self._columns(settings)
        best, names = _best(columns, names), list(map(_folded, names))
        fault = ""
        if twice := [name for name in best.values() if names.count(name) > 1]:
            fault = f"{names.count(twice[0])} columns are named {twice[0]!r}; rename all but one"
        elif missing := [field for field in required if field not in best]:
            hint = " in this format"
            if hasattr(settings, "columns"):
                hint = f"; annotations.columns.{missing[0]} can name another"
            options = " or ".join(columns[missing[0]])
            # The file may not be a table: its first line can be of any length.
            more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
            listed = ", ".join(shorten(name, LONGEST) or "''" for name in names[:SHOWN]) + more
            fault = (
                f"no column for {', '.join(missing)} among {listed}; it is called {options}{hint}"
            )
        elif self.one_of and not any(best.keys() >= set(fields) for fields in self.one_of):
            sets = ", or ".join(" and ".join(fields) for fields in self.one_of)
            fault = f"no columns for {sets}"
        if fault:
            raise InputError(f"{source.name}:1: {fault}")
        return {field: names.index(name) for field, name in best.items()}

    def _columns(self, settings: Any) -> tuple[dict[str, tuple[str, ...]], dict[str, None]]:
        """Return the names that columns can have, and the required fields, by the *settings*."""
        direct = ((field, getattr(settings, field, None)) for field in ("label", "group"))
        named = {field: name for field, name in getattr(settings, "columns", direct) if name}
        columns = {**self.columns, **{field: (name,) for field, name in named.items()}}
        return columns, dict.fromkeys([*self.required, *named])


def _folded(name: str) -> str:
    """Return a column's name as it is compared."""
    return normalize("NFC", name.strip()).lower()


def _best(columns: Mapping[str, Sequence[str]], names: Sequence[str]) -> dict[str, str]:
    """Return, for each field that has any of its names among *names*, the best of them."""
    among = set(map(_folded, names))
    present = {
        field: [name for name in map(_folded, options) if name in among]
        for field, options in columns.items()
    }
    return {field: options[0] for field, options in present.items() if options}
