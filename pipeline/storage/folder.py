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
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline.errors import Changed, Missing, StorageError
from pipeline.storage import Object
from pipeline.storage._digests import Digests, Stamp, is_settled, stamp

log = logging.getLogger(__name__)

TEMPORARY = ".quadrat-tmp-"
HASHERS = 8


class Folder:
    """The files below *root*; digests are remembered in the SQLite file *memory*.

    Names that begin with a dot are not listed: they are the system's, or our unfinished writes.
    Links are followed only where they stay below the root.
    """

    def __init__(self, root: Path, memory: Path | None = None) -> None:
        self.root = root
        self.url = str(root)
        self._digests = Digests(memory)
        self._seen: dict[str, tuple[Stamp, str]] = {}

    def list(self, prefix: str = "") -> Iterator[Object]:
        """Give the files whose key begins with *prefix*, sorted by the key's UTF-8 bytes.

        Raises:
            Missing: the folder is not there; with a prefix, that is an empty listing.
        """
        if not self.root.is_dir():
            if prefix:
                return
            raise Missing(f"{self.root}: no such folder; set bucket.url to where the images are")
        below = prefix.rpartition("/")[0]
        start = self._path(below) if below else self.root
        found = [item for item in self._walk(start) if item.key.startswith(prefix)]
        yield from sorted(found, key=lambda item: item.key.encode())

    def _walk(self, start: Path) -> Iterator[Object]:
        unreadable = 0
        folders = [start]
        while folders:
            here = folders.pop()
            with contextlib.suppress(FileNotFoundError), os.scandir(here) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or not self._is_inside(entry):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(Path(entry.path))
                    elif entry.is_file():
                        key = Path(entry.path).relative_to(self.root).as_posix()
                        if _is_text(key):
                            yield Object(key, entry.stat().st_size)
                        else:
                            unreadable += 1
        if unreadable:
            log.warning("%s: %d files left out: their names are not UTF-8", self.root, unreadable)

    def _is_inside(self, entry: os.DirEntry[str]) -> bool:
        if not entry.is_symlink():
            return True
        with contextlib.suppress(OSError, RuntimeError):
            return Path(entry.path).resolve(strict=True).is_relative_to(self.root.resolve())
        return False

    def _path(self, key: str) -> Path:
        """Give the path of *key*.

        Raises:
            StorageError: it would lead out of the root.
        """
        parts = key.split("/")
        if any(part in {"", ".", ".."} for part in parts) or "\0" in key:
            raise StorageError(f"{self.root}: key {key!r} is no path below it")
        path = self.root.joinpath(*parts)
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise StorageError(f"{self.root}: key {key!r} leads out of it by a link")
        return path

    def versioned(self, objects: Iterable[Object]) -> builtins.list[Object]:
        """Give *objects* with the MD5 of their content, reading only files not seen before."""
        keyed = {self._path(item.key): item for item in objects}
        stamps = {path: stamp(path.stat()) for path in keyed}
        known = self._digests.get(stamps)
        new = [path for path in keyed if path not in known]
        with ThreadPoolExecutor(HASHERS) as pool:
            hashed = list(pool.map(_md5_of_file, new))
        self._digests.put(
            zip(new, (seen for seen, _ in hashed), (md5 for _, md5 in hashed), strict=True)
        )
        known.update({path: md5 for path, (_, md5) in zip(new, hashed, strict=True)})
        for path, item in keyed.items():
            if path not in new:
                self._seen[item.key] = (stamps[path], known[path])
        return [Object(item.key, stamps[path][1], known[path]) for path, item in keyed.items()]

    def head(self, key: str) -> Object:
        """Give one file with its version.

        Raises:
            Missing: it is not there.
        """
        path = self._path(key)
        try:
            seen = stamp(path.stat())
        except (FileNotFoundError, NotADirectoryError) as error:
            raise Missing(f"{path}: no such file") from error
        return Object(key, seen[1], self._version(key, path, seen))

    def _version(self, key: str, path: Path, seen: Stamp) -> str:
        known = self._seen.get(key)
        if known is not None and known[0] == seen:
            return known[1]
        found = self._digests.get({path: seen}).get(path)
        if found is None:
            seen, found = _md5_of_file(path)
            self._digests.put([(path, seen, found)])
        if is_settled(seen):
            self._seen[key] = (seen, found)
        return found

    def read(
        self, key: str, *, start: int = 0, stop: int | None = None, if_version: str = ""
    ) -> bytes:
        """Read bytes *start* to *stop* (not included; None: the end).

        A whole file is checked by the MD5 of the bytes that were read, a part by the file's stamp.

        Raises:
            Missing: it is not there.
            Changed: it is not *if_version*.
        """
        path = self._path(key)
        try:
            with path.open("rb") as stream:
                seen = stamp(os.fstat(stream.fileno()))
                stream.seek(start)
                data = stream.read() if stop is None else stream.read(max(stop - start, 0))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise Missing(f"{path}: no such file") from error
        except OSError as error:
            raise StorageError(f"{path}: cannot be read ({error.strerror})") from error
        if if_version:
            whole = start == 0 and stop is None
            found = _md5(data) if whole else self._version(key, path, seen)
            if found != if_version:
                raise Changed(
                    f"{path}: changed while it was read (index has {if_version!r}, the folder has "
                    f"{found!r}); run dvc repro again"
                )
        return data

    def put(self, key: str, data: bytes) -> None:
        """Write a file whole or not at all.

        Raises:
            StorageError: the folder cannot be written, or is full.
        """
        path = self._path(key)
        temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("wb") as stream:
                    stream.write(data)
                    stream.flush()
                    os.fsync(stream.fileno())
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise StorageError(
                f"{path}: {len(data):,} bytes cannot be written ({error.strerror}); make room "
                "there, or set QUADRAT_STORE to a folder that can be written"
            ) from error

    def delete(self, key: str) -> None:
        """Remove a file; it is no error if it is not there."""
        with contextlib.suppress(FileNotFoundError):
            self._path(key).unlink()


def _is_text(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _md5_of_file(path: Path) -> tuple[Stamp, str]:
    """Give a file's stamp, as it was before the first byte was read, and its MD5."""
    with path.open("rb") as stream:
        seen = stamp(os.fstat(stream.fileno()))
        hasher = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False))
    return seen, hasher.hexdigest()
