"""What people have said about the images: one file a format, all giving one table.

A file of this folder defines `Settings`, a section with the format's own settings; `LEVEL`,
`"point"` if a row names one pixel, `"image"` if it speaks of the whole image, and `"object"` if
there can be points, boxes, outlines and words about whole images; and

    def read(source: Source, params: Settings) -> tuple[pa.Table, list[Reject]]

which gives schemas.ANNOTATIONS, one row a place (at level `"object"` schemas.OBJECTS), and what
could not be read. Where answers can be given back in the format, it also has

    def write(answers: Answers) -> bytes

of pipeline/annotations/_answers.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from pipeline.config import registry
from pipeline.config.sections import AnnotationParams
from pipeline.core.rejects import Reject


@dataclass(frozen=True, slots=True)
class AnnotationSource:
    """What a format reads.

    Attributes:
        name: the annotation file's, for messages.
        data: its bytes, if the format has a file.
        keys: of all images.
        sizes: height and width of each of them.
    """

    name: str
    data: bytes
    keys: Sequence[str]
    sizes: Sequence[tuple[int, int]] = ()


def read(source: AnnotationSource, params: AnnotationParams) -> tuple[pa.Table, list[Reject]]:
    """Read *source* in the format that *params* names.

    Raises:
        InputError: the file as a whole cannot be read.
    """
    part = registry.find("annotations", params.format, key="annotations.format")
    table, rejects = part.read(source, params)
    return table, rejects


def level(params: AnnotationParams) -> str:
    """Say whether the format speaks of points or of images."""
    part = registry.find("annotations", params.format, key="annotations.format")
    return str(part.LEVEL)


def file_name(params: AnnotationParams) -> str:
    """Give the annotation file's name, for messages."""
    return (params.path or "").rpartition("/")[2]


def label_separator(params: AnnotationParams) -> str | None:
    """Give what stands between the labels of a chip; None: it has one."""
    separator: str | None = getattr(params, "label_separator", None)
    return separator
