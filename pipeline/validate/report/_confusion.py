"""The confusion matrix as a drawing that can be read with 5 labels and with 100."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from pipeline.validate.metrics import Judged
from pipeline.validate.metrics._tables import confusion
from pipeline.validate.report._charts import brief

MOST_LABELS = 100
"""More rows than this are hardly to be seen; the rarest labels then share one row."""

NUMBERED = 30
"""Up to so many labels, a cell has room for its count."""

STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
"""Where one shade ends and the next begins, as shares of a row. Fine at the low end: a label that
is taken for another one time in fifty is what one looks for."""

SHADES = tuple(f"{low:.0%}".rstrip("%") for low in (0.0, *STEPS))

CELLS = ((8, 54.0), (15, 40.0), (NUMBERED, 30.0), (60, 16.0), (MOST_LABELS + 1, 9.4))
"""Up to so many labels, a cell's side in pixels; 100 of them fit a window of 1,200."""

GUIDED = 5
"""Where cells have no room for a count, a line after every fifth leads the eye to the names."""

NAME_LENGTH = 24
LEAST_MARGIN = 110
PAIRS = 15


@dataclass(frozen=True, slots=True)
class Cell:
    """One pair of label and answer that occurred."""

    x: float
    y: float
    kind: str
    text: str
    title: str
    n: int
    share: float


@dataclass(frozen=True, slots=True)
class Name:
    """A label beside its row and above its column."""

    at: float
    text: str
    title: str


@dataclass(frozen=True, slots=True)
class Matrix:
    """The drawing, in pixels.

    Attributes:
        side: of a cell.
        margin: what names need on the left and above.
        size: of the whole.
        absent: classes that are not in it.
        merged: labels that share the last row.
        guides: lines between cells, as the data of an SVG path.
    """

    side: float
    margin: float
    size: float
    names: list[Name]
    cells: list[Cell]
    absent: int
    merged: int
    font: float
    guides: str


@dataclass(frozen=True, slots=True)
class Pair:
    """One label taken for another."""

    label: str
    predicted: str
    n: int
    share: float


def matrix(judged: Judged) -> Matrix:
    """Lay out the confusion matrix: rows are labels, columns answers, shaded by share of the row.

    Labels that are often taken for each other stand side by side. Classes that neither occurred
    nor were answered are left out; beyond 100 labels, the rarest are merged.
    """
    counts, labels, absent = _occurring(judged)
    counts, labels, merged = _merged(counts, labels)
    order = similar_beside(counts)
    counts, labels = counts[np.ix_(order, order)], [labels[i] for i in order]
    side = next(px for most, px in CELLS if len(labels) <= most)
    font = min(11.0, side - 1)
    longest = min(NAME_LENGTH, max(len(label) for label in labels))
    margin = max(LEAST_MARGIN, round(longest * font * 0.6 + 12))
    names = [
        Name(margin + (i + 0.5) * side, shortened(label), label) for i, label in enumerate(labels)
    ]
    size = margin + len(labels) * side + 1
    cells = _cells(counts, labels, side, margin)
    guides = "" if len(labels) <= NUMBERED else _guides(len(labels), side, margin)
    return Matrix(side, margin, size, names, cells, absent, merged, font, guides)


def _guides(n: int, side: float, margin: float) -> str:
    places = [margin + at * side for at in range(GUIDED, n, GUIDED)]
    far = margin + n * side
    return " ".join(f"M{at:g} {margin:g}V{far:g}M{margin:g} {at:g}H{far:g}" for at in places)


def _occurring(judged: Judged) -> tuple[NDArray[np.int64], list[str], int]:
    counts = confusion(judged)
    kept = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1))
    return counts[np.ix_(kept, kept)], [judged.labels[i] for i in kept], len(counts) - len(kept)


def _merged(
    counts: NDArray[np.int64], labels: list[str]
) -> tuple[NDArray[np.int64], list[str], int]:
    """Merge all but the commonest labels, where there are too many."""
    n = len(labels)
    if n <= MOST_LABELS:
        return counts, labels, 0
    places = np.empty(n, dtype=np.int64)
    places[np.lexsort((np.arange(n), -counts.sum(axis=1)))] = np.minimum(np.arange(n), MOST_LABELS)
    smaller = np.zeros((MOST_LABELS + 1, MOST_LABELS + 1), dtype=np.int64)
    np.add.at(smaller, (places[:, None], places[None, :]), counts)
    names = [""] * MOST_LABELS + ["all others"]
    for place, label in zip(places, labels, strict=True):
        if place < MOST_LABELS:
            names[place] = label
    return smaller, names, n - MOST_LABELS


def similar_beside(counts: NDArray[np.int64]) -> list[int]:
    """Order labels so that those often taken for each other are neighbours.

    Source: average linkage with optimal leaf order, Bar-Joseph et al. 2001, by SciPy.
    """
    n = len(counts)
    if n < 3:  # noqa: PLR2004 - two labels are neighbours already
        return list(range(n))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    closeness = (shares + shares.T) / 2
    distance = 1 - closeness / max(1.0, float(closeness.max()))
    np.fill_diagonal(distance, 0)
    tree = hierarchy.linkage(squareform(distance, checks=False), "average", optimal_ordering=True)
    order = [int(i) for i in hierarchy.leaves_list(tree)]
    commonest = int(counts.sum(axis=1).argmax())
    # A tree has no first leaf; begin at the end that is nearer to the commonest label.
    return order if order.index(commonest) < n / 2 else order[::-1]


def _cells(counts: NDArray[np.int64], labels: list[str], side: float, margin: float) -> list[Cell]:
    totals = np.maximum(counts.sum(axis=1), 1)
    found = []
    for i, j in np.argwhere(counts):
        n, share = int(counts[i, j]), float(counts[i, j] / totals[i])
        kind = f"{'r' if i == j else 'w'}{shade(share)}"
        text = brief(n) if len(labels) <= NUMBERED else ""
        title = f"{labels[i]} → {labels[j]}: {n:,} of {totals[i]:,} ({share:.1%})"
        found.append(Cell(margin + j * side, margin + i * side, kind, text, title, n, share))
    return found


def shade(share: float) -> int:
    """Give the number of the shade of a share, 1 to 9."""
    return int(np.searchsorted(STEPS, share, side="right")) + 1


def shortened(label: str) -> str:
    """Cut a long name off, and show that it was."""
    return label if len(label) <= NAME_LENGTH else label[: NAME_LENGTH - 1] + "…"


def taken_for(judged: Judged) -> dict[str, str]:
    """Give of each label that was ever taken for another the one that it was most often."""
    counts = confusion(judged)
    np.fill_diagonal(counts, 0)
    most = counts.argmax(axis=1)
    rows = np.flatnonzero(counts.any(axis=1))
    return {judged.labels[i]: judged.labels[most[i]] for i in rows}


def pairs(judged: Judged) -> list[Pair]:
    """Give the mistakes made most often, commonest first."""
    counts = confusion(judged)
    totals = counts.sum(axis=1)
    np.fill_diagonal(counts, 0)
    found = [
        Pair(judged.labels[i], judged.labels[j], int(counts[i, j]), float(counts[i, j] / totals[i]))
        for i, j in np.argwhere(counts)
    ]
    return sorted(found, key=lambda pair: (-pair.n, pair.label, pair.predicted))[:PAIRS]
