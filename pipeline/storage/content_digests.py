"""Content digests of files, remembered by path, inode, size, mtime and ctime.

The table is this machine's own. Losing it costs reading the files again and nothing else, so one
that cannot be used is only warned of.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

log = logging.getLogger(__name__)

RACY_NS = 2_000_000_000
"""A file hashed within this time of its last change may change again with the same mtime.

Source: git, "Documentation/technical/racy-git.txt".
"""

BUSY_S = 60
"""How long another process that writes to the table is waited for."""

# The inode as text: some file systems number beyond SQLite's 63 bits.
CREATE = (
    "CREATE TABLE IF NOT EXISTS stamps (path BLOB PRIMARY KEY, inode TEXT, size INTEGER, "
    "mtime_ns INTEGER, ctime_ns INTEGER, digest TEXT) WITHOUT ROWID"
)
INSERT = "INSERT OR REPLACE INTO stamps VALUES (?, ?, ?, ?, ?, ?)"
SELECT = "SELECT path, inode, size, mtime_ns, ctime_ns, digest FROM stamps WHERE path IN "
PATHS_PER_QUERY = 500

Row = tuple[bytes, str, int, int, int, str]
T = TypeVar("T")


class Stamp(NamedTuple):
    """What a file system changes with a file's bytes; a writer can set back the mtime alone."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


class HashedFile(NamedTuple):
    """What a file contained; *settled* if its stamp could be trusted when reading began."""

    stamp: Stamp
    digest: str
    settled: bool = True


def stamp_of(status: os.stat_result) -> Stamp:
    """Return the stamp of a file."""
    return Stamp(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def md5(data: bytes) -> str:
    """Return the digest of a file's bytes."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def hash_file(stream: BinaryIO) -> HashedFile:
    """Hash an open file; its stamp is from before the first byte was read.

    Whether it is settled is decided then, too: later, a file that was written while its clock
    stood still would look settled.
    """
    stamp = stamp_of(os.fstat(stream.fileno()))
    settled = time.time_ns() - max(stamp.mtime_ns, stamp.ctime_ns) > RACY_NS
    stream.seek(0)
    hasher = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False))  # type: ignore[arg-type]
    return HashedFile(stamp, hasher.hexdigest(), settled)


class ContentDigests:
    """Digests by path, in this process's memory and in the SQLite file *path*; None: in no file."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._hashed: dict[str, HashedFile] = {}

    def get(self, stamps: Mapping[str, Stamp]) -> dict[str, HashedFile]:
        """Return those files that still have the stamp they were hashed with."""
        names = {os.fsencode(path): path for path in stamps if not self._has(path, stamps[path])}
        if names:
            rows: list[Row] = self._use_table(partial(_select, names=list(names)), default=[])
            for name, inode, size, mtime_ns, ctime_ns, digest in rows:
                stamp = Stamp(int(inode), size, mtime_ns, ctime_ns)
                if stamp == stamps[names[name]]:
                    self._hashed[names[name]] = HashedFile(stamp, digest)
        return {path: self._hashed[path] for path in stamps if self._has(path, stamps[path])}

    def _has(self, path: str, stamp: Stamp) -> bool:
        return path in self._hashed and self._hashed[path].stamp == stamp

    def put(self, files: Mapping[str, HashedFile]) -> None:
        """Remember the digests of settled files."""
        settled = {path: file for path, file in files.items() if file.settled}
        self._hashed |= settled
        rows = [
            (os.fsencode(path), str(stamp.inode), *stamp[1:], digest)
            for path, (stamp, digest, _) in settled.items()
        ]
        if rows:
            self._use_table(lambda table: table.executemany(INSERT, rows), default=None)

    def _use_table(self, use: Callable[[sqlite3.Connection], T], *, default: T) -> T:
        """Return what *use* returns, or *default* where there is no table."""
        if self.path is None:
            return default
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=BUSY_S)) as table, table:
                table.execute(CREATE)
                return use(table)
        except (OSError, sqlite3.Error) as error:
            log.warning("%s: cannot be used (%s); files are read again", self.path, error)
            return default


def _select(table: sqlite3.Connection, names: list[bytes]) -> list[Row]:
    rows: list[Row] = []
    for start in range(0, len(names), PATHS_PER_QUERY):
        some = names[start : start + PATHS_PER_QUERY]
        rows += table.execute(f"{SELECT} ({','.join('?' * len(some))})", some)
    return rows
