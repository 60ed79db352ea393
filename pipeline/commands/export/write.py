"""Files of chips: an image is read once, its chips cut and encoded, and what is new is written."""

from __future__ import annotations

import hashlib
import io
import logging
import multiprocessing
import os
import signal
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Literal, Self

from pipeline.commands.export import plan
from pipeline.commands.export.plan import ExportRequest, FilePlan, Row
from pipeline.config.sections import ExtractParams
from pipeline.core import hardware, signals
from pipeline.core.errors import Rejected
from pipeline.core.rejects import Reject, message
from pipeline.images.decode import decode_image
from pipeline.images.encode import EXTENSIONS, ChipFormat, encode_chip
from pipeline.images.sandbox import DecoderSandbox, out_of_memory
from pipeline.images.watchdog import watched
from pipeline.images.windows import Pixels, crop
from pipeline.storage import open_storage
from pipeline.store.context import Context

log = logging.getLogger("quadrat")

JOB_CHIPS = 64
"""Chips of one image that are cut at once."""


WRITERS = 16
"""Threads that read and write, where each file is a chip: they hide the storage's latency."""

FEW = 200
"""So few chips are encoded before a process for each core has started."""


@dataclass(frozen=True, slots=True)
class WrittenFile:
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


class ChipWriter:
    """Makes files of chips.

    Args:
        context: the work's.
        asked: what files.
        before: those that stand: one that comes out as it is there is not written again.
    """

    def __init__(
        self, context: Context, asked: ExportRequest, before: Mapping[str, WrittenFile]
    ) -> None:
        self.bucket = open_storage(context.params.bucket.url, digest_cache=context.machine.digests)
        self.target = open_storage(asked.target)
        self.asked, self.extract = asked, context.params.extract
        self.before = before
        self.chips, self.cores = 0, hardware.cores()
        writers = self.cores + 2 if asked.tars else WRITERS
        self.threads = ThreadPoolExecutor(
            writers, thread_name_prefix="export", initializer=leave_ctrl_c
        )
        self.apart, self.switching = DecoderSandbox(), threading.Lock()
        self.isolates_decoding = context.machine.isolates_decoding
        self.encoders: Executor = self._with_care(self.cores if self.isolates_decoding else 1)

    def _with_care(self, threads: int) -> ThreadPoolExecutor:
        """Give threads, of which each has a process of its own that decodes for it alone."""
        return ThreadPoolExecutor(threads, thread_name_prefix="encode", initializer=leave_ctrl_c)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Begin nothing more, and wait for what has begun."""
        self.threads.shutdown(wait=True, cancel_futures=True)
        self.encoders.shutdown(wait=True, cancel_futures=True)
        self.apart.close()

    def make(self, todo: Sequence[FilePlan]) -> Iterator[tuple[list[WrittenFile], list[Reject]]]:
        """Make the files *todo*, some at a time, in their order.

        Raises:
            StorageError: an image changed since it was indexed, or a file cannot be written.
            InputError: there is not enough memory for an image.
        """
        before, self.chips = self.chips, self.chips + sum(len(file.rows) for file in todo)
        if before <= FEW < self.chips and not self.isolates_decoding:
            self.encoders.shutdown()
            spawn = multiprocessing.get_context("spawn")
            self.encoders = ProcessPoolExecutor(self.cores, spawn, end_with_the_export)
        yield from self.threads.map(self._make, _units(todo))

    def _make(self, files: Sequence[FilePlan]) -> tuple[list[WrittenFile], list[Reject]]:
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
        """Give each chip's file, or why its image has none."""
        key = rows[0]["key"]
        try:
            data = self.bucket.read(key, if_version=rows[0]["version"])
            encoders = self.encoders
            try:
                return self._encoded(encoders, data, rows)
            except BrokenProcessPool:
                self._go_on_with_care(encoders)
                return self._encoded(self.encoders, data, rows)
        except Rejected as why:
            return why
        except MemoryError as error:
            raise out_of_memory(key) from error

    def _encoded(self, encoders: Executor, data: bytes, rows: Sequence[Row]) -> list[bytes]:
        if isinstance(encoders, ProcessPoolExecutor):
            decode = partial(_decode, self.extract)
        else:
            decode = partial(_decode_apart, self.apart, self.extract)
        return encoders.submit(_cut, decode, data, rows, self.asked.kind).result()

    def _go_on_with_care(self, broken: Executor) -> None:
        """Have an image that ends its process end no other's from now on."""
        signals.wait_if_stopping()
        with self.switching:
            if self.encoders is broken:
                log.warning(
                    "export: decoding an image ended its process; from now on images are read in "
                    "processes of their own"
                )
                self.encoders = self._with_care(self.cores)

    def _write(self, file: FilePlan, found: Mapping[bytes, bytes]) -> WrittenFile | None:
        rows = [row for row in file.rows if row["chip_id"] in found]
        if not rows:
            return None
        data = self._packed(rows, found) if self.asked.tars else found[rows[0]["chip_id"]]
        sha256 = hashlib.sha256(data).hexdigest()
        old = self.before.get(file.key)
        new = old is None or old.sha256 != sha256
        if new:
            self.target.put(file.key, data)
        return WrittenFile(
            file.key, file.made_from, len(data), sha256, len(rows), rows, written=new
        )

    def _packed(self, rows: Sequence[Row], found: Mapping[bytes, bytes]) -> bytes:
        """Give a tar that WebDataset reads: of each chip the picture, and what is known as JSON."""
        sink = io.BytesIO()
        with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for row in rows:
                parts = {EXTENSIONS[self.asked.kind]: found[row["chip_id"]]}
                for ending, data in {**parts, "json": plan.said_of(row)}.items():
                    member = tarfile.TarInfo(f"{plan.sample(row)}.{ending}")
                    member.size = len(data)  # mtime, owner and mode are tarfile's own: 0, 0644
                    tar.format = _format(member)
                    tar.addfile(member, io.BytesIO(data))
        return sink.getvalue()


def _format(member: tarfile.TarInfo) -> Literal[0, 1]:
    """Give the plainest format of a tar that can hold the member's name."""
    try:
        member.tobuf(tarfile.USTAR_FORMAT)
    except ValueError:  # longer than 255 bytes, or nowhere to be cut in two
        return tarfile.GNU_FORMAT
    return tarfile.USTAR_FORMAT


def _units(todo: Sequence[FilePlan]) -> Iterator[list[FilePlan]]:
    """Give what one thread makes at a time: a tar, or some chips of one image."""
    for _, grouped in groupby(todo, lambda file: (file.rows[0]["key"], len(file.rows) > 1)):
        own = list(grouped)
        size = JOB_CHIPS if len(own[0].rows) == 1 else 1
        for start in range(0, len(own), size):
            yield own[start : start + size]


def leave_ctrl_c() -> None:
    """Have processes that this thread starts not hear of Ctrl-C: it ends them through this one."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def end_with_the_export() -> None:
    """End this process once the one that started it has been killed: nobody waits for it."""
    started_by = multiprocessing.parent_process()
    if started_by is None:
        return

    def watch() -> None:
        started_by.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _decode(extract: ExtractParams, data: bytes, key: str) -> Pixels:
    with watched(key):
        return decode_image(data, extract)


def _decode_apart(apart: DecoderSandbox, extract: ExtractParams, data: bytes, key: str) -> Pixels:
    return apart.decode(data, extract, key)


def _cut(
    decode: Callable[[bytes, str], Pixels],
    data: bytes,
    rows: Sequence[Row],
    kind: ChipFormat,
) -> list[bytes]:
    """Decode an image and give each chip's file; in a process of its own, but where *decode* has.

    Raises:
        Rejected: the image cannot be decoded.
    """
    pixels = decode(data, rows[0]["key"])
    windows = ((row["top"], row["left"], row["height"], row["width"]) for row in rows)
    return [
        encode_chip(crop(pixels, window), kind, plan.exif_fields(row))
        for row, window in zip(rows, windows, strict=True)
    ]


def _refusal(row: Row, why: Rejected) -> Reject:
    place = {name: row[name] for name in ("row", "col")}
    return Reject("export", row["key"], why.reason, message(row["key"], why), **place)
