"""Export: chips as image files, in a folder or on S3, with a table of them.

`chips.parquet` in the target records which file contains which chip, and what the file was made
from: a file that is there, in its size and made from the same, is left alone; one that is no longer
wanted is removed. `manifest.json` is removed first and written last, once a listing shows every
file in its size.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.commands.export import labelstudio, plan
from pipeline.commands.export.plan import MANIFEST, TABLE, TASKS, ExportRequest, FilePlan
from pipeline.commands.export.write import ChipWriter, WrittenFile
from pipeline.core import progress, rejects, schemas
from pipeline.core.errors import InputError, Missing, SettingError, StorageError
from pipeline.core.rejects import Reject
from pipeline.core.run_log import Counts, pluralize
from pipeline.core.urls import redacted
from pipeline.storage import Storage, local_path, open_storage
from pipeline.storage.folder import TEMPORARY
from pipeline.store.context import Context
from pipeline.store.outputs import pretty

SAVE_EVERY_S = 30.0
"""How often the table is saved: a run after a kill continues from it."""


@dataclass(slots=True)
class Exported:
    """The files that are in the target, and the chips whose image cannot be decoded.

    Attributes:
        tables: schemas.EXPORTED of the files, in parts.
        sizes: the files' bytes, by key.
        n_new_files, n_new_chips: the files that this run has written, and the chips in them.
        saved_at: when the table was last saved, by the monotonic clock.
    """

    tables: list[pa.Table] = field(default_factory=lambda: [schemas.EXPORTED.empty_table()])
    sizes: dict[str, int] = field(default_factory=dict)
    n_new_files: int = 0
    n_new_chips: int = 0
    rejected: list[Reject] = field(default_factory=list)
    saved_at: float = field(default_factory=time.monotonic)

    def add(self, files: Sequence[WrittenFile]) -> None:
        """Add files that are in the target."""
        rows = [{**row, **file.columns()} for file in files for row in file.rows]
        self.tables.append(pa.Table.from_pylist(rows, schema=schemas.EXPORTED))
        self.sizes |= {file.key: file.size for file in files}
        self.n_new_files += sum(file.is_new for file in files)
        self.n_new_chips += sum(file.chips for file in files if file.is_new)

    def table(self) -> pa.Table:
        """Return schemas.EXPORTED of all files."""
        table = pa.concat_tables(self.tables)
        self.tables = [schemas.conform(table, schemas.EXPORTED, ("key", "row", "col", "name"))]
        return self.tables[0]

    def save(self, target: Storage, recorded: pa.Table) -> None:
        """Write the table, with the files of an earlier export that were not reached yet."""
        reached = pa.array(self.sizes, pa.string())
        others = recorded.filter(pc.invert(pc.is_in(recorded["object"], value_set=reached)))
        target.put(TABLE, schemas.to_bytes(pa.concat_tables([self.table(), others])))
        self.saved_at = time.monotonic()


def run(context: Context, request: ExportRequest) -> Counts:
    """Write every chip that is requested to the target, and remove what earlier exports left.

    Raises:
        SettingError: the target overlaps the bucket, or the names cannot be used.
        InputError: the chip stage has not run, or there is no chip to export.
        StorageError: the target cannot be written, or lacks a file in the end.
        TooManyRejects: more chips could not be read than extract.max_rejects allows.
    """
    check_apart(request.target, context.params.bucket.url)
    chips = plan.ChipMetadata(request)
    n_chips, n_nameless = plan.count(chips)
    if not n_chips:
        raise InputError("export: there is no chip to export; a name with {label} needs labels")
    target = open_storage(request.target)
    present = sizes(target)
    recorded = read_table(target, present)
    before = recorded_files(recorded, present)
    done = _write_missing(context, chips, n_chips, recorded, before)
    stale = [key for key in before if key not in done.sizes]
    _remove(request.target, stale)
    _finish(context, request, done, n_chips)
    more = (
        f"{pluralize(len(done.sizes), 'files')}, {done.n_new_files:,} written, "
        f"{len(stale):,} removed"
    )
    if n_nameless:
        more += (
            f"; {pluralize(n_nameless, 'chips')} without {' and '.join(request.required)} left out"
        )
    reasons = rejects.count_by_reason(rejects.table(done.rejected))
    return Counts("export", "chips", done.table().num_rows, done.n_new_chips, reasons, more)


def _write_missing(
    context: Context,
    chips: plan.ChipMetadata,
    n_chips: int,
    recorded: pa.Table,
    before: Mapping[str, WrittenFile],
) -> Exported:
    """Write the files that are not in the target as they should be."""
    target, done = open_storage(chips.request.target), Exported()
    with (
        closing(ChipWriter(context, chips.request, before)) as writer,
        progress.shown("export"),
        progress.Progress("export", "chips", n_chips) as bar,
    ):
        progress.expect(n_chips, "chips")
        try:
            for planned in plan.plan(chips, context.params.extract):
                kept = [old for file in planned if (old := _kept(file, before.get(file.key)))]
                done.add(kept)
                bar.step(sum(old.chips for old in kept))
                missing = [file for file in planned if file.key not in done.sizes]
                if missing:
                    target.delete(MANIFEST)
                for written, rejected in writer.write(missing):
                    done.add(written)
                    done.rejected += rejected
                    bar.step(sum(file.chips for file in written) + len(rejected))
                    if time.monotonic() - done.saved_at > SAVE_EVERY_S:
                        done.save(target, recorded)
                done.table()
        except BaseException:
            writer.close()
            done.save(target, recorded)
            raise
    return done


def _kept(file: FilePlan, old: WrittenFile | None) -> WrittenFile | None:
    """Return the file of the target that is as *file* should be; None if there is none."""
    if old is None or (old.made_from, old.chips) != (file.made_from, len(file.rows)):
        return None
    return replace(old, rows=file.rows)


def check_apart(target: str, bucket: str) -> None:
    """Check that the target is not in the bucket, nor around it.

    Raises:
        SettingError: it is.
    """
    one, other = (
        url.rstrip("/") + "/" if "://" in url else f"{local_path(url).resolve()}/"
        for url in (target, bucket)
    )
    if one.startswith(other) or other.startswith(one):
        raise SettingError(
            f"{redacted(target)}: is the bucket of images, in it or around it; chips there would "
            "be images of the next run: name another folder or prefix"
        )


def sizes(target: Storage) -> dict[str, int]:
    """Return the size of every object in the target; none if the folder does not exist yet."""
    try:
        return {item.key: item.size for item in target.list()}
    except Missing:
        return {}


def read_table(target: Storage, present: Mapping[str, int]) -> pa.Table:
    """Read the table of an earlier export: schemas.EXPORTED of the files that are still present.

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
    return table.filter(pc.is_in(table["object"], value_set=pa.array(present, pa.string())))


def recorded_files(recorded: pa.Table, present: Mapping[str, int]) -> dict[str, WrittenFile]:
    """Return the files of *recorded*; of one that has another size now, nothing is known."""
    names = ["object", "made_from", "object_size", "sha256"]
    grouped = recorded.select(names).group_by(names, use_threads=False)
    files = {}
    for row in grouped.aggregate([([], "count_all")]).to_pylist():
        key, size = row["object"], row["object_size"]
        made_from, sha256 = (row["made_from"], row["sha256"]) if present[key] == size else ("", "")
        files[key] = WrittenFile(key, made_from, size, sha256, row["count_all"])
    return files


def _remove(url: str, stale: Sequence[str]) -> None:
    """Remove files that are no longer wanted."""
    target = open_storage(url)
    if stale:
        target.delete(MANIFEST)
    for key in stale:
        target.delete(key)
    _remove_empty_folders(url, [key.rpartition("/")[0] for key in stale])


def _remove_empty_folders(url: str, folders: Sequence[str]) -> None:
    """Remove folders that are empty now, and those around them: a folder may mean a label."""
    if urlsplit(url).scheme not in {"", "file"}:
        return
    for folder in sorted(set(folders) - {""}):
        path = PurePosixPath(folder)
        with suppress(OSError):  # it is not empty, or does not exist
            for each in (path, *path.parents[:-1]):
                (local_path(url) / each).rmdir()


def _finish(context: Context, request: ExportRequest, done: Exported, n_chips: int) -> None:
    """Check that every file is there in its size; then write the export's own, manifest last.

    Raises:
        StorageError: a file is missing, or has another size.
        TooManyRejects: too many chips could not be read.
    """
    target, table = open_storage(request.target), done.table()
    present = sizes(target)
    for key, written in done.sizes.items():
        if (size := present.get(key)) != written:
            problem = "is missing" if size is None else f"has {size:,} bytes"
            raise StorageError(
                f"{target.url}/{key}: {problem}, but {written:,} were written; run it again"
            )
    error = rejects.check_limit(
        rejects.table(done.rejected),
        out_of=n_chips,
        setting="extract.max_rejects",
        limit=context.params.extract.max_rejects,
    )
    own = {TABLE: schemas.to_bytes(table)}
    if request.labelstudio is not None:
        own[TASKS] = labelstudio.tasks(context, table, request.labelstudio)
    manifest = {
        "chips": table.num_rows,
        "files": len(done.sizes),
        "bytes": sum(done.sizes.values()),
        "left_out": n_chips - table.num_rows,
        "kind": request.kind,
        "name": request.name.text,
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in own.items()},
    }
    if error is None:
        own[MANIFEST] = pretty(manifest)
    changed = [name for name, data in own.items() if not _is_there(target, present, name, data)]
    stale = [name for name in (TASKS, MANIFEST) if name in present and name not in own]
    for name in [*stale, *([MANIFEST] if changed else [])]:
        target.delete(name)
    for name in changed:
        target.put(name, own[name])
    target.tidy()
    _remove_empty_folders(request.target, [TEMPORARY])
    if error is not None:
        raise error


def _is_there(target: Storage, present: Mapping[str, int], name: str, data: bytes) -> bool:
    return present.get(name) == len(data) and target.read(name) == data
