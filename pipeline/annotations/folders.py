"""Folders: an image's label is the name of the folder that it lies in."""

from __future__ import annotations

from pathlib import PurePosixPath

from pipeline.annotations import Annotations, AnnotationSource, _merge, _values
from pipeline.config.sections import AnnotationParams

LEVEL = "image"


class Settings(AnnotationParams):
    """The settings of `annotations.format: folders`."""

    path: None = None


def read(source: AnnotationSource, settings: Settings) -> Annotations:  # noqa: ARG001
    """Label every image by its folder; an image at the bucket's root is unlabelled."""
    labels = ((key, _values.text(PurePosixPath(key).parent.name)) for key in source.keys)
    annotations = (_merge.Annotation(key, label, line=0) for key, label in labels)
    return _merge.merged(annotations, source.name)
