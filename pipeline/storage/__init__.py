"""Places that hold objects under keys: a folder, an S3 bucket, a web address.

One set of verbs serves the bucket, the store, weights and annotations alike. A key uses `/`, has
no leading slash and no `.` or `..` part. Listings are sorted by the key's UTF-8 bytes.
"""

from __future__ import annotations

import builtins
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pipeline.addresses import shown
from pipeline.errors import Rejected, SettingError, StorageError


@dataclass(frozen=True, slots=True)
class Object:
    """One object of a listing.

    Attributes:
        key: its name below the storage's root.
        size: its length in bytes.
        version: what identifies its bytes; empty where finding it would mean reading them.
        modified: when it was last written, in seconds since 1970 by the storage's clock.
    """

    key: str
    size: int
    version: str = ""
    modified: float = field(default=0.0, compare=False)


class Storage(Protocol):
    """What every storage can do; all of it may be called from several threads at once."""

    url: str

    def list(self, prefix: str = "") -> Iterator[Object]:
        """Give every object whose key begins with *prefix*, sorted; no link is followed out."""

    def versioned(self, objects: Iterable[Object]) -> builtins.list[Object]:
        """Give *objects* with their versions, reading bytes only where there is no other way.

        Raises:
            Missing: one was removed after it was listed, and its version was not in the listing.
        """

    def head(self, key: str) -> Object:
        """Give one object with its version.

        Raises:
            Missing: it is not there.
        """

    def read(
        self, key: str, *, start: int = 0, stop: int | None = None, if_version: str = ""
    ) -> bytes:
        """Read bytes *start* to *stop* (not included; None: the end); none beyond the end.

        Raises:
            Missing: it is not there.
            Changed: *if_version* is given and the object is another version.
            Rejected: *if_version* is given, and of all that was listed this cannot be had.
        """

    def put(self, key: str, data: bytes) -> None:
        """Write an object whole or not at all; an older one of that key is replaced."""

    def delete(self, key: str) -> None:
        """Remove an object; it is no error if it is not there."""

    def touch(self, key: str) -> None:
        """Make an object's time of writing now; it is no error if it is not there."""

    def tidy(self) -> None:
        """Remove what writers that were killed have left unfinished."""


def open_storage(url: str, *, memory: Path | None = None, follow_links: bool = False) -> Storage:
    """Open the storage that *url* names: a folder's path, `file://…` or `s3://bucket/prefix`.

    A relative path is looked for in the working directory, and, in an experiment that runs in a
    copy of the repository without ignored files, in the original checkout (`DVC_ROOT`).

    Args:
        url: a folder or an S3 prefix.
        memory: a file in which a folder's content digests are remembered; None: in no file.
        follow_links: whether links of a folder may lead out of it.

    Raises:
        SettingError: the scheme is not one that a bucket or store can have.
    """
    scheme = urlsplit(url).scheme
    if scheme == "s3":
        from pipeline.storage.s3 import S3

        return S3(url)
    if scheme in {"", "file"}:
        from pipeline.storage.folder import Folder

        return Folder(local_path(url), memory=memory, follow_links=follow_links)
    raise SettingError(f"{shown(url)}: no storage for {scheme + '://'!r}; use a folder or s3://…")


def local_path(url: str) -> Path:
    """Give the absolute path that a relative or `file://` *url* means on this machine."""
    path = Path(url2pathname(urlsplit(url).path) if url.startswith("file:") else url).expanduser()
    if path.is_absolute():
        return path
    origin = Path(os.environ.get("DVC_ROOT", "."))
    return (path if path.exists() else origin / path).absolute()


def read_url(url: str, *, memory: Path | None = None) -> tuple[bytes, str]:
    """Read one object by its whole address; give its bytes and its version.

    *url* is a path, `file://`, `s3://bucket/key`, `https://` or, on loopback, `http://`.

    Raises:
        Missing, StorageError, SettingError: as the storages do.
    """
    scheme = urlsplit(url).scheme
    if scheme in {"http", "https"}:
        from pipeline.storage.https import fetch

        return fetch(url)
    folder, _, name = (url if scheme == "s3" else str(local_path(url))).rpartition("/")
    storage = open_storage(folder or "/", memory=memory)
    found = storage.head(name)
    try:
        return storage.read(name, if_version=found.version), found.version
    except Rejected as error:
        raise StorageError(error.detail) from error
