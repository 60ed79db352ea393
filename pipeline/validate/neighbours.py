"""Near duplicates by their features: validation chips that look almost like a training chip.

A picture that was saved again has other bytes and another key, but nearly the same features; most
that were cropped or resized have not (benchmarks/copies.py). For each validation chip the nearest
training chip is found (as Barz and Denzler 2020, "Do we train on test data?", do by hand), and the
two are near duplicates if they are far closer than is usual *around them*: on a plain background
all chips are close, and no two of them are copies.

Distances are Euclidean. The search uses a random projection; what it finds is confirmed with the
features themselves. Matrix products have shapes that depend on the number of chips alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.core.fixed_shape import in_blocks

Features = NDArray[np.float32]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

FRACTION = 0.4
"""Of the usual distance, at most. Of 539 unrelated plankton and reef chips the closest reached
0.47, and one in a hundred 0.61; copies saved again as JPEG of quality 75 reached 0.10 to 0.46."""

CHANCE = 0.05
"""Pairs of unrelated chips that a data set may give by chance. As the dimension is only estimated,
there are a few times as many: 0.5 a data set at most, for 100 simulated chips against 400."""

NEIGHBOURS = 0.01
MIN_NEIGHBOURS = 6
"""The usual distance is that within which this share of the other images is, or this many: so a
plain background that one image in a hundred shows is usual, and three copies of a picture are
not."""

SAMPLE = 2048
"""Training chips, drawn at random, from which the usual distance is taken."""

DIMS = 64
"""Of the projection: a distance in it is right to 9 % (Johnson and Lindenstrauss 1984)."""

SLACK = 1.5
"""The projection may stretch a distance by so much: more than five standard deviations."""

VALIDATION_ROWS, TRAINING_ROWS = 256, 4096
"""Rows of the two sides whose distances are computed at once: 4 MiB of them."""

SEED = 0


class Usual(NamedTuple):
    """What is usual around each validation chip.

    Attributes:
        distance: float64 [n], within which so many other images are; infinite if there are too few.
        spread: float64 [n], the median logarithm of that distance over the distances of the images
            within it; not finite if there is none.
        neighbours: how many images that is.
    """

    distance: Floats
    spread: Floats
    neighbours: int


def projection(dim: int) -> Features | None:
    """Return the matrix to multiply features [n, dim] with, float32 [dim, DIMS]; None: nothing."""
    if dim <= DIMS:
        return None
    drawn = np.random.default_rng(SEED).standard_normal((dim, DIMS))
    matrix: Features = (drawn / np.sqrt(DIMS)).astype(np.float32)
    return matrix


def project(features: Features, matrix: Features | None) -> Features:
    """Return the projections of *features* [n, dim], float32 [n, DIMS]."""
    if matrix is None:
        return features
    return in_blocks(lambda block: block @ matrix, features, VALIDATION_ROWS)


def sample(n: int) -> Indices:
    """Draw the rows of *n* training chips from which the usual distance is taken, sorted."""
    drawn = np.random.default_rng(SEED).choice(n, min(n, SAMPLE), replace=False)
    return np.sort(drawn).astype(np.int64)


def nearest(validation: Features, training: Features) -> tuple[Indices, Floats]:
    """Find the training row that is nearest to each validation row, the first of equals.

    Args:
        validation: float32 [n, d].
        training: float32 [m, d], at least one row.

    Returns:
        The row, int64 [n], and its distance, float64 [n].
    """
    at = np.zeros(len(validation), np.int64)
    # One product gives half of the squared distance, less what depends on the validation row alone.
    half = np.einsum("ij,ij->i", training, training)[:, None] / 2
    others = np.concatenate([-training, half], axis=1)
    padded = np.concatenate([validation, np.ones((len(validation), 1), np.float32)], axis=1)
    for start in range(0, len(validation), VALIDATION_ROWS):
        block = padded[start : start + VALIDATION_ROWS]
        best = np.full(len(block), np.inf, np.float32)
        for first in range(0, len(training), TRAINING_ROWS):
            products = block @ others[first : first + TRAINING_ROWS].T
            place = products.argmin(axis=1)
            least = products[np.arange(len(block)), place]
            is_nearer = least < best
            best[is_nearer] = least[is_nearer]
            at[start : start + VALIDATION_ROWS][is_nearer] = first + place[is_nearer]
    return at, distances(validation, training[at])


def distances(rows: Features, others: Features) -> Floats:
    """Return the distance of each row of *rows* to the same row of *others*, float64 [n]."""
    found = np.empty(len(rows))
    for start in range(0, len(rows), TRAINING_ROWS):
        block = slice(start, start + TRAINING_ROWS)
        difference = rows[block].astype(np.float64) - others[block]
        found[block] = np.sqrt(np.einsum("ij,ij->i", difference, difference))
    return found


def usual(validation: Features, sampled: Features, images: Indices, of_nearest: Indices) -> Usual:
    """Return how close other images usually come to each validation chip, by their nearest chip.

    Args:
        validation: float32 [n, dim].
        sampled: float32 [m, dim], the training chips of `sample`.
        images: int64 [m], theirs; chips of one image are much alike, and count as one.
        of_nearest: int64 [n], the image of the training chip nearest to each validation chip, which
            does not count.
    """
    order = np.argsort(images, kind="stable")
    names, first = np.unique(images[order], return_index=True)
    sampled = sampled[order]
    count = max(MIN_NEIGHBOURS, int(np.ceil(NEIGHBOURS * len(names))))
    distance, spread = np.full(len(validation), np.inf), np.full(len(validation), np.nan)
    squares = np.einsum("ij,ij->i", sampled, sampled)
    for start in range(0, len(validation) if count < len(names) else 0, VALIDATION_ROWS):
        rows = slice(start, start + VALIDATION_ROWS)
        own = validation[rows]
        square = np.einsum("ij,ij->i", own, own)[:, None] + squares - 2 * own @ sampled.T
        square = np.minimum.reduceat(np.maximum(square, 0), first, axis=1)
        square[of_nearest[rows, None] == names] = np.inf
        within = np.sqrt(np.partition(square, count - 1, axis=1)[:, :count], dtype=np.float64)
        distance[rows] = within[:, -1]
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(within[:, -1:] / within[:, :-1])
            spread[rows] = np.median(logs, axis=1)
    return Usual(distance, spread, count)


def fractions(around: Usual, n_training: int) -> Floats:
    """Return the share of the usual distance that makes a near duplicate, float64 [n].

    FRACTION, or less if features vary in few ways and unrelated chips come as close by chance: then
    so little that chance gives less than a pair. In d dimensions a ball of a share f of the radius
    holds f**d of what the whole ball holds; d is estimated from the distances around the chip, or
    around all chips if that is less.

    Args:
        around: of the validation chips.
        n_training: how many chips they were compared with.

    Source: Levina and Bickel 2004, "Maximum likelihood estimation of intrinsic dimension": the
    logarithms are exponential with the mean 1 / d. Their median is ln 2 / d, and a few copies among
    the neighbours do not move it.
    """
    known = np.isfinite(around.spread)
    if not known.any():
        return np.zeros(len(known))
    spread = np.where(known, around.spread, np.inf)
    spread = np.maximum(spread, np.median(around.spread[known])) / np.log(2)
    chances = len(known) * around.neighbours * max(1.0, n_training / SAMPLE)
    found: Floats = np.minimum(FRACTION, (CHANCE / chances) ** spread)
    return found
