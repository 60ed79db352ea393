"""Multi-label data: whether the predictions of each label can be believed.

All labels together say little about a rare one, of which few are predicted.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.config.sections import ValidateParams
from pipeline.train.calibration_error import sum_gaps
from pipeline.validate.analyses import Result
from pipeline.validate.data import ValidationData
from pipeline.validate.evaluation import Decisions, Evaluation
from pipeline.validate.metrics._bootstrap import TAILS, resample
from pipeline.validate.metrics.calibration import gaps, reliability
from pipeline.validate.report.blocks import Estimate, Kind, ReportSection, Table

ORDER = 56
"""After the threshold, and below the reliability of all labels, whose section it shares."""

COLUMNS: dict[str, Kind] = {
    "Label": "text",
    "Predicted": "count",
    "Mean probability": "share",
    "Precision": "share",
    "Calibration error": "figure",
    "By chance": "figure",
    "Accepted": "count",
    "Precision of these": "share",
}

CAPTION = (
    "Of the chips for which a label was predicted: its mean probability and the share that has it, "
    "which should be equal; the calibration error with its 95\u00a0% interval, and the error that "
    "a perfectly calibrated classifier would show by chance, which has been taken off; how many "
    "reach the threshold for all labels, and the share of these that has the label."
)


def analyse(data: ValidationData) -> Result:
    """Measure calibration and threshold on the predictions of each label."""
    evaluation = data.evaluation
    if not evaluation.is_multilabel:
        return Result()
    threshold = next(
        (result.metrics["threshold"] for result in data.results if "threshold" in result.metrics),
        None,
    )
    labels = table(evaluation, threshold, data.validate)
    rows = [
        [
            row["label"],
            row["predicted"],
            row["score"],
            row["precision"],
            Estimate(row["ece"], row["ece_low"], row["ece_high"]),
            row["ece_by_chance"],
            row["accepted"],
            row["accepted_precision"],
        ]
        for row in labels.to_dict("records")
    ]
    block = Table("Predicted labels", COLUMNS, rows, CAPTION, order={"Predicted": "descending"})
    section = ReportSection("calibration", "Can the scores be believed?", [block], "Calibration")
    bins = [
        reliability(evaluation.decisions_for(at)).assign(label=label)
        for at, label in enumerate(evaluation.classes)
    ]
    by_label = pd.concat(bins)[["label", "bin", "n", "score", "accuracy"]]
    return Result(
        tables={"predicted_labels": labels, "reliability_by_label": by_label}, sections=[section]
    )


def table(
    evaluation: Evaluation, threshold: float | None, validate: ValidateParams
) -> pd.DataFrame:
    """Return a row for each class, the most often predicted first.

    What is undefined is NaN: all but the counts of a label that was never predicted, and the
    interval if the predictions are of one group.

    Args:
        evaluation: of multi-label data.
        threshold: the score from which on predicted labels are accepted; None: none is.
        validate: the section.

    Returns:
        `label`, `predicted` (chips), `score` (their mean probability), `precision`, `ece`,
        `ece_low`, `ece_high`, `ece_by_chance`, `accepted` (chips that reach *threshold*) and
        `accepted_precision`.
    """
    rows = []
    for at, label in enumerate(evaluation.classes):
        decisions = evaluation.decisions_for(at)
        accepted = decisions.score >= (np.inf if threshold is None else threshold)
        found = gaps(decisions)
        low, high = _interval(decisions, validate)
        rows.append(
            {
                "label": label,
                "predicted": decisions.n,
                "score": _mean(decisions.score),
                "precision": _mean(decisions.correct),
                "ece": found.error if found else np.nan,
                "ece_low": low,
                "ece_high": high,
                "ece_by_chance": found.by_chance if found else np.nan,
                "accepted": int(accepted.sum()),
                "accepted_precision": _mean(decisions.correct[accepted]),
            }
        )
    order = ["predicted", "label"]
    return pd.DataFrame(rows).sort_values(order, ascending=[False, True], ignore_index=True)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _interval(decisions: Decisions, validate: ValidateParams) -> tuple[float, float]:
    """Return the 95 % interval of the calibration error, from the groups with *decisions*."""
    names, groups = np.unique(decisions.groups, return_inverse=True)
    found = gaps(decisions)
    if found is None or len(names) == 1:
        return float("nan"), float("nan")
    sums = sum_gaps(decisions.score, decisions.correct, groups, len(names))
    low, high = np.quantile(found.rounds(resample(sums, validate)), TAILS)
    return float(low), min(float(high), 1.0)
