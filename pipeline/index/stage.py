"""Index: list the bucket, read the header of every new image, and fix what this run works on.

Besides the images, the index keeps the annotation file as it is now, a list of the files beside the
images that chips are made from (instrument tables, masks), and what is requested of each later
stage. It is the one stage that runs at every `dvc repro`: a change outside params.yaml, such as
other weights or other code, is noticed here or nowhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, partial
from typing import Any

import pyarrow as pa

from pipeline.config.sections import BucketParams, IndexParams
from pipeline.core import rejects, schemas
from pipeline.core.errors import (
    Changed,
    InputError,
    Missing,
    Rejected,
    SettingError,
    StorageError,
)
from pipeline.core.hashing import shard_of
from pipeline.core.progress import Progress
from pipeline.core.rejects import Reject
from pipeline.core.run_log import Counts, pluralize
from pipeline.images.header import read_header
from pipeline.images.sandbox import DecoderSandbox
from pipeline.images.watchdog import watched
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
"""Each has a process of its own."""

ReadHeader = Callable[..., dict[str, Any]]
"""Returns the header of one object: (item, max_pixels=…)."""

AHEAD = 64

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
"""Pillow's names of the formats that a file's ending promises."""


@dataclass(frozen=True, slots=True)
class FilesBeside:
    """Which files of the bucket besides images the chip method reads.

    Attributes:
        patterns: of the keys of instrument tables.
        mask_of: returns the key of the mask of an image; None if there are no masks.
        method: the name of the chip method, for messages.
    """

    patterns: Sequence[str]
    mask_of: Callable[[str], str] | None
    method: str


@dataclass(frozen=True, slots=True)
class BucketListing:
    """What is in the bucket, both as schemas.LISTING: images, and the files beside them."""

    images: pa.Table
    tables: pa.Table


def list_bucket(context: Context, beside: FilesBeside) -> BucketListing:
    """List the objects that the patterns of the settings select, with their versions.

    Raises:
        StorageError: the bucket cannot be listed.
        InputError: no image, or no instrument table, is selected.
    """
    section, storage = context.params.bucket, context.bucket
    objects = list(storage.list())
    allowed = [item for item in objects if not _matches(item.key, section.exclude)]
    tables = [item for item in allowed if _matches(item.key, beside.patterns)]
    others = (item for item in allowed if not _matches(item.key, beside.patterns))
    selected = [item for item in others if _matches(item.key, section.include)]
    if not selected:
        raise InputError(
            f"{section.url}: no object matches bucket.include {list(section.include)}; "
            "check bucket.url, or set bucket.include to patterns that match your keys"
        )
    if beside.patterns and not tables:
        raise InputError(
            f"{section.url}: no object matches {', '.join(beside.patterns)}, the tables that "
            f"chip.method {beside.method!r} reads; check bucket.url and chip.method"
        )
    mask_of = beside.mask_of
    mask_keys = {mask_of(item.key) for item in selected} if mask_of else set()
    masks = [item for item in objects if item.key in mask_keys]
    selected = [item for item in selected if item.key not in mask_keys]
    return BucketListing(
        _listing(storage.versioned(selected)), _listing(storage.versioned(tables + masks))
    )


def _listing(objects: Sequence[Object]) -> pa.Table:
    columns = {name: [getattr(item, name) for item in objects] for name in schemas.LISTING.names}
    return schemas.conform(pa.table(columns, schema=schemas.LISTING), schemas.LISTING)


def _matches(key: str, patterns: Sequence[str]) -> bool:
    """Return True if a pattern matches the whole key or its last part, in upper or lower case."""
    lower = key.lower()
    names = (lower, lower.rpartition("/")[2])
    return any(fnmatchcase(name, pattern.lower()) for pattern in patterns for name in names)


def plan(context: Context, listing: BucketListing) -> list[shards.ShardPlan]:
    """Name the pieces of the images table.

    Raises:
        SettingError: no key has the form of index.pattern.
    """
    _check_pattern(listing.images["key"].to_pylist(), context.params.index)
    parts = shards.split(listing.images, context.params.shards.count)
    headers = recipe(context.params.bucket)
    context.store.describe(headers.digest, headers.parts)
    return shards.plan(TABLE, headers.digest, parts, schemas.LISTING)


def _check_pattern(keys: Sequence[str], index: IndexParams) -> None:
    pattern = index.template
    if pattern and not any(map(pattern.parse, keys)):
        raise SettingError(
            f"index.pattern: no key has the form {pattern.text!r}; the first key is {keys[0]!r}"
        )


def make(context: Context, pieces: Sequence[Piece], report: Report) -> None:
    """Read the headers of the images of *pieces* that no neighbour has.

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
    if changed:
        raise StorageError(f"{changed[0]} ({pluralize(len(changed), 'images')} changed); run again")


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
    rows = computed if reuse.rows is None else pa.concat_tables([reuse.rows, computed])
    if not changed:
        made = shards.Provenance(context.run, computed.num_rows)
        rows = schemas.conform(rows, schemas.HEADERS)
        shards.finish(context.store, piece, rows, rejected, made)
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
    """Return an image's row, or why it has none; a message if it changed since it was listed."""
    if item.size > section.max_bytes:
        detail = f"{item.key}: {item.size:,} bytes, over bucket.max_bytes {section.max_bytes:,}"
        return Reject("index", item.key, "too_many_bytes", detail)
    try:
        return read(item, max_pixels=section.max_pixels)
    except Rejected as error:
        return Reject("index", item.key, error.reason, rejects.message(item.key, error))
    except (Changed, Missing) as error:
        return str(error)


def _log_surprises(table: pa.Table) -> None:
    """Log what is surprising about images that are used all the same."""
    rows = table.select(["key", "format", "more_frames"]).to_pylist()
    several = [row["key"] for row in rows if row["more_frames"]]
    misnamed = [f"{row['key']} ({row['format']})" for row in rows if _is_misnamed(row)]
    if several:
        log.info(
            "index: %s with several pictures, such as %s: the first picture is used",
            pluralize(len(several), "files"),
            several[0],
        )
    if misnamed:
        log.info(
            "index: %s whose format is not that of their name, such as %s",
            pluralize(len(misnamed), "files"),
            misnamed[0],
        )


def _is_misnamed(row: dict[str, Any]) -> bool:
    formats = FORMATS.get(row["key"].rpartition(".")[2].lower())
    return formats is not None and row["format"] not in formats


def _with_fields(table: pa.Table, index: IndexParams) -> pa.Table:
    """Add a column for each field of the pattern; null in keys of another form."""
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
    """Return what the manifest of an index of *listing* must say, as far as inputs decide it.

    Args:
        context: of the stage.
        listing: what is in the bucket.
        requested: the recipe that is requested of each later stage.
    """
    return {
        "stage": "index",
        "recipe": recipe(context.params.bucket).digest,
        "inputs": {
            "listing": hashlib.sha256(schemas.to_bytes(listing.images)).hexdigest(),
            "tables": hashlib.sha256(schemas.to_bytes(listing.tables)).hexdigest(),
            "annotations": hashlib.sha256(_annotations(context)).hexdigest(),
            "recipes": {name: recipe.digest for name, recipe in requested.items()},
        },
        "shards_count": context.params.shards.count,
    }


def _annotations(context: Context) -> bytes:
    """Return the annotation file as it was when this run first read it."""
    path = context.params.annotations.path
    return NO_FILE if path is None else _annotation_file(path)


@cache
def _annotation_file(path: str) -> bytes:
    try:
        return read_url(path)[0]
    except Missing as error:
        raise InputError(f"annotations.path: {error}") from error


def publish(
    context: Context,
    listing: BucketListing,
    plans: Sequence[shards.ShardPlan],
    requested: Mapping[str, Recipe],
) -> Counts:
    """Put `data/index/` together, and return the counts.

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
        INDEX / "annotations": out(_annotations(context)),
        rejects_path("index"): out(schemas.to_bytes(assembled.rejected)),
    }
    for name, asked in requested.items():
        files[INDEX / "recipes" / f"{name}.json"] = out(pretty(dict(asked.parts)))
    manifest = {**expected(context, listing, requested), "shards": assembled.lines}
    error = rejects.check_limit(
        assembled.rejected,
        out_of=assembled.rows + assembled.rejected.num_rows,
        setting="bucket.max_rejects",
        limit=context.params.bucket.max_rejects,
    )
    _log_surprises(table)
    outputs.publish(INDEX, files, manifest, error)
    return assembled.counts("index", "images")
