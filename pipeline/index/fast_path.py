"""A fast path for the index: if nothing has changed since it was made, it is not made again.

The index stage runs at every `dvc repro`. If every file that it was made of still has the same
stamp (inode, size, mtime, ctime), it need not import Luigi and Arrow, which takes a second. In any
doubt, the index is made as usual. This module imports only light parts of the standard library: no
pathlib, no logging.
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
from pipeline.core.run_log import RUN, Counts, append_run_log

MEMORY = ".quadrat/index.json"
OUTS = ("data/index", "data/manifests/index.json", "data/rejects/index.parquet")
CODE = os.path.dirname(os.path.dirname(__file__))
CODE_SUFFIXES = (".py", ".j2", ".css", ".js", ".lock")
"""The lock, and the suffixes in core/code_version.py, whose imports are too slow here."""
SETTINGS = ("params.yaml", "dvc.yaml", "luigi.cfg")
ENVIRONMENT = ("QUADRAT_", "AWS_", "DVC_ROOT", "LUIGI_", "PYTHONPATH")
MAX_AGE_S = 86_400.0
"""Once a day the index is made as usual, which marks its pieces in the store as used."""
SETTLED_S = 2.0
"""A file that changed so recently may change again and keep its stamp."""
Stamp = tuple[str, int, int, int, int]
"""Path, inode, size, mtime and ctime in ns."""
STAMP_LENGTH = 5


def report() -> bool:
    """Print the counts of the index and return True if nothing has changed; else return False."""
    memory = _valid_memory()
    if memory is None:
        return False
    counts = Counts("index", "images", memory["rows"], 0, memory["rejected"])
    sys.stderr.write(f"{counts.summary()}\n")
    append_run_log(memory["runs"], RUN, counts)
    return True


def _valid_memory() -> Any:
    """Return what was remembered of the index if nothing has changed since; else None."""
    try:
        with open(MEMORY, encoding="utf-8") as stream:
            memory = json.load(stream)
        stamps = [snapshot(memory["bucket"], memory["files"])[0], _outs()]
        is_recent = 0 <= time.time() - memory["at"] < MAX_AGE_S
    except (OSError, ValueError, KeyError, TypeError, QuadratError):
        return None  # making the index will raise the error
    return memory if is_recent and stamps == memory["stamps"] else None


def forget() -> None:
    """Delete what was remembered, because the index is made again."""
    if os.path.exists(MEMORY):
        os.remove(MEMORY)


def remember(before: str, facts: dict[str, Any]) -> None:
    """Remember that the index is up to date, unless something has changed since *before*.

    Args:
        before: the digest of `snapshot` from before the index was made.
        facts: `bucket` and `files`, as for `snapshot`; the counts `rows` and `rejected`; and
            `runs`, the path of the run log.
    """
    digest, newest = snapshot(facts["bucket"], facts["files"])
    if digest == before and newest < time.time() - SETTLED_S:
        memory = {**facts, "stamps": [digest, _outs()], "at": time.time()}
        try:
            with open(MEMORY, "w", encoding="utf-8") as stream:
                json.dump(memory, stream)
        except OSError:  # such as a full disk: the next run makes the index as usual
            forget()


def snapshot(bucket: str, files: Sequence[str]) -> tuple[str, float]:
    """Return a digest of the stamps of all inputs of an index, and the time of the last change.

    Args:
        bucket: the folder or the address of the bucket.
        files: further inputs besides settings, code and libraries: annotations, weights.

    Raises:
        OSError, StorageError: the bucket cannot be listed.
    """
    return _digest(_inputs(bucket, files))


def _inputs(bucket: str, files: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    yield sys.version, sys.prefix, os.getcwd()
    yield from sorted(item for item in os.environ.items() if item[0].startswith(ENVIRONMENT))
    for path in (*SETTINGS, os.environ.get("LUIGI_CONFIG_PATH", SETTINGS[-1]), *files):
        yield _stamp(path)
    for path in sys.path:
        if path.endswith("-packages"):
            yield _stamp(path)  # changes whenever a library is installed or removed
    yield from (stamp for stamp in _below(CODE) if stamp[0].endswith(CODE_SUFFIXES))
    if "://" in bucket:
        from pipeline.storage import open_storage

        for item in open_storage(bucket).list():
            yield item.key, item.size, item.version
    else:
        yield from _below(bucket)


def _below(folder: str) -> Iterator[Stamp]:
    """Yield the stamp of every file below *folder*, sorted by path, without hidden files."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=attrgetter("name")):
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _below(entry.path)
            else:
                yield _stamp(entry.path)


def _stamp(path: str) -> Stamp:
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return path, 0, 0, 0, 0
    return path, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _outs() -> str:
    """Return a digest of the outs: of the stamps in the folder, and of the other files' content.

    Stamps are without ctime, since DVC changes modes before a stage. It writes an out that is a
    single file anew after each stage.
    """
    folder, *files = OUTS
    stamps = [stamp[:4] for stamp in _below(folder)]
    return _digest([*stamps, *((path, _sha256(path)) for path in files)])[0]


def _sha256(path: str) -> str:
    try:
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        return ""


def _digest(items: Iterable[tuple[Any, ...]]) -> tuple[str, float]:
    hasher, newest = hashlib.sha256(), 0
    for item in items:
        hasher.update(repr(item).encode("utf-8", "surrogateescape"))
        if len(item) == STAMP_LENGTH:
            newest = max(newest, item[3], item[4])
    return hasher.hexdigest(), newest / 1e9
