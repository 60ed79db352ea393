"""What the store holds, who needs it, and what can go.

A piece is needed if the `dvc.lock` of a branch, a tag, an experiment or the working tree leads to
it: from the lock to the out, from the out (in DVC's cache) to its manifest, from the manifest to
the pieces that it was put together from. Everything in the store can be made again: removing what
is needed after all costs time and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
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
from pipeline.core.hashing import shard_name
from pipeline.extract import stage as extract
from pipeline.index import stage as index
from pipeline.storage import Object
from pipeline.store import requests
from pipeline.store.objects import INPUT, RECORD, Piece, Store
from pipeline.store.outputs import CLASSIFIER, STAGES, manifest_path
from pipeline.train import stage as train
from pipeline.validate import stage as validate

A_DAY_S = 86_400.0
AT_WORK_S = 2 * A_DAY_S
"""Shards that wait, by a recipe in which nothing was written for so long, have been given up."""

TABLES = {"index": index.TABLE, "chip": chip.TABLE, "extract": extract.TABLE}
MANIFESTS = {manifest_path(folder) for folder in STAGES}
MANIFEST = manifest_path(CLASSIFIER).name
DAMAGED = "damaged"
PARTS = 4
"""Of a key in the store: table, recipe, shard, file."""


@dataclass(slots=True)
class StoredPiece:
    """The files of one piece, or files that belong to none (*piece* is None).

    Attributes:
        piece: the store's name of it.
        files: its objects.
        finished: whether its record is there.
        waiting: whether its input rows wait for somebody to finish it.
    """

    piece: Piece | None
    files: list[Object] = field(default_factory=list)
    finished: bool = False
    waiting: bool = False

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(item.size for item in self.files)

    @property
    def is_request(self) -> bool:
        """Whether it is a request, which the tasks of a running stage may still have to read."""
        return self.files[0].key.startswith(f"{requests.FOLDER}/")

    @property
    def used(self) -> float:
        """When it was last written or, by the time of its record, used."""
        return max(item.modified for item in self.files)


def groups(store: Store) -> list[StoredPiece]:
    """Give all that lies in the store but descriptions of recipes, with one listing."""
    found: dict[Any, StoredPiece] = {}
    for item in store.storage.list():
        parts = item.key.split("/")
        if parts[0] == "recipes":
            continue
        name, _, file = parts[-1].partition(".")
        piece = None
        if len(parts) == PARTS and parts[0] != DAMAGED:
            piece = Piece(parts[0], parts[1], parts[2], name)
        name_of_group = item.key if parts[0] == requests.FOLDER else parts[0]
        group = found.setdefault(piece or name_of_group, StoredPiece(piece))
        group.files.append(item)
        group.finished |= file == RECORD
        group.waiting |= file == INPUT
    return list(found.values())


@dataclass(frozen=True, slots=True)
class Needs:
    """Pieces and the revisions that need them; and outs whose manifest could not be read."""

    by: Mapping[Piece, set[str]]
    unread: Sequence[str]


def needs(checkouts: Sequence[Path]) -> Needs:
    """Find what the branches, tags, experiments and working trees of *checkouts* need.

    Raises:
        InputError: one is no git repository with DVC.
    """
    by: dict[Piece, set[str]] = {}
    unread = []
    for checkout in checkouts:
        for revision, found in _manifests(checkout):
            try:
                pieces = list(pieces_of(json.loads(found.read_bytes())))
            except (OSError, ValueError, KeyError):  # not fetched, or of another version of ours
                unread.append(f"{revision}: {found}")
                continue
            for piece in pieces:
                by.setdefault(piece, set()).add(revision)
    return Needs(by, unread)


def pieces_of(manifest: Mapping[str, Any]) -> Iterator[Piece]:
    """Give the pieces of the store that an out with *manifest* was put together from."""
    stage = manifest["stage"]
    if stage in TABLES:
        for line in manifest.get("shards", ()):
            shard = shard_name(line["shard"], manifest["shards_count"])
            yield Piece(TABLES[stage], manifest["recipe"], shard, line["input"])
        for line in manifest.get("tables", ()):
            yield tables_stage.piece_of(line["recipe"], line["input"])
    elif stage == "train":
        yield train.piece_of(manifest["recipe"], manifest["inputs"])
    elif stage == "validate":
        yield Piece(validate.TABLE, manifest["recipe"], "all", manifest["made_from"])


def _manifests(checkout: Path) -> Iterator[tuple[str, Path]]:
    """Give the files of manifests that *checkout* leads to, and what leads there."""
    cache = checkout / _said(checkout, "dvc", "cache", "dir") / "files" / "md5"
    for path in sorted(MANIFESTS):  # those of the working tree, with or without DVC
        if (checkout / path).exists():
            yield "here", checkout / path
    for revision, lock in _locks(checkout):
        for path, md5 in _outs_of(lock):
            if path in MANIFESTS:
                yield revision, _cached(cache, md5)
            elif path == CLASSIFIER:
                yield revision, _in_folder(cache, md5)


def _locks(checkout: Path) -> Iterator[tuple[str, str]]:
    """Give each revision with a dvc.lock, and its text; the same text once."""
    named = _said(checkout, "git", "for-each-ref", "--format=%(objectname) %(refname:short)")
    seen: dict[str, str] = {}
    for line in named.splitlines():
        commit, _, name = line.partition(" ")
        text = _said(checkout, "git", "show", f"{commit}:./dvc.lock", missing="")
        seen.setdefault(text, name)
    for path in (checkout / "dvc.lock", *(checkout / ".dvc/tmp/exps").glob("*/dvc.lock")):
        if path.is_file():
            seen.setdefault(path.read_text(encoding="utf-8"), str(path))
    yield from ((name, text) for text, name in seen.items() if text)


def _outs_of(lock: str) -> Iterator[tuple[Path, str]]:
    """Give path and MD5 of every out of a dvc.lock."""
    with contextlib.suppress(YAMLError, TypeError, KeyError, AttributeError):
        for stage in YAML(typ="safe").load(lock)["stages"].values():
            for out in stage.get("outs", []):
                yield Path(out["path"]), str(out.get("md5", ""))


def _in_folder(cache: Path, md5: str) -> Path:
    """Give the cached manifest of a cached folder; the folder's list if that leads nowhere."""
    try:
        listed = json.loads(_cached(cache, md5).read_bytes())
        return _cached(cache, {item["relpath"]: item["md5"] for item in listed}[MANIFEST])
    except (OSError, ValueError, KeyError):
        return _cached(cache, md5)


def _cached(cache: Path, md5: str) -> Path:
    return cache / md5[:2] / md5[2:]


def _said(checkout: Path, *command: str, missing: str | None = None) -> str:
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    if done.returncode and missing is None:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise InputError(
            f"{checkout}: no git repository with DVC ({' '.join(command[:2])}: {said})"
        )
    return missing or "" if done.returncode else done.stdout.strip("\n")


@dataclass(frozen=True, slots=True)
class Rule:
    """What may go.

    Attributes:
        unneeded: whether what no revision needs goes.
        unused_days: what has not been used for so many days goes, needed or not; None: nothing.
        grace_s: what was used within this time stays.
    """

    unneeded: bool
    unused_days: float | None
    grace_s: float


def removable(
    found: Sequence[StoredPiece], needed: Mapping[Piece, set[str]], rule: Rule
) -> list[StoredPiece]:
    """Give what of *found* may go by *rule*; never what a running task may be writing."""
    now = time.time()
    busy = _busy(found, now)

    def may_go(group: StoredPiece) -> bool:
        piece, age = group.piece, now - group.used
        if group.is_request and (busy or age < AT_WORK_S):
            return False
        if age < rule.grace_s or (piece and (piece.table, piece.recipe) in busy):
            return False
        if rule.unused_days is not None and age > rule.unused_days * A_DAY_S:
            return True
        return rule.unneeded and piece not in needed

    return [group for group in found if may_go(group)]


def _busy(found: Sequence[StoredPiece], now: float) -> set[tuple[str, str]]:
    """Give the recipes with shards that wait and in which something was written lately."""
    waiting: set[tuple[str, str]] = set()
    latest: dict[tuple[str, str], float] = {}
    for group in found:
        if group.piece:
            recipe = (group.piece.table, group.piece.recipe)
            latest[recipe] = max(latest.get(recipe, 0.0), group.used)
            if group.waiting and not group.finished:
                waiting.add(recipe)
    return {recipe for recipe in waiting if now - latest[recipe] < AT_WORK_S}


def remove(store: Store, gone: Sequence[StoredPiece]) -> None:
    """Remove *gone*, of each piece its record first: without it, it counts as unfinished."""
    for group in gone:
        for item in sorted(group.files, key=lambda item: not item.key.endswith(f".{RECORD}")):
            store.storage.delete(item.key)
