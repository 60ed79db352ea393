"""The confusion matrix as a drawing that is readable with 5 labels and with 100."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from pipeline.validate.report.drawings import (
    Matrix,
    MatrixCell,
    MatrixName,
    abbreviate,
    shorten,
    text_width,
)

Counts = NDArray[np.int64]

MAX_LABELS = 100
"""More rows could hardly be read; the rarest labels then share one row."""

NUMBERED = 30
"""Up to so many labels, a cell has room for its count."""

STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
"""Where one shade ends and the next begins, as shares of a row. Fine at the low end: a label that
is taken for another one time in fifty is worth seeing."""

SIDES = ((8, 54.0), (15, 40.0), (NUMBERED, 30.0), (60, 16.0), (MAX_LABELS + 1, 9.4))
"""Up to so many labels, the side of a cell in pixels; 100 of them fit a window of 1,200."""

GUIDED = 5
"""If cells have no room for a count, a line after every fifth leads the eye to the names."""

MIN_MARGIN, MAX_MARGIN = 140, 190
"""For the names: there must be room for "label ↓ prediction →"."""

MERGED = -1
CLUSTERED = 3
"""Fewer labels are neighbours in any order."""


def matrix(counts: Counts, names: list[str], *, in_percent: bool = False) -> Matrix:
    """Return a drawing of *counts*: rows are labels, columns are predictions.

    Cells are shaded by their share of the row. Labels that are often confused are side by side.
    Labels that neither occurred nor were predicted are left out; beyond 100, the rarest are merged.

    Args:
        counts: int64 [n, n].
        names: of the rows and columns.
        in_percent: whether cells show their share of the row instead of their count.
    """
    kept = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1))
    n_absent = len(counts) - len(kept)
    counts, labels = _merge(counts[np.ix_(kept, kept)], kept)
    n_merged = len(kept) - len(labels) + 1 if MERGED in labels else 0
    order = similar_beside(counts)
    counts, labels = counts[np.ix_(order, order)], [labels[at] for at in order]
    texts = ["all others" if at == MERGED else names[at] for at in labels]
    side = next(pixels for most, pixels in SIDES if len(labels) <= most)
    font = min(11.0, side - 1)
    widest = max(text_width(text, font) for text in texts)
    margin = round(min(max(MIN_MARGIN, widest + 12), MAX_MARGIN))
    return Matrix(
        title="Confusion matrix",
        side=side,
        margin=margin,
        size=margin + len(labels) * side + 1,
        names=[
            MatrixName(margin + (at + 0.5) * side, shorten(text, font, margin - 12), text)
            for at, text in enumerate(texts)
        ],
        cells=[
            replace(cell, x=margin + cell.x * side, y=margin + cell.y * side)
            for cell in _cells(counts, labels, texts, in_percent=in_percent)
        ],
        n_absent=n_absent,
        n_merged=n_merged,
        font=font,
        guides="" if len(labels) <= NUMBERED else _guides(len(labels), side, margin),
    )


def _merge(counts: Counts, labels: NDArray[np.int64]) -> tuple[Counts, list[int]]:
    """Merge all but the commonest labels, if there are too many."""
    n = len(labels)
    if n <= MAX_LABELS:
        return counts, labels.tolist()
    places = np.empty(n, np.int64)
    places[np.lexsort((np.arange(n), -counts.sum(axis=1)))] = np.minimum(np.arange(n), MAX_LABELS)
    smaller = np.zeros((MAX_LABELS + 1, MAX_LABELS + 1), np.int64)
    np.add.at(smaller, (places[:, None], places[None, :]), counts)
    merged = [MERGED] * (MAX_LABELS + 1)
    for place, label in zip(places.tolist(), labels.tolist(), strict=True):
        if place < MAX_LABELS:
            merged[place] = label
    return smaller, merged


def similar_beside(counts: Counts) -> list[int]:
    """Return an order of the labels in which those that are often confused are neighbours.

    Source: average linkage with optimal leaf order, Bar-Joseph et al. 2001, as SciPy has it.
    """
    n = len(counts)
    if n < CLUSTERED:
        return list(range(n))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    closeness = (shares + shares.T) / 2
    distance = 1 - closeness / max(1.0, float(closeness.max()))
    np.fill_diagonal(distance, 0)
    tree = hierarchy.linkage(squareform(distance, checks=False), "average", optimal_ordering=True)
    order = [int(at) for at in hierarchy.leaves_list(tree)]
    commonest = int(counts.sum(axis=1).argmax())
    # A tree has no first leaf: begin at the end that is nearer to the commonest label.
    return order if order.index(commonest) < n / 2 else order[::-1]


def _cells(
    counts: Counts, labels: list[int], texts: list[str], *, in_percent: bool
) -> list[MatrixCell]:
    """Return the cells that are not empty, at columns and rows instead of pixels."""
    totals = np.maximum(counts.sum(axis=1), 1)
    cells = []
    for i, j in np.argwhere(counts).tolist():
        n, share = int(counts[i, j]), float(counts[i, j] / totals[i])
        text = f"{100 * share:.0f}" if in_percent else abbreviate(n)
        cells.append(
            MatrixCell(
                x=j,
                y=i,
                kind=f"{'r' if i == j else 'w'}{shade(share)}",
                text=text if len(labels) <= NUMBERED else "",
                title=f"{texts[i]} → {texts[j]}: {n:,} of {totals[i]:,} ({share:.1%})",
                label=labels[i],
                predicted=labels[j],
            )
        )
    return cells


def shade(share: float) -> int:
    """Return the number of the shade of a share, 1 to 9."""
    return int(np.searchsorted(STEPS, share, side="right")) + 1


def _guides(n: int, side: float, margin: float) -> str:
    places = [margin + at * side for at in range(GUIDED, n, GUIDED)]
    far = margin + n * side
    return " ".join(f"M{at:g} {margin:g}V{far:g}M{margin:g} {at:g}H{far:g}" for at in places)
