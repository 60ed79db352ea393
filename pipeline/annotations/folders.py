"""Folders: an image's label is the name of the folder that it lies in."""

from __future__ import annotations

from pathlib import PurePosixPath

import pyarrow as pa

from pipeline.annotations import AnnotationSource, _rows
from pipeline.config.sections import AnnotationParams
from pipeline.core.rejects import Reject

LEVEL = "image"


class Settings(AnnotationParams):
    """The settings of `annotations.format: folders`."""

    path: None = None


def read(source: AnnotationSource, params: Settings) -> tuple[pa.Table, list[Reject]]:  # noqa: ARG001
    """Label every image by its folder; an image at the bucket's root is unlabelled."""
    found = (
        _rows.Annotation(key=key, label=_rows.text(PurePosixPath(key).parent.name), line=0)
        for key in source.keys
    )
    return _rows.settle(found, source)
