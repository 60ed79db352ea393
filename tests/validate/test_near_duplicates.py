"""Near duplicates: the same are found however the features are divided into shards."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core import schemas
from pipeline.core.hashing import digest
from pipeline.store import outputs
from pipeline.train import labelled_features
from pipeline.validate import near_duplicates, neighbours

DIM, N, COPIES = 100, 900, 40


@pytest.fixture
def chips():
    """Labels, and the feature of each; the first COPIES validation chips are copies."""
    rng = np.random.default_rng(0)
    features = rng.normal(0, 1, (N, DIM)).astype(np.float32)
    features[:COPIES] = features[N // 2 : N // 2 + COPIES] + rng.normal(0, 0.1, (COPIES, DIM))
    ids = [bytes.fromhex(digest(n))[:16] for n in range(N)]
    labels = pa.table(
        {
            "chip_id": pa.array(ids, schemas.CHIP_ID),
            "key": [f"{n // 5:04d}.png" for n in range(N)],
            "row": pa.array(range(N), pa.int32()),
            "col": pa.array([0] * N, pa.int32()),
            "label": ["a"] * N,
            "group": [f"{n // 5}" for n in range(N)],
            "split": ["validation" if n < N // 3 else "train" for n in range(N)],
        }
    ).cast(schemas.LABELS)
    return labels, features


def found(folder, monkeypatch, chips, shards):
    """Search with the features in so many shards, each in another order."""
    labels, features = chips
    folder.mkdir()
    monkeypatch.setattr(labelled_features, "FEATURES", folder)
    paths = [folder / f"{number:04d}.parquet" for number in range(shards)]
    monkeypatch.setattr(outputs, "shard_paths", lambda _: paths)
    order = np.random.default_rng(shards).permutation(N)
    for path, rows in zip(paths, np.array_split(order, shards), strict=True):
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(features[rows].ravel()), DIM)
        table = labels.take(pa.array(rows)).append_column("feature", vectors)
        table = table.append_column("decoder_warning", pa.nulls(len(rows), pa.string()))
        schema = schemas.features(DIM, "float32")
        with schemas.writer(schema, path) as stream:
            stream.write_table(table.select(schema.names).cast(schema))
    (validation,) = labelled_features.of_splits(labels, "validation")
    return near_duplicates.find(validation, labels)


def test_the_number_and_order_of_shards_change_no_bit(tmp_path, monkeypatch, chips):
    one = found(tmp_path / "1", monkeypatch, chips, 1)
    assert set(one.table["row"]) == set(range(COPIES))
    for shards in (2, 7, 32):
        other = found(tmp_path / str(shards), monkeypatch, chips, shards)
        pd.testing.assert_frame_equal(other.table, one.table, check_exact=True)


def test_a_sample_is_of_the_lowest_chip_ids_whatever_the_shards(tmp_path, monkeypatch, chips):
    monkeypatch.setattr(near_duplicates, "MAX_VALIDATION", 150)
    monkeypatch.setattr(near_duplicates, "MAX_TRAINING", 400)
    one, other = (found(tmp_path / str(n), monkeypatch, chips, n) for n in (1, 7))
    pd.testing.assert_frame_equal(other.table, one.table, check_exact=True)
    assert (one.n_validation, one.n_training) == (150, 400)
    assert (one.all_validation, one.all_training) == (N // 3, N - N // 3)
    labels = chips[0].to_pandas()
    sampled = {
        side: set(labels[labels["split"] == side].sort_values("chip_id")["row"].head(n))
        for side, n in (("validation", 150), ("train", 400))
    }
    copied = {n for n in sampled["validation"] if n < COPIES and n + N // 2 in sampled["train"]}
    assert copied
    assert set(one.table["row"]) == copied


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 700), st.sampled_from([65, 100, 1280]))
def test_a_projection_does_not_depend_on_the_other_rows(seed, n, dim):
    rng = np.random.default_rng(seed)
    features = rng.normal(0, 1, (n, dim)).astype(np.float32)
    matrix = neighbours.projection(dim)
    whole = neighbours.project(features, matrix)
    assert np.allclose(whole, features @ matrix, atol=1e-4)
    rows = rng.permutation(n)[: rng.integers(1, n + 1)]
    assert np.array_equal(neighbours.project(features[rows], matrix), whole[rows])
