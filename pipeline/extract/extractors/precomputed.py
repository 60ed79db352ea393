"""Features that were computed elsewhere, looked up by key, row and column; no network runs.

`extract.weights` names a Parquet file with the columns `key`, `row`, `col` and `feature`;
`python -m stages.pyspacer_features` makes one from PySpacer's feature files. A row without row and
column is for the only chip of its image, as `chip.method: whole` makes them.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.config.sections import ExtractParams
from pipeline.core.errors import InputError
from pipeline.core.rejects import Reject
from pipeline.extract.engine import ExtractedTable, PendingTable, finish
from pipeline.extract.extractors import Identity
from pipeline.extract.weights import Weights, named_source

VERSION = 3
EXPORTS = False

COLUMNS = ("key", "row", "col", "feature")

LARGEST_DIM = 100_000
"""The most values in a feature: memory is allocated for as many as a file claims."""

Places = dict[tuple[Any, ...], list[int]]
"""Key, row and column of a point → the positions of its chips."""


source = named_source


def identity(extract: ExtractParams, weights: Weights) -> Identity:  # noqa: ARG001
    """Return what the file adds to the recipe: its digest."""
    return Identity("precomputed", "", weights.sha256, "none", VERSION)


def engine(extract: ExtractParams, weights: Weights) -> PrecomputedFeatures:
    """Open the file."""
    return PrecomputedFeatures(weights.path, extract)


class PrecomputedFeatures:
    """Looks features up by key, row and column in one Parquet file.

    It needs memory for the features of one table of chips and of one row group of the file.

    Args:
        path: the file, with COLUMNS; `feature` is a list of floats of the same length in each row.
        extract: the section.

    Raises:
        InputError: the file has another form.
    """

    def __init__(self, path: Path, extract: ExtractParams) -> None:
        self.path, self.extract = path, extract
        try:
            self.stamp = _stamp(path)
            self.file = pq.ParquetFile(path)
            schema = self.file.schema_arrow
            names = schema.names
        except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not a Parquet file: {error}") from error
        self._check(schema, names)
        self.ranges = [self._range(group) for group in range(self.file.num_row_groups)]
        with self._reading():
            self.dim = self._dim()

    def _check(self, schema: pa.Schema, columns: list[str]) -> None:
        """Check that each of COLUMNS is there once, and that it can hold points."""
        for count, words in ((0, "no"), (2, "more than one")):
            named = [name for name in COLUMNS if min(columns.count(name), 2) == count]
            if named:
                raise InputError(
                    f"{self.path}: has {words} column {', '.join(named)}; a table of features has "
                    f"{', '.join(COLUMNS)} (python -m stages.pyspacer_features makes one)"
                )
        for name in COLUMNS[:3]:
            if pa.types.is_nested(schema.field(name).type):
                raise InputError(f"{self.path}: its column {name} holds lists or structures")

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn an error while rows are read into an InputError."""
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{self.path}: its rows cannot be read: {error}") from error

    def _dim(self) -> int:
        """Return the number of values in a feature, by the column's type or its first row."""
        kind = self.file.schema_arrow.field("feature").type
        dim: int | None = None
        if pa.types.is_fixed_size_list(kind):
            dim = kind.list_size
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            first = next(self.file.iter_batches(1, columns=["feature"]), None)
            dim = len(first.column(0)[0]) if first and first.column(0)[0].is_valid else None
        if not dim:
            raise InputError(f"{self.path}: its column feature is no list of numbers")
        if dim > LARGEST_DIM:
            raise InputError(
                f"{self.path}: its features have {dim:,} values each, and {LARGEST_DIM:,} at most "
                "are taken"
            )
        return dim

    def _range(self, group: int) -> tuple[str, str] | None:
        """Return the first and last key of a row group, or None if the file has no statistics."""
        row_group = self.file.metadata.row_group(group)
        columns = (row_group.column(number) for number in range(row_group.num_columns))
        key = next(column for column in columns if column.path_in_schema == "key").statistics
        if key is None or not key.has_min_max or not isinstance(key.min, str):
            return None
        return key.min, key.max

    def run(
        self, tables: Iterable[tuple[Any, pa.Table]], step: Callable[[int], None] = lambda _: None
    ) -> Iterator[ExtractedTable]:
        """Look up every chip of *tables*; see Engine.run.

        Raises:
            InputError: the file changed while it was read, or its features differ in length.
        """
        for name, chips in tables:
            features = np.zeros((chips.num_rows, self.dim), np.float32)
            table = PendingTable(name, chips, features, chips.num_rows)
            columns = (chips[name].to_pylist() for name in COLUMNS[:3])
            places: Places = {}
            for place, point in enumerate(zip(*columns, strict=True)):
                places.setdefault(point, []).append(place)  # several boxes may have one centre
            conflicting = self._fill(table, places)
            for reason, words, points in (
                ("no_feature", "no feature", places),
                ("feature_conflict", "two different features", conflicting),
            ):
                for (key, row, col), of_chips in points.items():
                    table.rejected.update(of_chips)
                    detail = f"{key}: {self.path.name} has {words} of the point at {row}, {col}"
                    table.rejects.append(Reject("extract", key, reason, detail, row, col))
            if _stamp(self.path) != self.stamp:
                raise InputError(f"{self.path}: changed while it was read; run dvc repro again")
            step(chips.num_rows)
            yield finish(table, self.extract.dtype)

    def _fill(self, table: PendingTable, places: Places) -> Places:
        """Fill in the features of *table*, and remove the points found from *places*.

        Returns:
            The points for which the file has two different features.
        """
        filled: Places = {}
        conflicting: Places = {}
        counts = Counter(key for key, *_ in places)
        only = {point[0]: point for point in places if counts[point[0]] == 1}
        keys = sorted(counts)
        wanted = pa.array(keys, pa.string())
        for group, spread in enumerate(self.ranges):
            if spread and not _holds(keys, *spread):
                continue
            with self._reading():
                rows = self.file.read_row_group(group, columns=list(COLUMNS)).select(COLUMNS)
                rows = rows.set_column(0, "key", rows["key"].cast(pa.string()))
            rows = rows.filter(pc.is_in(rows["key"], value_set=wanted))
            if not rows.num_rows:
                continue
            features = self._features(rows["feature"])
            columns = (rows[name].to_pylist() for name in COLUMNS[:3])
            for named, feature in zip(zip(*columns, strict=True), features, strict=True):
                if not np.isfinite(feature).all():
                    continue
                point = only.get(named[0], named) if named[1:] == (None, None) else named
                if point in places:
                    filled[point] = places.pop(point)
                    table.features[filled[point]] = feature
                elif point in filled and (table.features[filled[point][0]] != feature).any():
                    conflicting[point] = filled[point]
        return conflicting

    def _features(self, column: pa.ChunkedArray) -> NDArray[np.float32]:
        lists = column.combine_chunks()
        try:
            values = lists.flatten().to_numpy(zero_copy_only=False)
            features: NDArray[np.float32] = values.reshape(len(lists), self.dim).astype(np.float32)
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(
                f"{self.path}: its features are not all of {self.dim:,} numbers"
            ) from error
        return features


def _holds(keys: list[str], first: str, last: str) -> bool:
    """Return True if one of the sorted *keys* is between *first* and *last*."""
    place = bisect_left(keys, first)
    return place < len(keys) and keys[place] <= last


def _stamp(path: Path) -> tuple[int, ...]:
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
