"""Labels joined to their features."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline.core import schemas
from pipeline.train import labelled_features

DIM = 4


@pytest.fixture
def out(tmp_path, monkeypatch):
    """A features' out of two files of three rows; returns the features by file."""
    monkeypatch.setattr(labelled_features, "FEATURES", tmp_path)
    given = {}
    for number in range(2):
        values = np.random.default_rng(number).normal(size=(3, DIM)).astype(np.float32)
        table = pa.table(
            {
                "chip_id": pa.array([bytes([number, n]) * 8 for n in range(3)], schemas.CHIP_ID),
                "key": ["a.png"] * 3,
                "row": pa.array(range(3), pa.int32()),
                "col": pa.array(range(3), pa.int32()),
                "feature": pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), DIM),
                "decoder_warning": pa.nulls(3, pa.string()),
            }
        ).cast(schemas.features(DIM, "float32"))
        with schemas.writer(table.schema, tmp_path / f"{number:04d}.parquet") as stream:
            stream.write_table(table)
        given[tmp_path / f"{number:04d}.parquet"] = values
    return given


def test_row_groups_are_cached_up_to_cache_bytes(out):
    (first, values), (second, _) = out.items()
    shards = labelled_features.FeatureShards(cache_bytes=values.nbytes)
    for path in (first, second):
        assert np.array_equal(shards.read(path.name, 0), out[path])
        path.unlink()
    assert np.array_equal(shards.read(first.name, 0), values)
    with pytest.raises(FileNotFoundError):
        shards.read(second.name, 0)


def test_a_block_is_read_into_a_new_array(out):
    path, values = next(iter(out.items()))
    shards = labelled_features.FeatureShards(cache_bytes=values.nbytes)
    block = labelled_features.FeatureBlock(path.name, 0, np.arange(3), np.arange(3))
    rows = labelled_features.LabelledFeatures(pa.table({"label": ["a"] * 3}), DIM, [block], shards)
    rows.read(0)[:] = 0
    assert np.array_equal(rows.read(0), values)
