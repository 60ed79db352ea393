"""Tables: the same rows are the same bytes, and every column is described."""

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core import schemas

TABLES = {
    name: getattr(schemas, name)
    for name in dir(schemas)
    if isinstance(getattr(schemas, name), pa.Schema)
}


@given(st.permutations(range(12)))
def test_the_order_of_rows_changes_no_byte(order):
    table = features(12)
    shuffled = table.take(list(order))
    schema = schemas.features(4, "float32")
    assert schemas.to_bytes(schemas.conform(shuffled, schema)) == (
        schemas.to_bytes(schemas.conform(table, schema))
    )


def features(count, dim=4):
    values = np.arange(count * dim, dtype=np.float32)
    return pa.table(
        {
            "chip_id": pa.array([bytes([n]) * 16 for n in range(count)], schemas.CHIP_ID),
            "key": [f"{n // 3}.png" for n in range(count)],
            "row": pa.array(range(count), pa.int32()),
            "col": pa.array(range(count), pa.int32()),
            "feature": pa.FixedSizeListArray.from_arrays(values, dim),
            "decoder_warning": pa.nulls(count, pa.string()),
        }
    )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_features_are_read_as_they_were_written(dtype):
    schema = schemas.features(4, dtype)
    values = features(9)["feature"].combine_chunks().flatten().to_numpy().astype(dtype)
    table = features(9).set_column(4, "feature", pa.FixedSizeListArray.from_arrays(values, 4))
    back = schemas.from_bytes(schemas.to_bytes(schemas.conform(table, schema)))
    assert back.schema.equals(schema)
    assert back["feature"].to_pylist() == table["feature"].to_pylist()


@pytest.mark.parametrize("name", [*TABLES, "features"])
def test_rows_that_are_read_in_parts_are_written_as_the_same_bytes(name):
    schema = TABLES.get(name, schemas.features(4, "float32"))
    rows = features(6) if name == "features" else pa.Table.from_pylist([{}] * 6, schema)
    data = schemas.to_bytes(schemas.conform(rows, schema))
    back = schemas.from_bytes(data)
    for target in (schema, back.schema):
        again = schemas.conform(pa.concat_tables([back[3:], rows[:3].cast(schema)]), target)
        assert schemas.to_bytes(again) == data


def test_features_take_little_more_space_than_their_numbers():
    table = schemas.conform(features(200, 1280), schemas.features(1280, "float32"))
    assert len(schemas.to_bytes(table)) < 1.02 * 200 * 1280 * 4 + 4_000


def test_pandas_reads_features():
    schema = schemas.features(4, "float32")
    data = schemas.to_bytes(schemas.conform(features(3), schema))
    frame = pd.read_parquet(io.BytesIO(data))
    assert np.array_equal(frame["feature"][1], [4, 5, 6, 7])


def test_a_value_that_does_not_fit_its_column_is_an_error():
    table = features(2).set_column(2, "row", pa.array([0, 2**40], pa.int64()))
    with pytest.raises(pa.ArrowInvalid):
        schemas.conform(table, schemas.features(4, "float32"))


def test_every_column_has_a_description():
    names = {name for schema in TABLES.values() for name in schema.names}
    names |= set(schemas.features(4, "float32").names)
    assert names <= schemas.DESCRIPTIONS.keys()
    assert all(len(schemas.DESCRIPTIONS[name].split()) >= 4 for name in names)


def test_another_type_is_another_fingerprint():
    prints = {schemas.fingerprint(schema) for schema in TABLES.values()}
    assert len(prints) == len(TABLES)
    assert schemas.fingerprint(schemas.features(4, "float32")) != (
        schemas.fingerprint(schemas.features(4, "float16"))
    )
