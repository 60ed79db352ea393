"""Sums over groups, and 95 % intervals by resampling whole groups.

For metrics that `_intervals` does not suit. No row is ever drawn. A metric says what it needs
summed over each group, so a resample is a row of group counts times a sparse matrix, whatever the
number of chips.

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
