"""The store: finished pieces of work, each under the digest of everything that shaped it.

The files of a piece are named `<table>/<recipe>/<shard>/<input>.<file>`, where *recipe* is the
digest of the settings and parts and *input* that of the input rows. Whatever would make a piece
stale is in its name, so a stale hit is impossible. A piece is finished when its record,
`<input>.json`, exists. The record is written last and holds the digest of every file and of itself,
checked at each read: a flipped bit in a Parquet file gives wrong numbers and no error. A piece of
which one file is damaged or gone counts as unfinished: whoever needs it makes it again.
`<input>.ids` lists the ids of the rows, so that a search for reusable rows need not read every
table. Files with other names are not ours, and are ignored.

The store knows nothing of Luigi, of params, or of what the rows mean.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
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
"""An empty file beside a piece with transient rejects: the next run tries the piece again."""

KEY = re.compile(r"(\w+)/([0-9a-f]{64})/(all|p[01]*)/([0-9a-f]{64})\.(.+)")
"""The name of a piece's file: table, recipe, shard, input and file."""

A_DAY_S = 86_400.0
TOUCHERS = 16


@dataclass(frozen=True, slots=True, order=True)
class Piece:
    """The name of one unit of work: one shard of a table, by a recipe, from given input rows."""

    table: str
    recipe: str
    shard: str
    input: str

    def path(self, file: str) -> str:
        """Return the key in the store of *file* of this piece."""
        return f"{self.table}/{self.recipe}/{self.shard}/{self.input}.{file}"

    @classmethod
    def of_key(cls, key: str) -> tuple[Piece, str] | None:
        """Return the piece and the file that *key* names; None if it is no file of a piece."""
        match = KEY.fullmatch(key)
        return match and (cls(*match.groups()[:4]), match[5])


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of a finished piece: its digest, its length in bytes, its number of rows."""

    sha256: str
    size: int
    rows: int


@dataclass(frozen=True, slots=True)
class Record:
    """The files of a finished piece, and the note of whoever made it."""

    files: Mapping[str, StoredFile]
    note: Mapping[str, Any]


def _signed(piece: Piece, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return *record* with a digest over itself and the piece's name."""
    sha256 = hashlib.sha256(piece.path(RECORD).encode() + canonical_json(record)).hexdigest()
    return {**record, "sha256": sha256}


class Damaged(TransientError):
    """A finished piece is not what was written, or is gone; it can be made again."""


class Store:
    """Finished pieces in a folder or under an `s3://` prefix."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def finished(self, table: str, recipe: str, run: str = "") -> dict[str, list[str]]:
        """List the finished pieces of a table: the digests of their input rows, by shard.

        Input rows that a killed run has left beside a finished piece are deleted.

        With *run*, pieces that another run has marked to be tried again are left out.
        """
        finished: dict[str, list[str]] = {}
        beside: dict[str, list[Piece]] = {AGAIN: [], INPUT: []}
        for item in self.storage.list(f"{table}/{recipe}/"):
            piece, file = Piece.of_key(item.key) or (None, "")
            if piece and file == RECORD:
                finished.setdefault(piece.shard, []).append(piece.input)
            elif piece and file in beside:
                beside[file].append(piece)
        for piece in beside[INPUT]:
            if piece.input in finished.get(piece.shard, ()) and piece not in beside[AGAIN]:
                self.storage.delete(piece.path(INPUT))
        for piece in beside[AGAIN] if run else ():
            if piece.input in finished.get(piece.shard, ()) and self._is_to_be_tried(piece, run):
                finished[piece.shard].remove(piece.input)
        return finished

    def _is_to_be_tried(self, piece: Piece, run: str) -> bool:
        """Return True if a marked piece was made by another run than *run*."""
        try:
            note = self.record(piece).note
        except Damaged:
            return True
        if not note.get(AGAIN):
            self.storage.delete(piece.path(AGAIN))
            return False
        return bool(note["run"] != run)

    def has(self, piece: Piece) -> bool:
        """Return True if *piece* is finished."""
        try:
            self.storage.head(piece.path(RECORD))
        except Missing:
            return False
        return True

    def mark_used(self, pieces: Sequence[Piece]) -> None:
        """Set the time of the pieces' records to now, at most once a day.

        Cleaning up by last use goes by that time.
        """
        tables = sorted({(piece.table, piece.recipe) for piece in pieces})
        listed = {item.key: item for at in tables for item in self.storage.list("/".join(at) + "/")}
        records = [listed.get(piece.path(RECORD)) for piece in pieces]
        stale = [item.key for item in records if item and time.time() - item.modified > A_DAY_S]
        with ThreadPoolExecutor(TOUCHERS, thread_name_prefix="touch") as pool:
            list(pool.map(self.storage.touch, stale))

    def describe(self, recipe: str, parts: Mapping[str, Any]) -> None:
        """Write the parts of a recipe to the store, for people who ask what is in it."""
        key = f"recipes/{recipe}.json"
        try:
            self.storage.head(key)
        except Missing:
            self.storage.put(key, canonical_json(dict(parts)))

    def put_input(self, piece: Piece, rows: bytes) -> None:
        """Keep the input rows of *piece* until it is finished, for whoever makes it."""
        self.storage.put(piece.path(INPUT), rows)

    def read_input(self, piece: Piece) -> bytes | None:
        """Return the rows that `put_input` kept; None if the piece has been finished meanwhile.

        Raises:
            Missing: there are no input rows, and the piece is not finished.
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
        """Keep a finished piece.

        Args:
            piece: its name.
            files: the bytes and the number of rows of each file, by name.
            note: for people and logs, such as the run that made the piece; another writer of the
                piece may leave another note. With `again`, the next run tries the piece again.
        """
        stored = {}
        for file, (data, rows) in sorted(files.items()):
            sha256 = hashlib.sha256(data).hexdigest()
            stored[file] = {"sha256": sha256, "size": len(data), "rows": rows}
            self.storage.put(piece.path(file), data)
        record = {"files": stored, "note": dict(note)}
        if note.get(AGAIN):
            self.mark_again(piece)
        self.storage.put(piece.path(RECORD), canonical_json(_signed(piece, record)))
        self.storage.delete(piece.path(INPUT))

    def mark_again(self, piece: Piece) -> None:
        """Mark *piece* to be tried again by the next run."""
        self.storage.put(piece.path(AGAIN), b"")

    def record(self, piece: Piece) -> Record:
        """Read the record of a finished piece.

        Raises:
            Damaged: the record is gone, since somebody else found the piece damaged or removed it;
                or it is not what was written, or is another piece's, and was set aside.
        """
        try:
            data = self.storage.read(piece.path(RECORD))
        except Missing as error:
            raise Damaged(f"{error}; will be made again") from error
        try:
            content = json.loads(data)
            record = {"files": content["files"], "note": content["note"]}
            if content == _signed(piece, record):
                files = {name: StoredFile(**file) for name, file in content["files"].items()}
                return Record(files, content["note"])
        except (ValueError, TypeError, KeyError):
            pass
        raise self._set_aside(piece, RECORD, data)

    def read(self, piece: Piece, file: str) -> bytes:
        """Read one file of a finished piece, and check it against the record.

        Raises:
            Damaged: the file or the record is not what was written, or is gone; the piece counts as
                unfinished from now on.
        """
        stored = self.record(piece).files[file]
        try:
            data = self.storage.read(piece.path(file))
        except Missing:
            data = b""
        if len(data) != stored.size or hashlib.sha256(data).hexdigest() != stored.sha256:
            raise self._set_aside(piece, file, data)
        return data

    def ids(self, piece: Piece) -> bytes:
        """Read the ids of a finished piece's rows, concatenated; none if the piece is damaged."""
        try:
            return self.read(piece, IDS)
        except Damaged:
            return b""

    def _set_aside(self, piece: Piece, file: str, data: bytes) -> Damaged:
        """Move a damaged file to `damaged/`, and return the error to raise."""
        key = piece.path(file)
        if data:
            self.storage.put(f"damaged/{key}", data)
        for name in (RECORD, file):
            self.storage.delete(piece.path(name))
        message = f"{self.storage.url}/{key}: damaged; moved to damaged/, and will be made again"
        log.warning(message)
        return Damaged(message)

    def local_path(self, piece: Piece, file: str) -> Path | None:
        """Return the path of a file, so that it can be linked, if the store is a folder."""
        root = getattr(self.storage, "root", None)
        return None if root is None else Path(root) / piece.path(file)
