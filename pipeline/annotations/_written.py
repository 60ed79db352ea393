"""What formats write: chips, each with a prediction or with the label of a person."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

from pipeline.annotations._frame import displayed_size, displayed_window
from pipeline.core import label_sets


@dataclass(frozen=True, slots=True)
class AnnotatedChip:
    """One chip, and the label to write for it: the classifier's, with a *score*, or a person's.

    *label* is that of a person, whatever is written; *window* is top, left, height and width;
    *orientation* is that of EXIF.
    """

    key: str
    row: int
    col: int
    window: tuple[int, int, int, int]
    image_height: int
    image_width: int
    label: str | None
    label_to_write: str | None
    score: float | None
    orientation: int = 1

    def displayed(self) -> AnnotatedChip:
        """Return the chip in its image as the EXIF orientation displays it."""
        size = self.image_height, self.image_width
        window = displayed_window(self.window, size, self.orientation)
        row, col, *_ = displayed_window((self.row, self.col, 1, 1), size, self.orientation)
        height, width = displayed_size(size, self.orientation)
        return AnnotatedChip(
            self.key, row, col, window, height, width, self.label, self.label_to_write, self.score
        )

    @property
    def is_whole(self) -> bool:
        """Whether it is all of its image."""
        return self.window == (0, 0, self.image_height, self.image_width)

    @property
    def inside(self) -> tuple[int, int, int, int]:
        """The part of its window in the image: tools have no boxes that cross the border."""
        top, left, height, width = self.window
        bottom, right = min(top + height, self.image_height), min(left + width, self.image_width)
        return max(top, 0), max(left, 0), bottom - max(top, 0), right - max(left, 0)


@dataclass(frozen=True, slots=True)
class WrittenAnnotations:
    """The chips of one file to write, sorted by key, row and col.

    *others* are the other chips of their images, for formats that replace whole images. With
    *at_points* a chip is annotated at its centre. *url* is the bucket's, *model* the name of
    the classifier; *prefix* and *separator* are `annotations.prefix` and `label_separator`.
    """

    rows: Sequence[AnnotatedChip]
    others: Sequence[AnnotatedChip] = ()
    prefix: str = ""
    separator: str | None = None
    url: str = ""
    model: str = ""
    at_points: bool = False

    def name(self, key: str) -> str:
        """Return the file's name for an image."""
        return key.removeprefix(self.prefix)

    def split(self, label: str | None) -> tuple[str, ...]:
        """Return the labels of a chip, one by one."""
        return () if label is None else label_sets.split(label, self.separator)

    def labelled(self, chips: Sequence[AnnotatedChip]) -> list[tuple[AnnotatedChip, str]]:
        """Return every label to write for these chips, each with its chip."""
        return [(chip, label) for chip in chips for label in self.split(chip.label_to_write)]

    def labels(self) -> list[str]:
        """Return all labels to write, sorted."""
        return sorted({label for _, label in self.labelled(self.rows)})

    def images(self) -> Iterator[tuple[str, tuple[int, int], list[AnnotatedChip]]]:
        """Yield the key of each image, its height and width, and its chips."""
        for key, group in groupby(self.rows, attrgetter("key")):
            chips = list(group)
            yield key, (chips[0].image_height, chips[0].image_width), chips


def csv_bytes(rows: Iterable[Sequence[Any]], delimiter: str = ",") -> bytes:
    """Return *rows* as a CSV file in UTF-8."""
    sink = io.StringIO()
    csv.writer(sink, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return sink.getvalue().encode()
