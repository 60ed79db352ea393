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

CHANCE = 0.05
"""Pairs of unrelated chips that a set may give by chance. As d is but estimated, it is a few times
as many: 0.5 a set at most, of 100 made-up chips against 400."""

NEIGHBOURS = 0.01
LEAST_NEIGHBOURS = 6
"""The usual distance is that within which this share of the other images comes, or this many: so a
plain ground that one image in a hundred shows is usual, and three copies of a picture are not."""

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
        distance: float64 [n], within which so many other images come; infinite where there are too
            few of them.
        spread: float64 [n], the median logarithm of that distance over those of the images within
            it; not finite where there is none.
        neighbours: how many they are.
    """

    distance: Floats
    spread: Floats
    neighbours: int


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


def usual(judged: Features, sampled: Features, images: Indices, of_nearest: Indices) -> Usual:
    """Say how far the images around each judged chip usually come: the nearest chip of each.

    Args:
        judged: float32 [n, dim].
        sampled: float32 [m, dim], the learnt chips of `sample`.
        images: int64 [m], theirs; chips of one image are much alike, and count as one.
        of_nearest: int64 [n], the image of the learnt chip nearest to each judged one, which does
            not count.
    """
    order = np.argsort(images, kind="stable")
    names, first = np.unique(images[order], return_index=True)
    sampled = sampled[order]
    count = max(LEAST_NEIGHBOURS, int(np.ceil(NEIGHBOURS * len(names))))
    distance, spread = np.full(len(judged), np.inf), np.full(len(judged), np.nan)
    squares = np.einsum("ij,ij->i", sampled, sampled)
    for start in range(0, len(judged) if count < len(names) else 0, JUDGED_ROWS):
        rows = slice(start, start + JUDGED_ROWS)
        own = judged[rows]
        square = np.einsum("ij,ij->i", own, own)[:, None] + squares - 2 * own @ sampled.T
        square = np.minimum.reduceat(np.maximum(square, 0), first, axis=1)
        square[of_nearest[rows, None] == names] = np.inf
        within = np.sqrt(np.partition(square, count - 1, axis=1)[:, :count], dtype=np.float64)
        distance[rows] = within[:, -1]
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(within[:, -1:] / within[:, :-1])
            spread[rows] = np.median(logs, axis=1)
    return Usual(distance, spread, count)


def fractions(around: Usual, n_learnt: int) -> Floats:
    """Give the shares of the usual distances below which two chips are near twins, float64 [n].

    FRACTION, or less where features vary in few ways and unrelated chips come as close by chance:
    then so little that chance gives less than a pair. In d dimensions a ball of a
    share f of the radius holds f**d of what the whole holds; d is estimated from the distances
    around the chip, or around the chips at large if that is less.

    Args:
        around: the judged chips.
        n_learnt: chips that they were compared with.

    Source: Levina and Bickel 2004, "Maximum likelihood estimation of intrinsic dimension": the
    logarithms are exponential with the mean 1 / d. Their median is ln 2 / d, and some copies more
    among the neighbours do not move it.
    """
    known = np.isfinite(around.spread)
    if not known.any():
        return np.zeros(len(known))
    spread = np.where(known, around.spread, np.inf)
    spread = np.maximum(spread, np.median(around.spread[known])) / np.log(2)
    chances = len(known) * around.neighbours * max(1.0, n_learnt / SAMPLE)
    found: Floats = np.minimum(FRACTION, (CHANCE / chances) ** spread)
    return found
