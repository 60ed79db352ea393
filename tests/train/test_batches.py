"""Rows for training: each once an epoch, in memory or in parts, standardised."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from training_rows import in_blocks

from pipeline.train.batches import LEFT_OUT, Data

ROWS = st.integers(1, 60)


SIZES = st.lists(st.integers(1, 20), max_size=8)


@settings(max_examples=60)
@given(ROWS, SIZES, st.integers(0, 2**32), st.integers(16, 2000))
def test_an_epoch_has_every_row_once_in_an_order_set_by_the_seed(count, sizes, seed, room):
    features = np.arange(count * 3, dtype=np.float32).reshape(count, 3)
    y = np.random.default_rng(seed).integers(LEFT_OUT, 3, count)
    rows = in_blocks(features, ["x"] * count, sizes)

    def epoch():
        data = Data(rows, y, room)
        return [(at.copy(), x.copy()) for at, x in data.passes(np.random.default_rng(seed))]

    found = epoch()
    at = np.concatenate([at for at, _ in found]) if found else np.empty(0, int)
    assert sorted(at.tolist()) == np.flatnonzero(y >= 0).tolist()
    for places, x in found:
        np.testing.assert_array_equal(x, features[places])
    again = epoch()
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(found, again, strict=True))


@settings(max_examples=40)
@given(ROWS, SIZES, st.integers(0, 2**32), st.sampled_from([16, 10**6]))
def test_features_are_centred_and_scaled_by_one_number(count, sizes, seed, room):
    rng = np.random.default_rng(seed)
    features = rng.normal(rng.uniform(-1e3, 1e3, 4), rng.uniform(0.1, 9, 4), (count, 4))
    features = features.astype(np.float32)
    features[:, 1] = 7.5
    data = Data(in_blocks(features, ["x"] * count, sizes), np.zeros(count, np.int64), room)
    mean, scale = data.mean_and_scale()
    np.testing.assert_allclose(mean, features.mean(0, dtype=np.float64), rtol=1e-6)
    deviation = features.std(0, dtype=np.float64)
    tells = deviation > 1e-6 * np.abs(mean)
    assert scale[~tells].tolist() == [0] * int((~tells).sum())
    common = np.sqrt(np.square(deviation[tells]).mean()) if tells.any() else 1.0
    np.testing.assert_allclose(1 / scale[tells], common, rtol=1e-4)
    data.standardize(mean, scale)
    for at, x in data.passes():
        np.testing.assert_array_equal(x, (features[at] - mean) * scale)
