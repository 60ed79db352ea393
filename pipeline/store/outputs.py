"""A stage's out directory: what DVC tracks, put together from finished pieces.

Files that are already right are not touched, so that DVC need not read them again. The manifest is
taken away first and written last: a folder with a manifest is a folder that it describes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core import signals
from pipeline.core.errors import InputError, StorageError, TransientError

MANIFEST = "manifest.json"
TEMPORARY = ".quadrat-tmp"
FICLONE = 0x40049409


@dataclass(frozen=True, slots=True)
class Out:
    """One file to be: its digest, how to get its bytes, and, if there is one, a file to link."""

    sha256: str
    data: Callable[[], bytes]
    link: Path | None = None


def out(data: bytes) -> Out:
    """Give the Out whose bytes are at hand."""
    return Out(hashlib.sha256(data).hexdigest(), lambda: data)


def pretty(value: Any) -> bytes:
    """Encode *value* as JSON that a person can read and that repeats to the byte."""
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Give the manifest of *folder*, or None where there is none that can be read."""
    try:
        found = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return found if _is_ours(found) else None


SHARD = {"shard": int, "rows": int, "sha256": str, "input": str}


def _is_ours(found: Any) -> bool:
    """Say whether *found* is made as manifests are; who has changed one by hand has none."""
    if not isinstance(found, dict) or not isinstance(found.get("stage"), str):
        return False
    lines = found.get("shards", [])
    return isinstance(lines, list) and all(
        isinstance(line, dict) and all(isinstance(line.get(k), kind) for k, kind in SHARD.items())
        for line in lines
    )


def require_manifest(folder: Path, stage: str) -> dict[str, Any]:
    """Give the manifest of an earlier stage's out.

    Raises:
        InputError: the stage has not run.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise InputError(
            f"{folder}: has no manifest; run the {stage} stage first (dvc repro {stage})"
        )
    return manifest


def publish(
    folder: Path,
    files: Mapping[str, Out],
    manifest: Mapping[str, Any],
    verdict: Exception | None = None,
    *,
    beside_others: bool = False,
) -> None:
    """Make *folder* hold exactly *files* and the manifest.

    Args:
        folder: the out.
        files: by name below it.
        manifest: what the files are.
        verdict: why the stage has failed all the same. The files are there to be looked at, but
            without a manifest the out counts as unfinished.
        beside_others: the folder also holds what is not ours, which is left alone.

    Raises:
        StorageError: the folder cannot be written.
        Exception: *verdict*.
    """
    wanted = dict(files) if verdict else {**files, MANIFEST: out(pretty(manifest))}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stale = {name for name, file in wanted.items() if not _is_right(folder / name, file)}
        extra = _present(folder, ours_only=beside_others) - wanted.keys()
        if stale or extra:
            (folder / MANIFEST).unlink(missing_ok=True)
            _place_all(folder, {name: wanted[name] for name in sorted(stale - {MANIFEST})})
            for name in sorted(extra):
                (folder / name).unlink(missing_ok=True)
            if not verdict:
                place(folder / MANIFEST, wanted[MANIFEST])
    except OSError as error:
        raise StorageError(
            f"{folder}: cannot be written ({error.strerror or error}); "
            "make room or give this user the right to write there, and run again"
        ) from error
    if verdict:
        raise verdict


def _place_all(folder: Path, files: Mapping[str, Out]) -> None:
    """Place *files*; where some are not to be had now, find out about all before raising."""
    failed: TransientError | None = None
    for name, file in files.items():
        try:
            place(folder / name, file)
        except TransientError as error:  # a piece that is damaged: it can be made again
            failed = failed or error
    if failed:
        raise failed


def _present(folder: Path, *, ours_only: bool) -> set[str]:
    """Give the files below *folder*; *ours_only*: those that a killed run of ours has left."""
    pattern = f".*{TEMPORARY}" if ours_only else "*"
    found = (path for path in folder.rglob(pattern) if path.is_file())
    return {path.relative_to(folder).as_posix() for path in found}


def _is_right(path: Path, file: Out) -> bool:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == file.sha256
    except OSError:
        return False


def place(path: Path, file: Out) -> None:
    """Put *file* at *path*: a reader finds what was there before, or all of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        with signals.creating:
            signals.unfinished.add(str(temporary))
            is_linked = file.link is not None and _linked(file.link, temporary)
        if not is_linked or not _is_right(temporary, file):
            data = file.data()
            temporary.unlink(missing_ok=True)
            with signals.creating:
                stream = temporary.open("wb")
            with stream:
                stream.write(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        signals.unfinished.discard(str(temporary))


def _linked(source: Path, target: Path) -> bool:
    """Try to give *target* the bytes of *source* without copying them."""
    return _reflinked(source, target) or _hard_linked(source, target)


def _reflinked(source: Path, target: Path) -> bool:
    if sys.platform != "linux":
        return False
    import fcntl

    with contextlib.suppress(OSError), source.open("rb") as old, target.open("xb") as new:
        fcntl.ioctl(new.fileno(), FICLONE, old.fileno())
        return True
    target.unlink(missing_ok=True)
    return False


def _hard_linked(source: Path, target: Path) -> bool:
    with contextlib.suppress(OSError):
        os.link(source, target)
        return True
    return False
