"""From which score on predictions may be accepted, and how many chips that leaves to people.

Selective classification: the fewer predictions are accepted (coverage), the fewer of them are wrong
(risk, which is 1 − accuracy).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup

from pipeline.validate.analyses import Result
from pipeline.validate.data import ValidationData
from pipeline.validate.evaluation import Decisions, Floats
from pipeline.validate.metrics import Metric, _intervals, ratio
from pipeline.validate.metrics._bootstrap import sum_by_group
from pipeline.validate.report.blocks import Figure, ReportSection, SideBySide, Text
from pipeline.validate.report.drawings import Chart, Mark, nice_ticks
from pipeline.validate.report.page import share

ORDER = 50
MAX_ROWS = 200
MIN_CHIPS = 20
"""The accuracy of fewer chips is not drawn: it would be noise."""

HIGHEST_FLOOR = 0.9
"""The axis of accuracy begins here or lower: a curve that hardly moves should look like it."""

METRICS = {
    "threshold": Metric(
        "the lowest score from which on predictions reach validate.target_accuracy on the "
        "calibration split",
        range=(0.0, 1.0),
    ),
    "threshold_coverage": Metric(
        "share of validation chips with that score or more",
        "share of the labels predicted for validation chips that have that score or more",
        range=(0.0, 1.0),
    ),
    "threshold_accuracy": Metric(
        "accuracy of the predictions for those chips",
        "precision: the share of those labels that is right",
        range=(0.0, 1.0),
    ),
}


@dataclass(frozen=True, slots=True)
class Threshold:
    """A score from which on predictions are accepted.

    Attributes:
        score: the threshold; None if no score is high enough.
        coverage: the share of predictions with that score or more.
        accuracy: of those predictions; None if there are none.
        n: the number of predictions; 0 if a classifier of several labels predicts none.
    """

    score: float | None
    coverage: float
    accuracy: float | None
    n: int


def analyse(data: ValidationData) -> Result:
    """Choose a threshold on the calibration split, and measure it on the validation split."""
    decisions, target = data.evaluation.decisions, data.validate.target_accuracy
    chosen = measured = None
    metrics: dict[str, float] = {}
    if data.calibration_predictions.table.num_rows:
        chosen = choose(data.calibration_predictions.evaluation.decisions, target)
        measured = measure(decisions, chosen.score)
        metrics = _metrics(decisions, measured)
    what = "predicted labels" if data.evaluation.is_multilabel else "predictions"
    texts = _texts(chosen, measured, target, metrics, what)
    chart = draw(decisions, measured)
    paragraphs = [Text(text) for text in texts]
    if data.evaluation.is_multilabel:
        paragraphs.append(
            Text(
                "A chip counts once for each label that is predicted for it, by the label’s "
                "probability. That a chip lacks a label does not count: nearly all chips lack "
                "nearly all labels. The accuracy of predicted labels is their precision.",
                "quiet small",
            )
        )
    caption = (
        f"Accuracy of the most certain {what}: the further right, the more are accepted, and the "
        "more of them are wrong. The dot is the threshold."
    )
    return Result(
        metrics=metrics,
        tables={"risk_coverage": curve(decisions)},
        plots={"risk_coverage": ("Accuracy of the most certain predictions", [chart])},
        sections=[
            ReportSection(
                "risk-coverage",
                "How many predictions can be accepted without a second look?",
                [SideBySide([paragraphs, [Figure([chart], caption)]])],
                "Threshold",
            )
        ],
        lede=texts[:1],
    )


def _metrics(decisions: Decisions, measured: Threshold) -> dict[str, float]:
    if measured.score is None or not measured.n:
        return {}
    metrics = {"threshold": measured.score, "threshold_coverage": measured.coverage}
    if measured.accuracy is not None:
        metrics["threshold_accuracy"] = measured.accuracy
    return {**metrics, **interval(decisions, measured.score)}


def _texts(
    chosen: Threshold | None,
    measured: Threshold | None,
    target: float,
    metrics: dict[str, float],
    what: str,
) -> list[Markup]:
    """Return what was asked for beside what was reached, then how the threshold was chosen."""
    asked = Markup(
        "You asked for an accuracy of {} (<code>validate.target_accuracy</code>). "
    ).format(share(target))
    if chosen is None or measured is None:
        return [asked + "There is no calibration chip to choose a threshold by."]
    if not chosen.n:
        return [asked + "No label is predicted on the calibration split, so no score reaches it."]
    if chosen.score is None or chosen.accuracy is None:
        return [
            asked
            + f"No score reaches it on the calibration split: every one of the {what} needs a "
            "second look."
        ]
    how = Markup(
        "The threshold is the lowest score from which on {} reach that accuracy on the calibration "
        "split: {} there. The validation chips had no part in choosing it."
    ).format(what, share(chosen.accuracy))
    if measured.accuracy is None:
        return [
            asked
            + Markup(
                "No validation chip has a score of {:.3f} or more, which reaches it on the "
                "calibration split."
            ).format(chosen.score),
            how,
        ]
    reached = Markup(
        "With a score of {:.3f} or more, <strong>{}</strong> of the {} for validation chips were "
        "correct (95&nbsp;% interval: {} to {}). These are {} of them; the other {} need a second "
        "look."
    ).format(
        chosen.score,
        share(measured.accuracy),
        what,
        share(metrics["threshold_accuracy_low"]),
        share(metrics["threshold_accuracy_high"]),
        share(measured.coverage),
        share(1 - measured.coverage),
    )
    return [asked + reached, how]


def curve(decisions: Decisions) -> pd.DataFrame:
    """Return `threshold`, `coverage` and `accuracy` of the chips with at least that score.

    One row for each distinct score, highest first, thinned evenly in coverage to 200 rows.
    """
    scores, chips, correct = _cumulative(decisions)
    last = np.linspace(0, decisions.n, MAX_ROWS + 1)[1:]
    kept = np.unique(np.searchsorted(chips, last).clip(max=max(len(chips) - 1, 0)))[: len(chips)]
    return pd.DataFrame(
        {
            "threshold": scores[kept],
            "coverage": chips[kept] / decisions.n,
            "accuracy": correct[kept] / chips[kept],
        }
    )


def choose(decisions: Decisions, target: float) -> Threshold:
    """Return the lowest score from which on the accuracy is at least *target*.

    Source: Geifman and El-Yaniv 2017, "Selective classification for deep neural networks", without
    its guarantee, which `measure` on other chips replaces.
    """
    scores, chips, correct = _cumulative(decisions)
    reached = np.flatnonzero(correct / chips >= target)
    if not len(reached):
        return Threshold(None, 0.0, None, decisions.n)
    at = reached[-1]
    coverage, accuracy = chips[at] / decisions.n, correct[at] / chips[at]
    return Threshold(float(scores[at]), coverage, accuracy, decisions.n)


def measure(decisions: Decisions, score: float | None) -> Threshold:
    """Return the coverage and accuracy of the threshold *score* on *decisions*."""
    above = np.zeros(decisions.n, bool) if score is None else decisions.score >= score
    n = int(above.sum())
    accuracy = float(decisions.correct[above].mean()) if n else None
    return Threshold(score, n / max(decisions.n, 1), accuracy, decisions.n)


def interval(decisions: Decisions, score: float) -> dict[str, float]:
    """Return the 95 % intervals of what `measure` returns.

    One group does not show how groups differ: the interval is then from 0 to 1.

    Returns:
        `threshold_coverage_low`, `threshold_coverage_high`, and the same of `threshold_accuracy` if
        any chip has the score.
    """
    above = decisions.score >= score
    columns = [np.ones(decisions.n), above, above & decisions.correct]
    sums = sum_by_group(decisions.groups, decisions.n_groups, columns)
    n, accepted, correct = np.asarray(sums.sum(axis=0))
    groups, spread = _intervals.effective_groups(sums), _intervals.spreads(sums, _shares)
    values = {"threshold_coverage": (accepted / n, groups[0])}
    if accepted:
        values["threshold_accuracy"] = (correct / accepted, groups[1])
    ends: dict[str, float] = {}
    for name, (value, n_groups) in values.items():
        low, high = _intervals.interval(value, spread[name], n_groups, (0.0, 1.0))
        ends[f"{name}_low"] = float(np.nan_to_num(low, nan=0.0))
        ends[f"{name}_high"] = float(np.nan_to_num(high, nan=1.0))
    return ends


def _shares(totals: Floats) -> dict[str, Floats]:
    """Return coverage and accuracy of each round from *totals* [rounds, 3]."""
    n, accepted, correct = totals.T
    return {
        "threshold_coverage": accepted / n,
        "threshold_accuracy": ratio(correct, accepted),
    }


def draw(decisions: Decisions, threshold: Threshold | None) -> Chart:
    """Draw the accuracy of the chips with a score or more, by the share of chips that have it."""
    table = curve(decisions)
    y_ticks = nice_ticks(min([HIGHEST_FLOOR, *table["accuracy"]]), 1.0, 4)
    title = "Risk–coverage curve"
    chart = Chart(title, (0, 1), (y_ticks[0], 1.0), 278, "share of chips accepted", "accuracy")
    chart.tick([0.0, 0.25, 0.5, 0.75, 1.0], [tick for tick in y_ticks if tick <= 1])
    table = table[table["coverage"] * decisions.n >= min(MIN_CHIPS, decisions.n)]
    x, y = table["coverage"].tolist(), table["accuracy"].tolist()
    if x:
        chart.draw("curve", "accuracy of the most certain predictions", x, y)
    if threshold and threshold.accuracy is not None and threshold.accuracy >= y_ticks[0]:
        title = (
            f"score {threshold.score:.3f}: {threshold.coverage:.1%} of chips, "
            f"{threshold.accuracy:.1%} correct"
        )
        place = chart.across(threshold.coverage), chart.down(threshold.accuracy)
        chart.dots.append(Mark(*place, 5.5, 0, title))
    return chart


def _cumulative(decisions: Decisions) -> tuple[Floats, Floats, Floats]:
    """Return distinct scores, highest first, and the chips and correct chips that reach each."""
    scores, place = np.unique(-decisions.score, return_inverse=True)
    chips = np.bincount(place).cumsum()
    correct = np.bincount(place, weights=decisions.correct).cumsum()
    return -scores, chips, correct
