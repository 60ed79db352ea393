"""The store: finished work, each piece under the digest of everything that shaped it.

`<table>/<recipe>/<shard>/<input>.<file>`: *recipe* is the digest of the settings and parts, *input*
that of the input rows. What would make a piece stale is in its name, so a stale hit is impossible.
A piece is there when its `<input>.json` is, which is written last and holds the digest of every
file and of itself, checked at each read: a flipped bit in Parquet gives wrong numbers and no error.
Beside it, `<input>.ids` lists the rows, so that whoever looks for a row need not read every table.

The store knows nothing of Luigi, of params or of what its rows mean.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.errors import Missing, TransientError
from pipeline.core.hashing import canonical_json
from pipeline.storage import Storage

log = logging.getLogger(__name__)

RECORD = "json"
INPUT = "input.parquet"
IDS = "ids"
AGAIN = "again"
"""A mark, and nothing in it: some of the piece's rejects lie in the bucket and may pass."""

A_DAY_S = 86_400.0
TOUCHERS = 16


@dataclass(frozen=True, slots=True, order=True)
class Piece:
    """The name of one unit of work: one shard of one table by one recipe from given rows."""

    table: str
    recipe: str
    shard: str
    input: str

    def path(self, file: str) -> str:
        """Give the key under which *file* of this piece is kept."""
        return f"{self.table}/{self.recipe}/{self.shard}/{self.input}.{file}"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of a finished piece: its digest, its bytes' length, its rows."""

    sha256: str
    size: int
    rows: int


@dataclass(frozen=True, slots=True)
class Record:
    """What a finished piece consists of, and the note that its maker left."""

    files: Mapping[str, StoredFile]
    note: Mapping[str, Any]


def _signed(piece: Piece, record: Mapping[str, Any]) -> dict[str, Any]:
    """Give *record* with a digest of it and of whose it is: nothing else says what it should be."""
    sha256 = hashlib.sha256(piece.path(RECORD).encode() + canonical_json(record)).hexdigest()
    return {**record, "sha256": sha256}


class Damaged(TransientError):
    """A file of the store is not what was written; it was set aside and can be made again."""


class Store:
    """Finished pieces in a folder or an `s3://` prefix."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def finished(self, table: str, recipe: str, run: str = "") -> dict[str, list[str]]:
        """Give the inputs of every finished piece by shard, with one listing.

        Input rows that somebody who was killed has left beside a finished piece are removed.

        Args:
            table: of the pieces.
            recipe: theirs.
            run: where one is given, what another run has marked to be tried again is left out.
        """
        found: dict[str, list[str]] = {}
        beside: dict[str, list[Piece]] = {AGAIN: [], INPUT: []}
        for item in self.storage.list(f"{table}/{recipe}/"):
            _, _, shard, name = item.key.rsplit("/", 3)
            stem, _, file = name.partition(".")
            if file == RECORD:
                found.setdefault(shard, []).append(stem)
            elif file in beside:
                beside[file].append(Piece(table, recipe, shard, stem))
        for piece in beside[INPUT]:
            if piece.input in found.get(piece.shard, ()) and piece not in beside[AGAIN]:
                self.storage.delete(piece.path(INPUT))
        for piece in beside[AGAIN] if run else ():
            if piece.input in found.get(piece.shard, ()) and self._is_to_be_tried(piece, run):
                found[piece.shard].remove(piece.input)
        return found

    def _is_to_be_tried(self, piece: Piece, run: str) -> bool:
        """Say whether a marked piece is still what another run than *run* has left."""
        try:
            note = self.record(piece).note
        except (Missing, Damaged):
            return True
        if not note.get(AGAIN):
            self.storage.delete(piece.path(AGAIN))
            return False
        return bool(note["run"] != run)

    def has(self, piece: Piece) -> bool:
        """Say whether *piece* is finished."""
        try:
            self.storage.head(piece.path(RECORD))
        except Missing:
            return False
        return True

    def use(self, pieces: Sequence[Piece]) -> None:
        """Note that finished *pieces* are used, for whoever cleans by their last use.

        The time of a record is that of its last use, to the day: it is set once a day at most.
        """
        recipes = sorted({(piece.table, piece.recipe) for piece in pieces})
        found = {item.key: item for at in recipes for item in self.storage.list("/".join(at) + "/")}
        records = [found.get(piece.path(RECORD)) for piece in pieces]
        stale = [item.key for item in records if item and time.time() - item.modified > A_DAY_S]
        with ThreadPoolExecutor(TOUCHERS, thread_name_prefix="touch") as pool:
            list(pool.map(self.storage.touch, stale))

    def describe(self, recipe: str, parts: Mapping[str, Any]) -> None:
        """Keep what a recipe consists of, for people who ask what lies in the store."""
        key = f"recipes/{recipe}.json"
        try:
            self.storage.head(key)
        except Missing:
            self.storage.put(key, canonical_json(dict(parts)))

    def put_input(self, piece: Piece, rows: bytes) -> None:
        """Keep the rows that *piece* is to be made from until it is, for whoever makes it."""
        self.storage.put(piece.path(INPUT), rows)

    def input(self, piece: Piece) -> bytes | None:
        """Give the rows that `put_input` kept; None if somebody has finished the piece meanwhile.

        Raises:
            Missing: they are not there, and the piece is not finished.
            Damaged: their digest is not the one in the piece's name.
        """
        try:
            rows = self.storage.read(piece.path(INPUT))
        except Missing:
            if self.has(piece):
                return None
            raise
        if hashlib.sha256(rows).hexdigest() != piece.input:
            raise self._set_aside(piece, INPUT, rows)
        return rows

    def put(
        self, piece: Piece, files: Mapping[str, tuple[bytes, int]], note: Mapping[str, Any]
    ) -> None:
        """Keep a finished piece: for each file its bytes and number of rows, and a *note*.

        The note is for people and logs (which run made the piece); it names nothing and two
        writers of one piece may differ in it. If it says *again*, the next run tries again.
        """
        kept = {}
        for file, (data, rows) in sorted(files.items()):
            sha256 = hashlib.sha256(data).hexdigest()
            kept[file] = {"sha256": sha256, "size": len(data), "rows": rows}
            self.storage.put(piece.path(file), data)
        record = {"files": kept, "note": dict(note)}
        if note.get(AGAIN):
            self.storage.put(piece.path(AGAIN), b"")
        self.storage.put(piece.path(RECORD), canonical_json(_signed(piece, record)))
        self.storage.delete(piece.path(INPUT))

    def record(self, piece: Piece) -> Record:
        """Give what a finished piece consists of.

        Raises:
            Missing: the piece is not finished.
            Damaged: the record is not what was written, or another piece's; it was set aside.
        """
        data = self.storage.read(piece.path(RECORD))
        try:
            found = json.loads(data)
            record = {"files": found["files"], "note": found["note"]}
            if found == _signed(piece, record):
                files = {name: StoredFile(**kept) for name, kept in found["files"].items()}
                return Record(files, found["note"])
        except (ValueError, TypeError, KeyError):
            pass
        raise self._set_aside(piece, RECORD, data)

    def read(self, piece: Piece, file: str) -> bytes:
        """Give one file of a finished piece, checked against its record.

        Raises:
            Missing: the piece is not finished.
            Damaged: the file is not what was written; the piece counts as unfinished from now on.
        """
        kept = self.record(piece).files[file]
        try:
            data = self.storage.read(piece.path(file))
        except Missing:
            data = b""
        if len(data) != kept.size or hashlib.sha256(data).hexdigest() != kept.sha256:
            raise self._set_aside(piece, file, data)
        return data

    def ids(self, piece: Piece) -> bytes:
        """Give the ids of a finished piece's rows, end to end; nothing where none were kept.

        A hint, and not checked: what it leads to is.
        """
        try:
            return self.storage.read(piece.path(IDS))
        except Missing:
            return b""

    def _set_aside(self, piece: Piece, file: str, data: bytes) -> Damaged:
        """Take a damaged file out of the way, but keep its bytes; give the error to raise."""
        key = piece.path(file)
        if data:
            self.storage.put(f"damaged/{key}", data)
        for name in (RECORD, file):
            self.storage.delete(piece.path(name))
        message = f"{self.storage.url}/{key}: damaged; set aside below damaged/, is made again"
        log.warning(message)
        return Damaged(message)

    def local_path(self, piece: Piece, file: str) -> Path | None:
        """Give the path of a file of a store that is a folder, so that it can be linked."""
        root = getattr(self.storage, "root", None)
        return None if root is None else Path(root) / piece.path(file)
