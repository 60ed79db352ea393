"""A folder of shards is a table: readers are given its path, and nothing else."""

import datasets
import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core import schemas

COUNT, DIM = 300, 48


def by_pandas(folder, _):
    return pd.read_parquet(folder).to_dict("records")


def by_polars(folder, _):
    return pl.read_parquet(folder).to_dicts()


def by_duckdb(folder, _):
    table = duckdb.sql(f"select * from '{folder}/*.parquet'")
    return [dict(zip(table.columns, row, strict=True)) for row in table.fetchall()]


def by_datasets(folder, cache):
    return list(datasets.load_dataset(str(folder), cache_dir=str(cache))["train"])


def by_datasets_in_parquet(folder, cache):
    table = datasets.load_dataset("parquet", data_dir=str(folder), cache_dir=str(cache))
    return list(table["train"])


READERS = [by_pandas, by_polars, by_duckdb, by_datasets, by_datasets_in_parquet]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("name", ["chips", "features"])
def test_a_folder_is_read_as_one_table_without_arguments(done_repo, tmp_path, name, read):
    folder = done_repo.path / "data" / name
    shards = [pq.read_table(path) for path in sorted(folder.iterdir())]
    expected = [row for shard in shards for row in shard.to_pylist()]
    rows = read(folder, tmp_path / "cache")
    assert len(rows) == len(expected) > 0
    assert [*rows[0]] == [*expected[0]]
    assert sorted(bytes(row["chip_id"]) for row in rows) == sorted(
        row["chip_id"] for row in expected
    )


@pytest.mark.parametrize("store", ["float32", "float16"])
@pytest.mark.parametrize("read", READERS)
def test_features_are_read_with_every_bit(tmp_path, store, read):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(COUNT, DIM)).astype(store)
    schema = schemas.features(DIM, store)
    rows = {
        "chip_id": [rng.bytes(16) for _ in range(COUNT)],
        "key": [f"reef/{number // 25:03d}.jpg" for number in range(COUNT)],
        "row": list(range(COUNT)),
        "col": list(range(COUNT)),
        "decoder_warning": pa.nulls(COUNT, pa.string()),
    }
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), DIM)
    table = schemas.conform(pa.table({**rows, "feature": vectors}), schema)
    folder = tmp_path / "features"
    folder.mkdir()
    for number, part in enumerate((table.slice(0, 200), table.slice(200))):
        (folder / f"{number:04d}.parquet").write_bytes(schemas.to_bytes(part))
    found = sorted(read(folder, tmp_path / "cache"), key=lambda row: row["row"])
    assert [row["key"] for row in found] == rows["key"]
    assert [bytes(row["chip_id"]) for row in found] == rows["chip_id"]
    read_back = np.array([row["feature"] for row in found], np.float32)
    np.testing.assert_array_equal(read_back, features.astype(np.float32))
