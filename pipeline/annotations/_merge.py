"""Merges annotations of the same place: repeats and contradictions are rejects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

import pyarrow as pa

from pipeline.annotations import Annotations
from pipeline.core import label_sets, schemas
from pipeline.core.rejects import Reject

NAMED = 3
"""Other lines that the message of a conflict names."""


@dataclass(slots=True)  # not frozen: that takes three times as long, for millions of rows
class Annotation:
    """One row of a file, at *line*; *row* and *col* are None for a whole image."""

    key: str
    label: str | None
    line: int | str
    row: int | None = None
    col: int | None = None
    group: str | None = None

    @property
    def place(self) -> tuple[Any, ...]:
        """What annotations of the same pixel or image have in common."""
        return (self.key, self.row, self.col)


def merged(
    annotations: Iterable[Annotation],
    name: str,
    separator: str | None = None,
    schema: pa.Schema = schemas.ANNOTATIONS,
) -> Annotations:
    """Return a table of *schema* with one row for each place, and a reject for each other row.

    The first row with a label is kept, or else the first, and the others are `said_again`. Where
    labels differ, all rows are a `label_conflict`, each with the other lines of the file *name*.
    With a *separator* there are no conflicts: the place has all labels.
    """
    kept: dict[tuple[Any, ...], Annotation] = {}
    repeated: dict[tuple[Any, ...], list[Annotation]] = {}
    for annotation in annotations:
        if kept.setdefault(annotation.place, annotation) is not annotation:
            repeated.setdefault(annotation.place, []).append(annotation)
    rejects: dict[tuple[Any, ...], Reject] = {}
    for place, others in repeated.items():
        rows = [kept[place], *others]
        labelled = [row for row in rows if row.label is not None]
        if separator is None and len({row.label for row in labelled}) > 1:
            del kept[place]
            rejected = [(row, "label_conflict", _conflict(row, labelled)) for row in rows]
        else:
            first, repeats = _combined(labelled or rows, separator)
            group = next((row.group for row in [first, *rows] if row.group is not None), None)
            kept[place] = replace(first, group=group)
            what = f"is already annotated in {_line(kept[place])}"
            rejected = [(row, "said_again", what) for row in repeats]
            blank = [row for row in rows if row.label is None] if labelled else []
            rejected += [(row, "said_again", f"{what}, with a label") for row in blank]
        for row, reason, what in rejected:
            pixel = "" if row.row is None else f" ({row.row}, {row.col})"
            detail = f"{name}:{row.line}: {row.key}{pixel} {what}"
            reject = Reject("chip", row.key, reason, detail, row=row.row, col=row.col)
            rejects.setdefault((*place, row.line), reject)
    # A list of labels in a cell is several rows of one line, which is kept or rejected only once.
    lines = {(*place, row.line) for place, row in kept.items() if place in repeated}
    table = to_table(list(kept.values()), schema)
    return table, [reject for at, reject in rejects.items() if at not in lines]


def conflicts_by_chip(rejects: Iterable[Reject]) -> list[Reject]:
    """Return the first conflict of each chip, which several lines can be about."""
    first: dict[tuple[Any, ...], Reject] = {}
    for reject in rejects:
        if reject.reason == "label_conflict":
            first.setdefault((reject.key, reject.row, reject.col), reject)
    return list(first.values())


def to_table(rows: Sequence[Any], schema: pa.Schema) -> pa.Table:
    """Return annotations as a sorted table; the objects of an image keep their order."""
    columns = {}
    for field in schema:
        values = list(map(attrgetter(field.name), rows))
        values = list(map(str, values)) if field.name == "line" else values
        columns[field.name] = pa.array(values, field.type)
    sort = ("key",) if schema is schemas.OBJECTS else schemas.SORT_KEYS
    return schemas.conform(pa.table(columns), schema, sort)


def _combined(rows: list[Annotation], separator: str | None) -> tuple[Annotation, list[Annotation]]:
    """Return one annotation with all labels of *rows*, and the rows that add none to it."""
    first, repeats = rows[0], []
    for row in rows[1:]:
        label = first.label
        if separator is not None:
            both = (first.label or "", row.label or "")
            labels = [label for text in both for label in label_sets.split(text, separator)]
            label = label_sets.join(labels, separator)
        repeats += [row] if label == first.label else []
        first = replace(first, label=label or None)
    return first, repeats


def _conflict(row: Annotation, labelled: Sequence[Annotation]) -> str:
    others = [other for other in labelled if other.label != row.label]
    named = [f"{other.label!r} in {_line(other)}" for other in others[:NAMED]]
    named += [f"{len(others) - NAMED:,} more"] if len(others) > NAMED else []
    label = "unlabelled" if row.label is None else repr(row.label)
    both = "both" if len(labelled) == 2 else "all"  # noqa: PLR2004 - a pair
    return f"is {label} here and {' and '.join(named)}; {both} rejected as label_conflict"


def _line(row: Annotation) -> str:
    return f"line {row.line}" if str(row.line).isdigit() else str(row.line)
