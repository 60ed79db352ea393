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

from pipeline import stopping
from pipeline.errors import Changed, Missing, StorageError
from pipeline.storage import Object
from pipeline.storage._digests import Digests, Hashed, Stamp, is_settled, stamp

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
NOT_THERE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class Folder:
    """The files below *root*; digests are remembered in the SQLite file *memory*.

    Names that begin with a dot are not listed: they are the system's, or our unfinished writes.
    A link to a file is followed where it stays below the root, a link to a folder never; with
    *follow_links*, both are wherever they lead, but for one that leads back to where it stands.
    """

    def __init__(
        self, root: Path, memory: Path | None = None, *, follow_links: bool = False
    ) -> None:
        self.root, self.follow_links = root, follow_links
        self.url = str(root)
        self._real = os.path.realpath(root)
        self._digests = Digests(memory)
        self._seen: dict[str, tuple[Stamp, str]] = {}

    def list(self, prefix: str = "") -> Iterator[Object]:
        """Give the files whose key begins with *prefix*, sorted by the key's UTF-8 bytes.

        Raises:
            Missing: the folder is not there; with a prefix, that is an empty listing.
            StorageError: a folder below it cannot be listed.
        """
        if not self.root.is_dir():
            if prefix:
                return
            raise Missing(f"{self.root}: no such folder; set bucket.url to where the images are")
        below, _, name = prefix.rpartition("/")
        start = self._path(below) if below else self.root
        outward: list[str] = []
        found = list(self._walk(start, name, outward))
        if outward:
            log.warning(
                "%s: %d links left out, as %r: they lead out of the folder, or to a folder; "
                "bucket.follow_links takes what they lead to",
                *(self.root, len(outward), min(outward)),
            )
        named = [item for item in found if _is_text(item.key)]
        if len(named) < len(found):
            left = len(found) - len(named)
            log.warning("%s: %d files left out: their names are not UTF-8", self.root, left)
        yield from sorted(named, key=lambda item: item.key.encode())

    def _walk(self, start: Path, name: str, outward: builtins.list[str]) -> Iterator[Object]:
        """Give the files below *start*; of its own entries only those that begin with *name*.

        Args:
            start: the folder.
            name: how its own entries must begin.
            outward: filled with the links that are not followed.
        """
        folders = [(start, {os.path.realpath(start)})]
        while folders:
            folder, within = folders.pop()
            for entry in _entries(folder):
                if folder is start and not entry.name.startswith(name):
                    continue
                if entry.is_dir(follow_symlinks=self.follow_links):
                    real = os.path.realpath(entry.path) if self.follow_links else entry.path
                    if real not in within:  # else a link that leads to what holds it
                        folders.append((Path(entry.path), within | {real}))
                elif entry.is_symlink() and not self._is_ours(entry):
                    outward.append(entry.name)
                elif (found := self._stat(entry)) is not None:
                    key = Path(entry.path).relative_to(self.root).as_posix()
                    yield Object(key, found.st_size, modified=found.st_mtime)

    def _is_ours(self, link: os.DirEntry[str]) -> bool:
        return self._is_inside(link.path) and not link.is_dir()

    def _stat(self, entry: os.DirEntry[str]) -> os.stat_result | None:
        """Give a file's stat; None where it is no file, or has just been removed."""
        try:
            return entry.stat() if entry.is_file() else None
        except FileNotFoundError:
            return None

    def _is_inside(self, path: Path | str) -> bool:
        if self.follow_links:
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

        Raises:
            Missing: one was removed after it was listed.
            StorageError: one cannot be read.
        """
        paths = {item.key: self._path(item.key) for item in objects}
        stamps = {path: _stamp(path) for path in paths.values()}
        found = {
            path: Hashed(stamps[path], digest, settled=True)
            for path, digest in self._digests.get(stamps).items()
        }
        found |= self._hashed([path for path in stamps if path not in found])
        self._seen |= {key: found[path][:2] for key, path in paths.items() if found[path].settled}
        return [
            Object(key, found[path].stamp[1], found[path].digest) for key, path in paths.items()
        ]

    def _hashed(self, paths: builtins.list[Path]) -> dict[Path, Hashed]:
        """Hash files in threads, remembering them on the way: a killed run keeps what it did."""
        found: dict[Path, Hashed] = {}
        with ThreadPoolExecutor(HASHERS) as pool:
            for start in range(0, len(paths), REMEMBERED_AT_ONCE):
                some = paths[start : start + REMEMBERED_AT_ONCE]
                hashed = dict(zip(some, pool.map(_md5_of_file, some), strict=True))
                self._digests.put(hashed)
                found |= hashed
        return found

    def head(self, key: str) -> Object:
        """Give one file with its version.

        Raises:
            Missing: it is not there.
        """
        path = self._path(key)
        with _reading(path) as stream:
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
        """
        path = self._path(key)
        with _reading(path) as stream:
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
            stopping.unfinished.add(str(temporary))
            try:
                with temporary.open("wb") as stream:
                    _lock(stream)
                    stream.write(data)
                    stream.flush()
                    os.fsync(stream.fileno())
                    temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            finally:
                stopping.unfinished.discard(str(temporary))
        except OSError as error:
            raise StorageError(
                f"{path}: {len(data):,} bytes cannot be written ({error.strerror}); make room "
                "there, or set QUADRAT_STORE to a folder that can be written"
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
            raise _said(path, "removed", error) from error

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


def _said(path: Path, what: str, error: OSError) -> StorageError:
    if isinstance(error, NOT_THERE):
        return Missing(f"{path}: no such file")
    return StorageError(f"{path}: cannot be {what} ({error.strerror or error})")


def _entries(folder: Path) -> builtins.list[os.DirEntry[str]]:
    """Give what a folder holds; nothing where it was removed meanwhile, or is a file."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except NOT_THERE:
        return []
    except OSError as error:
        raise _said(folder, "listed", error) from error


def _stamp(path: Path) -> Stamp:
    try:
        return stamp(path.stat())
    except NOT_THERE as error:
        raise Missing(f"{path}: removed after it was listed; run dvc repro again") from error
    except OSError as error:
        raise _said(path, "read", error) from error


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as stream:
            yield stream
    except OSError as error:
        raise _said(path, "read", error) from error


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _md5_of_file(path: Path) -> Hashed:
    with _reading(path) as stream:
        return _md5_of(stream)


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
