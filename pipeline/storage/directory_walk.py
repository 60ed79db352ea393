"""The files below a folder, and what in it is skipped because it is no object of a bucket."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from pipeline.core.errors import Missing, StorageError
from pipeline.core.run_log import pluralize
from pipeline.storage import Object

log = logging.getLogger(__name__)

NOT_A_FILE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)

SKIPPED = {
    "broken": ("broken links", ""),
    "link": ("links", ": links to folders or out of this one need bucket.follow_symlinks: true"),
    "not UTF-8": ("files", ": names must be UTF-8"),
    "special": ("special files", ": pipes, sockets and devices are not read"),
}
"""What is skipped, by kind, and why."""


def walk(
    start: Path, key: str, prefix: str, is_inside: Callable[[str], bool], *, follow_symlinks: bool
) -> Iterator[Object]:
    """Yield the files below a folder, and log what was skipped; names with a dot first are hidden.

    Args:
        start: the folder.
        key: what the keys of its entries begin with: nothing, or its own and a slash.
        prefix: what the names of its entries begin with; those below its folders are free.
        is_inside: whether the path that a link has may be read.
        follow_symlinks: whether links to folders are followed.

    Raises:
        StorageError: a folder cannot be listed.
    """
    skipped: dict[str, list[str]] = {kind: [] for kind in SKIPPED}
    folders = [(str(start), key, {os.path.realpath(start)})]
    while folders:
        folder, folder_key, within = folders.pop()
        for entry in _entries(folder):
            if folder_key == key and not entry.name.startswith(prefix):
                continue
            entry_key = folder_key + entry.name
            if _is_folder(entry, follow_symlinks=follow_symlinks):
                real = os.path.realpath(entry.path) if follow_symlinks else entry.path
                if real not in within:  # a link to a folder that contains it would never end
                    folders.append((entry.path, f"{entry_key}/", within | {real}))
                continue
            file = _file(entry, entry_key, is_inside)
            if isinstance(file, Object):
                yield file
            elif file:
                skipped[file].append(entry.name)
    for kind, (nouns, reason) in SKIPPED.items():
        if names := skipped[kind]:
            more = ", …" if len(names) > 1 else ""
            what = pluralize(len(names), nouns)
            log.warning("%s: %s skipped (%r%s)%s", start, what, min(names), more, reason)


def _file(entry: os.DirEntry[str], key: str, is_inside: Callable[[str], bool]) -> Object | str:
    """Return a file, or the kind of SKIPPED that it is; "" if it was just removed."""
    try:
        if entry.is_symlink() and not is_inside(entry.path):
            return "link"
        status = entry.stat()
    except OSError as error:
        if isinstance(error, FileNotFoundError) or error.errno == errno.ELOOP:
            return "broken" if entry.is_symlink() else ""
        raise path_error(entry.path, "read", error) from error
    if not stat.S_ISREG(status.st_mode):
        return "link" if stat.S_ISDIR(status.st_mode) else "special"
    try:
        key.encode()
    except UnicodeEncodeError:
        return "not UTF-8"
    return Object(key, status.st_size, modified=status.st_mtime)


def _is_folder(entry: os.DirEntry[str], *, follow_symlinks: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow_symlinks)
    except OSError:
        return False  # a link to itself, or one that may not be followed


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """Return what a folder contains; nothing if it was just removed, or is a file."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except NOT_A_FILE:
        return []
    except OSError as error:
        raise path_error(folder, "listed", error) from error


def path_error(path: Path | str, what: str, error: OSError) -> StorageError:
    """Return what to raise for a path that cannot be *what*, such as `read`."""
    if isinstance(error, IsADirectoryError):
        return Missing(f"{path}: no such file; it is a folder")
    if isinstance(error, NOT_A_FILE):
        return Missing(f"{path}: no such file")
    return StorageError(f"{path}: cannot be {what} ({error.strerror or error})")
