"""Out directories: what DVC tracks, put together from finished pieces of the store.

A folder of shards (`data/chips/`, `data/features/`) holds the shards and nothing else, so that
pandas, polars, DuckDB, Spark and Hugging Face read it as one table. What describes the folders of
`data/` is therefore beside them: a manifest each in `data/manifests/`, the rejects of each stage in
`data/rejects/`, which is one table in turn.

Files that are already right are not touched, so that DVC need not read them again. The manifest is
removed first and written last: a folder with a manifest holds what the manifest describes.
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
from pipeline.core.errors import InputError, TransientError, cannot_write

DATA = Path("data")
INDEX = DATA / "index"
CHIPS = DATA / "chips"
LABELS = DATA / "labels"
FEATURES = DATA / "features"
CLASSIFIER = Path("models/classifier")
RESULTS = Path("results")

STAGES: Mapping[Path, str] = {
    INDEX: "index",
    CHIPS: "chip",
    LABELS: "chip",
    FEATURES: "extract",
    CLASSIFIER: "train",
    RESULTS: "validate",
}
"""The stage that makes each out."""

EARLIER = Path(".quadrat/manifests")
"""The manifests of outs that are made again."""

TEMPORARY = ".quadrat-tmp"
FICLONE = 0x40049409


def manifest_path(folder: Path) -> Path:
    """Return the path of an out's manifest."""
    if folder.parent == DATA:
        return DATA / "manifests" / f"{folder.name}.json"
    return folder / "manifest.json"


def rejects_path(stage: str) -> Path:
    """Return the path of the rejects table of *stage*."""
    return DATA / "rejects" / f"{stage}.parquet"


def shard_path(folder: Path, number: int) -> Path:
    """Return the path of one shard of a table."""
    return folder / f"{number:04d}.parquet"


@dataclass(frozen=True, slots=True)
class Out:
    """One file of an out.

    Attributes:
        sha256: its digest, as 64 hex digits.
        data: returns its bytes.
        link: a file with the same bytes that can be linked, if there is one.
    """

    sha256: str
    data: Callable[[], bytes]
    link: Path | None = None


def out(data: bytes) -> Out:
    """Return the Out with the bytes *data*."""
    return Out(hashlib.sha256(data).hexdigest(), lambda: data)


def pretty(value: Any) -> bytes:
    """Encode *value* as JSON with indents; equal values give equal bytes."""
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of *folder*, or None if it is missing or damaged."""
    return _read(manifest_path(folder))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        manifest = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return manifest if _is_valid(manifest) else None


def set_manifest_aside(folder: Path) -> None:
    """Remove the manifest of an out that is made again; `known_manifests` still returns it.

    So the shards that it describes can be taken into the store, also by a later run.
    """
    manifest = manifest_path(folder)
    if manifest.exists():
        place(EARLIER / f"{folder.name}.json", out(manifest.read_bytes()))
        manifest.unlink()


def known_manifests(folder: Path) -> list[dict[str, Any]]:
    """Return the manifest of *folder*, and the one that was set aside; those that are valid."""
    read = map(_read, (manifest_path(folder), EARLIER / f"{folder.name}.json"))
    return [manifest for manifest in read if manifest is not None]


SHARD_FIELDS = {"shard": int, "rows": int, "sha256": str, "input": str}


def _is_valid(manifest: Any) -> bool:
    """Return True if *manifest* has the form that `publish` writes; somebody may have edited it."""
    if not isinstance(manifest, dict) or not isinstance(manifest.get("stage"), str):
        return False
    lines = manifest.get("shards", [])
    return isinstance(lines, list) and all(
        isinstance(line, dict)
        and all(isinstance(line.get(name), kind) for name, kind in SHARD_FIELDS.items())
        for line in lines
    )


def require_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of an earlier stage's out.

    Raises:
        InputError: the stage has not run.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        stage = STAGES[folder]
        raise InputError(
            f"{folder}: has no manifest; run the {stage} stage first (dvc repro {stage})"
        )
    return manifest


def shard_paths(folder: Path) -> list[Path]:
    """Return the paths of all shards of a table, in order.

    Raises:
        InputError: the stage that makes the table has not run.
    """
    return [shard_path(folder, line["shard"]) for line in require_manifest(folder)["shards"]]


def publish(
    folder: Path,
    files: Mapping[Path, Out],
    manifest: Mapping[str, Any],
    error: Exception | None = None,
    *,
    keep_others: bool = False,
) -> None:
    """Write *files* and the manifest, and remove every other file from *folder*.

    Args:
        folder: the out.
        files: by path; they are in *folder*, but for the rejects.
        manifest: describes the files; their paths are added to it.
        error: why the stage failed. The files are written, so that they can be looked at, but
            without a manifest, so that the out counts as unfinished.
        keep_others: leave other files in *folder* alone.

    Raises:
        StorageError: a file cannot be written.
        Exception: *error*.
    """
    target = manifest_path(folder)
    names = [path.as_posix() for path in sorted(files)]
    whole = out(pretty({**manifest, "files": names}))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        changed = [path for path in sorted(files) if not _is_right(path, files[path])]
        pattern = f".*{TEMPORARY}" if keep_others else "*"  # what a killed run has left, or all
        extra = {path for path in folder.rglob(pattern) if path.is_file()} - {*files, target}
        if changed or extra or error or not _is_right(target, whole):
            target.unlink(missing_ok=True)
            _place_all({path: files[path] for path in changed})
            for path in sorted(extra):
                path.unlink(missing_ok=True)
            if not error:
                place(target, whole)
    except OSError as why:
        raise cannot_write(folder, why) from why
    if error:
        raise error


def is_complete(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """Return True if every file that the manifest names exists."""
    return folder.is_dir() and all(Path(name).exists() for name in manifest.get("files", []))


def _place_all(files: Mapping[Path, Out]) -> None:
    """Place *files*; if some cannot be read now, try all of them before raising the first error."""
    failed: TransientError | None = None
    for path, file in files.items():
        try:
            place(path, file)
        except TransientError as error:  # a damaged piece: it can be made again
            failed = failed or error
    if failed:
        raise failed


def _is_right(path: Path, file: Out) -> bool:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == file.sha256
    except OSError:
        return False


def place(path: Path, file: Out) -> None:
    """Write *file* to *path* atomically: a reader sees the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        with signals.creating:
            signals.unfinished.add(str(temporary))
            if file.link is not None:
                _link(file.link, temporary)
        if not _is_right(temporary, file):
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


def _link(source: Path, target: Path) -> None:
    """Create *target* with the bytes of *source* without a copy, if the file system can do it."""
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError), source.open("rb") as old, target.open("xb") as new:
            fcntl.ioctl(new.fileno(), FICLONE, old.fileno())
            return
        target.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        os.link(source, target)
