"""Small tables to keep in a store: headers, chips and features of images that nobody has."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from pipeline.core import schemas
from pipeline.core.hashing import chip_id

DIM = 3


def headers(keys: Iterable[str]) -> pa.Table:
    """schemas.HEADERS of images."""
    image = {"version": "v", "size": 9, "width": 8, "height": 8, "format": "PNG", "mode": "RGB"}
    rows = [{"key": key, **image, "orientation": 1, "more_frames": False} for key in keys]
    return _table(rows, schemas.HEADERS)


def chips(keys: Iterable[str], columns: Iterable[int] = (1,)) -> pa.Table:
    """schemas.CHIPS with a chip at each of *columns* of each image."""
    rows = []
    for key in keys:
        for col in columns:
            window = {"top": 0, "left": col, "height": 8, "width": 8}
            name = chip_id(key, "v", (0, col, 8, 8))
            rows.append(
                {"chip_id": name, "key": key, "version": "v", "row": 4, "col": col, **window}
            )
    return _table(rows, schemas.CHIPS)


def features(keys: Iterable[str]) -> pa.Table:
    """A feature of DIM values for one chip of each image."""
    table = chips(keys)
    vectors = [[float(n)] * DIM for n in range(table.num_rows)]
    table = table.append_column("feature", pa.array(vectors))
    warnings = pa.nulls(table.num_rows, pa.string())
    return schemas.conform(
        table.append_column("decoder_warning", warnings), schemas.features(DIM, "float32")
    )


def _table(rows: list[dict], schema: pa.Schema) -> pa.Table:
    return schemas.conform(pa.Table.from_pylist(rows, schema=schema), schema)
