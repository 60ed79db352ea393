"""Index: list the bucket, read the header of every new image, and record the inputs of a run.

Besides images, the index has a copy of the annotation file, a list of the files beside images that
chips are made from (instrument tables, masks), and the recipe of each later stage. It is the only
stage that runs at every `dvc repro`: it notices changes outside params.yaml, such as other weights
or other code.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import pyarrow as pa

from pipeline.annotations import AnnotationSource, file_name
from pipeline.annotations import check as check_annotations
from pipeline.config.sections import BucketParams, IndexParams
from pipeline.core import code_version, rejects, schemas
from pipeline.core.errors import (
    Changed,
    InputError,
    Missing,
    Rejected,
    SettingError,
)
from pipeline.core.hashing import shard_of
from pipeline.core.progress import Progress
from pipeline.core.rejects import Reject
from pipeline.core.run_log import Counts, pluralize
from pipeline.images.header import read_header
from pipeline.images.sandbox import DecoderSandbox
from pipeline.images.watchdog import watched
from pipeline.index.listing import BucketListing
from pipeline.index.recipe import recipe
from pipeline.storage import Object, Storage, read_url
from pipeline.store import outputs, shards
from pipeline.store.context import Context, Report
from pipeline.store.objects import Piece
from pipeline.store.outputs import INDEX, out, pretty, rejects_path
from pipeline.store.recipe import Recipe

log = logging.getLogger(__name__)

TABLE = "images"
NO_FILE = b"This annotation format has no file.\n"
READERS = 16
ISOLATED_READERS = 2
"""Each has its own process."""
AHEAD = 64
ReadHeader = Callable[..., dict[str, Any]]
"""Returns the header of one object: (item, max_pixels=…)."""

FORMATS = {
    "jpg": ("JPEG", "MPO"),
    "jpeg": ("JPEG", "MPO"),
    "png": ("PNG",),
    "tif": ("TIFF",),
    "tiff": ("TIFF",),
    "webp": ("WEBP",),
    "bmp": ("BMP", "DIB"),
    "gif": ("GIF",),
}
"""Pillow's names of the formats that a file's extension stands for."""


def plan(context: Context, listing: BucketListing) -> list[shards.ShardPlan]:
    """Return the pieces of the images table.

    Raises:
        SettingError: no key matches `index.pattern`.
        InputError: the annotation file lacks a column: that is said before any header is read.
    """
    params = context.params.annotations
    source = AnnotationSource(file_name(params), _annotations(params.path), ())
    check_annotations(source, params)
    pattern, keys = context.params.index.template, listing.images["key"].to_pylist()
    if pattern and not any(map(pattern.parse, keys)):
        raise SettingError(
            f"index.pattern: no key has the form {pattern.text!r}; the first key is {keys[0]!r}"
        )
    parts = shards.split(listing.images, context.params.shards.count)
    headers = recipe(context.params.bucket)
    context.store.describe(headers.digest, headers.parts)
    return shards.plan(TABLE, headers.digest, parts, schemas.LISTING)


def make(context: Context, pieces: Sequence[Piece], report: Report) -> None:
    """Read the headers of images of *pieces* that no neighbour has, and store the pieces.

    Raises:
        StorageError: the bucket cannot be read, or changed while it was read.
    """
    neighbours = shards.Neighbours(context.store, TABLE, pieces[0].recipe)
    changed: list[str] = []
    total = shards.count_rows(context.store, pieces)
    with Progress("index", "images", total, report) as progress:
        for piece, rows in shards.inputs(context.store, pieces):
            changed += _make(context, piece, shards.reuse(neighbours, piece, rows))
            progress.step(rows.num_rows)
    shards.check_unchanged(changed)


def _make(context: Context, piece: Piece, reuse: shards.Reuse) -> list[str]:
    """Read the remaining headers of a piece; return a message for each image that has changed."""
    section, memory = context.params.bucket, context.machine.digests
    headers: list[dict[str, Any]] = []
    rejected: list[Reject] = []
    changed: list[str] = []
    readers = READERS
    with contextlib.ExitStack() as stack:
        if context.machine.isolates_decoding:
            sandbox, readers = DecoderSandbox(), ISOLATED_READERS
            stack.callback(sandbox.close)
            read = partial(sandbox.read_header, section, memory)
        else:
            read = partial(_read_header, context.bucket)
        for result in _in_threads(partial(_header, read, section), reuse.left, readers):
            if isinstance(result, dict):
                headers.append(result)
            elif isinstance(result, Reject):
                rejected.append(result)
            else:
                changed.append(result)
    computed = pa.Table.from_pylist(headers, schema=schemas.HEADERS)
    if not changed:
        made = shards.Provenance(context.run, computed.num_rows)
        shards.finish(context.store, piece, reuse.with_computed(computed), rejected, made)
    return changed


def _read_header(storage: Storage, item: Object, max_pixels: int) -> dict[str, Any]:
    with watched(item.key):
        return read_header(storage, item, max_pixels=max_pixels)


def _in_threads(read: Any, rows: pa.Table, readers: int) -> Iterator[Any]:
    """Apply *read* to the Object of every row, AHEAD at a time, in the rows' order."""
    objects = [Object(**row) for row in rows.to_pylist()]
    with ThreadPoolExecutor(readers, thread_name_prefix="header") as pool:
        for start in range(0, len(objects), AHEAD):
            yield from pool.map(read, objects[start : start + AHEAD])


def _header(read: ReadHeader, section: BucketParams, item: Object) -> dict[str, Any] | Reject | str:
    """Return an image's row or reject, or a message if it has changed since it was listed."""
    if item.size > section.max_bytes:
        detail = f"{item.key}: {item.size:,} bytes, over bucket.max_bytes {section.max_bytes:,}"
        return Reject("index", item.key, "too_many_bytes", detail)
    try:
        return read(item, max_pixels=section.max_pixels)
    except Rejected as error:
        return Reject("index", item.key, error.reason, rejects.message(item.key, error))
    except (Changed, Missing) as error:
        return str(error)


def _log_edited_code() -> None:
    """Log which code is not that of the release."""
    if edited := sorted(code_version.edited_files()):
        log.info(
            "index: the code of %s is not that of pipeline/code.lock: what other code has made is "
            "not reused",
            edited[0] if len(edited) == 1 else f"{len(edited)} files, such as {edited[0]},",
        )


def _log_surprises(table: pa.Table) -> None:
    """Log which images have several pictures, or a format that is not that of their name."""
    several, misnamed = [], []
    for row in table.select(["key", "format", "more_frames"]).to_pylist():
        if row["more_frames"]:
            several.append(row["key"])
        extension = row["key"].rpartition(".")[2].lower()
        if row["format"] not in FORMATS.get(extension, (row["format"],)):
            misnamed.append(f"{row['key']} ({row['format']})")
    if several:
        message = "index: %s with several pictures, such as %s: the first picture is used"
        log.info(message, pluralize(len(several), "files"), several[0])
    if misnamed:
        message = "index: %s whose format is not that of their name, such as %s"
        log.info(message, pluralize(len(misnamed), "files"), misnamed[0])


def _with_fields(table: pa.Table, index: IndexParams) -> pa.Table:
    """Return *table* with a column for each field of the pattern; null if a key does not match."""
    pattern = index.template
    if pattern is None:
        return table
    keys = table["key"].to_pylist()
    parsed = [pattern.parse(key) for key in keys]
    other = [key for key, values in zip(keys, parsed, strict=True) if values is None]
    if other:
        log.warning(
            "index: %s without the form of index.pattern, such as %s: their %s are unknown",
            pluralize(len(other), "files"),
            other[0],
            ", ".join(pattern.fields),
        )
    for name in pattern.fields:
        column = [values and values[name] for values in parsed]
        table = table.append_column(name, pa.array(column, pa.string()))
    return table


def expected(
    context: Context, listing: BucketListing, requested: Mapping[str, Recipe]
) -> dict[str, Any]:
    """Return the part of the index's manifest that its inputs decide.

    Args:
        context: of the stage.
        listing: of the bucket.
        requested: the recipe of each later stage.
    """
    path = context.params.annotations.path
    return {
        "stage": "index",
        "recipe": recipe(context.params.bucket).digest,
        "inputs": {
            "listing": hashlib.sha256(schemas.to_bytes(listing.images)).hexdigest(),
            "tables": hashlib.sha256(schemas.to_bytes(listing.tables)).hexdigest(),
            "annotations": hashlib.sha256(_annotations(path)).hexdigest(),
            "recipes": {name: recipe.digest for name, recipe in requested.items()},
        },
        "shards_count": context.params.shards.count,
    }


@cache
def _annotations(path: str | None) -> bytes:
    """Return the annotation file as it was when this run first read it."""
    try:
        return NO_FILE if path is None else read_url(path)[0]
    except Missing as error:
        raise InputError(f"annotations.path: {error}") from error


def publish(
    context: Context,
    listing: BucketListing,
    plans: Sequence[shards.ShardPlan],
    requested: Mapping[str, Recipe],
) -> Counts:
    """Write `data/index/` and return the counts.

    Raises:
        TooManyRejects: more objects than bucket.max_rejects allows cannot be used as images.
    """
    assembled = shards.assemble(context.store, plans, context.run, INDEX)
    table = shards.read_table(context.store, plans, schemas.HEADERS)
    count = context.params.shards.count
    numbers = [shard_of(key, count) for key in table["key"].to_pylist()]
    table = table.append_column("shard", pa.array(numbers, pa.int32()))
    table = schemas.conform(table, schemas.IMAGES)
    files = {
        INDEX / "images.parquet": out(schemas.to_bytes(_with_fields(table, context.params.index))),
        INDEX / "tables.parquet": out(schemas.to_bytes(listing.tables)),
        INDEX / "annotations": out(_annotations(context.params.annotations.path)),
        rejects_path("index"): out(schemas.to_bytes(assembled.rejected)),
    }
    for name, later in requested.items():
        files[INDEX / "recipes" / f"{name}.json"] = out(pretty(dict(later.parts)))
    manifest = {**expected(context, listing, requested), "shards": assembled.lines}
    error = rejects.check_limit(
        assembled.rejected,
        out_of=assembled.rows + assembled.rejected.num_rows,
        setting="bucket.max_rejects",
        limit=context.params.bucket.max_rejects,
    )
    _log_surprises(table)
    _log_edited_code()
    outputs.publish(INDEX, files, manifest, error)
    return assembled.counts("index", "images")
