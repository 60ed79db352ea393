"""Shards: which are missing, what can be taken over from others, and how they become an out.

A shard is made of input rows by a recipe. Where the store has no piece from exactly these rows,
rows that stand in another piece by the same recipe are copied, and only the rest is computed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import rejects, schemas
from pipeline.core.errors import Missing
from pipeline.core.hashing import CHIP_ID_BYTES, image_id, overlap, shard_name, shard_of
from pipeline.core.run_log import Counts
from pipeline.store.objects import AGAIN, IDS, Damaged, Piece, Record, Store
from pipeline.store.outputs import Out, out

ROWS = "parquet"
REJECTS = "rejects.parquet"
READERS = 8
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """A piece that should be there, and how to get the bytes of the rows that it is made from."""

    number: int
    piece: Piece
    rows: Callable[[], bytes]


def split(table: pa.Table, count: int) -> list[pa.Table]:
    """Cut a table with a `key` column into *count* shards by hash of the key."""
    if not table.num_rows:
        return [table] * count
    coded = table["key"].combine_chunks().dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    numbers = [shard_of(key, count) for key in coded.dictionary.to_pylist()]
    of_row = pa.array(numbers, pa.int32()).take(coded.indices)
    order = pc.sort_indices(of_row)
    ends = pc.value_counts(of_row.take(order))
    sizes = {item["values"].as_py(): item["counts"].as_py() for item in ends}
    parts, start = [], 0
    for number in range(count):
        size = sizes.get(number, 0)
        parts.append(table.take(order.slice(start, size)))
        start += size
    return parts


def plan(name: str, recipe: str, parts: Sequence[pa.Table], schema: pa.Schema) -> list[ShardPlan]:
    """Name the piece that each of *parts*, the shards' input rows, is to become; none if empty."""
    planned = []
    for number, part in enumerate(parts):
        if not part.num_rows:
            continue
        rows = partial(_bytes, part, schema)
        made_from = hashlib.sha256(rows()).hexdigest()
        piece = Piece(name, recipe, shard_name(number, len(parts)), made_from)
        planned.append(ShardPlan(number, piece, rows))
    return planned


def _bytes(rows: pa.Table, schema: pa.Schema) -> bytes:
    return schemas.to_bytes(schemas.conform(rows, schema))


def missing(store: Store, planned: Iterable[ShardPlan], run: str) -> list[ShardPlan]:
    """Give those of *planned* that are not finished, and keep their input rows in the store.

    What another run than *run* could not have of the bucket makes a shard unfinished.
    """
    listed: dict[tuple[str, str], dict[str, list[str]]] = {}
    found = []
    for item in planned:
        piece = item.piece
        where = (piece.table, piece.recipe)
        if where not in listed:
            listed[where] = store.finished(*where, run)
        if piece.input not in listed[where].get(piece.shard, []):
            found.append(item)
    with ThreadPoolExecutor(READERS, thread_name_prefix="inputs") as pool:
        list(pool.map(lambda item: store.put_input(item.piece, item.rows()), found))
    return found


def input_rows(store: Store, piece: Piece) -> pa.Table | None:
    """Give the input rows of *piece*; None if somebody has finished it meanwhile."""
    rows = store.input(piece)
    return None if rows is None else schemas.from_bytes(rows)


def inputs(store: Store, pieces: Sequence[Piece]) -> Iterator[tuple[Piece, pa.Table]]:
    """Give the input rows of those of *pieces* that nobody has finished meanwhile, one by one."""
    for piece in pieces:
        rows = input_rows(store, piece)
        if rows is not None:
            yield piece, rows


def count_rows(store: Store, pieces: Sequence[Piece]) -> int:
    """Count the input rows of *pieces*, holding those of one at a time."""
    return sum(rows.num_rows for _, rows in inputs(store, pieces))


class Neighbours:
    """The finished pieces of one table by one recipe, as they were when this was made."""

    def __init__(self, store: Store, table: str, recipe: str) -> None:
        self.store = store
        self.pieces = [
            Piece(table, recipe, shard, made)
            for shard, inputs in sorted(store.finished(table, recipe).items())
            for made in sorted(inputs)
        ]

    def ids(self, piece: Piece) -> dict[Piece, pa.Array]:
        """Give, for each finished piece that can hold rows of *piece*, which rows it has."""
        near = [other for other in self.pieces if overlap(other.shard, piece.shard)]
        with ThreadPoolExecutor(READERS, thread_name_prefix="ids") as pool:
            return dict(zip(near, pool.map(self._ids, near), strict=True))

    def _ids(self, piece: Piece) -> pa.Array:
        data = self.store.ids(piece)
        rows = len(data) // CHIP_ID_BYTES
        return pa.Array.from_buffers(schemas.CHIP_ID, rows, [None, pa.py_buffer(data)])


@dataclass(frozen=True, slots=True)
class Reuse:
    """What of a piece is there already: rows of its table, and the input rows that are left."""

    rows: pa.Table | None
    left: pa.Table


def reuse(neighbours: Neighbours, piece: Piece, wanted: pa.Table) -> Reuse:
    """Look through neighbouring pieces for the rows of *wanted*, matched by their ids.

    Of all neighbours the one with most of what is left is read next, so that a long history costs
    its short lists of ids and not its tables.
    """
    found: list[pa.Table] = []
    left = wanted
    near = neighbours.ids(piece)
    while left.num_rows and near:
        wants = ids(left)
        hits = {other: _count(have, wants) for other, have in near.items()}
        best = max(hits, key=lambda other: hits[other])
        del near[best]
        if not hits[best]:
            break
        try:
            rows = schemas.from_bytes(neighbours.store.read(best, ROWS))
        except (Damaged, Missing):
            continue
        have = ids(rows)
        found.append(rows.filter(pc.is_in(have, value_set=wants)))
        left = left.filter(pc.invert(pc.is_in(wants, value_set=have)))
    return Reuse(pa.concat_tables(found) if found else None, left)


def count_new(neighbours: Neighbours, piece: Piece, rows: pa.Table) -> int:
    """Count those of *rows* that no neighbour of *piece* has."""
    new = ids(rows)
    for have in neighbours.ids(piece).values():
        new = new.filter(pc.invert(pc.is_in(new, value_set=have)))
    return len(new)


def _count(have: pa.Array, wants: pa.Array) -> int:
    return int(pc.sum(pc.is_in(wants, value_set=have)).as_py() or 0)


def ids(table: pa.Table) -> pa.Array:
    """Give what a row is known by, in 16 bytes: its chip_id, else a digest of key and version."""
    if "chip_id" in table.schema.names:
        return table["chip_id"].combine_chunks()
    pairs = zip(table["key"].to_pylist(), table["version"].to_pylist(), strict=True)
    return pa.array([image_id(key, version) for key, version in pairs], schemas.CHIP_ID)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Which run made a piece, and how many of its rows it computed, not copied."""

    run: str
    computed: int


def finish(
    store: Store,
    piece: Piece,
    rows: pa.Table,
    rejected: Iterable[rejects.Reject],
    made: Provenance,
) -> None:
    """Keep a finished shard: its rows, what it rejected, and how much of it was computed."""
    refused = rejects.table(rejected)
    files = {
        ROWS: (schemas.to_bytes(rows), rows.num_rows),
        REJECTS: (schemas.to_bytes(refused), refused.num_rows),
        IDS: (b"".join(ids(rows).to_pylist()), rows.num_rows),
    }
    note: dict[str, Any] = {"run": made.run, "computed": made.computed}
    if rejects.are_transient(refused):
        note[AGAIN] = True
    store.put(piece, files, note)


@dataclass(frozen=True, slots=True)
class Assembled:
    """All shards of one table: the files to be, a line each for the manifest, the counts."""

    files: dict[str, Out]
    lines: list[dict[str, Any]]
    rejected: pa.Table
    computed: int
    rows: int

    def counts(self, stage: str, unit: str) -> Counts:
        """Give what *stage* took for it."""
        return Counts(stage, unit, self.rows, self.computed, self.rejected.num_rows)


def assemble(store: Store, planned: Sequence[ShardPlan], run: str) -> Assembled:
    """Gather the finished pieces of *planned*.

    Args:
        store: where they are.
        planned: one a shard.
        run: the name of this run; rows that another run computed count as reused.

    Raises:
        Damaged: a piece is not there any more, or not what was written.
    """
    pieces = [item.piece for item in planned]
    store.use(pieces)
    records = of_each(pieces, partial(record_of, store))
    known = zip(pieces, records, strict=True)
    refusing = [piece for piece, record in known if record.files[REJECTS].rows]
    refused = of_each(refusing, lambda piece: schemas.from_bytes(store.read(piece, REJECTS)))
    files, lines, computed, total = {}, [], 0, 0
    for item, record in zip(planned, records, strict=True):
        rows = record.files[ROWS]
        name = f"{item.number:04d}.parquet"
        files[name] = Out(
            rows.sha256, partial(store.read, item.piece, ROWS), store.local_path(item.piece, ROWS)
        )
        lines.append(
            {
                "shard": item.number,
                "input": item.piece.input,
                "rows": rows.rows,
                "sha256": rows.sha256,
            }
        )
        computed += record.note["computed"] if record.note["run"] == run else 0
        total += rows.rows
    rejected = pa.concat_tables(refused) if refused else schemas.REJECTS.empty_table()
    return Assembled(files, lines, rejects.sort(rejected), computed, total)


def of_each(pieces: Sequence[Piece], read: Callable[[Piece], T]) -> list[T]:
    """Read something of each piece; all that are damaged are found before the first is raised."""
    with ThreadPoolExecutor(READERS, thread_name_prefix="pieces") as pool:
        reading = [pool.submit(read, piece) for piece in pieces]
    return [each.result() for each in reading]


def record_of(store: Store, piece: Piece) -> Record:
    """Give what a finished piece consists of.

    Raises:
        Damaged: it is not there any more, or not what was written.
    """
    try:
        return store.record(piece)
    except Missing as error:  # somebody has found it damaged, or cleaned up
        raise Damaged(f"{error}; is made again") from error


def table_of(store: Store, planned: Sequence[ShardPlan], schema: pa.Schema) -> pa.Table:
    """Read the rows of all of *planned* into one table of *schema*."""
    return pa.concat_tables([schema.empty_table(), *tables_of(store, planned)])


def tables_of(store: Store, planned: Sequence[ShardPlan]) -> list[pa.Table]:
    """Read the rows of each of *planned*."""
    pieces = [item.piece for item in planned]
    return of_each(pieces, lambda piece: schemas.from_bytes(store.read(piece, ROWS)))


def rejects_out(rejected: pa.Table) -> Out:
    """Give the `rejects.parquet` of a stage."""
    return out(schemas.to_bytes(rejected))
