"""Files of chips: an image is read once, its chips cut and encoded, and what is new is written."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import groupby
from typing import Self

from pipeline import images, numerics, pictures
from pipeline.errors import InputError, Rejected
from pipeline.rejects import Reject
from pipeline.sections import Extract
from pipeline.storage import open_storage
from pipeline.windows import crop
from pipeline.work import _given
from pipeline.work._context import Context
from pipeline.work._given import Asked, Planned, Row

JOB_CHIPS = 64
"""Chips of one image that are cut at once."""


WRITERS = 16
"""Threads that read and write, where each file is a chip: they hide the storage's latency."""

FEW = 200
"""So few chips are encoded before processes of their own have started."""


@dataclass(frozen=True, slots=True)
class Made:
    """One file: what it was made from, its size, its digest, how many chips; *written*: now."""

    key: str
    made_from: str
    size: int
    sha256: str
    chips: int
    rows: Sequence[Row] = ()
    written: bool = False

    def columns(self) -> dict[str, str | int]:
        """Give what schemas.EXPORTED says of the file."""
        said = {"object": self.key, "sha256": self.sha256, "made_from": self.made_from}
        return {**said, "object_size": self.size}


class Maker:
    """Makes files of chips.

    Args:
        context: the work's.
        asked: what files.
        before: those that stand: one that comes out as it is there is not written again.
    """

    def __init__(self, context: Context, asked: Asked, before: Mapping[str, Made]) -> None:
        self.bucket = open_storage(context.params.bucket.url, memory=context.machine.digests)
        self.target = open_storage(asked.target)
        self.asked, self.extract = asked, context.params.extract
        self.before = before
        self.chips, self.cores = 0, numerics.cores()
        writers = self.cores + 2 if asked.tars else WRITERS
        self.threads = ThreadPoolExecutor(writers, thread_name_prefix="export")
        self.encoders: Executor = ThreadPoolExecutor(1, thread_name_prefix="encode")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Begin nothing more, and wait for what has begun."""
        self.threads.shutdown(wait=True, cancel_futures=True)
        self.encoders.shutdown(wait=True, cancel_futures=True)

    def make(self, todo: Sequence[Planned]) -> Iterator[tuple[list[Made], list[Reject]]]:
        """Make the files *todo*, some at a time, in their order.

        Raises:
            StorageError: an image changed since it was indexed, or a file cannot be written.
            InputError: decoding an image ended the process.
        """
        before, self.chips = self.chips, self.chips + sum(len(file.rows) for file in todo)
        if before <= FEW < self.chips:
            self.encoders.shutdown()
            spawn = multiprocessing.get_context("spawn")
            self.encoders = ProcessPoolExecutor(self.cores, spawn, end_with_the_export)
        yield from self.threads.map(self._make, _units(todo))

    def _make(self, files: Sequence[Planned]) -> tuple[list[Made], list[Reject]]:
        """Cut, encode and write the chips of *files*."""
        found: dict[bytes, bytes] = {}
        refused: list[Reject] = []
        rows = [row for file in files for row in file.rows]
        for _, grouped in groupby(rows, lambda row: str(row["key"])):
            own = list(grouped)
            for start in range(0, len(own), JOB_CHIPS):
                some = own[start : start + JOB_CHIPS]
                cut = self._cut(some)
                if isinstance(cut, Rejected):
                    refused += [_refusal(row, cut) for row in some]
                else:
                    ids = (row["chip_id"] for row in some)
                    found.update(zip(ids, cut, strict=True))
        made = (self._write(file, found) for file in files)
        return [file for file in made if file is not None], refused

    def _cut(self, rows: Sequence[Row]) -> list[bytes] | Rejected:
        key = rows[0]["key"]
        data = self.bucket.read(key, if_version=rows[0]["version"])
        try:
            return self.encoders.submit(_cut, data, rows, self.asked.kind, self.extract).result()
        except BrokenProcessPool as error:
            raise InputError(
                f"export: decoding {key}, or an image beside it, ended its process; is there "
                "memory enough? run it again, or exclude the image by bucket.exclude"
            ) from error

    def _write(self, file: Planned, found: Mapping[bytes, bytes]) -> Made | None:
        rows = [row for row in file.rows if row["chip_id"] in found]
        if not rows:
            return None
        data = self._packed(rows, found) if self.asked.tars else found[rows[0]["chip_id"]]
        sha256 = hashlib.sha256(data).hexdigest()
        old = self.before.get(file.key)
        new = old is None or old.sha256 != sha256
        if new:
            self.target.put(file.key, data)
        return Made(file.key, file.made_from, len(data), sha256, len(rows), rows, written=new)

    def _packed(self, rows: Sequence[Row], found: Mapping[bytes, bytes]) -> bytes:
        """Give a tar that WebDataset reads: of each chip the picture, and what is known as JSON."""
        sink = io.BytesIO()
        with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for row in rows:
                parts = {pictures.ENDINGS[self.asked.kind]: found[row["chip_id"]]}
                for ending, data in {**parts, "json": _given.said_of(row)}.items():
                    member = tarfile.TarInfo(f"{_given.sample(row)}.{ending}")
                    member.size = len(data)  # mtime, owner and mode are tarfile's own: 0, 0644
                    tar.addfile(member, io.BytesIO(data))
        return sink.getvalue()


def _units(todo: Sequence[Planned]) -> Iterator[list[Planned]]:
    """Give what one thread makes at a time: a tar, or some chips of one image."""
    for _, grouped in groupby(todo, lambda file: (file.rows[0]["key"], len(file.rows) > 1)):
        own = list(grouped)
        size = JOB_CHIPS if len(own[0].rows) == 1 else 1
        for start in range(0, len(own), size):
            yield own[start : start + size]


def end_with_the_export() -> None:
    """End this process once the one that started it has been killed: nobody waits for it."""
    started_by = multiprocessing.parent_process()
    if started_by is None:
        return

    def watch() -> None:
        started_by.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _cut(
    data: bytes, rows: Sequence[Row], kind: pictures.Kind, extract: Extract
) -> list[bytes] | Rejected:
    """Decode an image and give each chip's file, or why there is none; in a process of its own."""
    try:
        pixels = images.decode(data, extract=extract)
    except Rejected as why:
        return why
    windows = ((row["top"], row["left"], row["height"], row["width"]) for row in rows)
    return [
        pictures.encode(crop(pixels, window), kind, _given.facts(row))
        for row, window in zip(rows, windows, strict=True)
    ]


def _refusal(row: Row, why: Rejected) -> Reject:
    detail = f"{row['key']}: {why.detail}"
    return Reject("export", row["key"], why.reason, detail, row=row["row"], col=row["col"])
