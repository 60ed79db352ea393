"""How often the interval of the calibration error contains the true error.

    python benchmarks/calibration_error.py [--repeats 200] [--rounds 500]

Scores and outcomes are drawn with a known error, in groups that differ: a share of a group's chips
more or less is correct than its scores say, by chance. Three shapes: scores too high by the same
amount, scores too low below 0.75 and too high above it, and too high above 0.94 only. Prints, for
each number of groups and chips, shape and true error: the mean of the error as most software
reports it, the mean of Quadrat's, and the share of the intervals that contain the truth.

Fails if a share is below 80 %, or their mean below 93 %.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial

import numpy as np
from _shared import about

from pipeline.config.sections import ValidateParams
from pipeline.train.calibration_error import Floats, Gaps, Indices, bins_of, sum_gaps
from pipeline.validate.metrics._bootstrap import TAILS, resample

DESIGNS = [(12, 50), (50, 20), (50, 100), (300, 10)]
ERRORS = [0.0, 0.02, 0.05, 0.1]
SPREAD = 0.5
"""Of the groups, on the scale of logits at a probability of one half."""

LEAST, LEAST_MEAN = 0.8, 0.93
MIDDLE, TOP = 0.75, 0.94
"""Scores at which the shapes change."""

HIGHEST_AT_THE_TOP = 0.05
"""A higher mean error would need probabilities below 0."""


def alike(score: Floats, error: float) -> Floats:
    """Return how much too high each score is: all by as much."""
    return np.full(len(score), error)


def crossing(score: Floats, error: float) -> Floats:
    """Return how much too high each score is: high ones, and low ones are too low."""
    return np.where(score < MIDDLE, -error, error)


def at_the_top(score: Floats, error: float) -> Floats:
    """Return how much too high each score is: the highest, so that the mean is *error*."""
    top = score > TOP
    return np.where(top, error / max(float(top.mean()), 1e-9), 0.0)


def one(
    shape: Callable[[Floats, float], Floats],
    error: float,
    size: tuple[int, int],
    rounds: int,
    seed: int,
) -> tuple[float, float, float, bool]:
    """Return the true error in these bins, both estimates, and whether the interval contains it."""
    rng = np.random.default_rng(seed)
    sizes = rng.poisson(size[1], size[0]) + 1
    groups: Indices = np.repeat(np.arange(size[0]), sizes)
    score = rng.beta(5, 1.5, len(groups)) * 0.75 + 0.25
    p = np.clip(score - shape(score, error), 0, 1)
    bins = bins_of(score)
    true = float(np.abs(np.bincount(bins, p - score)).sum() / len(score))
    p = np.clip(p + rng.normal(0, SPREAD, size[0])[groups] * p * (1 - p), 0, 1)
    sums = sum_gaps(score, rng.random(len(p)) < p, groups, size[0])
    found = Gaps.of(sums)
    drawn = found.rounds(resample(sums, ValidateParams(bootstrap_rounds=rounds, seed=seed)))
    low, high = np.quantile(drawn, TAILS)
    return true, found.uncorrected, found.error, bool(low <= true <= high)


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=500)
    arguments = parser.parse_args()
    about("numpy", "scipy")
    print("| groups × chips | scores are too high | true error | uncorrected | `ece` | covered |")
    print("|---|---|---|---|---|---|")
    shares = []
    for size in DESIGNS:
        for shape in (alike, crossing, at_the_top):
            for error in ERRORS:
                is_impossible = error > HIGHEST_AT_THE_TOP and shape is at_the_top
                if is_impossible or (error == 0 and shape is not alike):
                    continue
                draw = partial(one, shape, error, size, arguments.rounds)
                true, uncorrected, found, covered = np.mean(
                    [draw(seed) for seed in range(arguments.repeats)], axis=0
                )
                shares.append(covered)
                print(
                    f"| {size[0]} × {size[1]} | {shape.__name__.replace('_', ' ')} | {true:.3f} "
                    f"| {uncorrected:.3f} | {found:.3f} | {100 * covered:.0f} % |",
                    flush=True,
                )
    print(f"covered: {100 * np.mean(shares):.1f} % on average, {100 * min(shares):.0f} % at least")
    return int(min(shares) < LEAST or np.mean(shares) < LEAST_MEAN)


if __name__ == "__main__":
    sys.exit(main())
