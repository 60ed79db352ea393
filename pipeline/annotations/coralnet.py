"""CoralNet: its export of annotations, read as `points`, and the file that it takes for upload.

Source: CoralNet's pages "Export Annotations, CSV" and "Upload Points and Annotations"
(github.com/coralnet/coralnet, `help_export_csv.html` and `help_upload.html`).
"""

from __future__ import annotations

import csv
import io

from pipeline.annotations import _points
from pipeline.annotations._answers import AnnotatedChip, WrittenAnnotations
from pipeline.annotations._points import read
from pipeline.core.errors import InputError

__all__ = ["LEVEL", "Columns", "Settings", "read", "write"]

LEVEL = "point"


class Columns(_points.Columns):
    """The names of the columns; an image is its `Name`, whatever a source calls its own columns."""

    def wanted(self) -> dict[str, tuple[str, ...]]:
        """Give, for each cell, the names that its column may have."""
        wanted = super().wanted()
        return wanted if self.image else {**wanted, "image": ("name", *wanted["image"])}


class Settings(_points.Settings):
    """The settings of `annotations.format: coralnet`."""

    columns: Columns = Columns()


def write(answers: WrittenAnnotations) -> bytes:
    """Give CoralNet's upload: all points of the images, labelled by people, or by the classifier.

    An upload replaces all points and annotations of the images that it names, and what it labels is
    confirmed. So every point of an image is there, people's labels stay, and points without an
    answer are left for CoralNet. Its names of images have no folders: the last part of the key.

    Raises:
        InputError: two images have one name, or a chip has several labels.
    """
    rows = [(chip, chip.answer) for chip in answers.rows] + [
        (chip, None) for chip in answers.others
    ]
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(["Name", "Row", "Column", "Label code"])
    names: dict[str, str] = {}
    for chip, answer in sorted(rows, key=_place):
        name = answers.name(chip.key).rpartition("/")[2]
        if names.setdefault(name, chip.key) != chip.key:
            raise InputError(
                f"coralnet: {names[name]} and {chip.key} have one name there, {name}; upload them "
                "to different sources"
            )
        label = chip.label or answer or ""
        if len(answers.split(label)) > 1:
            raise InputError(f"coralnet: a point there has one label; {chip.key} has {label!r}")
        writer.writerow([name, chip.row, chip.col, label])
    return sink.getvalue().encode()


def _place(row: tuple[AnnotatedChip, str | None]) -> tuple[str, int, int]:
    chip, _ = row
    return chip.key, chip.row, chip.col
