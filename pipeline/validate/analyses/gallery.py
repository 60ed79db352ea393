"""Chips to look at: all mistakes as a list, and pictures of some chips of each kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup
from numpy.typing import NDArray

from pipeline.core import schemas
from pipeline.validate.analyses import Result
from pipeline.validate.data import ValidationData
from pipeline.validate.evaluation import Evaluation, Indices
from pipeline.validate.report.blocks import Block, Browser, Gallery, Picture, ReportSection, Text
from pipeline.validate.report.page import breakable

ORDER = 30

Kind = Literal["wrong", "issue", "undecided", "correct"]
KINDS: tuple[Kind, ...] = ("wrong", "issue", "undecided", "correct")
CHOSEN: tuple[Kind, ...] = ("wrong", "undecided", "correct")
"""From the validation split. Label issues may be in the calibration split, too."""

MAX_LISTED = 20_000
"""Chips in the list, mistakes first: 1 MB of the page."""


@dataclass(frozen=True, slots=True)
class GalleryChip:
    """One chip to show: its row of the predictions, and why it was chosen.

    Attributes:
        listed: its place in the list of the page, if it is there.
    """

    chip_id: bytes
    key: str
    row: int
    col: int
    label: str
    predicted: str
    score: float
    kind: Kind
    listed: int | None = None


def analyse(data: ValidationData) -> Result:
    """List the mistakes, and show some chips of each kind."""
    evaluation, predictions = data.evaluation, data.predictions.table
    count = data.validate.gallery_size
    order = listed(evaluation)
    issues = with_issues(data.label_issues, count // len(KINDS))
    shown = pa.array([chip.chip_id for chip in issues], schemas.CHIP_ID)
    is_free = ~np.asarray(pc.is_in(predictions["chip_id"], value_set=shown))
    chips = [*issues, *choose(predictions, evaluation, count - len(issues), order, is_free)]
    pictures = data.pictures([chip.chip_id for chip in chips], count)
    titles = {
        "wrong": "Wrong, the most certain first",
        "issue": "Is the label right? The classifier is confident of another one",
        "undecided": "Undecided: "
        + (
            "a label is as likely as not"
            if evaluation.is_multilabel
            else "two classes are nearly tied"
        ),
        "correct": "Correct, and typical of their label",
    }
    galleries = {
        kind: [
            _item(c, pictures[c.chip_id]) for c in chips if c.kind == kind and c.chip_id in pictures
        ]
        for kind in KINDS
    }
    galleries = {kind: items for kind, items in galleries.items() if items}
    blocks: list[Block] = [Text(_explained(evaluation, order, len(pictures), count))]
    blocks.append(Browser(browser_data(predictions, evaluation, order)))
    blocks += [Gallery(items, titles[kind], kind) for kind, items in galleries.items()]
    return Result(
        sections=[ReportSection("gallery", "Mistakes, and other chips to look at", blocks, "Chips")]
    )


def _explained(evaluation: Evaluation, order: Indices, n_pictures: int, count: int) -> str:
    n_wrong = int(evaluation.n - evaluation.correct.sum())
    text = f"{n_wrong:,} of {evaluation.n:,} validation chips were predicted wrongly."
    if len(order) < evaluation.n:
        text += f" The list has {len(order):,} chips, mistakes first; predictions.parquet has all."
    if not count:
        text += " There are no pictures, since validate.gallery_size is 0."
    elif n_pictures:
        text += (
            " The frame in a picture is the chip that the classifier saw; it did not see what is "
            "around it. A larger validate.gallery_size shows more pictures."
        )
    return text


def _item(chip: GalleryChip, webp: bytes) -> tuple[list[Picture], Markup]:
    alt = f"{chip.key} around row {chip.row}, column {chip.col}"
    label, predicted = (breakable(text or "no label") for text in (chip.label, chip.predicted))
    is_same = chip.label == chip.predicted
    if is_same:
        caption = Markup("<strong>{}</strong> (correct, {:.2f})").format(label, chip.score)
    else:
        names = Markup("<strong>{}</strong> → <strong>{}</strong> ").format(label, predicted)
        caption = names + Markup("({:.2f})").format(chip.score)
    place = Markup("<small>{} · {}, {}</small>").format(breakable(chip.key), chip.row, chip.col)
    return [Picture(webp, alt, chip.listed)], caption + place


def listed(evaluation: Evaluation) -> Indices:
    """Return the chips of the list: mistakes, the most certain first, then correct chips."""
    wrong = np.flatnonzero(~evaluation.correct)
    wrong = wrong[np.lexsort((wrong, -evaluation.score[wrong]))]
    correct = np.array(_ranked(evaluation, "correct", np.ones(evaluation.n, bool)), np.int64)
    return np.concatenate([wrong, correct])[:MAX_LISTED]


def browser_data(predictions: pa.Table, evaluation: Evaluation, order: Indices) -> dict[str, Any]:
    """Return what the page's script reads; see report/page.js."""
    rows = predictions.select(["key", "row", "col"]).take(pa.array(order))
    keys = pc.unique(rows["key"])
    places = pc.index_in(rows["key"], value_set=keys).to_pylist()
    true, predicted = (
        _by_chip(pairs.chips, pairs.labels, evaluation.n, order)
        for pairs in (evaluation.true, evaluation.predicted)
    )
    scores = evaluation.score[order].round(3).tolist()
    columns = [places, rows["row"].to_pylist(), rows["col"].to_pylist(), true, predicted, scores]
    return {
        "multilabel": evaluation.is_multilabel,
        "keys": keys.to_pylist(),
        "labels": evaluation.labels,
        "rows": list(zip(*columns, strict=True)),
    }


def _by_chip(chips: Indices, labels: Indices, n: int, order: Indices) -> list[list[int]]:
    ends = np.cumsum(np.bincount(chips, minlength=n))
    parts = np.split(labels, ends[:-1])
    return [parts[at].tolist() for at in order]


def with_issues(issues: pd.DataFrame, count: int) -> list[GalleryChip]:
    """Return the first *count* chips of `label_issues.table`."""
    return [
        GalleryChip(
            bytes.fromhex(row.chip_id),
            row.key,
            row.row,
            row.col,
            row.given_label,
            row.predicted_label,
            row.predicted_probability,
            "issue",
        )
        for row in issues.head(count).itertuples()
    ]


def choose(
    predictions: pa.Table,
    evaluation: Evaluation,
    count: int,
    order: Indices | None = None,
    among: NDArray[np.bool_] | None = None,
) -> list[GalleryChip]:
    """Choose at most *count* chips: a third each of wrong, undecided and correct ones.

    Wrong ones are the most certain ones, undecided ones have the two likeliest classes closest
    together, correct ones have the median score of the correct chips of their label. Each kind
    takes the labels in turn, so that no label fills it. No chip is chosen twice. If there are not
    enough chips of one kind, the next takes more.

    Args:
        predictions: schemas.PREDICTIONS.
        evaluation: of *predictions*.
        count: how many.
        order: the chips of the list on the page.
        among: bool [n], which chips may be chosen; None: all.
    """
    chosen: dict[int, Kind] = {}
    among = np.ones(evaluation.n, bool) if among is None else among
    for at, kind in enumerate(CHOSEN):
        quota = -(-(count - len(chosen)) // (len(CHOSEN) - at))
        candidates = [i for i in _ranked(evaluation, kind, among) if i not in chosen]
        chosen.update(dict.fromkeys(candidates[:quota], kind))
    columns = ["chip_id", "key", "row", "col", "label", "predicted", "score"]
    rows = predictions.select(columns).take(pa.array(chosen, pa.int64())).to_pylist()
    places = {} if order is None else {int(chip): at for at, chip in enumerate(order)}
    return [
        GalleryChip(**row, kind=kind, listed=places.get(at))
        for row, (at, kind) in zip(rows, chosen.items(), strict=True)
    ]


def _ranked(evaluation: Evaluation, kind: Kind, among: NDArray[np.bool_]) -> list[int]:
    """Return the chips that are of *kind*: the best of each label first, then the second best."""
    fits, badness = _fitness(evaluation, kind)
    chips = pd.DataFrame({"label": evaluation.label_sets, "badness": badness})[fits & among]
    chips = chips.sort_values("badness", kind="stable")
    chips["rank"] = chips.groupby("label").cumcount()
    ranked: list[int] = chips.sort_values(["rank", "badness"], kind="stable").index.tolist()
    return ranked


def _fitness(evaluation: Evaluation, kind: Kind) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return which chips are of *kind*, bool [n], and what they are sorted by, float64 [n]."""
    if kind == "wrong":
        return ~evaluation.correct, -evaluation.score
    if kind == "correct":
        return evaluation.correct, np.abs(evaluation.score - _median_score(evaluation))
    if evaluation.n_classes == 1 and not evaluation.is_multilabel:
        return np.zeros(evaluation.n, bool), evaluation.score
    return np.ones(evaluation.n, bool), evaluation.margin


def _median_score(evaluation: Evaluation) -> NDArray[np.float64]:
    """Return the median score of the correct chips of each chip's label, float64 [n]."""
    scores = pd.Series(evaluation.score).where(evaluation.correct)
    medians = scores.groupby(evaluation.label_sets).transform("median")
    return np.asarray(medians.fillna(0.0))
