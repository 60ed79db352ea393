"""Above which score the classifier may be trusted, and how many chips that leaves to people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.config.sections import ValidateParams
from pipeline.validate.metrics._bootstrap import TAILS, resample, summed
from pipeline.validate.metrics._judged import Judged

MOST_ROWS = 200

MEANING = {
    "threshold": "the lowest score from which on so many answers are right as were wanted, chosen "
    "on the calibration split",
    "threshold_coverage": "share of validation chips with that score or more",
    "threshold_accuracy": "share of those that were given their label",
}
"""What metrics.json says of the threshold."""

SHARES = frozenset({"threshold", "threshold_coverage", "threshold_accuracy"})
"""Those that lie between 0 and 1."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A score from which on answers are taken as they are.

    Attributes:
        score: the threshold; None where no score is high enough.
        coverage: the share of chips with that score or more.
        accuracy: of those; None where there are none.
    """

    score: float | None
    coverage: float
    accuracy: float | None


def coverage(judged: Judged) -> pd.DataFrame:
    """Give `score`, `coverage` and `accuracy`: of the chips with at least that score.

    One row a distinct score, highest first, thinned evenly in coverage to 200 rows.
    """
    scores, chips, right = _counted(judged)
    last = np.linspace(0, judged.n, MOST_ROWS + 1)[1:]
    kept = np.unique(np.searchsorted(chips, last).clip(max=len(chips) - 1))
    return pd.DataFrame(
        {
            "score": scores[kept],
            "coverage": chips[kept] / judged.n,
            "accuracy": right[kept] / chips[kept],
        }
    )


def choose(judged: Judged, wanted: float) -> Threshold:
    """Find the lowest score from which on at least *wanted* of the answers are right.

    Source: Geifman and El-Yaniv 2017, "Selective classification for deep neural networks", without
    its guarantee: that is what confirming the choice on other chips is for.
    """
    scores, chips, right = _counted(judged)
    fine = np.flatnonzero(right / chips >= wanted)
    if not len(fine):
        return Threshold(None, 0.0, None)
    at = fine[-1]
    return Threshold(float(scores[at]), chips[at] / judged.n, right[at] / chips[at])


def confirm(judged: Judged, score: float | None) -> Threshold:
    """Say what the threshold *score*, chosen on other chips, comes to on these."""
    above = np.zeros(judged.n, bool) if score is None else judged.score >= score
    n = int(above.sum())
    accuracy = float(judged.correct[above].mean()) if n else None
    return Threshold(score, n / judged.n, accuracy)


def interval(judged: Judged, score: float, validate: ValidateParams) -> dict[str, float]:
    """Give the 95 % interval of what `confirm` says, from resamples of groups.

    One group says nothing of how groups differ: the interval is then from 0 to 1. Accuracy is over
    the resamples in which a chip has the score.

    Returns:
        `threshold_coverage_low`, `threshold_coverage_high`, and of `threshold_accuracy` the same
        where any chip has the score.
    """
    above = judged.score >= score
    sums = summed(judged, [np.ones(judged.n), above, above & judged.correct])
    n, taken, right = resample(sums, validate.bootstrap_rounds, validate.seed).T
    drawn = {"threshold_coverage": taken / n}
    if above.any():
        drawn["threshold_accuracy"] = right[taken > 0] / taken[taken > 0]
    found: dict[str, float] = {}
    for name, values in drawn.items():
        ends = np.quantile(values, TAILS) if judged.n_groups > 1 and len(values) else (0.0, 1.0)
        found[f"{name}_low"], found[f"{name}_high"] = map(float, ends)
    return found


def _counted(judged: Judged) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give the distinct scores, highest first, and how many chips, and right ones, reach each."""
    scores, place = np.unique(-judged.score, return_inverse=True)
    chips = np.bincount(place).cumsum()
    right = np.bincount(place, weights=judged.correct).cumsum()
    return -scores, chips, right
