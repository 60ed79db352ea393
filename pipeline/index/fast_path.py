"""Whether anything has changed since the index was last found right.

The index runs at every `dvc repro`. To find that nothing has changed it need not import Luigi,
Arrow and the rest, a second's work: it is enough that every file that it was made of has the stamp
(inode, size, mtime, ctime) that it had then. Anything else, doubt included, is an ordinary run.
Only the lightest of the standard library is imported here: no path, no logger.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any

from pipeline.core.errors import QuadratError
from pipeline.core.run_log import Counts, append_run_log

MEMORY = ".quadrat/index.json"
INDEX = "data/index"
CODE = os.path.dirname(os.path.dirname(__file__))
SETTINGS = ("params.yaml", "dvc.yaml", "luigi.cfg")
ENVIRONMENT = ("QUADRAT_", "AWS_", "DVC_ROOT", "LUIGI_", "PYTHONPATH")
Stamp = tuple[str, int, int, int, int]
"""Path, inode, size, mtime and ctime in ns."""

STAMP = 5
A_DAY_S = 86_400.0
"""Once a day the index runs in earnest, which notes the use of its pieces in the store."""

SETTLED_S = 2.0
"""A file that changed so lately may change again and keep its stamp."""


def report() -> bool:
    """Report the index as it lies there, if nothing has changed; else say that it must run."""
    known = _known()
    if known is None:
        return False
    counts = Counts("index", "images", known["rows"], 0, known["rejected"])
    sys.stderr.write(f"{counts.sentence()}\n")
    sys.stdout.write(f"{counts.line()}\n")
    append_run_log(known["runs"], os.urandom(16).hex(), counts)
    return True


def _known() -> Any:
    """Give what was remembered of the index if it is still true of everything; else None."""
    try:
        known = _read(MEMORY)
        found = [snapshot(known["bucket"], known["files"])[0], _outs()]
        lately = 0 <= time.time() - known["at"] < A_DAY_S
    except (OSError, ValueError, KeyError, TypeError, QuadratError):
        return None  # the ordinary run says what is wrong
    return known if lately and found == known["found"] else None


def _read(path: str) -> Any:
    with open(path, encoding="utf-8") as stream:
        return json.load(stream)


def forget() -> None:
    """Forget the last index, since it is being made anew."""
    if os.path.exists(MEMORY):
        os.remove(MEMORY)


def remember(before: str, known: dict[str, Any]) -> None:
    """Remember that the index is right, if nothing has moved since *before*, or may unseen.

    Args:
        before: the digest of `snapshot` from before the work began.
        known: `bucket` and `files`, as for `snapshot`; the counts `rows` and `rejected`; and
            `runs`, the file in which runs are written down.
    """
    digest, newest = snapshot(known["bucket"], known["files"])
    if digest == before and newest < time.time() - SETTLED_S:
        known = {**known, "found": [digest, _outs()], "at": time.time()}
        try:
            with open(MEMORY, "w", encoding="utf-8") as stream:
                json.dump(known, stream)
        except OSError:  # a full disk: the next run is an ordinary one
            forget()


def snapshot(bucket: str, files: Sequence[str]) -> tuple[str, float]:
    """Digest the stamps of all that an index is made of; give it with the latest change's time.

    Args:
        bucket: the folder of images, or their address.
        files: what shapes the index beside settings, code and libraries: annotations, weights.

    Raises:
        OSError, StorageError: the bucket cannot be listed.
    """
    return _digest(_everything(bucket, files))


def _everything(bucket: str, files: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    yield sys.version, sys.prefix, os.getcwd()
    yield from sorted(item for item in os.environ.items() if item[0].startswith(ENVIRONMENT))
    for path in (*SETTINGS, os.environ.get("LUIGI_CONFIG_PATH", SETTINGS[-1]), *files):
        yield _stamp(path)
    for path in sys.path:
        if path.endswith("-packages"):
            yield _stamp(path)  # changes whenever a library is installed or removed
    yield from (stamp for stamp in _below(CODE) if stamp[0].endswith((".py", ".j2")))
    if "://" in bucket:
        from pipeline.storage import open_storage

        for item in open_storage(bucket).list():
            yield item.key, item.size, item.version
    else:
        yield from _below(bucket)


def _below(folder: str) -> Iterator[Stamp]:
    """Give the stamp of every file below *folder* but hidden ones, sorted by path.

    Raises:
        OSError: it cannot be listed.
    """
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=_name):
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _below(entry.path)
            else:
                yield _stamp(entry.path)


_name = attrgetter("name")


def _stamp(path: str) -> Stamp:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return path, 0, 0, 0, 0
    return path, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _outs() -> str:
    """Digest the stamps of the index itself, without the ctime: dvc sets modes before a stage."""
    return _digest(stamp[:4] for stamp in _below(INDEX))[0]


def _digest(items: Iterable[tuple[Any, ...]]) -> tuple[str, float]:
    hasher, newest = hashlib.sha256(), 0
    for item in items:
        hasher.update(repr(item).encode("utf-8", "surrogateescape"))
        if len(item) == STAMP:
            newest = max(newest, item[3], item[4])
    return hasher.hexdigest(), newest / 1e9
