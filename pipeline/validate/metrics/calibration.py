"""Whether a score of 0.8 is right four times in five."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import sparse

from pipeline.validate.metrics import Judged
from pipeline.validate.metrics._bootstrap import counted
from pipeline.validate.metrics._judged import Floats, Indices

BINS = 15
CHIPS_IN_BIN = 10
"""Fewer chips in a bin, and its accuracy is noise that the error would count as miscalibration."""

BETTER = {"ece": "lower"}

RANGE = {"ece": (0.0, 1.0)}

MEANING = {"ece": "mean distance between score and accuracy, in bins of equally many chips"}


def compute(judged: Judged) -> dict[str, float]:
    """Give the expected calibration error of the scores.

    Bins hold equally many chips, at most 15 and with at least 10 each; equal scores are never
    parted. A chip whose label the classifier never saw counts as wrong.

    Source: Nixon et al. 2019, "Measuring calibration in deep learning": adaptive bins, here of
    the highest probability alone (Naeini et al. 2015).
    """
    table = reliability(judged)
    gap = (table["accuracy"] - table["score"]).abs()
    return {"ece": float((gap * table["n"]).sum() / judged.n)}


def reliability(judged: Judged) -> pd.DataFrame:
    """Give `bin`, `n`, `score` and `accuracy` of each bin, lowest scores first."""
    bins = _bins(judged.score)
    n = np.bincount(bins)
    return pd.DataFrame(
        {
            "bin": np.arange(1, len(n) + 1),
            "n": n,
            "score": np.bincount(bins, weights=judged.score) / n,
            "accuracy": np.bincount(bins, weights=judged.correct) / n,
        }
    )


def _bins(score: Floats) -> Indices:
    """Give each chip's bin: int64 [n], none of them empty."""
    wanted = min(BINS, max(1, len(score) // CHIPS_IN_BIN))
    last = np.arange(1, wanted) * len(score) // wanted - 1
    edges = np.sort(score)[last]
    found = np.searchsorted(edges, score, side="left")
    # Scores that are equal can leave bins empty: number those that are not.
    return np.asarray(np.unique(found, return_inverse=True)[1], dtype=np.int64)


def sums(judged: Judged) -> sparse.csr_array:
    """Count chips, and add up correct − score, by group and bin: float64 [n_groups, 2 n_bins]."""
    bins = _bins(judged.score)
    n_bins = int(bins.max()) + 1
    excess = judged.correct - judged.score
    shape = (judged.n_groups, n_bins)
    gaps = sparse.coo_array((excess, (judged.groups, bins)), shape=shape).tocsr()
    return sparse.hstack([counted(judged, bins, n_bins), gaps], format="csr")


def from_sums(judged: Judged, totals: Floats) -> dict[str, Floats]:
    """Give each round's error in the bins of all chips, less the error that resampling adds.

    Noise in a bin always counts as error, so a resample of a sample has more of it than the
    sample. Uncorrected, the interval would lie above the figure that it belongs to; here the
    rounds' mean is shifted to that figure.
    """
    chips, gaps = np.split(totals, 2, axis=1)
    errors = np.abs(gaps).sum(axis=1) / chips.sum(axis=1)
    shifted = errors - (errors.mean() - compute(judged)["ece"])
    return {"ece": np.clip(shifted, 0.0, 1.0)}
