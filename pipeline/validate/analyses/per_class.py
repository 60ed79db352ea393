"""Precision, recall and F1 of each label."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from pipeline.validate.analyses import Result
from pipeline.validate.data import ValidationData
from pipeline.validate.evaluation import Evaluation, Floats
from pipeline.validate.metrics._bootstrap import label_counts
from pipeline.validate.metrics._intervals import effective_groups, interval, spreads
from pipeline.validate.report.blocks import Estimate, Kind, ReportSection, Table
from pipeline.validate.report.drawings import FONT_SIZE, Bar, Bars, shorten
from pipeline.validate.report.page import share

ORDER = 40

SCORES = ("precision", "recall", "f1")

MAX_BARS = 100
BAR_LEFT, BAR_WIDTH, BAR_HEIGHT = 180.0, 420.0, 18.0

CAPTION = (
    "Precision: of the chips with this prediction, the share that has the label. Recall: of the "
    "chips with this label, the share that was predicted so. F1: the harmonic mean of both. A dash "
    "is where there is nothing to divide by. Small, and as a thin line: the 95\u00a0% interval. "
    "There is none where the chips are of one group only, which does not show how groups differ. "
    "Groups: those with chips of the label."
)
THRESHOLDS = (
    " A label is predicted if its probability reaches the threshold, which gives the highest F1 on "
    "the calibration split. If fewer than 20 chips have the label there, the threshold is one that "
    "predicts it about as often as it occurs; it is one half if none has it."
)


def analyse(data: ValidationData) -> Result:
    """Compute the scores of each label."""
    evaluation = data.evaluation
    classes = table(evaluation)
    columns: dict[str, Kind] = {"Label": "text", "Chips": "count", "Groups": "count"}
    columns["Predicted"] = "count"
    columns |= {"Precision": "share", "Recall": "share", "F1": "share"}
    if evaluation.is_multilabel:
        calibration = data.card["calibration"]
        classes["threshold"] = classes["label"].map(calibration.get("thresholds", {})).astype(float)
        positives = classes["label"].map(calibration.get("positives", {})).astype(float).fillna(0)
        classes["calibration_chips"] = positives.astype(np.int64)
        columns |= {"Threshold": "figure", "Calibration chips": "count"}
    known = set(evaluation.classes)
    rows = [
        [
            row["label"] + ("" if row["label"] in known else " (not in the training split)"),
            row["support"],
            row["groups"],
            row["predicted"],
            *(Estimate(row[s], row[f"{s}_low"], row[f"{s}_high"]) for s in SCORES),
            *([row["threshold"], row["calibration_chips"]] if evaluation.is_multilabel else []),
        ]
        for row in classes.to_dict("records")
    ]
    caption = CAPTION + (THRESHOLDS if evaluation.is_multilabel else "")
    block = Table("Scores by class", columns, rows, caption, order={"Chips": "descending"})
    return Result(
        tables={"per_class": classes},
        plots={"f1": ("F1 by class", [_bars(classes)])},
        sections=[ReportSection("classes", "Classes", [block])],
    )


def table(evaluation: Evaluation) -> pd.DataFrame:
    """Return the scores of each label, commonest label first.

    The columns are `label`, `support`, `groups` (that have chips with the label), `predicted`,
    `precision`, `recall` and `f1`, each of the last three with its 95 % interval (`precision_low`,
    `precision_high`, …), and `note`: why a score has no interval. Every class has a row, and every
    label that is only in the validation split. What is undefined is NaN: the precision of a label
    that was never predicted, the recall of one that never occurred.
    """
    counts = label_counts(evaluation)
    hits, support, predicted = (np.asarray(part.sum(axis=0)) for part in counts)
    of_groups = sparse.hstack(counts, format="csr")
    spread = spreads(of_groups, lambda totals: _scores(*np.split(totals, 3, axis=1)))
    below = {"precision": counts[2], "recall": counts[1], "f1": counts[1] + counts[2]}
    columns: dict[str, Any] = {
        "label": evaluation.labels,
        "support": support.astype(np.int64),
        "groups": (counts[1] > 0).sum(axis=0),
        "predicted": predicted.astype(np.int64),
    }
    notes = np.full(len(evaluation.labels), "", dtype=object)
    for name, values in _scores(hits, support, predicted).items():
        low, high = interval(values, spread[name], effective_groups(below[name]), (0.0, 1.0))
        columns |= {name: values, f"{name}_low": low, f"{name}_high": high}
        has_none = np.isfinite(values) & ~np.isfinite(low)
        notes[has_none] += f"{name}: chips of one group; "
    columns["note"] = [note.removesuffix("; ") for note in notes]
    order = ["support", "label"]
    return pd.DataFrame(columns).sort_values(order, ascending=[False, True], ignore_index=True)


def _scores(hits: Floats, support: Floats, predicted: Floats) -> dict[str, Floats]:
    with np.errstate(invalid="ignore"):
        return {
            "precision": hits / predicted,
            "recall": hits / support,
            "f1": 2 * hits / (support + predicted),
        }


def _bars(classes: pd.DataFrame) -> Bars:
    """Draw F1 by class, highest first."""
    shown = classes.dropna(subset="f1").head(MAX_BARS)
    shown = shown.sort_values(["f1", "label"], ascending=[False, True])
    rows = [
        Bar(
            y=BAR_HEIGHT * at,
            name=shorten(row.label, FONT_SIZE, BAR_LEFT - 12),
            title=f"{row.label}: {share(row.f1)}",
            width=BAR_WIDTH * row.f1,
            low=BAR_LEFT + BAR_WIDTH * _first(row.f1_low, row.f1),
            high=BAR_LEFT + BAR_WIDTH * _first(row.f1_high, row.f1),
            text=f"{row.f1:.2f}",
        )
        for at, row in enumerate(shown.itertuples())
    ]
    width, height = BAR_LEFT + BAR_WIDTH + 50, BAR_HEIGHT * max(1, len(rows))
    return Bars("F1 by class", rows, BAR_LEFT, width, height)


def _first(end: float, value: float) -> float:
    """Return the end of an interval, or the value itself if there is none."""
    return value if np.isnan(end) else end
