"""A folder as a storage: keys are paths below it.

The version of a file is the MD5 of its content. That is also the ETag of an S3 object that was
uploaded in one part, so that a folder and its copy on S3 give the same rows to the byte.
"""

from __future__ import annotations

import builtins
import contextlib
import hashlib
import logging
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from pipeline.core import signals
from pipeline.core.errors import Changed, Missing, Rejected, StorageError
from pipeline.core.run_log import pluralize
from pipeline.storage import Object, opened
from pipeline.storage._digests import Digests, Hashed, Stamp, is_settled, stamp
from pipeline.storage._refusals import UNREAD, Refusals, reason
from pipeline.storage._walk import LEFT, NOT_THERE, Left, Walk, said

try:
    import fcntl
except ImportError:  # not a Unix
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

TEMPORARY = ".quadrat-tmp"
"""The folder below a root in which files are written before they get their names."""

LOCKED_WITHIN_S = 2.0
"""A writer locks its temporary file at once; one that is older and not locked has no writer."""

HASHERS = 8
REMEMBERED_AT_ONCE = 1_000


class Folder:
    """The files below *root*; digests are remembered in the SQLite file *memory*.

    Names that begin with a dot are not listed: they are the system's, or our unfinished writes.
    A link to a file is followed where it stays below the root, a link to a folder never; with
    *follow_symlinks*, both are wherever they lead, but for one that leads back to where it stands.
    """

    def __init__(
        self, root: Path, memory: Path | None = None, *, follow_symlinks: bool = False
    ) -> None:
        self.root, self.follow_symlinks = root, follow_symlinks
        self.url = str(root)
        self._real = os.path.realpath(root)
        self._digests = Digests(memory)
        self._seen: dict[str, tuple[Stamp, str]] = {}
        self._refusals = Refusals()

    def list(self, prefix: str = "") -> Iterator[Object]:
        """Give the files whose key begins with *prefix*, sorted by the key's UTF-8 bytes.

        Raises:
            Missing: the folder is not there; with a prefix, that is an empty listing.
            StorageError: a folder below it cannot be listed.
        """
        try:
            is_there = self.root.is_dir()
        except OSError as error:
            raise said(self.root, "listed", error) from error
        if not is_there:
            if prefix:
                return
            raise Missing(f"{self.root}: no such folder; set bucket.url to where the images are")
        below, _, name = prefix.rpartition("/")
        start = self._path(below) if below else self.root
        left: Left = {kind: [] for kind in LEFT}
        walk = Walk(self.root, self._is_inside, left, self.follow_symlinks)
        found = list(walk.files(start, name))
        for kind, names in left.items():
            if names:
                says = LEFT[kind][len(names) > 1]
                log.warning(f"%s: %d {says}", self.root, len(names), min(names))  # noqa: G004
        named = [item for item in found if _is_text(item.key)]
        if len(named) < len(found):
            n = len(found) - len(named)
            what, whose = pluralize(n, "files"), "its name is" if n == 1 else "their names are"
            log.warning("%s: %s left out: %s not UTF-8", self.root, what, whose)
        yield from sorted(named, key=lambda item: item.key.encode())

    def _is_inside(self, path: Path | str) -> bool:
        if self.follow_symlinks:
            return True
        real = os.path.realpath(path)
        return real == self._real or real.startswith(self._real.rstrip(os.sep) + os.sep)

    def _path(self, key: str) -> Path:
        """Give the path of *key*.

        Raises:
            StorageError: it would lead out of the root.
        """
        parts = key.split("/")
        if any(part in {"", ".", ".."} for part in parts) or "\0" in key:
            raise StorageError(f"{self.root}: key {key!r} is no path below it")
        path = self.root / key
        if not self._is_inside(path):
            raise StorageError(f"{self.root}: key {key!r} leads out of it by a link")
        return path

    def versioned(self, objects: Iterable[Object]) -> builtins.list[Object]:
        """Give *objects* with the MD5 of their content, reading only files not seen before.

        One that cannot be read is UNREAD: `read` says why, where that is still so.

        Raises:
            Missing: one was removed after it was listed.
            StorageError: none can be read, or the machine has not what reading takes.
        """
        paths = {item.key: self._path(item.key) for item in objects}
        stamps = {path: _stamp(path) for path in paths.values()}
        found = {
            path: Hashed(stamps[path], digest, settled=True)
            for path, digest in self._digests.get(stamps).items()
        }
        self._refusals.has_read |= bool(found)
        found |= self._hashed([path for path in stamps if path not in found])
        known = {key: found[path] for key, path in paths.items() if path in found}
        self._seen |= {key: hashed[:2] for key, hashed in known.items() if hashed.settled}
        unread = {key: Hashed(stamps[path], UNREAD, settled=False) for key, path in paths.items()}
        return [
            Object(key, hashed.stamp[1], hashed.digest) for key, hashed in (unread | known).items()
        ]

    def _hashed(self, paths: builtins.list[Path]) -> dict[Path, Hashed]:
        """Hash files in threads, remembering them on the way: a killed run keeps what it did.

        Those that cannot be read are left out.
        """
        found: dict[Path, Hashed] = {}
        with ThreadPoolExecutor(HASHERS) as pool:
            for start in range(0, len(paths), REMEMBERED_AT_ONCE):
                some = paths[start : start + REMEMBERED_AT_ONCE]
                tried = zip(some, pool.map(self._hash, some), strict=True)
                hashed = {path: one for path, one in tried if one is not None}
                self._digests.put(hashed)
                found |= hashed
        return found

    def _hash(self, path: Path) -> Hashed | None:
        try:
            with self._reading(path, listed=path.name) as stream:
                return _md5_of(stream)
        except Rejected:
            return None

    @contextlib.contextmanager
    def _reading(self, path: Path, listed: str = "") -> Iterator[BinaryIO]:
        """Open a file to be read.

        Args:
            path: the file's.
            listed: its key where it was listed: what is said of it alone is then its reject.

        Raises:
            Missing: it is not there.
            Rejected: `forbidden` or `unreadable`.
            StorageError: the machine has not what reading takes, or refuses every file.
        """
        try:
            with opened(path) as stream:
                yield stream
        except OSError as error:
            why = reason(error) if listed else None
            if why is None or self._refusals.are_all():
                raise said(path, "read", error) from error
            raise Rejected(why, f"{listed}: cannot be read ({error.strerror})") from error
        self._refusals.has_read = True

    def head(self, key: str) -> Object:
        """Give one file with its version.

        Raises:
            Missing: it is not there.
        """
        path = self._path(key)
        with self._reading(path) as stream:
            return Object(key, os.fstat(stream.fileno()).st_size, self._version(key, path, stream))

    def _version(self, key: str, path: Path, stream: BinaryIO) -> str:
        """Give the MD5 of an open file, from memory if its stamp is the one remembered."""
        seen = stamp(os.fstat(stream.fileno()))
        known = self._seen.get(key)
        if known is not None and known[0] == seen:
            return known[1]
        digest = self._digests.get({path: seen}).get(path)
        hashed = Hashed(seen, digest, settled=True) if digest else _md5_of(stream)
        if hashed.settled:
            self._seen[key] = hashed[:2]
        if not digest:
            self._digests.put({path: hashed})
        return hashed.digest

    def read(
        self, key: str, *, start: int = 0, stop: int | None = None, if_version: str = ""
    ) -> bytes:
        """Read bytes *start* to *stop* (not included; None: the end).

        A whole file is checked by the MD5 of the bytes that were read, a part by the stamp that
        the file has after it was read.

        Raises:
            Missing: it is not there.
            Changed: it is not *if_version*.
            Rejected: `forbidden` or `unreadable`, only with *if_version*: the file was listed, and
                it alone cannot be read.
        """
        path = self._path(key)
        with self._reading(path, key if if_version else "") as stream:
            stream.seek(start)
            data = stream.read() if stop is None else stream.read(max(stop - start, 0))
            if if_version:
                whole = start == 0 and stop is None
                found = _md5(data) if whole else self._version(key, path, stream)
                if found != if_version:
                    raise Changed(
                        f"{path}: changed while it was read (index has {if_version!r}, the folder "
                        f"has {found!r}); run dvc repro again"
                    )
        return data

    def put(self, key: str, data: bytes) -> None:
        """Write a file whole or not at all.

        Raises:
            StorageError: the folder cannot be written, or is full.
        """
        path = self._path(key)
        temporary = self.root / TEMPORARY / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.parent.mkdir(exist_ok=True)
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
        except OSError as error:
            raise StorageError(
                f"{path}: {len(data):,} bytes cannot be written ({error.strerror}); make room "
                "there, or name a folder that can be written (the store's is QUADRAT_STORE)"
            ) from error

    def delete(self, key: str) -> None:
        """Remove a file; it is no error if it is not there.

        Raises:
            StorageError: it cannot be removed.
        """
        path = self._path(key)
        try:
            path.unlink()
        except NOT_THERE:
            return
        except OSError as error:
            raise said(path, "removed", error) from error

    def touch(self, key: str) -> None:
        """Set a file's mtime to now; it is no error if that cannot be."""
        with contextlib.suppress(OSError):
            os.utime(self._path(key))

    def tidy(self) -> None:
        """Remove what writers that were killed have left; a living writer holds a lock."""
        with contextlib.suppress(OSError), os.scandir(self.root / TEMPORARY) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if time.time() - entry.stat().st_mtime > LOCKED_WITHIN_S:
                        _remove_unlocked(Path(entry.path))


def _lock(stream: BinaryIO) -> None:
    """Lock an open file of one's own; where there are no locks, its age alone protects it."""
    if fcntl is not None:
        with contextlib.suppress(OSError):
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _remove_unlocked(path: Path) -> None:
    with path.open("rb") as stream:
        if fcntl is not None:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises if somebody writes it
        path.unlink()


def _is_text(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def _stamp(path: Path) -> Stamp:
    try:
        return stamp(path.stat())
    except NOT_THERE as error:
        raise Missing(f"{path}: removed after it was listed; run dvc repro again") from error
    except OSError as error:
        raise said(path, "read", error) from error


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _md5_of(stream: BinaryIO) -> Hashed:
    """Hash an open file; its stamp is the one it had before the first byte was read.

    Whether that stamp can be trusted is judged then too: later, a file that was written while
    its clock stood still would look settled.
    """
    seen = stamp(os.fstat(stream.fileno()))
    settled = is_settled(seen)
    stream.seek(0)
    hasher = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False))  # type: ignore[arg-type]
    return Hashed(seen, hasher.hexdigest(), settled)
