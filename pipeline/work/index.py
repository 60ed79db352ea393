"""Index: list the bucket, read every new image's header, and fix what this run is about.

Beside the images, the index keeps the annotation file as it is now and what is asked of each later
stage (weights' digests, versions of the code), since it is the one stage that runs at every
`dvc repro`: what has changed outside params.yaml is seen here or nowhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from functools import cache, partial
from typing import Any

import pyarrow as pa

from pipeline import images, outs, recipes, rejects, schemas, shards
from pipeline.counts import Counts
from pipeline.errors import Changed, InputError, Missing, Rejected, StorageError
from pipeline.hashing import shard_of
from pipeline.images.apart import Apart
from pipeline.outs import out, pretty
from pipeline.progress import Progress
from pipeline.rejects import Reject
from pipeline.sections import Bucket
from pipeline.storage import Object, read_url
from pipeline.store import Piece
from pipeline.work._context import INDEX, Context, Tell, bucket

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


def listing(context: Context) -> pa.Table:
    """List the bucket's images that the patterns let through, with their versions.

    Raises:
        StorageError: the bucket cannot be listed.
        InputError: no image is left.
    """
    section, storage = context.params.bucket, bucket(context)
    chosen = [item for item in storage.list() if _wanted(item.key, section)]
    if not chosen:
        raise InputError(
            f"{section.url}: no object matches bucket.include {list(section.include)}; "
            "check bucket.url, or set bucket.include to patterns that match your keys"
        )
    found = storage.versioned(chosen)
    columns = {name: [getattr(item, name) for item in found] for name in schemas.LISTING.names}
    return schemas.conform(pa.table(columns, schema=schemas.LISTING), schemas.LISTING)


def _wanted(key: str, bucket: Bucket) -> bool:
    """Match patterns against the whole key, or its last part, whatever the case."""
    lower = key.lower()
    names = (lower, lower.rpartition("/")[2])

    def matches(patterns: Sequence[str]) -> bool:
        return any(fnmatchcase(name, pattern.lower()) for pattern in patterns for name in names)

    return matches(bucket.include) and not matches(bucket.exclude)


def plan(context: Context, listed: pa.Table) -> list[shards.Planned]:
    """Name the pieces of the images table."""
    parts = shards.split(listed, context.params.shards.count)
    recipe = recipes.index(context.params)
    context.store.describe(recipe.digest, recipe.parts)
    return shards.plan(TABLE, recipe.digest, parts, schemas.LISTING)


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
        if context.machine.is_careful:
            apart, readers = Apart(), CAREFUL_READERS
            ends.callback(apart.close)
            read = partial(apart.header, section, memory)
        else:
            read = partial(images.header, bucket(context))
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
        made_here = shards.Made(context.run, made.num_rows)
        whole = schemas.conform(whole, schemas.HEADERS)
        shards.finish(context.store, piece, whole, refused, made_here)
    return moved


def _in_threads(read: Any, rows: pa.Table, readers: int) -> Iterator[Any]:
    """Apply *read* to every row's Object, AHEAD at a time, in the rows' order."""
    objects = [Object(**row) for row in rows.to_pylist()]
    with ThreadPoolExecutor(readers, thread_name_prefix="header") as pool:
        for start in range(0, len(objects), AHEAD):
            yield from pool.map(read, objects[start : start + AHEAD])


def _header(read: Read, section: Bucket, item: Object) -> dict[str, Any] | Reject | str:
    """Give one image's row, or why it has none; a sentence if it has changed since the listing."""
    if item.size > section.max_bytes:
        why = f"{item.key}: {item.size:,} bytes, over bucket.max_bytes {section.max_bytes:,}"
        return Reject("index", item.key, "too_many_bytes", why)
    try:
        return read(item, max_pixels=section.max_pixels)
    except Rejected as rejected:
        return Reject("index", item.key, rejected.reason, rejected.detail)
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


def _files(keys: Sequence[str]) -> str:
    return f"{len(keys):,} file{'s' * (len(keys) != 1)}"


def _is_misnamed(row: dict[str, Any]) -> bool:
    named = FORMATS.get(row["key"].rpartition(".")[2].lower())
    return named is not None and row["format"] not in named


def expected(context: Context, listed: pa.Table) -> dict[str, Any]:
    """Give what the manifest of an index of *listed* says, as far as its inputs decide it."""
    return {
        "stage": "index",
        "recipe": recipes.index(context.params).digest,
        "inputs": {
            "listing": hashlib.sha256(schemas.to_bytes(listed)).hexdigest(),
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


def publish(context: Context, planned: Sequence[shards.Planned], facts: dict[str, Any]) -> Counts:
    """Put `data/index/` together; give what it took.

    Raises:
        TooManyRejects: more objects are no images than bucket.max_rejects allows.
    """
    found = shards.assemble(context.store, planned, context.run)
    table = shards.table_of(context.store, planned, schemas.HEADERS)
    numbers = [shard_of(key, facts["shards_count"]) for key in table["key"].to_pylist()]
    table = table.append_column("shard", pa.array(numbers, pa.int32()))
    asked = recipes.asked(context.params)
    files = {
        "images.parquet": out(schemas.to_bytes(schemas.conform(table, schemas.IMAGES))),
        "rejects.parquet": shards.rejects_out(found.rejected),
        "annotations": out(_annotations(context)),
        **{f"asked/{name}.json": out(pretty(dict(recipe.parts))) for name, recipe in asked.items()},
    }
    manifest = {**facts, "shards": found.lines, "files": sorted(files)}
    verdict = rejects.verdict(
        found.rejected,
        out_of=found.rows + found.rejected.num_rows,
        setting="bucket.max_rejects",
        limit=context.params.bucket.max_rejects,
    )
    _say(table)
    outs.publish(INDEX, files, manifest, verdict)
    return found.counts("index", "images")
