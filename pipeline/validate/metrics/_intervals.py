"""95 % intervals: a t interval from how far each group moves a figure.

Chips of one site are alike, so groups, not chips, are what was sampled. Half of a group's chips are
taken away, and the figure is computed anew: twice the change is the group's influence, and the sum
of the squared influences is the variance. A figure is a function of sums over groups, so no chip is
read again, and no random number is drawn.

Three things make such an interval too narrow, and each has its remedy. Groups differ in size, or a
label is in few of them: degrees of freedom come from the effective number of groups. Few groups
make all the mistakes: fewer degrees of freedom, by the fourth moment of the influences. No group
makes any: the bounds of as many independent trials as there are effective groups. How often the
intervals then contain the truth is in docs/explanation/intervals.md.

Sources: Efron and Stein 1981, for the jackknife; Bell and McCaffrey 2002, for a variance without
the bias of few groups, which half a group has to the second order, and for its degrees of freedom;
Kish 1965 and Carter, Schnepel and Steigerwald 2017, for the effective number of groups; Clopper and
Pearson 1934; Korn and Graubard 1998, for their bounds with an effective number of trials.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import betaincinv, stdtrit

from pipeline.validate.evaluation import Floats, Indices
from pipeline.validate.metrics._bootstrap import BLOCK_VALUES

HALF = 0.5
TAIL = 0.025
NORMAL_KURTOSIS = 3.0
ROUNDING = 1e-24
"""A variance that is only rounding."""

Compute = Callable[[Floats], Mapping[str, Floats]]


@dataclass(frozen=True, slots=True)
class Spread:
    """How far groups move figures.

    Attributes:
        variance: the sum of the squared influences of all groups, float64 [...].
        fourth: the sum of their fourth powers, float64 [...].
    """

    variance: Floats
    fourth: Floats

    @property
    def groups(self) -> Floats:
        """The number of groups that make the variance, by the moments of normal influences."""
        shape = np.ones_like(self.variance)
        peaked = np.divide(np.square(self.variance), self.fourth, out=shape, where=self.fourth > 0)
        return np.asarray(NORMAL_KURTOSIS * peaked)


def spreads(sums: sparse.csr_array, compute: Compute) -> dict[str, Spread]:
    """Return the spread of every figure.

    Args:
        sums: float64 [n_groups, k].
        compute: returns figures by name, [rounds, ...], from the totals of rounds, [rounds, k].
    """
    total = np.asarray(sums.sum(axis=0), np.float64)[None, :]
    whole = compute(total)
    moments = {name: np.zeros((2, *values.shape[1:])) for name, values in whole.items()}
    block = max(1, BLOCK_VALUES // max(1, sums.shape[1]))
    for start in range(0, sums.shape[0], block):
        less = compute(total - HALF * sums[start : start + block].toarray())
        for name, values in less.items():
            squares = np.square((whole[name] - values) / HALF)
            moments[name] += squares.sum(axis=0), np.square(squares).sum(axis=0)
    return {name: Spread(variance, fourth) for name, (variance, fourth) in moments.items()}


def effective_groups(sums: sparse.csr_array) -> Floats:
    """Return the effective number of groups of each column of *sums* [n_groups, k], float64 [k].

    As many groups of equal size would have as much variance if all chips of a group were alike; 0
    for a column without chips.
    """
    total, squares = (np.asarray(part.sum(axis=0), np.float64) for part in (sums, sums**2))
    return np.divide(np.square(total), squares, out=np.zeros(len(total)), where=squares > 0)


def of_mean_over_labels(groups: Floats) -> float:
    """Return the effective number of groups of a mean over labels: their harmonic mean.

    A rare label has as much weight as any, and the most variance.

    Args:
        groups: of each label; 0 for one that does not occur.
    """
    occurring = groups[groups > 0]
    return float(len(occurring) / (1 / occurring).sum()) if len(occurring) else 0.0


def interval(
    values: Any, spread: Spread, groups: Any, bounds: tuple[float, float] | None = None
) -> tuple[Floats, Floats]:
    """Return the 95 % interval of each of *values*.

    It is NaN where the value is, and where there is only one group: it does not show how groups
    differ.

    Args:
        values: figures, [...].
        spread: of these figures.
        groups: the effective number of groups of each figure.
        bounds: the least and the greatest possible value. The interval is then symmetrical on the
            scale of log odds, and no wider than if each group were entirely at one of the bounds.
            None: symmetrical around the value; without width if no group differs.
    """
    values, groups = (np.asarray(array, np.float64) for array in (values, groups))
    freedom = np.maximum(np.minimum(groups, spread.groups) - 1, 1.0)
    half = stdtrit(freedom, 1 - TAIL) * np.sqrt(spread.variance)
    known = np.isfinite(values) & (groups > 1 + 1e-9)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        if bounds is None:
            low, high = values - half, values + half
        else:
            low, high = _between(values, half, groups, bounds)
    return np.where(known, low, np.nan), np.where(known, high, np.nan)


def _between(
    values: Floats, half: Floats, groups: Floats, bounds: tuple[float, float]
) -> tuple[Floats, Floats]:
    """Return the interval of values between *bounds*."""
    least, width = bounds[0], bounds[1] - bounds[0]
    share = np.clip((values - least) / width, 0.0, 1.0)
    slope = share * (1 - share)
    odds, reach = np.log(share / (1 - share)), half / width / slope
    widest = _binomial(share, groups)
    has_spread = (slope > 0) & (np.square(half / width) > ROUNDING)
    low = np.where(has_spread, np.maximum(widest[0], 1 / (1 + np.exp(reach - odds))), widest[0])
    high = np.where(has_spread, np.minimum(widest[1], 1 / (1 + np.exp(-reach - odds))), widest[1])
    return least + width * low, least + width * high


def _binomial(share: Floats, n: Floats) -> tuple[Floats, Floats]:
    """Return the Clopper-Pearson interval of *share* of *n* trials; neither need be whole."""
    right = share * n
    wrong = np.maximum(n - right, 0.0)
    low = np.where(right > 0, betaincinv(right, wrong + 1, TAIL), 0.0)
    high = np.where(wrong > 0, betaincinv(right + 1, wrong, 1 - TAIL), 1.0)
    return low, high


def share_intervals(
    strata: Indices, correct: Floats, n: NDArray[Any]
) -> tuple[Floats, Floats, Indices]:
    """Return the 95 % interval of each stratum's share, from the spread of its own clusters.

    Args:
        strata: int64 [n_clusters], the stratum of each cluster, from 0 on.
        correct: float64 [n_clusters], how many of each cluster's *n* are correct.
        n: int64 [n_clusters].

    Returns:
        low and high, float64 [n_strata], NaN for a stratum of one cluster; and the number of
        clusters, int64 [n_strata].
    """

    def add(values: NDArray[Any]) -> Floats:
        return np.bincount(strata, weights=values).astype(np.float64)

    whole = add(n)
    share = add(correct) / whole
    influence = (correct - share[strata] * n) / (whole[strata] - HALF * n)
    spread = Spread(add(influence**2), add(influence**4))
    groups = whole**2 / add(np.square(n, dtype=np.float64))
    low, high = interval(share, spread, groups, (0.0, 1.0))
    return low, high, np.bincount(strata)
