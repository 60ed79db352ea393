"""Take the shards of an out into the store: those that another machine made, after `dvc pull`.

The store is a folder of this machine, and outs travel. A shard of an out is the piece of the store
that its line in the manifest names, if its bytes have the digest that the line states: then its
rows were made by that recipe, from those input rows. Rows of another recipe, such as features of
another kind of machine, are never taken.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core import rejects, schemas
from pipeline.core.errors import InputError
from pipeline.core.hashing import digest, shard_of
from pipeline.core.run_log import pluralize
from pipeline.store import outputs, tables
from pipeline.store.objects import Piece, Store
from pipeline.store.outputs import INDEX, STAGES, rejects_path, shard_path
from pipeline.store.shards import READERS, Line, Provenance, ids, put_shard, shard_pieces

log = logging.getLogger(__name__)

MADE = Provenance("adopted", 0)
"""The rows of these pieces count as reused, whichever run takes them in."""


def adopt(store: Store, table: str, recipe: str, folder: Path) -> bool:
    """Put the shards of the out *folder* that are of *recipe* into the store if it lacks them.

    Returns:
        Whether there were any.
    """
    finished = None
    adopted = 0
    for manifest in outputs.known_manifests(folder):
        if manifest.get("recipe") != recipe or "shards_count" not in manifest:
            continue
        finished = finished or store.finished(table, recipe)
        lacking = [
            (piece, line)
            for piece, line in shard_pieces(table, manifest)
            if piece.input not in finished.get(piece.shard, ()) and "rejects" in line
        ]
        if lacking:
            adopted += _adopt(store, folder, lacking, manifest["shards_count"])
    if adopted:
        log.info("%s: %s taken into the store", folder, pluralize(adopted, "shards"))
    return bool(adopted)


def _adopt(store: Store, folder: Path, pieces: list[tuple[Piece, Line]], count: int) -> int:
    """Put *pieces* into the store, those whose files are what the manifest says; count them."""
    try:
        rejected = tables.read(rejects_path(STAGES[folder]))
        rows_of = _reader(folder)
    except InputError:  # damaged or gone: the stage makes it again
        return 0
    shard = pa.array([shard_of(key, count) for key in rejected["key"].to_pylist()], pa.int32())

    def put(piece: Piece, line: Line) -> bool:
        try:
            data = rows_of(line["shard"])
        except OSError:
            return False
        # The rejects of the chip stage are not of its pieces alone, but then of none of them.
        of_shard = rejects.sort(rejected.filter(pc.equal(shard, line["shard"])))
        known = (of_shard, schemas.REJECTS.empty_table())
        same = [table for table in known if digest(table.to_pylist()) == line["rejects"]]
        if not same or hashlib.sha256(data).hexdigest() != line["sha256"]:
            return False
        put_shard(store, piece, (data, ids(schemas.from_bytes(data))), same[0], MADE)
        return True

    with ThreadPoolExecutor(READERS, thread_name_prefix="adopt") as pool:
        return sum(pool.map(lambda item: put(*item), pieces))


def _reader(folder: Path) -> Callable[[int], bytes]:
    """Return a function that returns the bytes of one shard of the out *folder*.

    The index has its shards in one table, of which the pieces' columns are a part.
    """
    if folder != INDEX:
        return lambda number: shard_path(folder, number).read_bytes()
    return partial(_headers, tables.read(INDEX / "images.parquet"))


def _headers(images: pa.Table, number: int) -> bytes:
    rows = images.filter(pc.equal(images["shard"], number))
    return schemas.to_bytes(schemas.conform(rows, schemas.HEADERS))
