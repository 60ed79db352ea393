"""95 % intervals by resampling whole groups: chips of one site are not independent witnesses.

No row is ever drawn. A metric says what it needs summed over each group, so a round is a row of
group counts times a sparse matrix, whatever the number of chips.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from pipeline.config.sections import ValidateParams
from pipeline.validate.metrics._judged import Floats, Indices, Judged

TAILS = (0.025, 0.975)
BLOCK_VALUES = 4_000_000
"""Draws held at once, 32 MB: with 200,000 groups, blocks of 20 rounds."""


class Metrics(Protocol):
    """A file of pipeline/validate/metrics/, as the package's docstring describes it."""

    BETTER: dict[str, str]
    RANGE: dict[str, tuple[float, float]]
    MEANING: dict[str, str]

    def compute(self, judged: Any) -> dict[str, float]:
        """Give the metrics of *judged*."""


def intervals(
    judged: Any, parts: list[Metrics], validate: ValidateParams
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
    totals = resample(sparse.hstack(tables, format="csr"), validate.bootstrap_rounds, validate.seed)
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
    n_groups = sums.shape[0]
    across = sums.T.tocsr()
    totals = [(across @ draws(generator, some, n_groups).T).T for some in _rounds(rounds, n_groups)]
    return np.concatenate(totals)


def defined(drawn: Floats, known: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Give the 95 % interval of each of *known*, over the resamples in which it is defined.

    Args:
        drawn: float64 [rounds, k], NaN where a resample does not define the figure.
        known: bool [k]; the others, and what no resample defines, have NaN.
    """
    low, high = np.full((2, drawn.shape[1]), np.nan)
    some = known & np.isfinite(drawn).any(axis=0)
    if some.any():
        low[some], high[some] = np.nanquantile(drawn[:, some], TAILS, axis=0)
    return low, high


def shares_within(
    strata: Indices, right: Floats, n: Indices, validate: ValidateParams
) -> tuple[Floats, Floats]:
    """Give the 95 % interval of each stratum's share, by resampling the stratum's own witnesses.

    One witness says nothing of how witnesses differ: there is no interval then, but NaN.

    Args:
        strata: int64 [n_witnesses], sorted: the stratum of each witness, from 0 on.
        right: float64 [n_witnesses], how many of each witness' *n* count.
        n: int64 [n_witnesses].
        validate: the section.

    Returns:
        Two of float64 [n_strata].

    Source: Davison and Hinkley 1997, section 3.2, for strata that are resampled one by one.
    """
    generator = np.random.default_rng(validate.seed)
    sizes = np.bincount(strata)
    first = np.cumsum(sizes) - sizes
    low, high = np.full((2, len(sizes)), np.nan)
    several = np.flatnonzero(sizes > 1)
    most = max(1, BLOCK_VALUES // validate.bootstrap_rounds)
    blocks = np.flatnonzero(np.diff(np.cumsum(sizes[several]) // most)) + 1
    for block in np.split(several, blocks):
        if not len(block):
            continue
        own = np.repeat(sizes[block], sizes[block])
        offset = np.repeat(first[block], sizes[block])
        begins = np.cumsum(sizes[block]) - sizes[block]
        drawn = []
        for rounds in _rounds(validate.bootstrap_rounds, len(own)):
            at = offset + (generator.random((rounds, len(own))) * own).astype(np.int64)
            whole = np.add.reduceat(n[at], begins, axis=1)
            drawn.append(np.add.reduceat(right[at], begins, axis=1) / whole)
        low[block], high[block] = np.quantile(np.concatenate(drawn), TAILS, axis=0)
    return low, high


def _rounds(rounds: int, values: int) -> Iterator[int]:
    """Part *rounds* of so many values each into blocks that are held at once."""
    block = max(1, BLOCK_VALUES // values)
    for start in range(0, rounds, block):
        yield min(block, rounds - start)


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
