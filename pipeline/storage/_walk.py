"""What a folder holds, below it and its own folders, and what of that is no object of a bucket."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import Missing, StorageError
from pipeline.storage import Object

NOT_THERE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)

LEFT = {
    "out": (
        (
            "link left out, %r: it leads out of the folder, or to a folder; "
            "bucket.follow_symlinks takes what it leads to"
        ),
        (
            "links left out, as %r: they lead out of the folder, or to a folder; "
            "bucket.follow_symlinks takes what they lead to"
        ),
    ),
    "nowhere": (
        "link left out, %r: it leads to nothing",
        "links left out, as %r: they lead to nothing",
    ),
    "other": (
        "entry left out, %r: it is a pipe, a socket or a device, and no file",
        "entries left out, as %r: they are pipes, sockets or devices, and no files",
    ),
}
"""What of a listing is said to be left out: of one, and of several."""

Left = dict[str, list[str]]
"""Names of what is left out, by LEFT's reasons."""


@dataclass(frozen=True, slots=True)
class Walk:
    """A walk through a folder.

    Attributes:
        root: what keys are paths below.
        is_inside: says whether a path leads to what may be read.
        left: filled with what is left out.
        follow_symlinks: whether links to folders are followed.
    """

    root: Path
    is_inside: Callable[[str], bool]
    left: Left
    follow_symlinks: bool

    def files(self, start: Path, name: str) -> Iterator[Object]:
        """Give the files below *start*; of its own entries only those that begin with *name*.

        Args:
            start: the folder.
            name: how its own entries must begin.

        Raises:
            StorageError: a folder cannot be listed.
        """
        folders = [(start, {os.path.realpath(start)})]
        while folders:
            folder, within = folders.pop()
            for entry in _entries(folder):
                if folder is start and not entry.name.startswith(name):
                    continue
                if _is_folder(entry, follow_symlinks=self.follow_symlinks):
                    real = os.path.realpath(entry.path) if self.follow_symlinks else entry.path
                    if real not in within:  # else a link that leads to what holds it
                        folders.append((Path(entry.path), within | {real}))
                elif isinstance(found := self._stat(entry), os.stat_result):
                    key = Path(entry.path).relative_to(self.root).as_posix()
                    yield Object(key, found.st_size, modified=found.st_mtime)
                elif found:
                    self.left[found].append(entry.name)

    def _stat(self, entry: os.DirEntry[str]) -> os.stat_result | str:
        """Give a file's stat; of what is none, why it is left out; "" if it was just removed."""
        try:
            if entry.is_symlink() and not self.is_inside(entry.path):
                return "out"
            found = entry.stat()
        except OSError as error:
            if isinstance(error, FileNotFoundError) or error.errno == errno.ELOOP:
                return "nowhere" if entry.is_symlink() else ""
            raise said(Path(entry.path), "read", error) from error
        if stat.S_ISREG(found.st_mode):
            return found
        return "out" if stat.S_ISDIR(found.st_mode) else "other"


def _is_folder(entry: os.DirEntry[str], *, follow_symlinks: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow_symlinks)
    except OSError:
        return False  # a link that leads to itself, or that may not be followed


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Give what a folder holds; nothing where it was removed meanwhile, or is a file."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except NOT_THERE:
        return []
    except OSError as error:
        raise said(folder, "listed", error) from error


def said(path: Path, what: str, error: OSError) -> StorageError:
    """Give what is to be said of a path that cannot be *what*."""
    if isinstance(error, IsADirectoryError):
        return Missing(f"{path}: no such file; it is a folder")
    if isinstance(error, NOT_THERE):
        return Missing(f"{path}: no such file")
    return StorageError(f"{path}: cannot be {what} ({error.strerror or error})")
