"""95 % intervals by resampling whole groups, since chips of one site are not independent.

No row is ever drawn. A metric says what it needs summed over each group, so a resample is a row of
group counts times a sparse matrix, whatever the number of chips.

Sources: percentile interval, Efron and Tibshirani 1993, chapter 13; resampling of whole clusters,
Davison and Hinkley 1997, section 3.8.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.config.sections import ValidateParams
from pipeline.validate.evaluation import Evaluation, Floats, Indices, Pairs

TAILS = (0.025, 0.975)
BLOCK_VALUES = 4_000_000
"""Draws held in memory at once, 32 MB: with 200,000 groups, blocks of 20 rounds."""


def resample(sums: sparse.csr_array, validate: ValidateParams) -> Floats:
    """Add up the rows of *sums* as often as each round drew them, with replacement.

    The draws come from one stream, so the size of a block changes no value.

    Args:
        sums: float64 [n_groups, k].
        validate: the number of rounds, and the seed.

    Returns:
        float64 [rounds, k].
    """
    generator = np.random.default_rng(validate.seed)
    n_groups = sums.shape[0]
    across = sums.T.tocsr()
    blocks = _blocks(validate.bootstrap_rounds, n_groups)
    totals = [(across @ draws(generator, rounds, n_groups).T).T for rounds in blocks]
    return np.concatenate(totals)


def draws(generator: np.random.Generator, rounds: int, n_groups: int) -> Floats:
    """Draw *n_groups* groups in each of *rounds*, and count them: float64 [rounds, n_groups]."""
    drawn = generator.integers(0, n_groups, size=(rounds, n_groups))
    drawn += np.arange(rounds)[:, None] * n_groups
    counts = np.bincount(drawn.ravel(), minlength=rounds * n_groups)
    return counts.reshape(rounds, n_groups).astype(np.float64)


def _blocks(rounds: int, values: int) -> Iterator[int]:
    """Divide *rounds*, of *values* draws each, into blocks that are held in memory at once."""
    block = max(1, BLOCK_VALUES // values)
    for start in range(0, rounds, block):
        yield min(block, rounds - start)


def interval_where_defined(drawn: Floats, known: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return the 95 % interval of each known figure, over the resamples that define it.

    Args:
        drawn: float64 [rounds, k], NaN where a resample does not define the figure.
        known: bool [k]; the others, and figures that no resample defines, have NaN.
    """
    low, high = np.full((2, drawn.shape[1]), np.nan)
    defined = known & np.isfinite(drawn).any(axis=0)
    if defined.any():
        low[defined], high[defined] = np.nanquantile(drawn[:, defined], TAILS, axis=0)
    return low, high


def share_intervals(
    strata: Indices, correct: Floats, n: Indices, validate: ValidateParams
) -> tuple[Floats, Floats]:
    """Return the 95 % interval of each stratum's share, by resampling the stratum's own clusters.

    A stratum with one cluster has no interval, but NaN.

    Args:
        strata: int64 [n_clusters], sorted: the stratum of each cluster, from 0 on.
        correct: float64 [n_clusters], how many of each cluster's *n* are correct.
        n: int64 [n_clusters].
        validate: the number of rounds, and the seed.

    Returns:
        Two arrays, float64 [n_strata].

    Source: Davison and Hinkley 1997, section 3.2, for strata that are resampled one by one.
    """
    generator = np.random.default_rng(validate.seed)
    sizes = np.bincount(strata)
    first = np.cumsum(sizes) - sizes
    low, high = np.full((2, len(sizes)), np.nan)
    several = np.flatnonzero(sizes > 1)
    most = max(1, BLOCK_VALUES // validate.bootstrap_rounds)
    ends = np.flatnonzero(np.diff(np.cumsum(sizes[several]) // most)) + 1
    for block in np.split(several, ends):
        if not len(block):
            continue
        size = np.repeat(sizes[block], sizes[block])
        offset = np.repeat(first[block], sizes[block])
        begins = np.cumsum(sizes[block]) - sizes[block]
        drawn = []
        for rounds in _blocks(validate.bootstrap_rounds, len(size)):
            at = offset + (generator.random((rounds, len(size))) * size).astype(np.int64)
            whole = np.add.reduceat(n[at], begins, axis=1)
            drawn.append(np.add.reduceat(correct[at], begins, axis=1) / whole)
        low[block], high[block] = np.quantile(np.concatenate(drawn), TAILS, axis=0)
    return low, high


def sum_by_group(
    groups: Indices, n_groups: int, columns: Sequence[NDArray[Any]]
) -> sparse.csr_array:
    """Add up each of *columns* [n] over each group: float64 [n_groups, len(columns)]."""
    sums = [np.bincount(groups, weights=column, minlength=n_groups) for column in columns]
    return sparse.csr_array(np.stack(sums, axis=1))


def count_by_group(
    groups: Indices, n_groups: int, indices: Indices, n_columns: int
) -> sparse.csr_array:
    """Count the rows of each group by their index: float64 [n_groups, n_columns]."""
    shape = (n_groups, n_columns)
    return sparse.coo_array((np.ones(len(indices)), (groups, indices)), shape=shape).tocsr()


def label_counts(evaluation: Evaluation) -> list[sparse.csr_array]:
    """Count hits, true labels and predicted labels: three arrays, float64 [n_groups, n_labels].

    They are the diagonal and the margins of the confusion matrix; most scores need nothing else.
    """

    def count(pairs: Pairs) -> sparse.csr_array:
        groups = evaluation.groups[pairs.chips]
        return count_by_group(groups, evaluation.n_groups, pairs.labels, len(evaluation.labels))

    return [count(pairs) for pairs in (evaluation.hits, evaluation.true, evaluation.predicted)]
