"""A folder of shards is a table: readers are given its path, and nothing else."""

from __future__ import annotations

import datasets
import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest


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
