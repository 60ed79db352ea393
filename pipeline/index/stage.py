"""Index: list the bucket, read every new image's header, and fix what this run is about.

Beside the images, the index keeps the annotation file as it is now, a list of the tables of windows
that lie in the bucket (for chip methods that read some), and what is asked of each later
stage (weights' digests, versions of the code), since it is the one stage that runs at every
`dvc repro`: what has changed outside params.yaml is seen here or nowhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, partial
from typing import Any

import pyarrow as pa

from pipeline import recipes
from pipeline.annotations import level as level_of
from pipeline.chip import methods
from pipeline.config.sections import BucketParams, IndexParams
from pipeline.core import rejects, schemas
from pipeline.core.errors import Changed, InputError, Missing, Rejected, SettingError, StorageError
from pipeline.core.hashing import shard_of
from pipeline.core.progress import Progress
from pipeline.core.rejects import Reject
from pipeline.core.run_log import Counts
from pipeline.images.header import read_header
from pipeline.images.sandbox import DecoderSandbox
from pipeline.images.watchdog import watched
from pipeline.storage import Object, Storage, read_url
from pipeline.store import outputs, shards
from pipeline.store.context import INDEX, Context, Tell, bucket
from pipeline.store.objects import Piece
from pipeline.store.outputs import out, pretty

log = logging.getLogger(__name__)

TABLE = "images"

NO_FILE = b"This annotation format has no file.\n"
READERS = 16
CAREFUL_READERS = 2
"""Each has a process of its own."""

Read = Callable[..., dict[str, Any]]
"""Gives the header of one object: (item, max_pixels=…)."""

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
"""Pillow's names of what a file's name promises."""


@dataclass(frozen=True, slots=True)
class BucketListing:
    """What the bucket holds, as schemas.LISTING: images, and what chips are made from beside them.

    These are the tables of windows, or the masks, that the chip method asks for.
    """

    images: pa.Table
    tables: pa.Table


def listing(context: Context) -> BucketListing:
    """List what of the bucket the patterns let through, with its versions.

    Raises:
        StorageError: the bucket cannot be listed.
        InputError: no image is left.
        SettingError: the chip method cannot use what the annotation format gives.
    """
    said = context.params.annotations
    # Also known here, where it costs no listing and no header.
    methods.check_levels(context.params.chip, said, level_of(said))
    section, storage = context.params.bucket, bucket(context)
    patterns = methods.tables(context.params.chip)
    every = list(storage.list())
    allowed = [item for item in every if not _matches(item.key, section.exclude)]
    tables = [item for item in allowed if _matches(item.key, patterns)]
    others = (item for item in allowed if not _matches(item.key, patterns))
    chosen = [item for item in others if _matches(item.key, section.include)]
    if not chosen:
        raise InputError(
            f"{section.url}: no object matches bucket.include {list(section.include)}; "
            "check bucket.url, or set bucket.include to patterns that match your keys"
        )
    if patterns and not tables:
        raise InputError(
            f"{section.url}: no object matches {', '.join(patterns)}, the tables of windows that "
            f"chip.method {context.params.chip.method!r} reads; check bucket.url and chip.method"
        )
    named = _masks(context, chosen)
    masks = [item for item in every if item.key in named]
    chosen = [item for item in chosen if item.key not in named]
    return BucketListing(
        _table(storage.versioned(chosen)), _table(storage.versioned(tables + masks))
    )


def _masks(context: Context, chosen: Sequence[Object]) -> set[str]:
    """Give the keys that masks of *chosen* have, where the chip method asks for some."""
    named = methods.masks(context.params.chip)
    return {methods.mask_of(named, item.key) for item in chosen} if named else set()


def _table(found: Sequence[Object]) -> pa.Table:
    columns = {name: [getattr(item, name) for item in found] for name in schemas.LISTING.names}
    return schemas.conform(pa.table(columns, schema=schemas.LISTING), schemas.LISTING)


def _matches(key: str, patterns: Sequence[str]) -> bool:
    """Match patterns against the whole key, or its last part, whatever the case."""
    lower = key.lower()
    names = (lower, lower.rpartition("/")[2])
    return any(fnmatchcase(name, pattern.lower()) for pattern in patterns for name in names)


def plan(context: Context, listed: BucketListing) -> list[shards.ShardPlan]:
    """Name the pieces of the images table.

    Raises:
        SettingError: no key is as index.pattern says.
    """
    _check_pattern(listed.images["key"].to_pylist(), context.params.index)
    parts = shards.split(listed.images, context.params.shards.count)
    recipe = recipes.index(context.params)
    context.store.describe(recipe.digest, recipe.parts)
    return shards.plan(TABLE, recipe.digest, parts, schemas.LISTING)


def _check_pattern(keys: Sequence[str], index: IndexParams) -> None:
    pattern = index.template
    if pattern and not any(map(pattern.parse, keys)):
        raise SettingError(
            f"index.pattern: no key is as {pattern.text!r} says; the first is {keys[0]!r}"
        )


def make(context: Context, pieces: Sequence[Piece], tell: Tell) -> None:
    """Read the headers of *pieces*' images, those that no neighbour has.

    Raises:
        StorageError: the bucket cannot be read, or changed while it was.
    """
    neighbours = shards.Neighbours(context.store, TABLE, pieces[0].recipe)
    moved: list[str] = []
    with Progress("index", "images", shards.count_rows(context.store, pieces), tell) as progress:
        for piece, rows in shards.inputs(context.store, pieces):
            moved += _make(context, piece, shards.reuse(neighbours, piece, rows))
            progress.step(rows.num_rows)
    if moved:
        raise StorageError(f"{moved[0]} ({len(moved):,} in all changed); run again")


def _make(context: Context, piece: Piece, reuse: shards.Reuse) -> list[str]:
    section, memory = context.params.bucket, context.machine.digests
    headers: list[dict[str, Any]] = []
    refused: list[Reject] = []
    moved: list[str] = []
    readers = READERS
    with contextlib.ExitStack() as ends:
        if context.machine.isolates_decoding:
            apart, readers = DecoderSandbox(), CAREFUL_READERS
            ends.callback(apart.close)
            read = partial(apart.read_header, section, memory)
        else:
            read = partial(_header_here, bucket(context))
        for found in _in_threads(partial(_header, read, section), reuse.left, readers):
            if isinstance(found, dict):
                headers.append(found)
            elif isinstance(found, Reject):
                refused.append(found)
            else:
                moved.append(found)
    made = pa.Table.from_pylist(headers, schema=schemas.HEADERS)
    whole = made if reuse.rows is None else pa.concat_tables([reuse.rows, made])
    if not moved:
        made_here = shards.Provenance(context.run, made.num_rows)
        whole = schemas.conform(whole, schemas.HEADERS)
        shards.finish(context.store, piece, whole, refused, made_here)
    return moved


def _header_here(storage: Storage, item: Object, max_pixels: int) -> dict[str, Any]:
    with watched(item.key):
        return read_header(storage, item, max_pixels=max_pixels)


def _in_threads(read: Any, rows: pa.Table, readers: int) -> Iterator[Any]:
    """Apply *read* to every row's Object, AHEAD at a time, in the rows' order."""
    objects = [Object(**row) for row in rows.to_pylist()]
    with ThreadPoolExecutor(readers, thread_name_prefix="header") as pool:
        for start in range(0, len(objects), AHEAD):
            yield from pool.map(read, objects[start : start + AHEAD])


def _header(read: Read, section: BucketParams, item: Object) -> dict[str, Any] | Reject | str:
    """Give one image's row, or why it has none; a sentence if it has changed since the listing."""
    if item.size > section.max_bytes:
        why = f"{item.key}: {item.size:,} bytes, over bucket.max_bytes {section.max_bytes:,}"
        return Reject("index", item.key, "too_many_bytes", why)
    try:
        return read(item, max_pixels=section.max_pixels)
    except Rejected as rejected:
        return Reject("index", item.key, rejected.reason, rejects.message(item.key, rejected))
    except (Changed, Missing) as error:
        return str(error)


def _say(table: pa.Table) -> None:
    """Say what nobody would expect of files that are used all the same."""
    rows = table.select(["key", "format", "more_frames"]).to_pylist()
    many = [row["key"] for row in rows if row["more_frames"]]
    other = [f"{row['key']} ({row['format']})" for row in rows if _is_misnamed(row)]
    if many:
        log.info("index: %s of several pictures, as %s: the first is used", _files(many), many[0])
    if other:
        log.info("index: %s of another format than named, as %s", _files(other), other[0])


def _with_fields(table: pa.Table, index: IndexParams) -> pa.Table:
    """Add a column for each field of the pattern: what the key says, or null."""
    pattern = index.template
    if pattern is None:
        return table
    keys = table["key"].to_pylist()
    found = [pattern.parse(key) for key in keys]
    other = [key for key, said in zip(keys, found, strict=True) if said is None]
    if other:
        what = f"{_files(other)} not named as index.pattern says, as {other[0]}"
        log.warning("index: %s: of them %s are unknown", what, ", ".join(pattern.fields))
    for name in pattern.fields:
        values = [said and said[name] for said in found]
        table = table.append_column(name, pa.array(values, pa.string()))
    return table


def _files(keys: Sequence[str]) -> str:
    return f"{len(keys):,} file{'s' * (len(keys) != 1)}"


def _is_misnamed(row: dict[str, Any]) -> bool:
    named = FORMATS.get(row["key"].rpartition(".")[2].lower())
    return named is not None and row["format"] not in named


def expected(context: Context, listed: BucketListing) -> dict[str, Any]:
    """Give what the manifest of an index of *listed* says, as far as its inputs decide it."""
    return {
        "stage": "index",
        "recipe": recipes.index(context.params).digest,
        "inputs": {
            "listing": hashlib.sha256(schemas.to_bytes(listed.images)).hexdigest(),
            "tables": hashlib.sha256(schemas.to_bytes(listed.tables)).hexdigest(),
            "annotations": hashlib.sha256(_annotations(context)).hexdigest(),
            "asked": {name: asked.digest for name, asked in recipes.asked(context.params).items()},
        },
        "shards_count": context.params.shards.count,
    }


def _annotations(context: Context) -> bytes:
    """Give the annotation file as it was when this run first read it."""
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
    listed: BucketListing,
    planned: Sequence[shards.ShardPlan],
    facts: dict[str, Any],
) -> Counts:
    """Put `data/index/` together; give what it took.

    Raises:
        TooManyRejects: more objects are no images than bucket.max_rejects allows.
    """
    found = shards.assemble(context.store, planned, context.run)
    table = shards.table_of(context.store, planned, schemas.HEADERS)
    numbers = [shard_of(key, facts["shards_count"]) for key in table["key"].to_pylist()]
    table = table.append_column("shard", pa.array(numbers, pa.int32()))
    table = schemas.conform(table, schemas.IMAGES)
    asked = recipes.asked(context.params)
    files = {
        "images.parquet": out(schemas.to_bytes(_with_fields(table, context.params.index))),
        "rejects.parquet": shards.rejects_out(found.rejected),
        "tables.parquet": out(schemas.to_bytes(listed.tables)),
        "annotations": out(_annotations(context)),
        **{
            f"recipes/{name}.json": out(pretty(dict(recipe.parts)))
            for name, recipe in asked.items()
        },
    }
    manifest = {**facts, "shards": found.lines, "files": sorted(files)}
    verdict = rejects.check_limit(
        found.rejected,
        out_of=found.rows + found.rejected.num_rows,
        setting="bucket.max_rejects",
        limit=context.params.bucket.max_rejects,
    )
    _say(table)
    outputs.publish(INDEX, files, manifest, verdict)
    return found.counts("index", "images")
