"""Write files of chips: each image is read once, and only files that have changed are written."""

from __future__ import annotations

import hashlib
import io
import logging
import multiprocessing
import signal
import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

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
from pipeline.images.windows import crop
from pipeline.storage import open_storage
from pipeline.store.context import Context

log = logging.getLogger("quadrat")

JOB_CHIPS = 64
"""Chips of one image that are cut at once."""

WRITERS = 16
"""Threads that read and write if each file is a chip: they hide the storage's latency."""

FEW = 200
"""So many chips are encoded in threads: processes take longer than that to start."""


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """One file of the target.

    Attributes:
        made_from: the digest of all that it depends on.
        chips: the number of chips in it; *rows* has their metadata.
        is_new: whether this run has written it.
    """

    key: str
    made_from: str
    size: int
    sha256: str
    chips: int
    rows: Sequence[Row] = ()
    is_new: bool = False

    def columns(self) -> dict[str, str | int]:
        """Return the columns of schemas.EXPORTED that describe the file."""
        return {
            "object": self.key,
            "object_size": self.size,
            "sha256": self.sha256,
            "made_from": self.made_from,
        }


class ChipWriter:
    """Cuts, encodes and writes chips: storage in threads; decoding and encoding in processes.

    Args:
        context: the params and the machine's settings.
        request: what to export.
        present: the target's files; one whose content would be the same is not written again.
    """

    def __init__(
        self, context: Context, request: ExportRequest, present: Mapping[str, WrittenFile]
    ) -> None:
        self.bucket = open_storage(context.params.bucket.url, digest_cache=context.machine.digests)
        self.target = open_storage(request.target)
        self.request, self.extract, self.present = request, context.params.extract, present
        self.chips, self.cores = 0, hardware.cores()
        self.isolates_decoding = context.machine.isolates_decoding
        self.sandbox, self.switching = DecoderSandbox(), threading.Lock()
        self.threads = _threads("export", self.cores + 2 if request.tars else WRITERS)
        self.encoders: Executor = _threads("encode", self.cores if self.isolates_decoding else 1)

    def close(self) -> None:
        """Begin nothing more, and wait for what has begun."""
        self.threads.shutdown(wait=True, cancel_futures=True)
        self.encoders.shutdown(wait=True, cancel_futures=True)
        self.sandbox.close()

    def write(self, files: Sequence[FilePlan]) -> Iterator[tuple[list[WrittenFile], list[Reject]]]:
        """Write *files*, and yield the files and rejects of some at a time, in their order.

        Raises:
            StorageError: an image changed since it was indexed, or a file cannot be written.
            InputError: there is not enough memory for an image.
        """
        before, self.chips = self.chips, self.chips + sum(len(file.rows) for file in files)
        if before <= FEW < self.chips and not self.isolates_decoding:
            self.encoders.shutdown()
            spawn = multiprocessing.get_context("spawn")
            self.encoders = ProcessPoolExecutor(self.cores, spawn, signals.end_with_parent)
        yield from self.threads.map(self._write_files, _jobs(files))

    def _write_files(self, files: Sequence[FilePlan]) -> tuple[list[WrittenFile], list[Reject]]:
        encoded: dict[bytes, bytes] = {}
        rejected: list[Reject] = []
        rows = [row for file in files for row in file.rows]
        for _, grouped in groupby(rows, lambda row: str(row["key"])):
            of_image = list(grouped)
            for start in range(0, len(of_image), JOB_CHIPS):
                chips = of_image[start : start + JOB_CHIPS]
                content = self._encode(chips)
                if isinstance(content, Rejected):
                    rejected += [_reject(row, content) for row in chips]
                else:
                    ids = (row["chip_id"] for row in chips)
                    encoded.update(zip(ids, content, strict=True))
        written = (self._write_file(file, encoded) for file in files)
        return [file for file in written if file is not None], rejected

    def _encode(self, rows: Sequence[Row]) -> list[bytes] | Rejected:
        """Return the file of each chip of one image, or why the image cannot be decoded."""
        key = rows[0]["key"]
        try:
            data = self.bucket.read(key, if_version=rows[0]["version"])
            encoders = self.encoders
            try:
                return self._submit(encoders, data, rows)
            except BrokenProcessPool:
                self._isolate_decoding(encoders)
                return self._submit(self.encoders, data, rows)
        except Rejected as why:
            return why
        except MemoryError as error:
            raise out_of_memory(key) from error

    def _submit(self, encoders: Executor, data: bytes, rows: Sequence[Row]) -> list[bytes]:
        sandbox = None if isinstance(encoders, ProcessPoolExecutor) else self.sandbox
        return encoders.submit(_cut, data, rows, self.extract, self.request.kind, sandbox).result()

    def _isolate_decoding(self, broken: Executor) -> None:
        """Decode in a sandbox from now on, so that a deadly image ends nothing else."""
        signals.wait_if_stopping()
        with self.switching:
            if self.encoders is broken:
                log.warning(
                    "export: decoding an image ended its process; from now on images are decoded "
                    "in separate processes"
                )
                self.encoders = _threads("encode", self.cores)

    def _write_file(self, file: FilePlan, encoded: Mapping[bytes, bytes]) -> WrittenFile | None:
        rows = [row for row in file.rows if row["chip_id"] in encoded]
        if not rows:
            return None
        data = self._tar(rows, encoded) if self.request.tars else encoded[rows[0]["chip_id"]]
        sha256 = hashlib.sha256(data).hexdigest()
        old = self.present.get(file.key)
        is_new = old is None or old.sha256 != sha256
        if is_new:
            self.target.put(file.key, data)
        return WrittenFile(file.key, file.made_from, len(data), sha256, len(rows), rows, is_new)

    def _tar(self, rows: Sequence[Row], encoded: Mapping[bytes, bytes]) -> bytes:
        """Return a tar that WebDataset reads: of each chip the picture, and metadata as JSON."""
        sink = io.BytesIO()
        with tarfile.open(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for row in rows:
                picture = {EXTENSIONS[self.request.kind]: encoded[row["chip_id"]]}
                for ending, data in {**picture, "json": plan.metadata(row)}.items():
                    member = tarfile.TarInfo(f"{plan.sample(row)}.{ending}")
                    member.size = len(data)  # mtime, owner and mode are tarfile's own: 0, 0644
                    tar.format = _format(member)
                    tar.addfile(member, io.BytesIO(data))
        return sink.getvalue()


def _format(member: tarfile.TarInfo) -> Literal[0, 1]:
    """Return the simplest tar format that can hold the member's name."""
    try:
        member.tobuf(tarfile.USTAR_FORMAT)
    except ValueError:  # longer than 255 bytes, or impossible to split
        return tarfile.GNU_FORMAT
    return tarfile.USTAR_FORMAT


def _jobs(files: Sequence[FilePlan]) -> Iterator[list[FilePlan]]:
    """Yield what one thread writes at a time: a tar, or some chips of one image."""
    for _, grouped in groupby(files, lambda file: (file.rows[0]["key"], len(file.rows) > 1)):
        of_image = list(grouped)
        size = JOB_CHIPS if len(of_image[0].rows) == 1 else 1
        for start in range(0, len(of_image), size):
            yield of_image[start : start + size]


def _threads(name: str, count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix=name, initializer=_block_ctrl_c)


def _block_ctrl_c() -> None:
    """Block Ctrl-C in this thread and the processes that it starts: this process ends them."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _cut(
    data: bytes,
    rows: Sequence[Row],
    extract: ExtractParams,
    kind: ChipFormat,
    sandbox: DecoderSandbox | None,
) -> list[bytes]:
    """Decode an image, in *sandbox* if there is one, and return the file of each of its chips.

    Raises:
        Rejected: the image cannot be decoded.
    """
    key = rows[0]["key"]
    if sandbox is not None:
        pixels = sandbox.decode(data, extract, key).pixels
    else:
        with watched(key):
            pixels = decode_image(data, extract)
    windows = ((row["top"], row["left"], row["height"], row["width"]) for row in rows)
    return [
        encode_chip(crop(pixels, window), kind, plan.exif_fields(row))
        for row, window in zip(rows, windows, strict=True)
    ]


def _reject(row: Row, why: Rejected) -> Reject:
    detail = message(row["key"], why)
    return Reject("export", row["key"], why.reason, detail, row["row"], row["col"])
