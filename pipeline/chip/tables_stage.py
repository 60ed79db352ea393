"""Tables: what the tables of windows in the bucket list, each read once for each of its versions.

A piece of the store is one table with the images of its folder, so that a changed table, or image
beside it, costs that table alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.chip import methods
from pipeline.chip.methods import _tables
from pipeline.chip.recipe import chips as chips_recipe
from pipeline.config import registry
from pipeline.core import rejects, schemas
from pipeline.core.errors import Rejected, StorageError
from pipeline.core.hashing import CHIP_ID_BYTES, shard_name
from pipeline.core.progress import Progress
from pipeline.core.rejects import Reject
from pipeline.store import shards, tables
from pipeline.store.context import Context, Report
from pipeline.store.objects import Piece, Record, Store
from pipeline.store.outputs import INDEX, Out, out
from pipeline.store.shards import REJECTS, ROWS

TABLE = "tables"
MEASURED = "measured.parquet"
FOLDER = "measurements"
"""Below `data/labels/`."""

READERS = 8
NAME_CHARS = 120


@dataclass(frozen=True, slots=True)
class InstrumentTables:
    """What all tables of windows come to.

    Attributes:
        chips: schemas.LISTED of all tables, sorted.
        rejected: lines that gave no chip.
        files: what was measured of the chips, a file a table.
        lines: for the manifest, one a table.
    """

    chips: pa.Table = field(default_factory=schemas.LISTED.empty_table)
    rejected: list[Reject] = field(default_factory=list)
    files: dict[str, Out] = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list)


def piece_of(recipe: str, made_from: str) -> Piece:
    """Name the piece of one table: another number of shards does not move it."""
    return Piece(TABLE, recipe, shard_name(0, 1), made_from)


def plan(context: Context) -> list[shards.ShardPlan]:
    """Name the piece of each table of windows in the index; there are none for most chip methods.

    Raises:
        InputError: the index is not there.
    """
    images = tables.images(["key", "version", "height", "width"])
    if not methods.tables(context.params.chip):
        return []
    listed = tables.read(INDEX / "tables.parquet").to_pylist()
    recipe = chips_recipe(context.params.chip)
    context.store.describe(recipe.digest, recipe.parts)
    folders: dict[str, list[int]] = {}
    for place, key in enumerate(images["key"].to_pylist()):
        folders.setdefault(key.rpartition("/")[0], []).append(place)
    planned = []
    for number, table in enumerate(listed):
        near = images.take(pa.array(folders.get(table["key"].rpartition("/")[0], []), pa.int64()))
        rows = schemas.to_bytes(_beside(table, near))
        piece = piece_of(recipe.digest, sha256(rows).hexdigest())
        planned.append(shards.ShardPlan(number, piece, partial(bytes, rows), 1))
    return planned


def _beside(table: dict[str, Any], images: pa.Table) -> pa.Table:
    """Give schemas.BESIDE of one table; one row without an image where there is none."""
    count = max(images.num_rows, 1)
    columns = [pa.repeat(pa.scalar(table[name], pa.string()), count) for name in ("key", "version")]
    columns += images.columns if images.num_rows else [pa.nulls(1, c.type) for c in images.columns]
    return schemas.conform(pa.table(columns, names=schemas.BESIDE.names), schemas.BESIDE)


def make(context: Context, pieces: Sequence[Piece], report: Report) -> None:
    """Read the tables of *pieces*, each checked against the images beside it.

    Raises:
        StorageError: the bucket cannot be read, or a table changed since the index listed it.
    """
    work = partial(_make, context)
    with (
        Progress("chip", "tables", len(pieces), report) as progress,
        ThreadPoolExecutor(READERS, thread_name_prefix="tables") as pool,
    ):
        for _ in pool.map(work, pieces):
            progress.step(1)


def _make(context: Context, piece: Piece) -> None:
    beside = shards.input_rows(context.store, piece)
    if beside is None:
        return
    params = context.params
    key, version = beside["table"][0].as_py(), beside["table_version"][0].as_py()
    storage = context.bucket
    try:
        table = _tables.Table(key, storage.read(key, if_version=version))
    except Rejected as error:  # it would take an unknown number of chips with it
        raise StorageError(error.detail) from error
    part = registry.find("chip.methods", params.chip.method, key="chip.method")
    found = _tables.measure(table, beside, part)
    refused = rejects.table(found.rejects)
    files = {
        ROWS: (schemas.to_bytes(found.chips), found.chips.num_rows),
        MEASURED: (schemas.to_bytes(found.measured), found.measured.num_rows),
        REJECTS: (schemas.to_bytes(refused), refused.num_rows),
    }
    own = [[column.name, str(column.type)] for column in found.measured.schema]
    note = {"run": context.run, "computed": found.chips.num_rows, "table": key, "columns": own}
    context.store.put(piece, files, note)


def found(context: Context, planned: Sequence[shards.ShardPlan]) -> InstrumentTables:
    """Gather the finished pieces of *planned*.

    Raises:
        Damaged: a piece is not there any more, or not what was written.
    """
    if not planned:
        return InstrumentTables()
    store, pieces = context.store, [item.piece for item in planned]
    store.mark_used(pieces)
    records = shards.read_each(pieces, partial(shards.read_record, store))
    listed = shards.read_each(pieces, lambda piece: schemas.from_bytes(store.read(piece, ROWS)))
    refusing = [
        piece for piece, record in zip(pieces, records, strict=True) if record.files[REJECTS].rows
    ]
    refused = shards.read_each(
        refusing, lambda piece: schemas.from_bytes(store.read(piece, REJECTS))
    )
    rejected = [Reject(**row) for table in refused for row in table.to_pylist()]
    once, doubled = _once(listed, [str(record.note["table"]) for record in records])
    schema = _tables.common([_schema(record) for record in records if record.files[ROWS].rows])
    files = {}
    for piece, record, every, kept in zip(pieces, records, listed, once, strict=True):
        if kept.num_rows:
            name = f"{FOLDER}/{_name(record.note['table'])}.parquet"
            whole = kept.num_rows == every.num_rows and _schema(record) == schema
            files[name] = _out(store, piece, record) if whole else _made(store, piece, kept, schema)
    lines = [
        {"table": record.note["table"], "recipe": piece.recipe, "input": piece.input}
        for piece, record in zip(pieces, records, strict=True)
    ]
    chips = schemas.conform(pa.concat_tables(once), schemas.LISTED)
    return InstrumentTables(chips, rejected + doubled, files, lines)


def _once(listed: Sequence[pa.Table], tables: Sequence[str]) -> tuple[list[pa.Table], list[Reject]]:
    """Leave out windows that an earlier table lists already, as where one is another's copy."""
    of_table = np.repeat(np.arange(len(listed)), [table.num_rows for table in listed])
    every = pa.concat_tables(listed)
    ids = np.array(every["chip_id"].to_pylist(), f"V{CHIP_ID_BYTES}")
    _, first, which = np.unique(ids, return_index=True, return_inverse=True)
    again = np.flatnonzero(first[which] != np.arange(len(ids)))
    rejects = []
    for row, place in zip(every.take(pa.array(again)).to_pylist(), again.tolist(), strict=True):
        other = tables[of_table[first[which[place]]]]
        detail = f"{tables[of_table[place]]}: {row['particle']} has the window of one of {other}"
        reject = Reject(
            "chip", row["key"], "doubled_window", detail, row=row["row"], col=row["col"]
        )
        rejects.append(reject)
    new = np.ones(len(ids), bool)
    new[again] = False
    kept = np.split(new, np.cumsum([table.num_rows for table in listed])[:-1])
    return [table.filter(pa.array(mask)) for table, mask in zip(listed, kept, strict=True)], rejects


def _schema(record: Record) -> pa.Schema:
    """Give the columns of what was measured, as the piece's note has them."""
    known = {column.name: column.type for column in schemas.MEASURED}
    columns = record.note["columns"]
    return pa.schema([(name, known.get(name) or pa.type_for_alias(kind)) for name, kind in columns])


def _out(store: Store, piece: Piece, record: Record) -> Out:
    path = store.local_path(piece, MEASURED)
    return Out(record.files[MEASURED].sha256, partial(store.read, piece, MEASURED), path)


def _made(store: Store, piece: Piece, kept: pa.Table, schema: pa.Schema) -> Out:
    """Give what was measured of the chips *kept*, in the columns of *schema*."""
    measured = schemas.from_bytes(store.read(piece, MEASURED))
    own = measured.filter(pc.is_in(measured["chip_id"], value_set=kept["chip_id"]))
    return out(schemas.to_bytes(_tables.widened(own, schema)))


def _name(table: str) -> str:
    """Give a file's name for a table: its session's, for people, and a digest, for it alone."""
    session = re.sub(r"[^\w.-]", "_", _tables.Table(table, b"").session, flags=re.ASCII)
    return f"{session[:NAME_CHARS]}-{sha256(table.encode()).hexdigest()[:8]}"
