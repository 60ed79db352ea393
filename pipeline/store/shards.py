"""Shards: which are missing, which rows can be reused, and how they are put together as an out.

A shard is made from input rows by a recipe. If the store has no piece made from exactly these rows,
rows that are in another piece of the same recipe are copied, and only the rest is computed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import rejects, schemas
from pipeline.core.errors import StorageError
from pipeline.core.hashing import CHIP_ID_BYTES, digest, image_id, overlap, shard_name, shard_of
from pipeline.core.run_log import Counts, pluralize
from pipeline.store.objects import AGAIN, IDS, Damaged, Piece, Record, Store
from pipeline.store.outputs import Out, shard_path

ROWS = "parquet"
REJECTS = "rejects.parquet"
READERS = 8
T = TypeVar("T")
Line = Mapping[str, Any]
"""Of a shard in a manifest."""


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """A piece that the stage needs: of shard *number*, from *size* input rows.

    *rows* returns the bytes of the input rows.
    """

    number: int
    piece: Piece
    rows: Callable[[], bytes]
    size: int


def split(table: pa.Table, count: int) -> list[pa.Table]:
    """Divide a table with a `key` column into *count* shards by the hash of the key."""
    if not table.num_rows:
        return [table] * count
    keys = table["key"].dictionary_encode().combine_chunks()
    shard_of_key = np.array([shard_of(key, count) for key in keys.dictionary.to_pylist()])
    shard = shard_of_key[keys.indices.to_numpy()]
    ends = np.bincount(shard, minlength=count).cumsum()
    rows = np.split(np.argsort(shard, kind="stable"), ends[:-1])
    return [table.take(part) for part in rows]


def plan(name: str, recipe: str, parts: Sequence[pa.Table], schema: pa.Schema) -> list[ShardPlan]:
    """Name the piece to be made from each of *parts*, the shards' input rows; skip empty parts."""
    plans = []
    for number, part in enumerate(parts):
        if not part.num_rows:
            continue
        rows = partial(_bytes, part, schema)
        made_from = hashlib.sha256(rows()).hexdigest()
        piece = Piece(name, recipe, shard_name(number, len(parts)), made_from)
        plans.append(ShardPlan(number, piece, rows, part.num_rows))
    return plans


def _bytes(rows: pa.Table, schema: pa.Schema) -> bytes:
    return schemas.to_bytes(schemas.conform(rows, schema))


def missing_shards(store: Store, plans: Iterable[ShardPlan], run: str) -> list[ShardPlan]:
    """Return the plans that are not finished.

    A piece with transient rejects of another run than *run* counts as unfinished.
    """
    finished = cache(partial(store.finished, run=run))
    missing = []
    for item in plans:
        piece = item.piece
        if piece.input not in finished(piece.table, piece.recipe).get(piece.shard, []):
            missing.append(item)
    return missing


def put_inputs(store: Store, missing: Iterable[ShardPlan]) -> None:
    """Put the input rows of the *missing* pieces into the store, for whoever makes them."""
    with ThreadPoolExecutor(READERS, thread_name_prefix="inputs") as pool:
        list(pool.map(lambda item: store.put_input(item.piece, item.rows()), missing))


def input_rows(store: Store, piece: Piece) -> pa.Table | None:
    """Read the input rows of *piece*; return None if it has been finished meanwhile."""
    rows = store.read_input(piece)
    return None if rows is None else schemas.from_bytes(rows)


def inputs(store: Store, pieces: Sequence[Piece]) -> Iterator[tuple[Piece, pa.Table]]:
    """Yield the input rows of each of *pieces* that has not been finished meanwhile."""
    for piece in pieces:
        rows = input_rows(store, piece)
        if rows is not None:
            yield piece, rows


def count_rows(store: Store, pieces: Sequence[Piece]) -> int:
    """Return the number of input rows of *pieces*, holding those of one piece at a time."""
    return sum(rows.num_rows for _, rows in inputs(store, pieces))


class Neighbours:
    """The finished pieces of one table and recipe, listed when this is created."""

    def __init__(self, store: Store, table: str, recipe: str) -> None:
        self.store = store
        self.pieces = [
            Piece(table, recipe, shard, made_from)
            for shard, inputs in sorted(store.finished(table, recipe).items())
            for made_from in sorted(inputs)
        ]

    def ids(self, piece: Piece) -> dict[Piece, pa.Array]:
        """Return the ids of the rows of each finished piece that can share rows with *piece*."""
        near = [other for other in self.pieces if overlap(other.shard, piece.shard)]
        with ThreadPoolExecutor(READERS, thread_name_prefix="ids") as pool:
            return dict(zip(near, pool.map(self._ids, near), strict=True))

    def _ids(self, piece: Piece) -> pa.Array:
        data = self.store.ids(piece)
        rows = len(data) // CHIP_ID_BYTES
        return pa.Array.from_buffers(schemas.CHIP_ID, rows, [None, pa.py_buffer(data)])


@dataclass(frozen=True, slots=True)
class Reuse:
    """What can be reused for a piece: rows of its table, and the input rows that remain."""

    rows: pa.Table | None
    left: pa.Table

    def with_computed(self, computed: pa.Table) -> pa.Table:
        """Return the reused rows and those *computed*, as one sorted table of its schema."""
        parts = [computed] if self.rows is None else [self.rows, computed]
        return schemas.conform(pa.concat_tables(parts), computed.schema)


def reuse(neighbours: Neighbours, piece: Piece, wanted: pa.Table) -> Reuse:
    """Find rows of *wanted* in neighbouring pieces, matched by their ids.

    The neighbour with most of the remaining rows is read next, so that a long history costs its
    short lists of ids and not its tables.
    """
    rows: list[pa.Table] = []
    left = wanted
    near = neighbours.ids(piece)
    while left.num_rows and near:
        wanted_ids = ids(left)
        hits = {
            other: pc.is_in(wanted_ids, value_set=have).true_count for other, have in near.items()
        }
        best = max(near, key=lambda other: hits[other])
        del near[best]
        if not hits[best]:
            break
        try:
            table = schemas.from_bytes(neighbours.store.read(best, ROWS))
        except Damaged:
            continue
        have = ids(table)
        rows.append(table.filter(pc.is_in(have, value_set=wanted_ids)))
        left = left.filter(pc.invert(pc.is_in(wanted_ids, value_set=have)))
    return Reuse(pa.concat_tables(rows) if rows else None, left)


def check_unchanged(changed: Sequence[str]) -> None:
    """Raise StorageError if images have *changed* since they were indexed: a message for each."""
    if changed:
        count = pluralize(len(changed), "images")
        raise StorageError(f"{changed[0]} ({count} changed); run dvc repro again")


def count_new(neighbours: Neighbours, piece: Piece, rows: pa.Table) -> int:
    """Return the number of *rows* that no neighbour of *piece* has."""
    new = ids(rows)
    for have in neighbours.ids(piece).values():
        new = new.filter(pc.invert(pc.is_in(new, value_set=have)))
    return len(new)


def ids(table: pa.Table) -> pa.Array:
    """Return the id of each row in 16 bytes: its chip_id, or else a digest of key and version."""
    if "chip_id" in table.schema.names:
        return table["chip_id"].combine_chunks()
    pairs = zip(table["key"].to_pylist(), table["version"].to_pylist(), strict=True)
    return pa.array([image_id(key, version) for key, version in pairs], schemas.CHIP_ID)


@dataclass(frozen=True, slots=True)
class Provenance:
    """The run that made a piece, and how many of its rows that run computed."""

    run: str
    computed: int


def finish(
    store: Store,
    piece: Piece,
    rows: pa.Table,
    rejected: Iterable[rejects.Reject],
    made: Provenance,
) -> None:
    """Put a finished shard into the store: its rows, its rejects, and its provenance."""
    put_shard(store, piece, (schemas.to_bytes(rows), ids(rows)), rejects.table(rejected), made)


def put_shard(
    store: Store, piece: Piece, rows: tuple[bytes, pa.Array], rejected: pa.Table, made: Provenance
) -> None:
    """Put a shard into the store: the bytes and the ids of its *rows*, and schemas.REJECTS."""
    data, row_ids = rows
    files = {
        ROWS: (data, len(row_ids)),
        REJECTS: (schemas.to_bytes(rejected), rejected.num_rows),
        IDS: (b"".join(row_ids.to_pylist()), len(row_ids)),
    }
    note: dict[str, Any] = {"run": made.run, "computed": made.computed}
    if rejects.are_transient(rejected):
        note[AGAIN] = True
    store.put(piece, files, note)


@dataclass(frozen=True, slots=True)
class AssembledTable:
    """All shards of one table, as the files of an out.

    Attributes:
        files: by path.
        lines: one for each shard, for the manifest.
        rejected: schemas.REJECTS of all shards, sorted.
        computed: the number of rows that this run computed, of all *rows*.
    """

    files: dict[Path, Out]
    lines: list[dict[str, Any]]
    rejected: pa.Table
    computed: int
    rows: int

    def counts(self, stage: str, unit: str) -> Counts:
        """Return the counts of *stage*, whose table this is."""
        rejected = rejects.count_by_reason(self.rejected)
        return Counts(stage, unit, self.rows, self.computed, rejected)


def assemble(store: Store, plans: Sequence[ShardPlan], run: str, folder: Path) -> AssembledTable:
    """Gather the finished pieces of *plans*, one for each shard, as the files of the out *folder*.

    Rows that another run than *run* has computed count as reused.

    Raises:
        Damaged: a piece is missing, or is not what was written.
    """
    pieces = [item.piece for item in plans]
    store.mark_used(pieces)
    records = read_each(pieces, store.record)
    rejected = read_rejects(store, pieces, records)
    files: dict[Path, Out] = {}
    lines: list[dict[str, Any]] = []
    computed = 0
    for item, record, rejects_of in zip(plans, records, rejected, strict=True):
        rows = record.files[ROWS]
        read = partial(store.read, item.piece, ROWS)
        path = shard_path(folder, item.number)
        files[path] = Out(rows.sha256, read, store.local_path(item.piece, ROWS))
        line = {"shard": item.number, "input": item.piece.input, "rows": rows.rows}
        digests = {"sha256": rows.sha256, "rejects": digest(rejects_of.to_pylist())}
        lines.append(line | digests)
        computed += record.note["computed"] if record.note["run"] == run else 0
        if record.note.get(AGAIN):
            store.mark_again(item.piece)  # the mark may be gone
    total = sum(line["rows"] for line in lines)
    rejected_rows = rejects.sort(pa.concat_tables([schemas.REJECTS.empty_table(), *rejected]))
    return AssembledTable(files, lines, rejected_rows, computed, total)


def shard_pieces(table: str, manifest: Mapping[str, Any]) -> list[tuple[Piece, Line]]:
    """Return the pieces that an out was assembled from, with their lines in its *manifest*."""
    recipe, pieces = manifest["recipe"], []
    for line in manifest.get("shards", ()):
        name = shard_name(line["shard"], manifest["shards_count"])
        pieces.append((Piece(table, recipe, name, line["input"]), line))
    return pieces


def read_each(pieces: Sequence[Piece], read: Callable[[Piece], T]) -> list[T]:
    """Call *read* for each piece in threads; every damaged piece is found before one is raised."""
    with ThreadPoolExecutor(READERS, thread_name_prefix="pieces") as pool:
        reading = [pool.submit(read, piece) for piece in pieces]
    return [each.result() for each in reading]


def read_rejects(
    store: Store, pieces: Sequence[Piece], records: Sequence[Record]
) -> list[pa.Table]:
    """Read the rejects of each of *pieces*, schemas.REJECTS; their *records* say which have any."""
    has_any = {
        piece for piece, record in zip(pieces, records, strict=True) if record.files[REJECTS].rows
    }

    def read(piece: Piece) -> pa.Table:
        if piece not in has_any:
            return schemas.REJECTS.empty_table()
        return schemas.from_bytes(store.read(piece, REJECTS))

    return read_each(pieces, read)


def read_table(store: Store, plans: Sequence[ShardPlan], schema: pa.Schema) -> pa.Table:
    """Read the rows of all *plans* into one table of *schema*."""
    return pa.concat_tables([schema.empty_table(), *read_tables(store, plans)])


def read_tables(store: Store, plans: Sequence[ShardPlan]) -> list[pa.Table]:
    """Read the rows of each of *plans*."""
    pieces = [item.piece for item in plans]
    return read_each(pieces, lambda piece: schemas.from_bytes(store.read(piece, ROWS)))
