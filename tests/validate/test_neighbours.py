"""Near duplicates: the search finds what comparing every chip with every other finds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from pipeline.validate import neighbours


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """So that a few rows are many blocks."""
    monkeypatch.setattr(neighbours, "VALIDATION_ROWS", 7)
    monkeypatch.setattr(neighbours, "TRAINING_ROWS", 11)


@st.composite
def sides(draw):
    """Features of validation and of training chips, and the images of the training chips."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    n, m, dim = draw(st.integers(1, 40)), draw(st.integers(1, 60)), draw(st.integers(1, 80))
    training = rng.normal(0, 2, (m, dim)).astype(np.float32)
    images = rng.integers(0, max(1, m // draw(st.integers(1, 4))), m)
    return rng.normal(0, 2, (n, dim)).astype(np.float32), training, images


@settings(max_examples=60, deadline=None)
@given(sides())
def test_the_nearest_in_blocks_is_the_nearest_of_all(case):
    validation, training, _ = case
    at, distance = neighbours.nearest(validation, training)
    whole = cdist(validation, training)
    assert np.allclose(distance, whole.min(axis=1), rtol=1e-4)
    assert np.allclose(whole[np.arange(len(validation)), at], distance, rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(sides())
def test_what_is_usual_is_the_distance_of_so_many_other_images(case):
    validation, training, images = case
    at, _ = neighbours.nearest(validation, training)
    found = neighbours.usual(validation, training, images, images[at])
    for row, distances in enumerate(cdist(validation, training)):
        others = {name: distances[images == name].min() for name in set(images.tolist())}
        del others[images[at[row]]]
        wanted = sorted(others.values())
        if len(wanted) < 6:
            assert not np.isfinite(found.distance[row])
        else:
            assert found.distance[row] == pytest.approx(wanted[5], rel=1e-4)
            spread = np.median(np.log(wanted[5] / np.array(wanted[:5])))
            assert found.spread[row] == pytest.approx(spread, rel=1e-2, abs=1e-3)


def flagged(validation, training, images):
    at, distance = neighbours.nearest(validation, training)
    around = neighbours.usual(validation, training, images, images[at])
    return distance < neighbours.fractions(around, len(training)) * around.distance


@pytest.mark.parametrize("dim", [1, 2, 5, 20, 100])
def test_chance_makes_no_near_duplicates_whatever_the_features_vary_in(dim):
    found = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        cloud = rng.normal(0, 1, (500, dim)).astype(np.float32)
        found += flagged(cloud[:100], cloud[100:], np.arange(400)).sum()
    assert found <= 5  # of 1,000 chips in ten sets: less than one a set


def test_a_plain_ground_makes_no_near_duplicates_and_a_copy_on_it_does():
    rng = np.random.default_rng(0)
    far = rng.normal(0, 1, (600, 40)).astype(np.float32)
    plain = far[:1] + rng.normal(0, 0.01, (60, 40)).astype(np.float32)  # a tenth of all chips
    training = np.concatenate([far[:500], plain[:50]])
    copies = far[10:20] + rng.normal(0, 0.1, (10, 40)).astype(np.float32)
    closer = plain[:1] + rng.normal(0, 0.0005, (1, 40)).astype(np.float32)
    validation = np.concatenate([far[500:], plain[50:], copies, closer])
    found = flagged(validation, training, np.arange(len(training)))
    assert found.tolist() == [False] * 110 + [True] * 11


def test_one_copy_more_does_not_hide_the_others():
    rng = np.random.default_rng(0)
    training = rng.normal(0, 1, (300, 40)).astype(np.float32)
    validation = training[:20] + rng.normal(0, 0.05, (20, 40)).astype(np.float32)
    again = training[:20] + rng.normal(0, 0.05, (20, 40)).astype(np.float32)
    training = np.concatenate([training, again])
    assert flagged(validation, training, np.arange(len(training))).mean() > 0.9


def test_features_that_never_differ_are_no_near_duplicates():
    same = np.ones((30, 5), np.float32)
    assert not flagged(same[:9], same[9:], np.arange(21)).any()
