"""The calibration error: how far scores are from accuracy, without what is only noise.

Decisions are put into bins of equally many, and the distance between mean score and accuracy is
averaged over the bins. Taken as it is, that average is too high: by chance alone, the accuracy in a
bin is never quite its score, so even a perfectly calibrated classifier has an error. How much is
known from how the groups differ; the error is what has to be added to it to explain what was
measured.

Sources: Naeini, Cooper and Hauskrecht 2015 and Nixon et al. 2019, "Measuring calibration in deep
learning", for the error in bins of equally many; Kumar, Liang and Ma 2019, "Verified uncertainty
calibration", for the bias; Carpenter 1999, "Test inversion bootstrap confidence intervals", for the
interval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, special

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]

BINS = 15
DECISIONS_IN_BIN = 10
"""In a bin of fewer, accuracy says nothing."""

STEPS = 50
"""Of bisection: to 1e-15."""

TINY = 1e-12
UPPER_TAIL = 0.975


def bins_of(score: Floats) -> Indices:
    """Return the bin of each score, int64 [n]; no bin is empty, and equal scores share one."""
    wanted = min(BINS, max(1, len(score) // DECISIONS_IN_BIN))
    starts = np.arange(wanted) * len(score) // wanted
    highest = np.sort(score)[starts[1:] - 1]
    # Equal scores can leave bins empty: number those that are not.
    bins: Indices = np.unique(np.searchsorted(highest, score), return_inverse=True)[1]
    return bins


def sum_gaps(score: Floats, correct: Flags, groups: Indices, n_groups: int) -> sparse.csr_array:
    """Count decisions, and add up correct − score, by group and bin: [n_groups, 2 n_bins]."""
    bins = bins_of(score)
    shape = (n_groups, int(bins.max(initial=-1)) + 1)
    parts = [
        sparse.coo_array((values, (groups, bins)), shape=shape).tocsr()
        for values in (np.ones(len(score)), correct - score)
    ]
    return sparse.hstack(parts, format="csr")


@dataclass(frozen=True, slots=True)
class Gaps:
    """What is known of accuracy less score in each bin.

    Attributes:
        gaps: its sum over the bin's decisions, per decision of all bins, float64 [n_bins].
        deviations: the standard deviation of *gaps* from group to group, float64 [n_bins].
        shares: of the decisions, float64 [n_bins].
        n_groups: as many groups of equal size would say as much.
    """

    gaps: Floats
    deviations: Floats
    shares: Floats
    n_groups: float

    @classmethod
    def between(cls, score: Floats, correct: Flags, groups: Indices) -> Gaps | None:
        """Return the gaps between scores and what is correct, all [n]; None if there is nothing.

        If all are of one group, which does not show how groups differ, each is a group of its own.
        """
        if not len(score):
            return None
        numbers = np.unique(groups, return_inverse=True)[1]
        n_groups = int(numbers.max()) + 1
        if n_groups == 1:
            numbers, n_groups = np.arange(len(score)), len(score)
        return cls.of(sum_gaps(score, correct, numbers, n_groups))

    @classmethod
    def of(cls, sums: sparse.csr_array) -> Gaps:
        """Return what *sums*, of `sum_gaps`, say; one group alone seems to have no noise."""
        counts, gaps = sums[:, : sums.shape[1] // 2], sums[:, sums.shape[1] // 2 :]
        n_of_group = np.asarray(counts.sum(axis=1)).ravel()
        n, n_groups = n_of_group.sum(), sums.shape[0]
        mean = np.asarray(gaps.sum(axis=0)).ravel() / n
        squares = np.asarray(gaps.power(2).sum(axis=0)).ravel()
        # Of gaps - n_of_group * mean, without an array of groups × bins.
        squares += mean * (mean * (n_of_group @ n_of_group) - 2 * (gaps.T @ n_of_group))
        deviations = np.sqrt(np.maximum(squares, 0) * n_groups / max(n_groups - 1, 1)) / n
        shares = np.asarray(counts.sum(axis=0)).ravel() / n
        return cls(mean, deviations, shares, float(n * n / (n_of_group @ n_of_group)))

    @property
    def uncorrected(self) -> float:
        """The mean distance between score and accuracy, with its noise."""
        return float(np.abs(self.gaps).sum())

    @property
    def by_chance(self) -> float:
        """What `uncorrected` is, on average, for a perfectly calibrated classifier."""
        return self._expected(0.0)

    @property
    def error(self) -> float:
        """The calibration error: that for which one expects what was measured; at least 0."""
        if self.by_chance >= self.uncorrected:
            return 0.0
        low, high = 0.0, self.uncorrected
        for _ in range(STEPS):
            middle = (low + high) / 2
            reaches = self._expected(middle) > self.uncorrected
            low, high = (low, middle) if reaches else (middle, high)
        return low

    def _expected(self, error: float) -> float:
        """Return the mean of `uncorrected` if *error* is true, divided among the bins as *gaps*."""
        mean = error * _divided(self.gaps)
        deviations = np.maximum(self.deviations, TINY)
        ratio = mean / deviations
        # The mean of the absolute value of a normal distribution.
        spread = deviations * np.sqrt(2 / np.pi) * np.exp(-(ratio**2) / 2)
        return float((spread + mean * special.erf(ratio / np.sqrt(2))).sum())

    def rounds(self, totals: Floats) -> Floats:
        """Return values whose middle 95 % is the interval of `error`, float64 [rounds].

        An error is in the interval if, with the noise of the resamples added to it, it gives what
        was measured: each round returns the highest error that, with its noise, gives no more. How
        the error is divided among the bins is not known, and matters. The lower half of the values
        is of an error in the bins that stand out, the upper half of one in all bins alike.

        Args:
            totals: sums over resampled groups, float64 [rounds, 2 n_bins].
        """
        counts, gaps = np.split(totals, 2, axis=1)
        drawn = gaps / np.maximum(counts.sum(axis=1, keepdims=True), TINY)
        degrees = max(self.n_groups - 1, 1.0)
        # A resample of few groups varies less than the groups do.
        wider = special.stdtrit(degrees, UPPER_TAIL) / special.ndtri(UPPER_TAIL)
        noise = (drawn - self.gaps) * wider * np.sqrt(self.n_groups / degrees)
        excess = np.square(self.gaps) - np.square(self.deviations)
        standing_out = np.maximum(excess, 0) / np.where(self.gaps == 0, 1, self.gaps)
        alike = np.where(self.gaps < 0, -1, 1) * self.shares
        half = len(totals) // 2
        values = [
            np.sort(_highest(_divided(shape), noise, self.uncorrected))
            for shape in (standing_out if standing_out.any() else self.gaps, alike)
        ]
        return np.concatenate([np.minimum(*values)[:half], np.maximum(*values)[half:]])


def _divided(shape: Floats) -> Floats:
    """Return *shape* with a sum of absolute values of 1."""
    total = float(np.abs(shape).sum())
    return shape / total if total > 0 else np.full(len(shape), 1 / len(shape))


def _highest(shape: Floats, noise: Floats, measured: float) -> Floats:
    """Return the highest t ≥ 0 with sum |t shape + noise| ≤ *measured*, float64 [rounds]; or 0."""

    def reached(at: Floats) -> Flags:
        total: Floats = np.abs(at[:, None] * shape + noise).sum(axis=1)
        return total <= measured

    low = _lowest_point(shape, noise)
    can_reach = reached(low)
    high = measured + np.abs(noise).sum(axis=1)
    for _ in range(STEPS):
        middle = (low + high) / 2
        is_reached = reached(middle)
        low, high = np.where(is_reached, middle, low), np.where(is_reached, high, middle)
    return np.where(can_reach, low, 0.0)


def _lowest_point(shape: Floats, noise: Floats) -> Floats:
    """Return the t ≥ 0 with the least sum |t shape + noise|, which is a weighted median."""
    used = shape != 0
    zeros = np.maximum(-noise[:, used] / shape[used], 0)
    order = np.argsort(zeros)
    weight = np.abs(shape[used])[order].cumsum(axis=1)
    at = (weight >= weight[:, -1:] / 2).argmax(axis=1)
    rows = np.arange(len(noise))
    lowest: Floats = zeros[rows, order[rows, at]]
    return lowest
