"""Points: CSV or Parquet with image, row, column, label and perhaps a group; CoralNet's export too.

CoralNet's `Label code` (or, in older exports, `Label`) is the label. Rows whose `Annotator` is
`robot` are a machine's guesses that nobody has confirmed; they are left out and counted, unless
`keep_unconfirmed` is set.
"""

from __future__ import annotations

from pipeline.annotations import _points
from pipeline.annotations._points import Columns, read

__all__ = ["LEVEL", "Columns", "Settings", "read"]

LEVEL = "point"


class Settings(_points.Settings):
    """The settings of `annotations.format: points`."""
