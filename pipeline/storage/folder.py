"""A folder as a storage: keys are paths below it.

The version of a file is the MD5 of its content. That is also the ETag of an S3 object that was
uploaded in one part, so that a folder and its copy on S3 give the same rows to the byte.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from pipeline.core import signals
from pipeline.core.errors import Changed, Missing, Rejected, StorageError
from pipeline.storage import Object, open_regular_file
from pipeline.storage.content_digests import (
    ContentDigests,
    HashedFile,
    Stamp,
    hash_file,
    md5,
    stamp_of,
)
from pipeline.storage.directory_walk import NOT_A_FILE, path_error, walk
from pipeline.storage.refusals import Refusals, reject_reason

try:
    import fcntl
except ImportError:  # not a Unix
    fcntl = None  # type: ignore[assignment]

TEMPORARY = ".quadrat-tmp"
"""The folder below a root in which files are written before they are renamed."""

LOCKED_WITHIN_S = 2.0
"""A writer locks its temporary file at once; one that is older and not locked has no writer."""

UNREAD = "not read"
"""The version of a file that was listed and could not be read: no other file has it."""

HASHERS = 8
HASHED_AT_ONCE = 1_000
"""Files whose digests are written to the table together."""


class Folder:
    """The files below *root*; `Storage` says what the methods do.

    Digests are remembered in the SQLite file *digest_cache*. Names that begin with a dot are not
    listed: they are the system's, or our unfinished writes. A link to a file is followed if it
    stays below the root, a link to a folder never. With *follow_symlinks*, both are followed
    wherever they lead, except for a link to a folder that contains it.
    """

    def __init__(
        self, root: Path, digest_cache: Path | None = None, *, follow_symlinks: bool = False
    ) -> None:
        self.root, self.follow_symlinks = root, follow_symlinks
        self.url = str(root)
        self._real_root = os.path.realpath(root)
        self._digests = ContentDigests(digest_cache)
        self._refusals = Refusals()

    def list(self, prefix: str = "") -> Iterator[Object]:
        """Yield the files whose key begins with *prefix*, sorted by its UTF-8 bytes."""
        try:
            is_folder = self.root.is_dir()
        except OSError as error:
            raise path_error(self.root, "listed", error) from error
        if not is_folder:
            if prefix:
                return
            raise Missing(f"{self.root}: no such folder; set bucket.url to where the images are")
        folder, slash, name = prefix.rpartition("/")
        start = self._path(folder) if folder else self.root
        files = walk(
            start, folder + slash, name, self._is_inside, follow_symlinks=self.follow_symlinks
        )
        yield from sorted(files, key=lambda file: file.key.encode())

    def _is_inside(self, path: Path | str) -> bool:
        if self.follow_symlinks:
            return True
        real = os.path.realpath(path)
        return real == self._real_root or real.startswith(self._real_root.rstrip(os.sep) + os.sep)

    def _path(self, key: str) -> Path:
        """Return the path of *key*.

        Raises:
            StorageError: it would lead out of the root.
        """
        if any(part in {"", ".", ".."} for part in key.split("/")) or "\0" in key:
            raise StorageError(f"{self.root}: key {key!r} is not a path below it")
        path = self.root / key
        if not self._is_inside(path):
            raise StorageError(f"{self.root}: key {key!r} leads out of it by a link")
        return path

    def versioned(self, objects: Iterable[Object]) -> builtins.list[Object]:
        """Return *objects* with the MD5 of their content, reading only files that are not known.

        One that cannot be read is UNREAD; `read` says why, if that is still so.
        """
        paths = {item.key: str(self._path(item.key)) for item in objects}
        stamps = {path: _stamp(path) for path in paths.values()}
        remembered = self._digests.get(stamps)
        self._refusals.has_read |= bool(remembered)
        hashed = self._hash_files([path for path in stamps if path not in remembered])
        unread = {path: HashedFile(stamp, UNREAD) for path, stamp in stamps.items()}
        files = unread | remembered | hashed
        return [Object(key, files[at].stamp.size, files[at].digest) for key, at in paths.items()]

    def _hash_files(self, paths: builtins.list[str]) -> dict[str, HashedFile]:
        """Hash the files that can be read, remembering them on the way for a run that is killed."""
        hashed: dict[str, HashedFile] = {}
        with ThreadPoolExecutor(HASHERS) as pool:
            for start in range(0, len(paths), HASHED_AT_ONCE):
                some = paths[start : start + HASHED_AT_ONCE]
                files = zip(some, pool.map(self._hash_file, some), strict=True)
                new = {path: file for path, file in files if file is not None}
                self._digests.put(new)
                hashed |= new
        return hashed

    def _hash_file(self, path: str) -> HashedFile | None:
        try:
            with self._open(path, listed_as=path) as stream:
                return hash_file(stream)
        except Rejected:
            return None

    @contextlib.contextmanager
    def _open(self, path: str, listed_as: str = "") -> Iterator[BinaryIO]:
        """Open a file for reading; one that was listed is Rejected if it alone cannot be read.

        Raises:
            Missing: it is not there.
            Rejected: `forbidden` or `unreadable`, only with *listed_as*, its key.
            StorageError: it cannot be read, and that is no matter of this file.
        """
        try:
            with open_regular_file(path) as stream:
                yield stream
        except OSError as error:
            reason = reject_reason(error) if listed_as else None
            if reason is None or self._refusals.count():
                raise path_error(path, "read", error) from error
            raise Rejected(reason, f"{listed_as}: cannot be read ({error.strerror})") from error
        self._refusals.has_read = True

    def head(self, key: str) -> Object:
        """Return one file with its version."""
        path = str(self._path(key))
        with self._open(path) as stream:
            return Object(key, os.fstat(stream.fileno()).st_size, self._version(path, stream))

    def _version(self, path: str, stream: BinaryIO) -> str:
        """Return the MD5 of an open file, which is read unless it is remembered."""
        files = self._digests.get({path: stamp_of(os.fstat(stream.fileno()))})
        if not files:
            files = {path: hash_file(stream)}
            self._digests.put(files)
        return files[path].digest

    def read(
        self, key: str, *, start: int = 0, stop: int | None = None, if_version: str = ""
    ) -> bytes:
        """Read bytes *start* to *stop* (not included; None: the end).

        A whole file is compared with *if_version* by the MD5 of the bytes that were read, a part
        by the stamp that the file has after it was read.
        """
        path = str(self._path(key))
        with self._open(path, listed_as=key if if_version else "") as stream:
            stream.seek(start)
            data = stream.read() if stop is None else stream.read(max(stop - start, 0))
            if if_version:
                is_whole = start == 0 and stop is None
                version = md5(data) if is_whole else self._version(path, stream)
                if version != if_version:
                    raise Changed(
                        f"{path}: changed while it was read (index has {if_version!r}, the folder "
                        f"has {version!r}); run dvc repro again"
                    )
        return data

    def put(self, key: str, data: bytes) -> None:
        """Write a file completely or not at all."""
        path = self._path(key)
        temporary = self.root / TEMPORARY / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.parent.mkdir(exist_ok=True)
            _write(data, temporary, path)
        except OSError as error:
            raise StorageError(
                f"{path}: {len(data):,} bytes cannot be written ({error.strerror}); make room "
                "there, or name a folder that can be written (the store's is QUADRAT_STORE)"
            ) from error

    def delete(self, key: str) -> None:
        """Remove a file; it is no error if it is not there."""
        path = self._path(key)
        try:
            path.unlink()
        except NOT_A_FILE:
            return
        except OSError as error:
            raise path_error(path, "removed", error) from error

    def touch(self, key: str) -> None:
        """Set a file's mtime to now; it is no error if that is impossible."""
        with contextlib.suppress(OSError):
            os.utime(self._path(key))

    def tidy(self) -> None:
        """Remove what killed writers have left; a running writer holds a lock."""
        with contextlib.suppress(OSError), os.scandir(self.root / TEMPORARY) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if time.time() - entry.stat().st_mtime > LOCKED_WITHIN_S:
                        _remove_unlocked(Path(entry.path))


def _write(data: bytes, temporary: Path, path: Path) -> None:
    """Write *data* to *temporary* and rename it to *path*; an error leaves neither."""
    try:
        with signals.creating:
            signals.unfinished.add(str(temporary))
            stream = temporary.open("wb")
        with stream:
            _lock(stream)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        signals.unfinished.discard(str(temporary))


def _lock(stream: BinaryIO) -> None:
    """Lock a new file; on file systems without locks, its age alone protects it."""
    if fcntl is not None:
        with contextlib.suppress(OSError):
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove_unlocked(path: Path) -> None:
    with path.open("rb") as stream:
        if fcntl is not None:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises if somebody writes it
        path.unlink()


def _stamp(path: str) -> Stamp:
    try:
        return stamp_of(Path(path).stat())
    except NOT_A_FILE as error:
        raise Missing(f"{path}: removed after it was listed; run dvc repro again") from error
    except OSError as error:
        raise path_error(path, "read", error) from error
