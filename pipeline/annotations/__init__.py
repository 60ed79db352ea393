"""Annotations: one file for each format, all read into one table.

To add a format, add a file to this folder, named as in `annotations.format`. It defines

- `Settings`: the format's section of params.yaml, one of those below or a subclass of it;
- `LEVEL`: what is annotated: `"point"`, a pixel; `"image"`, a whole image; or `"object"`, any of a
  point, a box, an outline, a mask and a whole image;
- `read(source, settings)`: returns schemas.ANNOTATIONS, or schemas.OBJECTS at level `"object"`, and
  a Reject for each row that cannot be used;
- `FRAME = "displayed"`, if the tool has places in images as their EXIF orientation displays them;
- `write(annotations)`, if the tool takes results: returns a file of the WrittenAnnotations.

A table is only declared, as `TABLE`, a TableFormat (_table.py; images.py is the shortest example).
Files of objects share _objects.py, for objects, rejects and names of images, and _values.py, for
shapes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import Field, field_validator

from pipeline.config import registry
from pipeline.config.sections import AnnotationParams
from pipeline.core.errors import Rejected
from pipeline.core.rejects import Reject

Annotations = tuple[pa.Table, list[Reject]]
Frame = Literal["stored", "displayed"]


class FileSettings(AnnotationParams):
    """The settings of every format with a file.

    A key is the file's name for an image with `prefix` before it. With a `label_separator` a chip
    can have several labels: in one cell, or one in each row. Places are in the image as it is
    stored, or as its EXIF orientation displays it; without a `frame`, as the format's tool has it.
    """

    path: str
    frame: Frame | None = None
    prefix: str = ""
    label_separator: Annotated[str, Field(min_length=1)] | None = None

    @field_validator("path", mode="before")
    @classmethod
    def _is_named(cls, path: Any) -> Any:
        if path is None:
            raise ValueError("annotations of this format are in a file; name it")
        return path


class TableSettings(FileSettings):
    """The settings of every table; `encoding` is that of text without a byte-order mark."""

    encoding: str = "utf-8"


class ObjectSettings(FileSettings):
    """The settings of every format of level "object".

    `labelled_by` is for chips that do not follow the objects, such as those of a grid: a chip has
    the label of the object that covers its `centre`, or the label that covers `most` of it.
    """

    labelled_by: Literal["centre", "most"] = "centre"


@dataclass(frozen=True, slots=True)
class AnnotationSource:
    """A file to read: its *name*, for messages, and its *data*, which is empty without a file.

    *keys* are those of all images, *sizes* their heights and widths as they are stored, and
    *orientations*, by key, those of EXIF if places are in the displayed image.
    """

    name: str
    data: bytes
    keys: Sequence[str]
    sizes: Sequence[tuple[int, int]] = ()
    orientations: Mapping[str, int] = field(default_factory=dict)

    def reject(self, key: str, line: int | str, rejected: Rejected) -> Reject:
        """Return the reject of a row, with the file and the *line* in its detail."""
        return Reject("chip", key, rejected.reason, f"{self.name}:{line}: {rejected.detail}")


def read(source: AnnotationSource, params: AnnotationParams) -> Annotations:
    """Read *source* in the format of *params*; raise InputError if the file cannot be read."""
    part = registry.find("annotations", params.format, key="annotations.format")
    annotations: Annotations = part.read(source, params)
    return annotations


def check(source: AnnotationSource, params: AnnotationParams) -> None:
    """Raise InputError if *source* is a table that lacks a column; its rows are not read."""
    part = registry.find("annotations", params.format, key="annotations.format")
    is_json = source.data.lstrip().startswith((b"[", b"{"))  # as Squidle+ writes, too
    if hasattr(part, "TABLE") and not is_json:
        part.TABLE.check(source, params)


def level(params: AnnotationParams) -> str:
    """Return the LEVEL of the format of *params*."""
    return str(registry.find("annotations", params.format, key="annotations.format").LEVEL)


def frame(params: AnnotationParams) -> Frame:
    """Return what the places in the annotation file are in: the setting, or the format's FRAME."""
    chosen: Frame | None = getattr(params, "frame", None)
    return chosen or default_frame(params.format)


def default_frame(name: str) -> Frame:
    """Return the FRAME of the format *name*."""
    part = registry.find("annotations", name, key="annotations.format")
    default: Frame = getattr(part, "FRAME", "stored")
    return default


def file_name(params: AnnotationParams) -> str:
    """Return the annotation file's name, for messages."""
    return (params.path or "").rpartition("/")[2]


def label_separator(params: AnnotationParams) -> str | None:
    """Return the text between the labels of a chip; None if a chip has one label."""
    separator: str | None = getattr(params, "label_separator", None)
    return separator
