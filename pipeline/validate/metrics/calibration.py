"""Whether predictions with a score of 0.8 are correct four times in five."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import sparse

from pipeline.train.calibration_error import Gaps, bins_of, sum_gaps
from pipeline.validate.evaluation import Decisions, Evaluation, Floats
from pipeline.validate.metrics import Metric

RESAMPLED = True
"""The error is not smooth where it is 0: its interval comes from resamples; see `Gaps.rounds`."""

METRICS = {
    "ece": Metric(
        "mean distance between score and accuracy, in bins of equally many chips, without what is "
        "only noise",
        "mean distance between the probability of a predicted label and how often it is right, in "
        "bins of equally many predicted labels, without what is only noise",
        "lower",
        (0.0, 1.0),
    ),
    "ece_uncorrected": Metric(
        "the same with its noise, as most software reports it", better="lower", range=(0.0, 1.0)
    ),
    "ece_by_chance": Metric(
        "what ece_uncorrected would be for a perfectly calibrated classifier on as many chips of "
        "as many groups",
        range=(0.0, 1.0),
    ),
}


def reliability(decisions: Decisions) -> pd.DataFrame:
    """Return `bin`, `n`, `score` and `accuracy` of each bin, lowest scores first."""
    bins = bins_of(decisions.score)
    n = np.bincount(bins)
    return pd.DataFrame(
        {
            "bin": np.arange(1, len(n) + 1),
            "n": n,
            "score": np.bincount(bins, weights=decisions.score) / n,
            "accuracy": np.bincount(bins, weights=decisions.correct) / n,
        }
    )


def gaps(decisions: Decisions) -> Gaps | None:
    """Return the gaps between score and accuracy; None without decisions."""
    return Gaps.between(decisions.score, decisions.correct, decisions.groups)


def sums(evaluation: Evaluation) -> sparse.csr_array:
    """Count decisions, and add up correct − score, by group and bin: [n_groups, 2 n_bins]."""
    decisions = evaluation.decisions
    return sum_gaps(decisions.score, decisions.correct, decisions.groups, decisions.n_groups)


def from_sums(evaluation: Evaluation, totals: Floats) -> dict[str, Floats]:
    """Return the calibration error, or values whose middle 95 % is its interval.

    A chip whose label the classifier has never seen counts as wrong. Multi-label data for which no
    label was predicted has no error.
    """
    found = gaps(evaluation.decisions)
    if len(totals) == 1:
        return {"ece": np.array([found.error])} if found else {}
    if found is None:  # nor is there a value that would have this interval
        return {"ece": np.zeros(len(totals))}
    return {"ece": np.clip(found.rounds(totals), 0.0, 1.0)}


def figures(evaluation: Evaluation) -> dict[str, float]:
    """Return the error with its noise, and the noise."""
    found = gaps(evaluation.decisions)
    if found is None:
        return {}
    return {"ece_uncorrected": found.uncorrected, "ece_by_chance": min(found.by_chance, 1.0)}
