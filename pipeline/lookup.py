"""Features that were made elsewhere: taken from a table instead of from a network.

Gives what the engine gives, from the file that the extractor `table` names.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.engine import Done, Wanted, finish
from pipeline.errors import InputError
from pipeline.rejects import Reject
from pipeline.sections import Extract

COLUMNS = ("key", "row", "col", "feature")


class Lookup:
    """Features of tables of chips, by key, row and column, from one Parquet file.

    The memory it takes: the features of one table of chips, and one row group of the file.

    Args:
        path: the file, with COLUMNS; `feature` is a list of floats, as long in every row.
        extract: the section.

    Raises:
        InputError: it is not such a file.
    """

    def __init__(self, path: Path, extract: Extract) -> None:
        self.path, self.extract = path, extract
        try:
            self.seen = _seen(path)
            self.file = pq.ParquetFile(path)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{path}: not a Parquet file: {error}") from error
        schema = self.file.schema_arrow
        missing = [name for name in COLUMNS if name not in schema.names]
        if missing:
            raise InputError(
                f"{path}: has no column {', '.join(missing)}; a table of features has "
                f"{', '.join(COLUMNS)} (python -m stages.featurevectors makes one)"
            )
        self.ranges = [self._range(group) for group in range(self.file.num_row_groups)]
        self.dim = self._dim()

    def _dim(self) -> int:
        """Give how many values a feature has, by the type or else by the first row."""
        kind = self.file.schema_arrow.field("feature").type
        if pa.types.is_fixed_size_list(kind):
            return int(kind.list_size)
        first = next(self.file.iter_batches(1, columns=["feature"]), None)
        if first is None or not pa.types.is_list(kind) or not first.column(0)[0].is_valid:
            raise InputError(f"{self.path}: its column feature is no list of numbers")
        return len(first.column(0)[0])

    def _range(self, group: int) -> tuple[str, str] | None:
        """Give the first and the last key of a row group, or None where the file does not say."""
        row_group = self.file.metadata.row_group(group)
        columns = (row_group.column(number) for number in range(row_group.num_columns))
        found = next(column for column in columns if column.path_in_schema == "key").statistics
        return (found.min, found.max) if found is not None and found.has_min_max else None

    def run(
        self, tables: Iterable[tuple[str, pa.Table]], step: Callable[[int], None] = lambda _: None
    ) -> Iterator[Done]:
        """Look every chip of *tables* up; see Engine.run.

        Raises:
            InputError: the file changed while it was read, or its features are not alike.
        """
        for name, chips in tables:
            features = np.zeros((chips.num_rows, self.dim), np.float32)
            table = Wanted(name, chips, features, chips.num_rows)
            columns = (chips[name].to_pylist() for name in COLUMNS[:3])
            places: dict[tuple[Any, ...], list[int]] = {}
            for place, point in enumerate(zip(*columns, strict=True)):
                places.setdefault(point, []).append(place)  # boxes may have one centre
            self._fill(table, places)
            for (key, row, col), missing in places.items():
                table.rejected.update(missing)
                said = f"{key}: {self.path.name} has no feature of the point at {row}, {col}"
                table.rejects.append(Reject("extract", key, "no_feature", said, row, col))
            if _seen(self.path) != self.seen:
                raise InputError(f"{self.path}: changed while it was read; run dvc repro again")
            step(chips.num_rows)
            yield finish(table, self.extract.store)

    def _fill(self, table: Wanted, places: dict[tuple[Any, ...], list[int]]) -> None:
        """Put features where they belong, and take what is found out of *places*."""
        keys = sorted({key for key, *_ in places})
        wanted = pa.array(keys, pa.string())
        for group, spread in enumerate(self.ranges):
            if not places or (spread and not _holds(keys, *spread)):
                continue
            rows = self.file.read_row_group(group, columns=list(COLUMNS))
            rows = rows.filter(pc.is_in(rows["key"], value_set=wanted))
            if not rows.num_rows:
                continue
            features = self._features(rows["feature"])
            columns = (rows[name].to_pylist() for name in COLUMNS[:3])
            for point, feature in zip(zip(*columns, strict=True), features, strict=True):
                found = places.get(point) if np.isfinite(feature).all() else None
                if found is not None:
                    table.features[found] = feature
                    del places[point]

    def _features(self, column: pa.ChunkedArray) -> NDArray[np.float32]:
        lists = column.combine_chunks()
        try:
            values = lists.flatten().to_numpy(zero_copy_only=False)
            found: NDArray[np.float32] = values.reshape(len(lists), self.dim).astype(np.float32)
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(
                f"{self.path}: its features are not all of {self.dim:,} numbers"
            ) from error
        return found


def _holds(keys: list[str], first: str, last: str) -> bool:
    """Say whether one of the sorted *keys* lies between *first* and *last*."""
    place = bisect_left(keys, first)
    return place < len(keys) and keys[place] <= last


def _seen(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns
