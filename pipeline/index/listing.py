"""The listing of the bucket: images, and the files beside them that a chip method reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import pyarrow as pa

from pipeline.core import schemas
from pipeline.core.errors import InputError
from pipeline.index import fast_path
from pipeline.storage import Object
from pipeline.store.context import Context


@dataclass(frozen=True, slots=True)
class FilesBeside:
    """Which files of the bucket besides images the chip method reads.

    Attributes:
        patterns: of the keys of instrument tables.
        mask_of: returns the key of an image's mask; None if there are no masks.
        method: the name of the chip method, for messages.
    """

    patterns: Sequence[str]
    mask_of: Callable[[str], str] | None
    method: str


@dataclass(frozen=True, slots=True)
class BucketListing:
    """What is in the bucket.

    Attributes:
        images: schemas.LISTING.
        tables: the files beside the images, schemas.LISTING.
        digest: of all objects as they are listed, selected or not; see fast_path.listing_digest.
    """

    images: pa.Table
    tables: pa.Table
    digest: str


def list_bucket(context: Context, beside: FilesBeside) -> BucketListing:
    """Return the objects that the settings' patterns select, with their versions.

    Raises:
        StorageError: the bucket cannot be listed.
        InputError: no image, or no instrument table, is selected.
    """
    section, storage = context.params.bucket, context.bucket
    objects = fast_path.listed.pop(section.url, None) or list(storage.list())
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
        images=_listing(storage.versioned(selected)),
        tables=_listing(storage.versioned(tables + masks)),
        digest=fast_path.listing_digest(objects),
    )


def _listing(objects: Sequence[Object]) -> pa.Table:
    columns = {name: [getattr(item, name) for item in objects] for name in schemas.LISTING.names}
    return schemas.conform(pa.table(columns, schema=schemas.LISTING), schemas.LISTING)


def _matches(key: str, patterns: Sequence[str]) -> bool:
    """Return True if a pattern matches the whole key or its last part, in upper or lower case."""
    lower = key.lower()
    names = (lower, lower.rpartition("/")[2])
    return any(fnmatchcase(name, pattern.lower()) for pattern in patterns for name in names)
