"""Export: chips as image files, in a folder or on S3, with a table of them beside.

Reading and writing wait in threads, decoding and encoding work in processes. `chips.parquet` in the
target says which file holds which chip and what it was made from: a file that stands there, in its
size, made from the same, is left alone; one that nobody asks for any more goes. `manifest.json` is
taken away first and written last, when a listing has every file in its size.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import pyarrow as pa

from pipeline import numerics, rejects, schemas
from pipeline.counts import Counts
from pipeline.errors import InputError, Missing, SettingError, StorageError
from pipeline.outs import pretty
from pipeline.progress import Progress
from pipeline.rejects import Reject
from pipeline.storage import Storage, local_path, open_storage, shown
from pipeline.storage.folder import TEMPORARY
from pipeline.work import _given, _making, _tasks
from pipeline.work._context import Context
from pipeline.work._given import Asked, Planned
from pipeline.work._making import Made, Maker

MANIFEST, TABLE, TASKS = "manifest.json", "chips.parquet", "tasks.json"
WRITERS = 16
"""Threads that read and write, where each file is a chip: they hide the storage's latency."""

FEW = 200
"""So few chips are encoded before processes of their own have started."""

NOTED_S = 30.0
"""So often is noted what stands, for whoever goes on after a kill."""


@dataclass(slots=True)
class State:
    """What stands in the target, by key, and what could not be read."""

    made: dict[str, Made] = field(default_factory=dict)
    refused: list[Reject] = field(default_factory=list)

    def table(self) -> pa.Table:
        """Give schemas.EXPORTED of every file that stands."""
        rows = [
            {
                **row,
                "object": made.key,
                "object_size": made.size,
                "sha256": made.sha256,
                "made_from": made.made_from,
            }
            for made in self.made.values()
            for row in made.rows
        ]
        table = pa.Table.from_pylist(rows, schema=schemas.EXPORTED)
        return schemas.conform(table, schemas.EXPORTED, ("key", "row", "col", "name"))


def run(context: Context, asked: Asked) -> Counts:
    """Make the target hold every chip that is asked for, and nothing else that an export left.

    Raises:
        SettingError: the target lies in the bucket, or the names are none.
        InputError: the chip stage has not run, or there is no chip to export.
        StorageError: the target cannot be written, or lacks a file in the end.
        TooManyRejects: more chips could not be read than extract.max_rejects allows.
    """
    apart(asked.target, context.params.bucket.url)
    planned, nameless = _given.plan(asked, context.params.extract)
    if not planned:
        raise InputError("export: there is no chip to export; a name with {label} needs labels")
    target = open_storage(asked.target)
    present = sizes(target)
    before = noted(target, present)
    intact = {key: made for key, made in before.items() if present[key] == made.size}
    state, todo = State(), []
    for file in planned:
        old = intact.get(file.key)
        if old and old.made_from == file.made_from and len(old.rows) == len(file.rows):
            state.made[file.key] = replace(old, rows=file.rows)
        else:
            todo.append(file)
    stale = sorted(before.keys() - {file.key for file in planned})
    if todo or stale:
        target.delete(MANIFEST)
    if todo:
        make(context, asked, todo, state, intact)
    for key in stale:
        target.delete(key)
    _remove_empty(asked.target, [key.rpartition("/")[0] for key in stale])
    chips = sum(len(file.rows) for file in planned)
    _finish(context, asked, state, chips)
    rows = state.table().num_rows
    written = sum(made.written for made in state.made.values())
    new = sum(len(made.rows) for made in state.made.values() if made.written)
    more = f"{len(state.made):,} files, {written:,} written, {len(stale):,} removed"
    if nameless:
        more += f"; {nameless:,} chips without a label left out"
    return Counts("export", "chips", rows, new, chips - rows, more)


def apart(target: str, bucket: str) -> None:
    """Check that chips do not come to lie among the images that they are cut from, or around them.

    Raises:
        SettingError: they would.
    """
    one, other = (
        url.rstrip("/") + "/" if "://" in url else f"{local_path(url).resolve()}/"
        for url in (target, bucket)
    )
    if one.startswith(other) or other.startswith(one):
        raise SettingError(
            f"{shown(target)}: is the bucket of images, in it or around it; chips there would be "
            "images of the next run: name another folder or prefix"
        )


def sizes(target: Storage) -> dict[str, int]:
    """Give the size of every object in the target; of none where there is no folder yet."""
    try:
        return {item.key: item.size for item in target.list()}
    except Missing:
        return {}


def noted(target: Storage, present: Mapping[str, int]) -> dict[str, Made]:
    """Give the files that the target's table speaks of and that are there, in whatever size."""
    if TABLE not in present:
        return {}
    try:
        table = schemas.from_bytes(target.read(TABLE))
    except pa.ArrowException as error:
        raise InputError(
            f"{target.url}/{TABLE}: is no table of exported chips ({error}); remove it"
        ) from error
    if set(schemas.EXPORTED.names) - set(table.column_names):
        raise InputError(f"{target.url}/{TABLE}: is no table of exported chips; remove it")
    found = {}
    rows = sorted(table.to_pylist(), key=lambda row: str(row["object"]))
    for key, grouped in groupby(rows, lambda row: str(row["object"])):
        own = list(grouped)
        first = own[0]
        if key in present:
            facts = first["made_from"], first["object_size"], first["sha256"]
            found[key] = Made(key, *facts, own)
    return found


def make(
    context: Context,
    asked: Asked,
    todo: Sequence[Planned],
    state: State,
    before: Mapping[str, Made],
) -> None:
    """Make the files *todo*; what stands is noted now and then, and if anything goes wrong."""
    target = open_storage(asked.target)
    maker = Maker(context, asked, before)
    workers = numerics.cores()
    writers = workers + 2 if asked.tars else WRITERS
    chips = sum(len(file.rows) for file in todo)
    processes: Executor = ThreadPoolExecutor(1)
    if chips > FEW:
        processes = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    threads = ThreadPoolExecutor(writers, thread_name_prefix="export")
    last = time.monotonic()
    with processes, threads, Progress("export", "chips", chips) as progress:
        try:
            for made, refused in threads.map(partial(maker.make, processes), _units(todo)):
                state.made.update((file.key, file) for file in made)
                state.refused += refused
                progress.step(sum(len(file.rows) for file in made) + len(refused))
                if time.monotonic() - last > NOTED_S:
                    target.put(TABLE, schemas.to_bytes(state.table()))
                    last = time.monotonic()
        except BaseException:
            threads.shutdown(wait=True, cancel_futures=True)
            target.put(TABLE, schemas.to_bytes(state.table()))
            raise


def _units(todo: Sequence[Planned]) -> Iterator[list[Planned]]:
    """Give what one thread makes at a time: a tar, or some chips of one image."""
    for _, grouped in groupby(todo, lambda file: (file.rows[0]["key"], len(file.rows) > 1)):
        own = list(grouped)
        size = _making.JOB_CHIPS if len(own[0].rows) == 1 else 1
        for start in range(0, len(own), size):
            yield own[start : start + size]


def _remove_empty(url: str, folders: Sequence[str]) -> None:
    """Remove folders that are empty now, and those around them: a folder reads as a label."""
    if urlsplit(url).scheme not in {"", "file"}:
        return
    for folder in sorted(set(folders) - {""}):
        path = PurePosixPath(folder)
        with suppress(OSError):  # it is not empty, or not there
            for each in (path, *path.parents[:-1]):
                (local_path(url) / each).rmdir()


def _finish(context: Context, asked: Asked, state: State, chips: int) -> None:
    """See that every file is there in its size; then write what is beside them, manifest last.

    Raises:
        StorageError: a file is not there, or has another size.
        TooManyRejects: too many chips could not be read.
    """
    target, table = open_storage(asked.target), state.table()
    present = sizes(target)
    for made in state.made.values():
        if (size := present.get(made.key)) != made.size:
            found = "is not there" if size is None else f"has {size:,} bytes"
            raise StorageError(
                f"{target.url}/{made.key}: {found}, and {made.size:,} were written; run it again"
            )
    stop = rejects.verdict(
        rejects.table(state.refused),
        out_of=chips,
        setting="extract.max_rejects",
        limit=context.params.extract.max_rejects,
    )
    beside = {TABLE: schemas.to_bytes(table)}
    if asked.labelstudio is not None:
        beside[TASKS] = _tasks.tasks(context, table, asked.labelstudio)
    manifest = {
        "chips": table.num_rows,
        "files": len(state.made),
        "bytes": sum(made.size for made in state.made.values()),
        "left_out": chips - table.num_rows,
        "kind": asked.kind,
        "name": asked.name.text,
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in beside.items()},
    }
    if stop is None:
        beside[MANIFEST] = pretty(manifest)
    changed = [name for name, data in beside.items() if not _is(target, present, name, data)]
    gone = [name for name in (TASKS, MANIFEST) if name in present and name not in beside]
    for name in [*gone, *([MANIFEST] if changed else [])]:
        target.delete(name)
    for name in changed:
        target.put(name, beside[name])
    target.tidy()
    _remove_empty(asked.target, [TEMPORARY])
    if stop is not None:
        raise stop


def _is(target: Storage, present: Mapping[str, int], name: str, data: bytes) -> bool:
    return present.get(name) == len(data) and target.read(name) == data
