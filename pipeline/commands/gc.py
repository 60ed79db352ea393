"""What the store holds, which revisions need it, and what can be removed.

A piece is needed if the `dvc.lock` of a branch, a tag, an experiment or the working tree leads to
it: from the lock to the out, from the out (in DVC's cache) to its manifest, and from the manifest
to the pieces that the out was put together from. Everything in the store can be made again:
removing what is needed after all costs time and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.chip import stage as chip
from pipeline.chip import tables_stage
from pipeline.core.errors import InputError
from pipeline.extract import stage as extract
from pipeline.index import stage as index
from pipeline.storage import Object
from pipeline.store import requests
from pipeline.store.objects import INPUT, RECORD, Piece, Store
from pipeline.store.outputs import CLASSIFIER, STAGES, manifest_path
from pipeline.store.shards import shard_pieces
from pipeline.train import stage as train
from pipeline.validate import stage as validate

A_DAY_S = 86_400.0
ABANDONED_S = 2 * A_DAY_S
"""If nothing of a recipe was written for so long, its unfinished shards count as abandoned."""

TABLES = {"index": index.TABLE, "chip": chip.TABLE, "extract": extract.TABLE}
MANIFESTS = {manifest_path(folder) for folder in STAGES}
NO_PIECES = ("checkpoints", "damaged")
"""Folders of the store whose files belong to no finished piece."""


@dataclass(slots=True)
class StoredPiece:
    """The files of one piece, or files that belong to none (*piece* is None).

    Attributes:
        piece: the store's name of it.
        files: its objects.
        finished: whether it has a record.
        waiting: whether it has input rows, which wait for a worker.
    """

    piece: Piece | None
    files: list[Object] = field(default_factory=list)
    finished: bool = False
    waiting: bool = False

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(item.size for item in self.files)

    @property
    def used(self) -> float:
        """When it was last written or used: a use touches the record."""
        return max(item.modified for item in self.files)


def stored_pieces(store: Store) -> list[StoredPiece]:
    """Return all of the store, from one listing: not descriptions of recipes, nor others' files."""
    pieces: dict[Any, StoredPiece] = {}
    for item in store.storage.list():
        folder = item.key.partition("/")[0]
        piece, ending = Piece.of_key(item.key) or (None, "")
        if piece is None and folder not in {requests.FOLDER, *NO_PIECES}:
            continue
        group = piece or (item.key if folder == requests.FOLDER else folder)
        stored = pieces.setdefault(group, StoredPiece(piece))
        stored.files.append(item)
        stored.finished |= ending == RECORD
        stored.waiting |= ending == INPUT
    return list(pieces.values())


@dataclass(frozen=True, slots=True)
class Needs:
    """The revisions that need each piece, and the manifests that could not be read."""

    by: Mapping[Piece, set[str]]
    unread: Sequence[str]


def needs(checkouts: Sequence[Path]) -> Needs:
    """Find what the branches, tags, experiments and working trees of *checkouts* need.

    Raises:
        InputError: one is not the root of a Git repository with DVC.
    """
    by: dict[Piece, set[str]] = {}
    unread = []
    for checkout in checkouts:
        for revision, path in _manifests(checkout):
            try:
                pieces = list(pieces_of(json.loads(path.read_bytes())))
            except (OSError, ValueError, KeyError):  # not fetched, or of another version of Quadrat
                unread.append(f"{revision}: {path}")
                continue
            for piece in pieces:
                by.setdefault(piece, set()).add(revision)
    return Needs(by, unread)


def pieces_of(manifest: Mapping[str, Any]) -> Iterator[Piece]:
    """Yield the pieces of the store that the out with this manifest was put together from."""
    stage = manifest["stage"]
    if stage in TABLES:
        yield from (piece for piece, _ in shard_pieces(TABLES[stage], manifest))
        for line in manifest.get("tables", ()):
            yield tables_stage.piece_of(line["recipe"], line["input"])
    elif stage == "train":
        yield train.piece_of(manifest["recipe"], manifest["inputs"])
    elif stage == "validate":
        yield Piece(validate.TABLE, manifest["recipe"], "all", manifest["made_from"])


def _manifests(checkout: Path) -> Iterator[tuple[str, Path]]:
    """Yield each revision of *checkout* with the path of every manifest that it leads to."""
    folder = _output(checkout, sys.executable, "-m", "dvc", "cache", "dir")
    cache = checkout / folder / "files" / "md5"
    for path in sorted(MANIFESTS):  # those of the working tree, with or without DVC
        if (checkout / path).exists():
            yield "here", checkout / path
    for revision, lock in _locks(checkout):
        for path, md5 in _outs_of(lock):
            if path in MANIFESTS:
                yield revision, _cached(cache, md5)
            elif path == CLASSIFIER:
                yield revision, _classifier_manifest(cache, md5)


def _locks(checkout: Path) -> Iterator[tuple[str, str]]:
    """Yield each revision with a dvc.lock, and its text; each text once."""
    refs = _output(checkout, "git", "for-each-ref", "--format=%(objectname) %(refname:short)")
    revisions: dict[str, str] = {}
    for ref in refs.splitlines():
        commit, _, name = ref.partition(" ")
        with contextlib.suppress(InputError):  # a revision without a dvc.lock
            revisions.setdefault(_output(checkout, "git", "show", f"{commit}:./dvc.lock"), name)
    for path in (checkout / "dvc.lock", *(checkout / ".dvc/tmp/exps").glob("*/dvc.lock")):
        if path.is_file():
            revisions.setdefault(path.read_text(encoding="utf-8"), str(path))
    yield from ((name, text) for text, name in revisions.items())


def _outs_of(lock: str) -> Iterator[tuple[Path, str]]:
    """Yield the path and MD5 of every out of a dvc.lock."""
    with contextlib.suppress(YAMLError, TypeError, KeyError, AttributeError):
        for stage in YAML(typ="safe").load(lock)["stages"].values():
            for out in stage.get("outs", []):
                yield Path(out["path"]), str(out.get("md5", ""))


def _classifier_manifest(cache: Path, md5: str) -> Path:
    """Return the cached manifest of a classifier's cached folder, or else the folder's listing."""
    listing = _cached(cache, md5)
    try:
        files = {item["relpath"]: item["md5"] for item in json.loads(listing.read_bytes())}
        return _cached(cache, files[manifest_path(CLASSIFIER).name])
    except (OSError, ValueError, KeyError):
        return listing


def _cached(cache: Path, md5: str) -> Path:
    return cache / md5[:2] / md5[2:]


def _output(checkout: Path, *command: str) -> str:
    """Return what *command* prints in *checkout*.

    Raises:
        InputError: it fails.
    """
    if not (checkout / "dvc.yaml").exists():
        raise InputError(f"{checkout}: has no dvc.yaml; name the root of a checkout")
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise InputError(f"{checkout}: is not a Git repository with DVC ({reason})")
    return done.stdout.strip("\n")


def removable(
    stored: Sequence[StoredPiece],
    needed: Mapping[Piece, set[str]],
    *,
    unneeded: bool,
    unused_days: float | None,
    grace_s: float,
) -> list[StoredPiece]:
    """Return which of *stored* can go; never what a running task may be writing.

    Args:
        stored: everything in the store.
        needed: the revisions that need each piece.
        unneeded: pieces that no revision needs can go.
        unused_days: pieces that were not used for so many days can go, needed or not; None: none.
        grace_s: pieces that were used within this time stay in any case.
    """
    now = time.time()
    busy = _busy_recipes(stored, now)

    def may_go(item: StoredPiece) -> bool:
        piece, age = item.piece, now - item.used
        is_request = item.files[0].key.startswith(f"{requests.FOLDER}/")
        if is_request and (busy or age < ABANDONED_S):  # tasks of a running stage read it
            return False
        if age < grace_s or (piece and (piece.table, piece.recipe) in busy):
            return False
        if unused_days is not None and age > unused_days * A_DAY_S:
            return True
        return unneeded and piece not in needed

    return [item for item in stored if may_go(item)]


def _busy_recipes(stored: Sequence[StoredPiece], now: float) -> set[tuple[str, str]]:
    """Return table and recipe of the unfinished pieces whose recipe was written to lately."""
    unfinished: set[tuple[str, str]] = set()
    latest: dict[tuple[str, str], float] = {}
    for item in stored:
        if item.piece:
            recipe = (item.piece.table, item.piece.recipe)
            latest[recipe] = max(latest.get(recipe, 0.0), item.used)
            if item.waiting and not item.finished:
                unfinished.add(recipe)
    return {recipe for recipe in unfinished if now - latest[recipe] < ABANDONED_S}


def remove(store: Store, pieces: Sequence[StoredPiece]) -> None:
    """Remove *pieces*; of each its record first: without it, it counts as unfinished."""
    for piece in pieces:
        for item in sorted(piece.files, key=lambda item: not item.key.endswith(f".{RECORD}")):
            store.storage.delete(item.key)
