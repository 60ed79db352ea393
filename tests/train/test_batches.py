"""Rows for training: each once an epoch, in memory or in a scratch file, standardised."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_rows import in_blocks

from pipeline.core.errors import StorageError
from pipeline.train import batches
from pipeline.train.batches import LEFT_OUT, Data

ROWS = st.integers(1, 60)


SIZES = st.lists(st.integers(1, 20), max_size=8)
BUDGETS = st.sampled_from([0, 10**6])


@pytest.fixture(autouse=True, scope="module")
def small_windows(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("scratch"))
        patch.setattr(batches, "WINDOW", 16)
        patch.setattr(batches, "BLOCK", 4)
        yield


@settings(max_examples=60)
@given(ROWS, SIZES, st.integers(0, 2**32), BUDGETS)
def test_an_epoch_has_every_row_once_in_an_order_set_by_the_seed(count, sizes, seed, budget):
    features = np.arange(count * 3, dtype=np.float32).reshape(count, 3)
    y = np.random.default_rng(seed).integers(LEFT_OUT, 3, count)
    data = Data(in_blocks(features, ["x"] * count, sizes), y, budget)
    order = data.order(np.random.default_rng(seed))
    assert sorted(data.at[order].tolist()) == np.flatnonzero(y >= 0).tolist()
    np.testing.assert_array_equal(data.features[order], features[data.at[order]])
    again = Data(in_blocks(features, ["x"] * count, []), y, 10**6)
    np.testing.assert_array_equal(again.at, data.at)
    np.testing.assert_array_equal(again.order(np.random.default_rng(seed)), order)
    np.testing.assert_array_equal(again.features, data.features)


def test_an_epoch_of_many_rows_is_shuffled_again_each_time():
    data = Data(in_blocks(np.zeros((60, 2), np.float32), ["x"] * 60, []), np.zeros(60, int), 0)
    first, second = (data.order(np.random.default_rng(seed)) for seed in (1, 2))
    assert len({*first[:16].tolist()} & {*second[:16].tolist()}) < 16
    assert np.abs(np.diff(first)).mean() > 4  # not row after row of a block
    times = np.arange(60) % 3
    repeated = data.order(np.random.default_rng(1), times)
    assert np.bincount(repeated, minlength=60).tolist() == times.tolist()


@settings(max_examples=40)
@given(ROWS, SIZES, st.integers(0, 2**32), BUDGETS)
def test_features_are_centred_and_scaled_by_one_number(count, sizes, seed, budget):
    rng = np.random.default_rng(seed)
    features = rng.normal(rng.uniform(-1e3, 1e3, 4), rng.uniform(0.1, 9, 4), (count, 4))
    features = features.astype(np.float32)
    features[:, 1] = 7.5
    data = Data(in_blocks(features, ["x"] * count, sizes), np.zeros(count, np.int64), budget)
    mean, scale = data.mean_and_scale()
    np.testing.assert_allclose(mean, features.mean(0, dtype=np.float64), rtol=1e-6)
    deviation = features.std(0, dtype=np.float64)
    tells = deviation > 1e-6 * np.abs(mean)
    assert scale[~tells].tolist() == [0] * int((~tells).sum())
    common = np.sqrt(np.square(deviation[tells]).mean()) if tells.any() else 1.0
    np.testing.assert_allclose(1 / scale[tells], common, rtol=1e-4)
    data.standardize(mean, scale)
    np.testing.assert_array_equal(data.features, (features[data.at] - mean) * scale)


def test_rows_of_more_than_a_window_are_ordered_by_the_hashes_of_their_keys():
    rows = in_blocks(np.zeros((40, 2), np.float32), ["x"] * 40, [])
    keys = [f"{number // 2:02}.jpg" for number in range(40)]
    keyed = batches.LabelledFeatures(
        rows.labels.append_column("key", [keys]), 2, rows.blocks, rows.shards
    )
    at = Data(keyed, np.zeros(40, np.int64), 0).at
    hashes = [batches.shard_of(keys[row], batches.MAX_SHARDS) for row in at]
    assert hashes == sorted(hashes)


def test_a_full_disk_is_an_error_that_says_so(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(batches.os, "posix_fallocate", full, raising=False)
    with pytest.raises(StorageError, match="No space left"):
        Data(in_blocks(np.zeros((4, 2), np.float32), ["x"] * 4, []), np.zeros(4, np.int64), 0)
