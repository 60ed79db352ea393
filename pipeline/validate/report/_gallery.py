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
from PIL import Image, ImageDraw

from pipeline.images.windows import Pixels, Window
from pipeline.validate.metrics import Judged

Kind = Literal["suspect", "wrong", "doubtful", "right"]
KINDS: tuple[Kind, ...] = ("suspect", "wrong", "doubtful", "right")
CHOSEN = KINDS[1:]
"""Of the validation split. Suspects may be of the calibration split, too."""

FEW = 60
SIDE_OF_FEW = 320
SIDE_OF_MANY = 176
"""Pixels. Noise is what compresses worst: 60 and 200 pictures of it are 6.2 and 6.3 MB in base64,
so that the page stays below 10 MB."""

TINY = 96
"""Up to so many pixels wide and high, a picture keeps every pixel: 200 of them are 7.4 MB."""

QUALITY = 85
SURROUNDINGS = 2
"""So many times as wide and high as the chip is what is shown around it."""


@dataclass(frozen=True, slots=True)
class GalleryChoice:
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
    """One chip to show, with its picture as WebP."""

    chip: GalleryChoice
    picture: bytes


def suspected(suspects: pd.DataFrame, count: int) -> list[GalleryChoice]:
    """Give the first *count* of `_doubts.table`: chips whose label is likely to be wrong."""
    return [
        GalleryChoice(
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
) -> list[GalleryChoice]:
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
    return [
        GalleryChoice(**row, kind=kind) for row, kind in zip(rows, chosen.values(), strict=True)
    ]


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


def picture(pixels: Pixels, window: Window, of: int) -> bytes:
    """Give a chip in its surroundings as WebP, framed, for a gallery *of* so many chips.

    A chip that is its whole image has no surroundings, and no frame.

    Args:
        pixels: uint8 [height, width, 3], the whole image; not written to.
        window: the chip's; it may reach over the border, its surroundings do not.
        of: how many chips the gallery holds.
    """
    chip = _inside(window, pixels)
    top, left, height, width = _inside(_around(window), pixels)
    image = Image.fromarray(np.ascontiguousarray(pixels[top : top + height, left : left + width]))
    shrink = _shrink(image, of)
    if chip != (top, left, height, width):
        row, col = (chip[0] - top) / shrink, (chip[1] - left) / shrink
        _frame(image, (col, row, col + chip[3] / shrink, row + chip[2] / shrink))
    return _webp(image)


def thumbnail(pixels: Pixels, of: int) -> bytes:
    """Give *pixels*, uint8 [height, width, 3], whole, as WebP for a gallery *of* so many."""
    return picture(pixels, (0, 0, *pixels.shape[:2]), of)


def _around(window: Window) -> Window:
    top, left, height, width = window
    more = SURROUNDINGS - 1
    rows, cols = height * more // 2, width * more // 2
    return top - rows, left - cols, height + 2 * rows, width + 2 * cols


def _inside(window: Window, pixels: Pixels) -> Window:
    """Cut off what of *window* lies over the border."""
    top, left, height, width = window
    below, right = min(top + height, pixels.shape[0]), min(left + width, pixels.shape[1])
    top, left = max(top, 0), max(left, 0)
    return top, left, below - top, right - left


def _shrink(image: Image.Image, of: int) -> float:
    """Make *image* as small as it must be; say how many of its pixels became one."""
    side = SIDE_OF_FEW if of <= FEW else SIDE_OF_MANY
    width = image.width
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return width / image.width


def _frame(image: Image.Image, box: tuple[float, float, float, float]) -> None:
    """Draw a white frame in a black one just outside *box*: one shows on any ground."""
    left, top, right, bottom = (round(value) for value in box)
    draw = ImageDraw.Draw(image)
    for away, colour in ((1, "white"), (2, "white"), (3, "black")):
        draw.rectangle((left - away, top - away, right + away - 1, bottom + away - 1), None, colour)


def _webp(image: Image.Image) -> bytes:
    sink = io.BytesIO()
    image.save(sink, "WEBP", quality=QUALITY, lossless=max(image.size) <= TINY)
    return sink.getvalue()
