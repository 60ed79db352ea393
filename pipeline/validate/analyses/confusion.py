"""Which labels are taken for which."""

from __future__ import annotations

import numpy as np
import pandas as pd
from markupsafe import Markup

from pipeline.core.run_log import pluralize
from pipeline.validate.analyses import Result
from pipeline.validate.data import ValidationData
from pipeline.validate.evaluation import Evaluation, Indices
from pipeline.validate.report.blocks import (
    Block,
    Cell,
    Figure,
    ReportSection,
    SideBySide,
    Table,
    Text,
)
from pipeline.validate.report.drawings import Matrix
from pipeline.validate.report.matrix import STEPS, matrix

ORDER = 20
N_MISTAKES = 15


def analyse(data: ValidationData) -> Result:
    """Count labels by what they were predicted as."""
    evaluation = data.evaluation
    counts, names = confusion(evaluation)
    drawing = matrix(counts, names)
    return Result(
        tables={"confusion": rows(evaluation)},
        plots={
            "confusion": ("Confusion matrix", [drawing]),
            "confusion_shares": (
                "Confusion matrix, per cent of the label's chips",
                [matrix(counts, names, in_percent=True)],
            ),
        },
        sections=[
            ReportSection(
                "confusion",
                "Which labels are taken for which",
                [
                    Text(_explained(evaluation, drawing), "quiet small"),
                    Text(_shades(), "shades"),
                    SideBySide([[Figure([drawing])], [_mistakes(counts, names)]], "fit"),
                ],
                "Confusion matrix",
            )
        ],
    )


def confusion(evaluation: Evaluation) -> tuple[Indices, list[str]]:
    """Count chips by label (rows) and prediction (columns), and name the rows.

    For multi-label data, labels are counted by what they were taken for; see
    Evaluation.confusion_pairs.

    Returns:
        int64 [n, n], and n names.
    """
    pairs, predicted, names = evaluation.confusion_pairs
    cells = pairs.labels * len(names) + predicted
    return np.bincount(cells, minlength=len(names) ** 2).reshape(len(names), -1), names


def rows(evaluation: Evaluation) -> pd.DataFrame:
    """Return `actual` and `predicted`, one row for each chip, as DVC's confusion template wants it.

    For multi-label data, one row for each label.
    """
    pairs, predicted, names = evaluation.confusion_pairs
    labels = np.array(names, dtype=object)
    return pd.DataFrame({"actual": labels[pairs.labels], "predicted": labels[predicted]})


def commonest_mistakes(counts: Indices, names: list[str]) -> list[tuple[str, str, Cell, float]]:
    """Return label, prediction, chips and their share of the label, most chips first."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    found = [
        (names[i], names[j], Cell(int(wrong[i, j]), int(i), int(j)), wrong[i, j] / counts[i].sum())
        for i, j in np.argwhere(wrong)
    ]
    return sorted(found, key=lambda row: (-row[2].n, row[0], row[1]))[:N_MISTAKES]


def _mistakes(counts: Indices, names: list[str]) -> Block:
    mistakes = commonest_mistakes(counts, names)
    if not mistakes:
        return Text("There is no mistake to list.")
    return Table(
        "Commonest mistakes",
        {"Label": "text", "Taken for": "text", "Chips": "browse", "Share of label": "share"},
        mistakes,
        "A count opens its chips.",
        "Commonest mistakes",
        {"Chips": "descending"},
    )


def _explained(evaluation: Evaluation, drawing: Matrix) -> str:
    text = (
        "Each row is a label, each column what it was predicted as. Column (none) has the labels "
        "that were missed, row (none) those that were predicted wrongly."
        if evaluation.is_multilabel
        else "Rows are the labels that people gave, columns are the predictions."
    )
    text += " Shades are shares of the row. A cell opens its chips."
    text += " Labels that are often confused are side by side."
    if drawing.n_merged:
        text += f" The {drawing.n_merged:,} rarest labels share one row."
    if drawing.n_absent:
        was, is_ = ("was", "is") if drawing.n_absent == 1 else ("were", "are")
        classes = pluralize(drawing.n_absent, "classes")
        text += f" {classes} neither occurred nor {was} predicted and {is_} not shown."
    return text


def _shades() -> Markup:
    """Return the legend of the shades."""
    lows = [0, *STEPS]
    legends = []
    for name, kind in (("correct", "r"), ("wrong", "w")):
        shades = Markup("").join(
            Markup('<i style="background:var(--{}{});color:var(--t{})">{}{:.0f}</i>').format(
                kind, number, number, "≥" if low else ">", 100 * low
            )
            for number, low in enumerate(lows, 1)
        )
        legends.append(Markup("<span>{} <b>{}</b></span>").format(name, shades))
    return Markup("").join([*legends, Markup("<span>% of the row</span>")])
