"""Places that hold objects under keys: a folder, an S3 bucket, a web address.

One set of verbs serves the bucket, the store, weights and annotations alike. A key uses `/`, has
no leading slash and no `.` or `..` part. Listings are sorted by the key's UTF-8 bytes.
"""

from __future__ import annotations

import builtins
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pipeline.core.errors import Rejected, SettingError, StorageError, shorten
from pipeline.core.urls import shown

LONGEST = 100
"""Letters of a path that a message shows."""

AT_ONCE = getattr(os, "O_NONBLOCK", 0)
"""Opens a pipe without waiting for a writer; a file is read as ever."""


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


def open_storage(url: str, *, memory: Path | None = None, follow_symlinks: bool = False) -> Storage:
    """Open the storage that *url* names: a folder's path, `file://…` or `s3://bucket/prefix`.

    A relative path is looked for in the working directory, and, in an experiment that runs in a
    copy of the repository without ignored files, in the original checkout (`DVC_ROOT`).

    Args:
        url: a folder or an S3 prefix.
        memory: a file in which a folder's content digests are remembered; None: in no file.
        follow_symlinks: whether links of a folder may lead out of it.

    Raises:
        SettingError: the scheme is not one that a bucket or store can have.
    """
    scheme = scheme_of(url)
    if scheme == "s3":
        from pipeline.storage.s3 import S3

        return S3(url)
    if scheme in {"", "file"}:
        from pipeline.storage.folder import Folder

        return Folder(local_path(url), memory=memory, follow_symlinks=follow_symlinks)
    raise SettingError(f"{shown(url)}: no storage for {scheme + '://'!r}; use a folder or s3://…")


def scheme_of(url: str) -> str:
    """Give what an address begins with, as `s3`; nothing of a path.

    Raises:
        SettingError: it is no address.
    """
    try:
        return urlsplit(url).scheme
    except ValueError as error:
        raise SettingError(f"{shown(url)}: is no address ({error})") from error


def local_path(url: str) -> Path:
    """Give the absolute path that a relative or `file://` *url* means on this machine.

    Raises:
        SettingError: it is no path here.
    """
    try:
        path = Path(_path_of(url)).expanduser()
        if path.is_absolute() or path.exists():
            return path.absolute()
    except (OSError, RuntimeError, ValueError) as error:  # too long; no such user's home; a NUL
        why = getattr(error, "strerror", None) or error
        raise SettingError(f"{shorten(url, LONGEST)!r}: is no path ({why})") from error
    return (Path(os.environ.get("DVC_ROOT", ".")) / path).absolute()


def _path_of(url: str) -> str:
    path = url
    if url.startswith("file:"):
        parts = urlsplit(url)
        if parts.netloc not in {"", "localhost"}:
            raise ValueError(f"it names another machine, {parts.netloc!r}")
        path = url2pathname(parts.path)
    if "\0" in path:
        raise ValueError("it holds a NUL")
    return path


def opened(path: Path) -> BufferedReader:
    """Open a file to be read.

    Raises:
        OSError: it cannot be opened, or is a pipe, of which one could wait for ever for its first
            byte, or a device, which may never end.
    """
    found = open(path, "rb", opener=_at_once)  # noqa: SIM115 - it is given to the caller
    if not stat.S_ISREG(os.fstat(found.fileno()).st_mode):
        found.close()
        raise OSError(errno.EINVAL, "it is a pipe or a device, and no file")
    return found


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | AT_ONCE)


def read_url(url: str, *, memory: Path | None = None) -> tuple[bytes, str]:
    """Read one object by its whole address; give its bytes and its version.

    *url* is a path, `file://`, `s3://bucket/key`, `https://` or, on loopback, `http://`.

    Raises:
        Missing, StorageError, SettingError: as the storages do.
    """
    scheme = scheme_of(url)
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
