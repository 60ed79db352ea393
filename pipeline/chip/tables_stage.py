"""Tables: the particles that instrument tables in the bucket list, read once for each version.

A piece of the store is made from one table and the images in its folder. A table that changes, or
an image beside it, costs only that table.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.chip import methods
from pipeline.chip.methods.flowcam import Particles, session_name
from pipeline.chip.recipe import chips as chips_recipe
from pipeline.core import rejects, schemas
from pipeline.core.errors import Rejected, StorageError
from pipeline.core.hashing import shard_name
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
    """What all instrument tables together list.

    Attributes:
        chips: schemas.LISTED_WINDOWS, sorted.
        rejected: lines that gave no chip.
        files: the measurements of the chips, one file for each table.
        lines: for the manifest, one for each table.
    """

    chips: pa.Table = field(default_factory=schemas.LISTED_WINDOWS.empty_table)
    rejected: list[Reject] = field(default_factory=list)
    files: dict[str, Out] = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list)


def piece_of(recipe: str, made_from: str) -> Piece:
    """Return the piece of one table; it does not depend on the number of shards."""
    return Piece(TABLE, recipe, shard_name(0, 1), made_from)


def plan(context: Context) -> list[shards.ShardPlan]:
    """Name the piece of each instrument table in the index; most chip methods read none.

    Raises:
        InputError: the index stage has not run.
    """
    images = tables.images(["key", "version", "height", "width"])
    if not hasattr(methods.find(context.params.chip), "TABLES"):
        return []
    recipe = chips_recipe(context.params.chip)
    context.store.describe(recipe.digest, recipe.parts)
    in_folder: dict[str, list[int]] = {}
    for place, key in enumerate(images["key"].to_pylist()):
        in_folder.setdefault(key.rpartition("/")[0], []).append(place)
    images = images.rename_columns(["key", "version", "image_height", "image_width"])
    plans = []
    for number, table in enumerate(tables.read(INDEX / "tables.parquet").to_pylist()):
        places = in_folder.get(table["key"].rpartition("/")[0], [])
        near = images.take(pa.array(places, pa.int64())).to_pylist() or [{}]  # one row at least
        named = {"table": table["key"], "table_version": table["version"]}
        beside = pa.Table.from_pylist([named | image for image in near], schemas.WINDOW_TABLES)
        rows = schemas.to_bytes(schemas.conform(beside, schemas.WINDOW_TABLES))
        piece = piece_of(recipe.digest, sha256(rows).hexdigest())
        plans.append(shards.ShardPlan(number, piece, partial(bytes, rows), 1))
    return plans


def make(context: Context, pieces: Sequence[Piece], report: Report) -> None:
    """Read the tables of *pieces*.

    Raises:
        StorageError: the bucket cannot be read, or a table has changed since it was indexed.
    """
    with (
        Progress("chip", "tables", len(pieces), report) as progress,
        ThreadPoolExecutor(READERS, thread_name_prefix="tables") as pool,
    ):
        for _ in pool.map(partial(_make, context), pieces):
            progress.step(1)


def _make(context: Context, piece: Piece) -> None:
    images = shards.input_rows(context.store, piece)
    if images is None:
        return
    key, version = images["table"][0].as_py(), images["table_version"][0].as_py()
    try:
        data = context.bucket.read(key, if_version=version)
    except Rejected as error:  # a reject would leave out an unknown number of chips
        raise StorageError(error.detail) from error
    particles: Particles = methods.find(context.params.chip).read(key, data, images)
    files = {
        ROWS: particles.chips,
        MEASURED: particles.measured,
        REJECTS: rejects.table(particles.rejects),
    }
    columns = [[column.name, str(column.type)] for column in particles.measured.schema]
    computed = particles.chips.num_rows
    note = {"run": context.run, "computed": computed, "table": key, "columns": columns}
    contents = {name: (schemas.to_bytes(rows), rows.num_rows) for name, rows in files.items()}
    context.store.put(piece, contents, note)


def gather(context: Context, plans: Sequence[shards.ShardPlan]) -> InstrumentTables:
    """Gather the finished pieces of *plans*.

    Raises:
        Damaged: a piece is missing, or is not what was written.
    """
    if not plans:
        return InstrumentTables()
    store, pieces = context.store, [item.piece for item in plans]
    store.mark_used(pieces)
    records = shards.read_each(pieces, store.record)
    names = [str(record.note["table"]) for record in records]
    of_tables = shards.read_rejects(store, pieces, records)
    rejected = [Reject(**row) for table in of_tables for row in table.to_pylist()]
    listed = shards.read_tables(store, plans)
    chips, doubled = _without_repeats(listed, names)
    schema = _common([_schema(record) for record in records if record.files[ROWS].rows])
    files = {}
    for piece, record, every, kept in zip(pieces, records, listed, chips, strict=True):
        if kept.num_rows:
            stored = kept.num_rows == every.num_rows and _schema(record) == schema
            file = _stored(store, piece, record) if stored else _made(store, piece, kept, schema)
            files[f"{FOLDER}/{_file_name(record.note['table'])}.parquet"] = file
    lines = [
        {"table": name, "recipe": piece.recipe, "input": piece.input}
        for name, piece in zip(names, pieces, strict=True)
    ]
    table = schemas.conform(pa.concat_tables(chips), schemas.LISTED_WINDOWS)
    return InstrumentTables(table, rejected + doubled, files, lines)


def _without_repeats(
    listed: Sequence[pa.Table], names: Sequence[str]
) -> tuple[list[pa.Table], list[Reject]]:
    """Leave out the windows that an earlier table lists, such as those of a copied table."""
    first: dict[bytes, str] = {}
    kept, rejects = [], []
    for name, table in zip(names, listed, strict=True):
        ids = table["chip_id"].to_pylist()
        new = pa.array([first.setdefault(chip, name) == name for chip in ids], pa.bool_())
        kept.append(table.filter(new))
        for row in table.filter(pc.invert(new)).to_pylist():
            detail = f"{name}: {row['particle']} has the window of one of {first[row['chip_id']]}"
            at = {"row": row["row"], "col": row["col"]}
            rejects.append(Reject("chip", row["key"], "doubled_window", detail, **at))
    return kept, rejects


def _common(measured: Sequence[pa.Schema]) -> pa.Schema:
    """Return the columns of all *measured*, so that the files can be read as one table.

    A column of two types is float64 if both are numbers, and else text.
    """
    types: dict[str, pa.DataType] = {column.name: column.type for column in schemas.MEASUREMENTS}
    for column in (column for schema in measured for column in schema):
        before = types.setdefault(column.name, column.type)
        if before != column.type:
            both = (before, column.type)
            numbers = all(map(pa.types.is_primitive, both))
            times = any(map(pa.types.is_timestamp, both))
            types[column.name] = pa.float64() if numbers and not times else pa.string()
    return pa.schema(list(types.items()))


def _schema(record: Record) -> pa.Schema:
    """Return the columns of the measurements, from the piece's note."""
    known = {column.name: column.type for column in schemas.MEASUREMENTS}
    columns = record.note["columns"]
    return pa.schema([(name, known.get(name) or pa.type_for_alias(kind)) for name, kind in columns])


def _stored(store: Store, piece: Piece, record: Record) -> Out:
    path = store.local_path(piece, MEASURED)
    return Out(record.files[MEASURED].sha256, partial(store.read, piece, MEASURED), path)


def _made(store: Store, piece: Piece, chips: pa.Table, schema: pa.Schema) -> Out:
    """Return the measurements of *chips* in the columns of *schema*; null where there are none."""
    measured = schemas.from_bytes(store.read(piece, MEASURED))
    measured = measured.filter(pc.is_in(measured["chip_id"], value_set=chips["chip_id"]))
    for column in schema:
        if column.name not in measured.column_names:
            nulls = pa.nulls(measured.num_rows, column.type)
            measured = measured.append_column(column.name, nulls)
    return out(schemas.to_bytes(schemas.conform(measured, schema)))


def _file_name(table: str) -> str:
    """Return a file's name for a table: its session, for people, and a digest, to be unique."""
    session = re.sub(r"[^\w.-]", "_", session_name(table), flags=re.ASCII)
    return f"{session[:NAME_CHARS]}-{sha256(table.encode()).hexdigest()[:8]}"
