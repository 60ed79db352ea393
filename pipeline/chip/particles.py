"""Annotations of particles: which chip an annotation is of, by a pixel, a name, or an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from pipeline.annotations import AnnotationSource, _merge
from pipeline.core.rejects import Reject


def assign(
    chips: pa.Table, annotations: pa.Table, source: AnnotationSource, separator: str | None = None
) -> tuple[pa.Table, list[Reject]]:
    """Return the annotations with their chips' row and column, as schemas.ANNOTATIONS.

    An annotation with a row and column is of the particle whose window they are in; one with a
    particle's name is of that particle; one with an image's key is of all particles of the image.

    Args:
        chips: schemas.LISTED_WINDOWS.
        annotations: schemas.ANNOTATIONS.
        source: the annotation file, with the keys of all images.
        separator: `annotations.label_separator`.

    Returns:
        The annotations; and rejects of those that are of no particle, and of conflicts.
    """
    rejects: list[Reject] = []
    matched = _matched(chips, annotations, source, rejects)
    merged, conflicts = _merge.merged(matched, source.name, separator)
    return merged, rejects + _merge.conflicts_by_chip(conflicts)


def _matched(
    chips: pa.Table, annotations: pa.Table, source: AnnotationSource, rejects: list[Reject]
) -> Iterator[_merge.Annotation]:
    by_image, images = _ByImage(chips), set(source.keys)
    by_name: dict[str, list[int]] = {}
    for place, particle in enumerate(chips["particle"].to_pylist()):
        by_name.setdefault(particle, []).append(place)
    for annotation in annotations.to_pylist():
        key, row, col = annotation["key"], annotation["row"], annotation["col"]
        at = f"{source.name}:{annotation['line']}"
        if row is not None and col is not None and key in images:
            places: Sequence[int] = by_image.at(key, row, col)
            why = f"{at}: ({row}, {col}) of {key} lies in no window that a table lists"
            reason = "no_window"
        else:
            places = by_name.get(key) or by_image.all(key)
            why = f"{at}: no image, and no particle of a table, is called {key!r}"
            reason = "no_such_image"
        if not places and (reason == "no_window" or key not in images):
            rejects.append(Reject("chip", key, reason, why, row=row, col=col))
        for place in places:
            centre = {column: values[place] for column, values in by_image.columns.items()}
            yield _merge.Annotation(**{**annotation, **centre})


class _ByImage:
    """The chips of each image."""

    def __init__(self, chips: pa.Table) -> None:
        self.columns = {name: chips[name].to_pylist() for name in ("key", "row", "col")}
        corners = [chips[name].to_numpy() for name in ("top", "left", "height", "width")]
        self.windows = np.stack(corners, axis=1).reshape(-1, 4)
        self.ranges: dict[str, range] = {}
        for place, key in enumerate(self.columns["key"]):  # sorted by key
            self.ranges[key] = range(self.ranges.get(key, range(place, place)).start, place + 1)

    def all(self, key: str) -> range:
        """Return the positions of an image's chips."""
        return self.ranges.get(key, range(0))

    def at(self, key: str, row: int, col: int) -> list[int]:
        """Return the chip whose window has the pixel; of several, that with the nearest centre."""
        chips = self.all(key)
        top, left, height, width = self.windows[chips.start : chips.stop].T
        inside = (top <= row) & (row < top + height) & (left <= col) & (col < left + width)
        near = np.flatnonzero(inside)
        if not len(near):
            return []
        down, right = (top + height // 2)[near] - row, (left + width // 2)[near] - col
        return [chips[int(near[np.argmin(down * down + right * right)])]]
