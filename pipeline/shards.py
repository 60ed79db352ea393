"""Shards: which are missing, what can be taken over from others, and how they become an out.

A shard is made of input rows by a recipe. Where the store has no piece from exactly these rows,
rows that stand in another piece by the same recipe are copied, and only the rest is computed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import rejects, schemas
from pipeline.errors import Missing
from pipeline.hashing import shard_name, shard_of
from pipeline.outs import Out, out
from pipeline.store import Damaged, Piece, Store

ROWS = "parquet"
REJECTS = "rejects.parquet"


@dataclass(frozen=True, slots=True)
class Planned:
    """A piece that should be there, and the rows that it is made from."""

    number: int
    piece: Piece
    rows: bytes


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


def plan(name: str, recipe: str, parts: Sequence[pa.Table], schema: pa.Schema) -> list[Planned]:
    """Name the piece that each of *parts*, the shards' input rows, is to become; none if empty."""
    planned = []
    for number, part in enumerate(parts):
        if not part.num_rows:
            continue
        rows = schemas.to_bytes(schemas.conform(part, schema))
        made_from = hashlib.sha256(rows).hexdigest()
        piece = Piece(name, recipe, shard_name(number, len(parts)), made_from)
        planned.append(Planned(number, piece, rows))
    return planned


def missing(store: Store, planned: Iterable[Planned]) -> list[Planned]:
    """Give those of *planned* that are not finished, and keep their input rows in the store."""
    listed: dict[tuple[str, str], dict[str, list[str]]] = {}
    found = []
    for item in planned:
        piece = item.piece
        where = (piece.table, piece.recipe)
        if where not in listed:
            listed[where] = store.finished(*where)
        if piece.input not in listed[where].get(piece.shard, []):
            store.put_input(piece, item.rows)
            found.append(item)
    return found


@dataclass(frozen=True, slots=True)
class Reuse:
    """What of a piece is there already: rows of its table, and the input rows that are left."""

    rows: pa.Table | None
    left: pa.Table


def reuse(store: Store, piece: Piece, wanted: pa.Table, on: Sequence[str]) -> Reuse:
    """Look through neighbouring pieces for the rows of *wanted*, matched by the columns *on*."""
    found: list[pa.Table] = []
    left = wanted
    for neighbour in store.neighbours(piece):
        if not left.num_rows:
            break
        try:
            rows = schemas.from_bytes(store.read(neighbour, ROWS))
        except (Damaged, Missing):
            continue
        have = _ids(rows, on)
        wants = _ids(left, on)
        taken = rows.filter(pc.is_in(have, value_set=wants))
        if taken.num_rows:
            found.append(taken)
            left = left.filter(pc.invert(pc.is_in(wants, value_set=have)))
    return Reuse(pa.concat_tables(found) if found else None, left)


def _ids(table: pa.Table, on: Sequence[str]) -> pa.Array:
    """Give one comparable value a row of the columns *on*."""
    columns = [table[name].combine_chunks() for name in on]
    if len(columns) == 1:
        return columns[0]
    # No key or version holds this separator: it is not a character of text.
    return pc.binary_join_element_wise(*columns, "\x00")


@dataclass(frozen=True, slots=True)
class Made:
    """Which run made a piece, and how many of its rows it computed, not copied."""

    run: str
    computed: int


def finish(
    store: Store,
    piece: Piece,
    rows: pa.Table,
    rejected: Iterable[rejects.Reject],
    made: Made,
) -> None:
    """Keep a finished shard: its rows, what it rejected, and how much of it was computed."""
    refused = rejects.table(rejected)
    files = {
        ROWS: (schemas.to_bytes(rows), rows.num_rows),
        REJECTS: (schemas.to_bytes(refused), refused.num_rows),
    }
    store.put(piece, files, {"run": made.run, "computed": made.computed})


@dataclass(frozen=True, slots=True)
class Assembled:
    """All shards of one table: the files to be, a line each for the manifest, the counts."""

    files: dict[str, Out]
    lines: list[dict[str, Any]]
    rejected: pa.Table
    computed: int
    rows: int


def assemble(store: Store, planned: Sequence[Planned], run: str) -> Assembled:
    """Gather the finished pieces of *planned*.

    Args:
        store: where they are.
        planned: one a shard.
        run: the name of this run; rows that another run computed count as reused.

    Raises:
        Missing, Damaged: a piece is not there (any more).
    """
    files, lines, refused, computed, total = {}, [], [], 0, 0
    for item in planned:
        record = store.record(item.piece)
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
        if record.files[REJECTS].rows:
            refused.append(schemas.from_bytes(store.read(item.piece, REJECTS)))
        computed += record.note["computed"] if record.note["run"] == run else 0
        total += rows.rows
    rejected = pa.concat_tables(refused) if refused else schemas.REJECTS.empty_table()
    return Assembled(files, lines, rejects.in_order(rejected), computed, total)


def table_of(store: Store, planned: Sequence[Planned], schema: pa.Schema) -> pa.Table:
    """Read the rows of all of *planned* into one table of *schema*."""
    parts = (schemas.from_bytes(store.read(item.piece, ROWS)) for item in planned)
    return pa.concat_tables([schema.empty_table(), *parts])


def rejects_out(rejected: pa.Table) -> Out:
    """Give the `rejects.parquet` of a stage."""
    return out(schemas.to_bytes(rejected))


def summary(stage: str, unit: str, found: Assembled) -> str:
    """Say in one line how many rows were computed and how many reused."""
    reused = found.rows - found.computed
    return (
        f"{stage}: {found.rows:,} {unit}, {found.computed:,} computed, {reused:,} reused, "
        f"{found.rejected.num_rows:,} rejected"
    )
