"""Which chips are worth looking at, and how large they are shown."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from pipeline.metrics import Judged

Kind = Literal["suspect", "wrong", "doubtful", "right"]
KINDS: tuple[Kind, ...] = ("suspect", "wrong", "doubtful", "right")
CHOSEN = KINDS[1:]
"""Of the validation split. Suspects may be of the calibration split, too."""

FEW = 60
SIDE_OF_FEW = 160
SIDE_OF_MANY = 96
"""Pixels. Noise hardly compresses: 60 × 160² × 3 and 200 × 96² × 3 bytes, in base64, are 6.1 and
7.4 MB, so that the page stays below 10 MB."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One chip to show: its row of the predictions, and why it was chosen."""

    chip_id: bytes
    key: str
    row: int
    col: int
    label: str
    predicted: str
    score: float
    kind: Kind


@dataclass(frozen=True, slots=True)
class GalleryItem:
    """One chip to show, with its pixels as PNG."""

    chip: Choice
    png: bytes


def suspected(suspects: pd.DataFrame, count: int) -> list[Choice]:
    """Give the first *count* of `_doubts.table`: chips whose label is likely to be wrong."""
    return [
        Choice(
            bytes.fromhex(row.chip_id),
            row.key,
            row.row,
            row.col,
            row.label,
            row.suggested,
            row.suggested_probability,
            "suspect",
        )
        for row in suspects.head(count).itertuples()
    ]


def choose(
    predictions: pa.Table, facts: Judged, count: int, among: NDArray[np.bool_] | None = None
) -> list[Choice]:
    """Choose at most *count* chips: a third each of wrong, doubtful and right ones.

    Wrong ones are the surest of their wrong answer, doubtful ones have the two likeliest classes
    closest together, right ones have the score that is usual among the right ones of their label.
    Each kind goes round the labels, so that no label fills it. No chip is chosen twice. What one
    kind cannot fill the next one takes.

    Args:
        predictions: schemas.PREDICTIONS.
        facts: of *predictions*.
        count: how many.
        among: bool [n], which chips may be chosen; None: all.
    """
    chosen: dict[int, Kind] = {}
    for at, kind in enumerate(CHOSEN):
        quota = -(-(count - len(chosen)) // (len(CHOSEN) - at))
        candidates = [i for i in _ranked(facts, kind, among) if i not in chosen]
        chosen.update(dict.fromkeys(candidates[:quota], kind))
    columns = ["chip_id", "key", "row", "col", "label", "predicted", "score"]
    rows = predictions.select(columns).take(pa.array(chosen, pa.int64())).to_pylist()
    return [Choice(**row, kind=kind) for row, kind in zip(rows, chosen.values(), strict=True)]


def _ranked(facts: Judged, kind: Kind, among: NDArray[np.bool_] | None) -> list[int]:
    """Give the chips that can stand for *kind*: every label's best first, then its second best."""
    fits, badness = _fitness(facts, kind)
    rows = np.flatnonzero(fits if among is None else fits & among)
    rows = rows[np.lexsort((rows, badness[rows], facts.y_true[rows]))]
    places = np.concatenate([np.zeros(0, np.int64), *_places(facts.y_true[rows])])
    order = np.lexsort((rows, badness[rows], places))
    return [int(row) for row in rows[order]]


def _places(labels: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Number the rows of each label from 0; *labels* is sorted."""
    for n in np.unique(labels, return_counts=True)[1]:
        yield np.arange(n)


def _fitness(facts: Judged, kind: Kind) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Say which chips can stand for *kind*, and how badly each does: bool [n], float64 [n]."""
    if kind == "wrong":
        return ~facts.correct, -facts.score
    if kind == "right":
        return facts.correct, np.abs(facts.score - _usual_score(facts))
    if facts.n_classes == 1:
        return np.zeros(facts.n, dtype=bool), facts.score
    second = np.partition(facts.probabilities, -2, axis=1)[:, -2]
    return np.ones(facts.n, dtype=bool), facts.score - second


def _usual_score(facts: Judged) -> NDArray[np.float64]:
    """Give the median score of the right chips of each chip's label: float64 [n]."""
    usual = np.zeros(len(facts.labels))
    for label in np.unique(facts.y_true[facts.correct]):
        usual[label] = np.median(facts.score[facts.correct & (facts.y_true == label)])
    return usual[facts.y_true]


def thumbnail(pixels: NDArray[np.uint8], of: int) -> bytes:
    """Give *pixels* as PNG, small enough for a gallery *of* so many chips.

    Args:
        pixels: uint8 [height, width, 3].
        of: how many chips the gallery holds.
    """
    side = SIDE_OF_FEW if of <= FEW else SIDE_OF_MANY
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    sink = io.BytesIO()
    image.save(sink, format="PNG", optimize=True)
    return sink.getvalue()
