"""Export: chips as image files, in a folder or on S3, with a table of them beside.

Reading and writing wait in threads, decoding and encoding work in processes. `chips.parquet` in the
target says which file holds which chip and what it was made from: a file that stands there, in its
size, made from the same, is left alone; one that nobody asks for any more goes. `manifest.json` is
taken away first and written last, when a listing has every file in its size.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.commands.export import labelstudio, plan
from pipeline.commands.export.plan import MANIFEST, TABLE, TASKS, ExportRequest, FilePlan
from pipeline.commands.export.write import ChipWriter, WrittenFile
from pipeline.core import rejects, schemas
from pipeline.core.errors import InputError, Missing, SettingError, StorageError
from pipeline.core.progress import Progress
from pipeline.core.rejects import Reject
from pipeline.core.run_log import Counts, pluralize
from pipeline.core.urls import shown
from pipeline.storage import Storage, local_path, open_storage
from pipeline.storage.folder import TEMPORARY
from pipeline.store.context import Context
from pipeline.store.outputs import pretty

NOTED_S = 30.0
"""So often is noted what stands, for whoever goes on after a kill."""


@dataclass(slots=True)
class State:
    """What stands in the target, and what could not be read.

    Attributes:
        tables: schemas.EXPORTED of the files that stand, in parts.
        files: their sizes, by key.
        written: files that this run wrote, and chips in them.
        refused: chips whose image cannot be decoded.
        noted_at: when it was last written down, by a clock that never goes back.
    """

    tables: list[pa.Table] = field(default_factory=lambda: [schemas.EXPORTED.empty_table()])
    files: dict[str, int] = field(default_factory=dict)
    written: list[int] = field(default_factory=lambda: [0, 0])
    refused: list[Reject] = field(default_factory=list)
    noted_at: float = field(default_factory=time.monotonic)

    def add(self, made: Sequence[WrittenFile]) -> None:
        """Take in files that stand."""
        rows = [{**row, **file.columns()} for file in made for row in file.rows]
        self.tables.append(pa.Table.from_pylist(rows, schema=schemas.EXPORTED))
        for file in made:
            self.files[file.key] = file.size
            if file.written:
                self.written = [self.written[0] + 1, self.written[1] + file.chips]

    def table(self) -> pa.Table:
        """Give schemas.EXPORTED of every file that stands."""
        table = pa.concat_tables(self.tables)
        self.tables = [schemas.conform(table, schemas.EXPORTED, ("key", "row", "col", "name"))]
        return self.tables[0]


def run(context: Context, asked: ExportRequest) -> Counts:
    """Make the target hold every chip that is asked for, and nothing else that an export left.

    Raises:
        SettingError: the target lies in the bucket, or the names are none.
        InputError: the chip stage has not run, or there is no chip to export.
        StorageError: the target cannot be written, or lacks a file in the end.
        TooManyRejects: more chips could not be read than extract.max_rejects allows.
    """
    apart(asked.target, context.params.bucket.url)
    known = plan.ChipMetadata(asked.of_keys)
    chips, nameless = plan.count(known, asked)
    if not chips:
        raise InputError("export: there is no chip to export; a name with {label} needs labels")
    target = open_storage(asked.target)
    present = sizes(target)
    noted = read(target, present)
    before = files(noted, present)
    state = State()
    with (
        ChipWriter(context, asked, before) as maker,
        Progress("export", "chips", chips) as progress,
    ):
        try:
            for planned in plan.plan(known, asked, context.params.extract):
                kept = [old for file in planned if (old := _kept(file, before.get(file.key)))]
                state.add(kept)
                progress.step(sum(old.chips for old in kept))
                todo = [file for file in planned if file.key not in state.files]
                if todo:
                    target.delete(MANIFEST)
                for made, refused in maker.make(todo):
                    state.add(made)
                    state.refused += refused
                    progress.step(sum(file.chips for file in made) + len(refused))
                    if time.monotonic() - state.noted_at > NOTED_S:
                        _note(target, state, noted)
                state.table()
        except BaseException:
            maker.stop()
            _note(target, state, noted)
            raise
    stale = [key for key in before if key not in state.files]
    _remove(asked.target, stale)
    _finish(context, asked, state, chips)
    written, removed = state.written[0], len(stale)
    more = f"{pluralize(len(state.files), 'files')}, {written:,} written, {removed:,} removed"
    if nameless:
        more += f"; {pluralize(nameless, 'chips')} without {' and '.join(asked.needed)} left out"
    rejected = rejects.count_by_reason(rejects.table(state.refused))
    return Counts("export", "chips", state.table().num_rows, state.written[1], rejected, more)


def _kept(file: FilePlan, old: WrittenFile | None) -> WrittenFile | None:
    """Give what stands for *file* already, made from the same; None: it is to be made."""
    if old is None or (old.made_from, old.chips) != (file.made_from, len(file.rows)):
        return None
    return replace(old, rows=file.rows)


def _note(target: Storage, state: State, noted: pa.Table) -> None:
    """Write down what stands, and what an earlier export left and is still to be looked at."""
    others = pc.invert(pc.is_in(noted["object"], value_set=pa.array(state.files, pa.string())))
    target.put(TABLE, schemas.to_bytes(pa.concat_tables([state.table(), noted.filter(others)])))
    state.noted_at = time.monotonic()


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


def read(target: Storage, present: Mapping[str, int]) -> pa.Table:
    """Read what an earlier export wrote down: schemas.EXPORTED of files that are there.

    Raises:
        InputError: it is not such a table.
    """
    if TABLE not in present:
        return schemas.EXPORTED.empty_table()
    try:
        table = schemas.from_bytes(target.read(TABLE)).select(schemas.EXPORTED.names)
        table = table.cast(schemas.EXPORTED)
    except (pa.ArrowException, KeyError, OSError) as error:  # OSError: a page is damaged
        raise InputError(
            f"{target.url}/{TABLE}: is no table of exported chips ({error}); remove it, or name "
            "another folder or prefix"
        ) from error
    there = pc.is_in(table["object"], value_set=pa.array(present, pa.string()))
    return table.filter(there)


def files(noted: pa.Table, present: Mapping[str, int]) -> dict[str, WrittenFile]:
    """Give the files of *noted*; what has another size by now is made from nothing known."""
    names = ["object", "made_from", "object_size", "sha256"]
    grouped = noted.select(names).group_by(names, use_threads=False)
    found = {}
    for row in grouped.aggregate([([], "count_all")]).to_pylist():
        key, size = row["object"], row["object_size"]
        known = (row["made_from"], row["sha256"]) if present[key] == size else ("", "")
        found[key] = WrittenFile(key, known[0], size, known[1], row["count_all"])
    return found


def _remove(url: str, stale: Sequence[str]) -> None:
    """Remove files that nobody asks for any more."""
    target = open_storage(url)
    if stale:
        target.delete(MANIFEST)
    for key in stale:
        target.delete(key)
    _remove_empty(url, [key.rpartition("/")[0] for key in stale])


def _remove_empty(url: str, folders: Sequence[str]) -> None:
    """Remove folders that are empty now, and those around them: a folder reads as a label."""
    if urlsplit(url).scheme not in {"", "file"}:
        return
    for folder in sorted(set(folders) - {""}):
        path = PurePosixPath(folder)
        with suppress(OSError):  # it is not empty, or not there
            for each in (path, *path.parents[:-1]):
                (local_path(url) / each).rmdir()


def _finish(context: Context, asked: ExportRequest, state: State, chips: int) -> None:
    """See that every file is there in its size; then write what is beside them, manifest last.

    Raises:
        StorageError: a file is not there, or has another size.
        TooManyRejects: too many chips could not be read.
    """
    target, table = open_storage(asked.target), state.table()
    present = sizes(target)
    for key, wanted in state.files.items():
        if (size := present.get(key)) != wanted:
            found = "is not there" if size is None else f"has {size:,} bytes"
            raise StorageError(
                f"{target.url}/{key}: {found}, and {wanted:,} were written; run it again"
            )
    stop = rejects.check_limit(
        rejects.table(state.refused),
        out_of=chips,
        setting="extract.max_rejects",
        limit=context.params.extract.max_rejects,
    )
    beside = {TABLE: schemas.to_bytes(table)}
    if asked.labelstudio is not None:
        beside[TASKS] = labelstudio.tasks(context, table, asked.labelstudio)
    manifest = {
        "chips": table.num_rows,
        "files": len(state.files),
        "bytes": sum(state.files.values()),
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
