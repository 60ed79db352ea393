"""Chips of different splits that look nearly the same: copies that no group and no digest shows.

A picture that was saved again, made smaller or cut has other bytes and another key, yet nearly the
same features. Each judged chip's nearest learnt one is looked for (as Barz and Denzler 2020, "Do we
train on test data?", do by hand), and the two are near twins if they are far closer than is usual
*around them*: on a plain background all chips are close, and no two of them are copies.

Distances are Euclidean. The search is over a random projection, blocks of rows at a time; what it
finds is judged by the features themselves.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float32]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

FRACTION = 0.4
"""Of the usual distance, at most. Of 539 unrelated plankton and reef chips the closest came to
0.47 and one in a hundred to 0.61; of copies saved again as JPEG of quality 75, 0.10 to 0.46."""

NEIGHBOURS = 0.01
LEAST_NEIGHBOURS = 3
"""The usual distance is that within which this share of other groups' chips lies, or this many: so
a plain ground that one chip in a hundred shows is usual, and three copies of a picture are not."""

SAMPLE = 2048
"""Learnt chips, drawn at random, from which the usual distance is taken."""

DIMS = 64
"""Of the projection: a distance there is right to 9 % (Johnson and Lindenstrauss 1984)."""

SLACK = 1.5
"""What the projection may stretch a distance by, five times its deviation and more."""

JUDGED_ROWS, LEARNT_ROWS = 256, 4096
"""Rows of the two sides whose distances are computed at once: 4 MiB of them."""

SEED = 0


class Usual(NamedTuple):
    """What is usual around each judged chip.

    Attributes:
        distance: float64 [n], within which so many other groups' chips lie; infinite where there
            are too few of them.
        spread: float64 [n], the mean logarithm of that distance over those of the chips within it;
            NaN where there is none.
    """

    distance: Floats
    spread: Floats


def projection(dim: int) -> Features | None:
    """Give what features [n, dim] are multiplied with, float32 [dim, DIMS]; None: with nothing."""
    if dim <= DIMS:
        return None
    drawn = np.random.default_rng(SEED).standard_normal((dim, DIMS))
    matrix: Features = (drawn / np.sqrt(DIMS)).astype(np.float32)
    return matrix


def sample(n: int) -> Indices:
    """Draw the rows of *n* learnt ones from which the usual distance is taken, in order."""
    drawn = np.random.default_rng(SEED).choice(n, min(n, SAMPLE), replace=False)
    return np.sort(drawn).astype(np.int64)


def nearest(judged: Features, learnt: Features) -> tuple[Indices, Floats]:
    """Find the learnt row nearest to each judged one, the first of equals.

    Args:
        judged: float32 [n, d].
        learnt: float32 [m, d], at least one.

    Returns:
        Which, int64 [n], and its distance, float64 [n].
    """
    at = np.zeros(len(judged), np.int64)
    # So that one product gives half the square of the distance, less what is judged's alone.
    half = np.einsum("ij,ij->i", learnt, learnt)[:, None] / 2
    others = np.concatenate([-learnt, half], axis=1)
    ones = np.ones((len(judged), 1), np.float32)
    padded = np.concatenate([judged, ones], axis=1)
    for start in range(0, len(judged), JUDGED_ROWS):
        own = padded[start : start + JUDGED_ROWS]
        best = np.full(len(own), np.inf, np.float32)
        for first in range(0, len(learnt), LEARNT_ROWS):
            rows = slice(first, first + LEARNT_ROWS)
            away = own @ others[rows].T
            place = away.argmin(axis=1)
            least = away[np.arange(len(own)), place]
            nearer = least < best
            best[nearer] = least[nearer]
            at[start : start + JUDGED_ROWS][nearer] = first + place[nearer]
    return at, apart(judged, learnt[at])


def apart(some: Features, others: Features) -> Floats:
    """Give the distance of each row of *some* from the same row of *others*, float64 [n]."""
    found = np.empty(len(some))
    for start in range(0, len(some), LEARNT_ROWS):
        rows = slice(start, start + LEARNT_ROWS)
        away = some[rows].astype(np.float64) - others[rows]
        found[rows] = np.sqrt(np.einsum("ij,ij->i", away, away))
    return found


def usual(judged: Features, sampled: Features, groups: Indices, of_nearest: Indices) -> Usual:
    """Say how far the chips around each judged one usually are.

    Args:
        judged: float32 [n, dim].
        sampled: float32 [m, dim], the learnt chips of `sample`.
        groups: int64 [m], theirs.
        of_nearest: int64 [n], the group of the learnt chip nearest to each judged one, whose chips
            do not count.
    """
    count = neighbours(len(sampled))
    found = [np.zeros((0, 2))]
    squares = np.einsum("ij,ij->i", sampled, sampled)
    for start in range(0, len(judged), JUDGED_ROWS):
        rows = slice(start, start + JUDGED_ROWS)
        own = judged[rows]
        square = np.einsum("ij,ij->i", own, own)[:, None] + squares - 2 * own @ sampled.T
        square[of_nearest[rows, None] == groups] = np.inf
        if count > len(sampled):
            found.append(np.tile([np.inf, np.nan], (len(own), 1)))
            continue
        near = np.partition(square, count - 1, axis=1)[:, :count].astype(np.float64)
        far = near[:, -1]
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(far[:, None] / near[:, :-1]) / 2
        logs[~(np.isfinite(logs) & (near[:, :-1] > 0))] = np.nan
        told = np.isfinite(logs).sum(axis=1)
        spread = np.nansum(logs, axis=1) / np.where(told, told, np.nan)
        found.append(np.stack([np.sqrt(np.maximum(far, 0)), spread], axis=1))
    whole = np.concatenate(found)
    return Usual(whole[:, 0], whole[:, 1])


def neighbours(n: int) -> int:
    """Say how many of *n* sampled chips lie within the usual distance."""
    return max(LEAST_NEIGHBOURS, int(np.ceil(NEIGHBOURS * n)))


def fraction(around: Usual, n_learnt: int) -> float:
    """Give the share of the usual distance below which two chips are near twins.

    FRACTION, or less where features vary in few ways and unrelated chips come as close by chance:
    then so little that chance would give fewer than one pair in all. In d dimensions a ball of a
    share f of the radius holds f**d of its chips; d is estimated from the distances themselves.

    Source: Levina and Bickel 2004, "Maximum likelihood estimation of intrinsic dimension", eq. 8.
    """
    spread = around.spread[around.spread > 0]
    if not len(spread):
        return 0.0
    sampled = min(n_learnt, SAMPLE)
    chances = len(around.distance) * neighbours(sampled) * n_learnt / sampled
    return min(FRACTION, float(chances ** -np.median(spread)))
