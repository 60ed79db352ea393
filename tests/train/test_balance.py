"""Uneven classes: weights, and rows that are repeated or skipped."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.sections import TrainParams
from pipeline.train.balance import class_weights, repeats
from pipeline.train.batches import LEFT_OUT


def members(y, n_classes):
    return [np.flatnonzero(y == number) for number in range(n_classes)]


@settings(max_examples=60)
@given(st.lists(st.integers(-1, 4), min_size=1, max_size=80), st.integers(1, 9), st.integers(0, 30))
def test_resampling_takes_between_min_and_max_per_class(y, floor, more):
    y = np.array(y)
    train = TrainParams(balance="resample", min_per_class=floor, max_per_class=floor + more)
    times = repeats(members(y, 5), len(y), train, np.random.default_rng(0))
    assert (times[y == LEFT_OUT] == 0).all()
    for number in range(5):
        some = times[y == number]
        if len(some):
            assert some.sum() == min(max(len(some), floor), floor + more)
            assert some.max() - some.min() <= 1


def test_max_per_class_takes_every_row_in_some_epoch():
    y = np.zeros(50, np.int64)
    train = TrainParams(balance="resample", min_per_class=1, max_per_class=10)
    rngs = (np.random.default_rng([0, epoch]) for epoch in range(60))
    epochs = [repeats(members(y, 1), len(y), train, rng) for rng in rngs]
    assert all(times.dtype == np.int64 and times.sum() == 10 for times in epochs)
    assert (sum(epochs) > 0).all()


def test_weights_follow_the_effective_number_of_samples():
    counts = np.array([2000, 100, 1, 0])
    found = class_weights(counts, TrainParams(balance="weights"))
    assert found.dtype == np.float32
    effective = (1 - 0.999 ** np.array([2000, 100, 1, 1])) / (1 - 0.999)
    np.testing.assert_allclose(found / found[0], effective[0] / effective, rtol=1e-5)
    assert np.average(found, weights=counts) == pytest.approx(1)
    assert class_weights(counts, TrainParams()) is None
