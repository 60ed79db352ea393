"""95 % intervals by resampling whole groups: chips of one site are not independent witnesses.

No row is ever drawn. A metric says what it needs summed over each group, so a round is a row of
group counts times a sparse matrix, whatever the number of chips.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.metrics._judged import Floats, Indices, Judged
from pipeline.sections import Validate

TAILS = (0.025, 0.975)
BLOCK_VALUES = 4_000_000
"""Draws held at once, 32 MB: with 200,000 groups, blocks of 20 rounds."""


class Metrics(Protocol):
    """A file of pipeline/metrics/, as the package's docstring describes it."""

    BETTER: dict[str, str]
    RANGE: dict[str, tuple[float, float]]
    MEANING: dict[str, str]

    def compute(self, judged: Any) -> dict[str, float]:
        """Give the metrics of *judged*."""


def intervals(
    judged: Any, parts: list[Metrics], validate: Validate
) -> dict[str, tuple[float, float]]:
    """Give the 95 % interval of every metric of *parts* that can be resampled.

    One group says nothing of how groups differ: the interval is then the metric's whole range.

    Source: percentile interval, Efron and Tibshirani 1993, chapter 13; resampling of whole
    clusters, Davison and Hinkley 1997, section 3.8.
    """
    able: list[Any] = [part for part in parts if hasattr(part, "sums")]
    if judged.n_groups == 1:
        return {name: part.RANGE[name] for part in able for name in resampled(judged, part)}
    tables = [part.sums(judged) for part in able]
    totals = resample(sparse.hstack(tables, format="csr"), validate.rounds, validate.seed)
    edges = np.cumsum([table.shape[1] for table in tables])[:-1]
    found: dict[str, tuple[float, float]] = {}
    for part, own in zip(able, np.split(totals, edges, axis=1), strict=True):
        for name, values in part.from_sums(judged, own).items():
            low, high = np.quantile(values, TAILS)
            found[name] = (float(low), float(high))
    return found


def resampled(judged: Any, part: Any) -> list[str]:
    """Name the metrics of *part* that have an interval."""
    total = np.asarray(part.sums(judged).sum(axis=0)).reshape(1, -1)
    return list(part.from_sums(judged, total))


def resample(sums: sparse.csr_array, rounds: int, seed: int) -> Floats:
    """Add up the rows of *sums* as often as each round drew them, with replacement.

    The draws come from one stream, so the size of a block changes no value.

    Args:
        sums: float64 [n_groups, k].
        rounds: how many resamples.
        seed: of the generator.

    Returns:
        float64 [rounds, k].
    """
    generator = np.random.default_rng(seed)
    n_groups, k = sums.shape
    block = max(1, BLOCK_VALUES // n_groups)
    totals = np.empty((rounds, k))
    across = sums.T.tocsr()
    for start in range(0, rounds, block):
        stop = min(start + block, rounds)
        totals[start:stop] = (across @ draws(generator, stop - start, n_groups).T).T
    return totals


def draws(generator: np.random.Generator, rounds: int, n_groups: int) -> Floats:
    """Draw *n_groups* groups in each of *rounds*, and count them: float64 [rounds, n_groups]."""
    drawn = generator.integers(0, n_groups, size=(rounds, n_groups))
    drawn += np.arange(rounds)[:, None] * n_groups
    counted = np.bincount(drawn.ravel(), minlength=rounds * n_groups)
    return counted.reshape(rounds, n_groups).astype(np.float64)


def counted(
    judged: Judged, indices: Indices, n_columns: int, rows: NDArray[np.bool_] | None = None
) -> sparse.csr_array:
    """Count each group's *rows* by their index: float64 [n_groups, n_columns]."""
    kept = slice(None) if rows is None else rows
    places = (judged.groups[kept], indices[kept])
    shape = (judged.n_groups, n_columns)
    return sparse.coo_array((np.ones(len(places[0])), places), shape=shape).tocsr()


def summed(judged: Judged, columns: list[NDArray[Any]]) -> sparse.csr_array:
    """Add up each of *columns* [n] over each group: float64 [n_groups, len(columns)]."""
    added = [
        np.bincount(judged.groups, weights=column, minlength=judged.n_groups) for column in columns
    ]
    return sparse.csr_array(np.stack(added, axis=1))


def label_counts(judged: Judged) -> list[sparse.csr_array]:
    """Count each group's hits, chips and answers by label: three of float64 [n_groups, n_labels].

    The confusion matrix's diagonal and margins, which most scores read nothing else of.
    """
    n_labels = len(judged.labels)
    return [
        counted(judged, judged.y_true, n_labels, judged.correct),
        counted(judged, judged.y_true, n_labels),
        counted(judged, judged.y_pred, n_labels),
    ]
