"""Storage: read and write objects in a folder, on S3 or at a web address.

The bucket, the store, weights and annotations are all read by the same methods. A key uses `/`,
has no leading slash and no `.` or `..` part. Listings are sorted by the key's UTF-8 bytes.
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
from pipeline.core.urls import redacted

NONBLOCK = getattr(os, "O_NONBLOCK", 0)
"""Opens a pipe without waiting for its writer; for a file it changes nothing."""


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
    """What every storage can do, from several threads at once."""

    url: str

    def list(self, prefix: str = "") -> Iterator[Object]:
        """Yield every object whose key begins with *prefix*, sorted by its UTF-8 bytes."""

    def versioned(self, objects: Iterable[Object]) -> builtins.list[Object]:
        """Return *objects* with their versions, reading bytes only where there is no other way.

        Raises:
            Missing: one was removed after it was listed, and its version was not in the listing.
        """

    def head(self, key: str) -> Object:
        """Return one object with its version.

        Raises:
            Missing: it is not there.
        """

    def read(
        self, key: str, *, start: int = 0, stop: int | None = None, if_version: str = ""
    ) -> bytes:
        """Read bytes *start* to *stop* (not included; None: the end), none beyond the end.

        Raises:
            Missing: it is not there.
            Changed: *if_version* is given and the object has another version.
            Rejected: `forbidden`, `vanished`, `corrupt` or `unreadable`, only with *if_version*: of
                all that was listed, this object cannot be read.
        """

    def put(self, key: str, data: bytes) -> None:
        """Write an object completely or not at all; an older one of that key is replaced."""

    def delete(self, key: str) -> None:
        """Remove an object; it is no error if it is not there."""

    def touch(self, key: str) -> None:
        """Set the time at which an object was written to now; it is no error if it is not there."""

    def tidy(self) -> None:
        """Remove what killed writers have left unfinished."""


def open_storage(
    url: str, *, digest_cache: Path | None = None, follow_symlinks: bool = False
) -> Storage:
    """Open the storage that *url* names: a folder's path, `file://…` or `s3://bucket/prefix`.

    A relative path is looked for in the working directory and then, in an experiment that runs in a
    copy of the repository without ignored files, in the original checkout (`DVC_ROOT`).

    Args:
        url: a folder or an S3 prefix.
        digest_cache: a file in which a folder's content digests are remembered; None: in no file.
        follow_symlinks: whether links of a folder may lead out of it.

    Raises:
        SettingError: a bucket or store cannot have this scheme.
    """
    scheme = scheme_of(url)
    if scheme == "s3":
        from pipeline.storage.s3 import S3

        return S3(url)
    if scheme in {"", "file"}:
        from pipeline.storage.folder import Folder

        return Folder(local_path(url), digest_cache, follow_symlinks=follow_symlinks)
    raise SettingError(
        f"{redacted(url)}: no storage for {scheme + '://'!r}; use a folder or s3://…"
    )


def scheme_of(url: str) -> str:
    """Return the scheme of an address, such as `s3`; empty for a path.

    Raises:
        SettingError: it is not a valid address.
    """
    try:
        return urlsplit(url).scheme
    except ValueError as error:
        raise SettingError(f"{redacted(url)}: not a valid address ({error})") from error


def local_path(url: str) -> Path:
    """Return the absolute path on this machine of a path or `file://` address.

    Raises:
        SettingError: it is not a valid path.
    """
    try:
        path = Path(_path_of(url)).expanduser()
        if path.is_absolute() or path.exists():
            return path.absolute()
    except (OSError, RuntimeError, ValueError) as error:  # too long; no such user's home; a NUL
        reason = getattr(error, "strerror", None) or error
        raise SettingError(f"{shorten(url, 100)!r}: not a valid path ({reason})") from error
    return (Path(os.environ.get("DVC_ROOT", ".")) / path).absolute()


def _path_of(url: str) -> str:
    path = url
    if url.startswith("file:"):
        parts = urlsplit(url)
        if parts.netloc not in {"", "localhost"}:
            raise ValueError(f"it is on another machine, {parts.netloc!r}")
        path = url2pathname(parts.path)
    if "\0" in path:
        raise ValueError("it contains a NUL")
    return path


def open_regular_file(path: Path | str) -> BufferedReader:
    """Open a file for reading.

    Raises:
        OSError: it cannot be opened, or is a pipe or a device, which may never end.
    """
    stream = open(path, "rb", opener=lambda name, flags: os.open(name, flags | NONBLOCK))  # noqa: SIM115 - the caller closes it
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise OSError(errno.EINVAL, "it is a pipe or a device, not a file")
    return stream


def read_url(url: str) -> tuple[bytes, str]:
    """Return the bytes and the version of the object at a whole address.

    *url* is a path, `file://`, `s3://bucket/key`, `https://` or, on loopback, `http://`.

    Raises:
        Missing, StorageError, SettingError: as the storages do.
    """
    scheme = scheme_of(url)
    if scheme in {"http", "https"}:
        from pipeline.storage.https import fetch

        return fetch(url)
    folder, _, name = (url if scheme == "s3" else str(local_path(url))).rpartition("/")
    storage = open_storage(folder or "/")
    version = storage.head(name).version
    try:
        return storage.read(name, if_version=version), version
    except Rejected as error:
        raise StorageError(error.detail) from error
