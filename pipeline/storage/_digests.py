"""What a folder's files hold, remembered: path, inode, size, mtime, ctime → content digest.

A machine-local table. Losing it costs reading the files again and nothing else; so a table that
cannot be opened or written is said and done without.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger(__name__)

Stamp = tuple[int, int, int, int]
"""Inode, size, mtime and ctime in ns: while they stay, the file system says the bytes do.

The mtime can be set back by whoever writes a file, the ctime cannot.
"""

GRAIN_NS = 2_000_000_000
"""A file hashed within this time of its last change may change again unseen (git's racy rule)."""

BUSY_S = 60
COLUMNS = "path, inode, size, mtime_ns, ctime_ns, digest"
INSERT = f"INSERT OR REPLACE INTO stamps ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)"  # noqa: S608
IN_ONE_QUERY = 500


class Hashed(NamedTuple):
    """What a file held; *settled* if its stamp could be trusted when reading began."""

    stamp: Stamp
    digest: str
    settled: bool


def stamp(found: os.stat_result) -> Stamp:
    """Give the stamp of a file from its stat."""
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def is_settled(seen: Stamp) -> bool:
    """Say whether a file of this stamp is old enough for its stamp to be trusted."""
    return time.time_ns() - max(seen[2:]) > GRAIN_NS


class Digests:
    """The table in the SQLite file *path*; None: one that remembers nothing."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def _open(self) -> sqlite3.Connection | None:
        if self.path is None:
            return None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return _connect(self.path)
        except (OSError, sqlite3.Error) as error:
            log.warning("%s: cannot be used (%s); every file is read again", self.path, error)
            return None

    def get(self, stamps: Mapping[Path, Stamp]) -> dict[Path, str]:
        """Give the digests of those files that still have the stamp they were hashed with."""
        table = self._open()
        if table is None:
            return {}
        names = {os.fsencode(path): path for path in stamps}
        rows: list[tuple[bytes, str, int, int, int, str]] = []
        with closing(table):
            try:
                for some in _in_parts(list(names)):
                    marks = ",".join("?" * len(some))
                    query = f"SELECT {COLUMNS} FROM stamps WHERE path IN ({marks})"  # noqa: S608
                    rows += table.execute(query, some)
            except sqlite3.Error as error:
                log.warning("%s: cannot be read (%s)", self.path, error)
        found = {
            names[name]: ((int(inode), size, mtime, ctime), digest)
            for name, inode, size, mtime, ctime, digest in rows
        }
        return {path: digest for path, (seen, digest) in found.items() if seen == stamps[path]}

    def put(self, found: Mapping[Path, Hashed]) -> None:
        """Remember digests, of settled files only."""
        rows = [
            (os.fsencode(path), str(hashed.stamp[0]), *hashed.stamp[1:], hashed.digest)
            for path, hashed in found.items()
            if hashed.settled
        ]
        table = self._open() if rows else None
        if table is None:
            return
        with closing(table):
            try:
                with table:
                    table.executemany(INSERT, rows)
            except sqlite3.Error as error:
                log.warning("%s: cannot be written (%s)", self.path, error)


def _connect(path: Path) -> sqlite3.Connection:
    table = sqlite3.connect(path, timeout=BUSY_S)
    try:
        # The inode as text: some file systems number beyond SQLite's 63 bits.
        table.execute(
            "CREATE TABLE IF NOT EXISTS stamps (path BLOB PRIMARY KEY, inode TEXT, "
            "size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, digest TEXT) WITHOUT ROWID"
        )
    except BaseException:
        table.close()
        raise
    return table


def _in_parts(names: list[bytes]) -> Iterable[list[bytes]]:
    return (names[start : start + IN_ONE_QUERY] for start in range(0, len(names), IN_ONE_QUERY))
