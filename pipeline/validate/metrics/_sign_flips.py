"""Whether a difference of two classifiers could be chance: a test that knows groups.

If two classifiers are equally good, each group could as well have come out the other way round. So
the difference of each group is given a random sign, and the p value is how often the sum is then as
far from 0 as it is. Unlike McNemar's test, it does not take the chips of a group for independent.

Sources: Fisher 1935, section 21, for pairs; Winkler et al. 2015, "Multi-level block permutation",
for whole groups; Holm 1979, for several tests.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.validate.evaluation import Floats

MOST_EXACT = 13
"""Groups that differ, for which all 8,192 combinations of signs are counted."""

FLIPS = 9_999


def p_value(differences: Floats, seed: int) -> float:
    """Return the two-sided p value of the sum of *differences*, one whole number for each group.

    It is exact if at most 13 groups differ, and otherwise from 9,999 random combinations of signs.
    """
    observed = abs(float(differences.sum()))
    sizes, counts = np.unique(np.abs(differences[differences != 0]), return_counts=True)
    n = int(counts.sum())
    if not n:
        return 1.0
    if n <= MOST_EXACT:
        signs = 1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
        return float(np.mean(np.abs(signs @ np.repeat(sizes, counts)) >= observed))
    generator = np.random.default_rng(seed)
    # Of groups with equal differences, only the number that keep their sign matters.
    kept = generator.binomial(counts, 0.5, size=(FLIPS, len(counts)))
    sums = np.abs((2 * kept - counts) @ sizes)
    return float((1 + np.count_nonzero(sums >= observed)) / (1 + FLIPS))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return *p_values* corrected for their number: all below 0.05 are so with 95 % confidence."""
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values)[order] * np.arange(len(p_values), 0, -1)
    corrected = np.empty(len(p_values))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(p) for p in corrected]
