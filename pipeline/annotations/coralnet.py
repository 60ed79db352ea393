"""CoralNet: its export of annotations, read as `points`, and the file that it takes for upload.

Source: CoralNet's pages "Export Annotations, CSV" and "Upload Points and Annotations"
(github.com/coralnet/coralnet, `help_export_csv.html` and `help_upload.html`).
"""

from __future__ import annotations

from dataclasses import replace
from operator import attrgetter
from typing import Any

from pipeline.annotations import points
from pipeline.annotations._written import WrittenAnnotations, csv_bytes
from pipeline.annotations.points import Settings
from pipeline.core.errors import InputError

__all__ = ["LEVEL", "Settings", "read", "write"]

LEVEL = "point"
COLUMNS = points.TABLE.columns

# A source can add columns of any name, so that `Name` comes before all other names of images.
TABLE = replace(points.TABLE, columns={**COLUMNS, "image": ("name", *COLUMNS["image"])})
read = TABLE.read


def write(annotations: WrittenAnnotations) -> bytes:
    """Return CoralNet's upload: all points of the images, labelled by people or the classifier.

    An upload replaces all points and annotations of the images that it names, and its labels count
    as confirmed. So every point of an image is in it, people's labels are kept, and points without
    a label are left to CoralNet. Raises InputError if a chip has several labels, or if two images
    have the same name: CoralNet's names have no folders.
    """
    rows: list[tuple[Any, ...]] = [("Name", "Row", "Column", "Label code")]
    others = [replace(chip, label_to_write=None) for chip in annotations.others]
    keys: dict[str, str] = {}
    for chip in sorted([*annotations.rows, *others], key=attrgetter("key", "row", "col")):
        name = annotations.name(chip.key).rpartition("/")[2]
        if keys.setdefault(name, chip.key) != chip.key:
            what = f"{keys[name]} and {chip.key} have the same name there, {name}"
            raise InputError(f"coralnet: {what}; upload them to different sources")
        label = chip.label or chip.label_to_write or ""
        if len(annotations.split(label)) > 1:
            raise InputError(f"coralnet: a point there has one label; {chip.key} has {label!r}")
        rows.append((name, chip.row, chip.col, label))
    return csv_bytes(rows)
