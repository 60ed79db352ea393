"""What people have said about the images: one file a format, all giving one table.

A file of this folder defines `Params`, a section with the format's own settings; `LEVEL`, `"point"`
if a row names one pixel and `"image"` if it speaks of the whole image; and

    def read(source: Source, params: Params) -> tuple[pa.Table, list[Reject]]

which gives schemas.ANNOTATIONS, one row a place, and what could not be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from pipeline import plugins
from pipeline.rejects import Reject
from pipeline.sections import Annotations


@dataclass(frozen=True, slots=True)
class Source:
    """What a format reads: the annotation file, if it has one, and the keys of all images."""

    name: str
    data: bytes
    keys: Sequence[str]


def read(source: Source, params: Annotations) -> tuple[pa.Table, list[Reject]]:
    """Read *source* in the format that *params* names.

    Raises:
        InputError: the file as a whole cannot be read.
    """
    part = plugins.find("annotations", params.format, key="annotations.format")
    table, rejects = part.read(source, params)
    return table, rejects


def level(params: Annotations) -> str:
    """Say whether the format speaks of points or of images."""
    part = plugins.find("annotations", params.format, key="annotations.format")
    return str(part.LEVEL)


def label_separator(params: Annotations) -> str | None:
    """Give what stands between the labels of a chip; None: it has one."""
    separator: str | None = getattr(params, "label_separator", None)
    return separator
