"""Features are read by whatever reads Parquet."""

import datasets
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from pipeline.core import schemas

COUNT, DIM = 300, 48


def by_pandas(pattern, _):
    files = sorted(pattern.parent.glob(pattern.name))
    return pd.concat([pd.read_parquet(file) for file in files]).to_dict("records")


def by_polars(pattern, _):
    return pl.read_parquet(pattern).to_dicts()


def by_duckdb(pattern, _):
    found = duckdb.sql(f"select * from '{pattern}'")
    return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


def by_datasets(pattern, cache):
    return list(datasets.Dataset.from_parquet(str(pattern), cache_dir=str(cache)))


@pytest.mark.parametrize("store", ["float32", "float16"])
@pytest.mark.parametrize("read", [by_pandas, by_polars, by_duckdb, by_datasets])
def test_features_are_read_with_every_bit(tmp_path, store, read):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(COUNT, DIM)).astype(store)
    schema = schemas.features(DIM, store)
    rows = {
        "chip_id": [rng.bytes(16) for _ in range(COUNT)],
        "key": [f"reef/{number // 25:03d}.jpg" for number in range(COUNT)],
        "row": list(range(COUNT)),
        "col": list(range(COUNT)),
    }
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), DIM)
    table = schemas.conform(pa.table({**rows, "feature": vectors}), schema)
    for number, part in enumerate((table.slice(0, 200), table.slice(200))):
        (tmp_path / f"{number:04d}.parquet").write_bytes(schemas.to_bytes(part))
    found = sorted(read(tmp_path / "0*.parquet", tmp_path / "cache"), key=lambda row: row["row"])
    assert [row["key"] for row in found] == rows["key"]
    assert [bytes(row["chip_id"]) for row in found] == rows["chip_id"]
    read_back = np.array([row["feature"] for row in found], np.float32)
    np.testing.assert_array_equal(read_back, features.astype(np.float32))
