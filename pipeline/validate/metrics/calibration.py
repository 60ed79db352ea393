"""Whether predictions with a score of 0.8 are correct four times in five."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import sparse

from pipeline.validate.evaluation import Decisions, Evaluation, Floats, Indices
from pipeline.validate.metrics import Metric
from pipeline.validate.metrics._bootstrap import count_by_group

BINS = 15
CHIPS_IN_BIN = 10
"""In a bin of fewer chips, accuracy is noise that the error would count as miscalibration."""

METRICS = {
    "ece": Metric(
        "mean distance between score and accuracy, in bins of equally many chips",
        "mean distance between probability and frequency of a label, in bins of equally many chips "
        "and labels",
        "lower",
        (0.0, 1.0),
    )
}
RESAMPLED = True
"""The error is made of absolute values, which have no slope at 0."""


def reliability(decisions: Decisions) -> pd.DataFrame:
    """Return `bin`, `n`, `score` and `accuracy` of each bin, lowest scores first."""
    bins = _bins(decisions.score)
    n = np.bincount(bins)
    return pd.DataFrame(
        {
            "bin": np.arange(1, len(n) + 1),
            "n": n,
            "score": np.bincount(bins, weights=decisions.score) / n,
            "accuracy": np.bincount(bins, weights=decisions.correct) / n,
        }
    )


def _bins(score: Floats) -> Indices:
    """Return the bin of each score, int64 [n]; no bin is empty, and equal scores share one."""
    wanted = min(BINS, max(1, len(score) // CHIPS_IN_BIN))
    last = np.arange(1, wanted) * len(score) // wanted - 1
    edges = np.sort(score)[last]
    bins = np.searchsorted(edges, score, side="left")
    # Equal scores can leave bins empty: number those that are not.
    return np.asarray(np.unique(bins, return_inverse=True)[1], dtype=np.int64)


def sums(evaluation: Evaluation) -> sparse.csr_array:
    """Count decisions, and add up correct − score, by group and bin: [n_groups, 2 n_bins]."""
    decisions = evaluation.probability_decisions
    bins = _bins(decisions.score)
    n_bins = int(bins.max()) + 1
    excess = decisions.correct - decisions.score
    shape = (decisions.n_groups, n_bins)
    gaps = sparse.coo_array((excess, (decisions.groups, bins)), shape=shape).tocsr()
    counts = count_by_group(decisions.groups, decisions.n_groups, bins, n_bins)
    return sparse.hstack([counts, gaps], format="csr")


def from_sums(evaluation: Evaluation, totals: Floats) -> dict[str, Floats]:
    """Return the expected calibration error of each round, in the bins of all chips.

    Bins hold equally many chips: 15 of them at most, with at least 10 chips each. A chip whose
    label the classifier has never seen counts as wrong.

    Noise in a bin always counts as error, so a resample of a sample has more of it than the sample.
    Uncorrected, the interval would lie above the value that it belongs to: the mean of several
    rounds is shifted to that value.

    Source: Nixon et al. 2019, "Measuring calibration in deep learning": adaptive bins, here of the
    highest probability alone (Naeini et al. 2015).
    """
    errors = _errors(totals)
    if len(errors) > 1:
        plain = np.asarray(sums(evaluation).sum(axis=0))[None, :]
        errors = errors - (errors.mean() - _errors(plain)[0])
    return {"ece": np.clip(errors, 0.0, 1.0)}


def _errors(totals: Floats) -> Floats:
    counts, gaps = np.split(totals, 2, axis=1)
    errors: Floats = np.abs(gaps).sum(axis=1) / counts.sum(axis=1)
    return errors
