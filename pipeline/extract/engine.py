"""The extraction engine: storage → decode → crop → batch → network → rows, streaming.

Objects are fetched ahead in threads, and decoded ahead of the network, a bounded number at a time.
Batches are filled across images and across tables, in one fixed shape that is padded at the end:
with the shape fixed, a chip's feature is the same to the bit whatever else is in its batch.
The engine knows no store, no shard, no scheduler and no torch.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from threading import local

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.config.sections import ExtractParams
from pipeline.core import schemas
from pipeline.core.errors import Changed, Missing, Rejected, StorageError
from pipeline.core.rejects import Reject, message
from pipeline.extract.runtimes import Network
from pipeline.images.decode import decode_image
from pipeline.images.resize import resize_chip
from pipeline.images.sandbox import DecoderSandbox, out_of_memory
from pipeline.images.watchdog import watched
from pipeline.images.windows import Pixels, Window, crop
from pipeline.storage import Storage

log = logging.getLogger(__name__)

FETCHERS = 8
"""Threads that fetch; they hide the bucket's latency."""

FETCHED = 16
"""Objects in flight or waiting to be decoded: what the bucket's bytes take of memory."""

JOB_CHIPS = 512
"""Chips of one image that are cut at once; an image with more is cut in several jobs."""


@dataclass(slots=True)
class PendingTable:
    """One table on its way: its chips, the features so far, and how many rows are open."""

    name: str
    chips: pa.Table
    features: NDArray[np.float32]
    open_rows: int
    rejects: list[Reject] = field(default_factory=list)
    rejected: set[int] = field(default_factory=set)
    moved: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Job:
    """Some chips of one image of one table: *rows* are their places in that table."""

    table: PendingTable
    key: str
    version: str
    rows: Sequence[int]
    windows: Sequence[Window]

    @property
    def image(self) -> tuple[str, str]:
        """Its key and version."""
        return self.key, self.version


@dataclass(frozen=True, slots=True)
class ExtractedTable:
    """One finished table: *features* as schemas.features, without the rejected rows.

    *moved* has a sentence for every image that is not what was indexed any more. Such a table is
    not to be kept: what it lacks is no fault of the image's bytes, and may be there tomorrow.
    """

    name: str
    features: pa.Table
    rejects: list[Reject]
    moved: list[str]


Chips = list[Pixels]


class Engine:
    """Features of tables of chips, by one network.

    The memory it takes beside the network: FETCHED objects as they are in the bucket, and two more
    images than *decoders* decoded, or JOB_CHIPS chips of each where they are resized.

    Args:
        storage: the bucket.
        network: what embeds.
        extract: batch shape, pixel rules.
        decoders: threads that decode and cut.
        isolate: decode in processes apart, which a broken image may kill or hold up. Otherwise
            it kills this one, and so does `images.watchdog` where a decoder does not come back.
    """

    def __init__(
        self,
        storage: Storage,
        network: Network,
        extract: ExtractParams,
        decoders: int = 1,
        *,
        isolate: bool = False,
    ) -> None:
        self.storage, self.network, self.extract = storage, network, extract
        self.decoders = decoders
        self.apart = DecoderSandbox() if isolate else None
        self._last = local()

    def run(
        self, tables: Iterable[tuple[str, pa.Table]], step: Callable[[int], None] = lambda _: None
    ) -> Iterator[ExtractedTable]:
        """Embed every chip of *tables*; give each table as soon as its last row is known.

        Args:
            tables: names with schemas.CHIPS, in the order in which they are to be given back.
            step: told how many more chips are done.

        Raises:
            StorageError: the bucket cannot be read at all.
        """
        opened: deque[PendingTable] = deque()
        batch = Batch(self, step)
        for job, cut in self._ahead(self._jobs(tables, opened)):
            if isinstance(cut, list):
                batch.add(job, cut)
            else:
                _reject(job, cut)
                step(len(job.rows))
            while opened and not opened[0].open_rows:
                yield finish(opened.popleft(), self.extract.dtype)
        batch.flush()
        while opened:
            yield finish(opened.popleft(), self.extract.dtype)

    def _jobs(
        self, tables: Iterable[tuple[str, pa.Table]], opened: deque[PendingTable]
    ) -> Iterator[Job]:
        """Open one table after the other, as the fetchers reach it, and cut it into jobs."""
        for name, chips in tables:
            features = np.zeros((chips.num_rows, self.network.dim), np.float32)
            opened.append(PendingTable(name, chips, features, chips.num_rows))
            yield from _jobs_of(opened[-1])

    def _ahead(self, jobs: Iterator[Job]) -> Iterator[tuple[Job, Chips | Rejected | StorageError]]:
        """Fetch and cut *jobs* in threads, ahead of who asks, and give them in their own order."""
        fetched: deque[tuple[Job, Future[bytes]]] = deque()
        cut: deque[tuple[Job, Future[Chips | Rejected | StorageError]]] = deque()
        fetchers = ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetch")
        decoders = ThreadPoolExecutor(self.decoders, thread_name_prefix="decode")
        try:
            while True:
                while len(fetched) < FETCHED and (job := next(jobs, None)):
                    again = fetched and fetched[-1][0].image == job.image
                    data = fetched[-1][1] if again else fetchers.submit(self._fetch, job)
                    fetched.append((job, data))
                while fetched and len(cut) <= self.decoders:
                    job, data = fetched.popleft()
                    cut.append((job, decoders.submit(self._cut, job, data)))
                if not cut:
                    return
                job, found = cut.popleft()
                yield job, found.result()
        finally:
            fetchers.shutdown(wait=True, cancel_futures=True)
            decoders.shutdown(wait=True, cancel_futures=True)
            if self.apart:
                self.apart.close()

    def _fetch(self, job: Job) -> bytes:
        return self.storage.read(job.key, if_version=job.version)

    def _cut(self, job: Job, data: Future[bytes]) -> Chips | Rejected | StorageError:
        """Give the job's chips, each uint8 [size, size, 3], or why its image has none."""
        try:
            pixels = self._decoded(job, data)
        except (Rejected, Missing, Changed) as why:
            return why
        size = self.network.size
        return [resize_chip(crop(pixels, window), size, self.extract) for window in job.windows]

    def _decoded(self, job: Job, data: Future[bytes]) -> Pixels:
        """Decode an image; a thread remembers its last one, for images of many jobs."""
        last: tuple[tuple[str, str], Pixels] | None = getattr(self._last, "image", None)
        if last is not None and last[0] == job.image:
            return last[1]
        self._last.image = None  # its pixels may go before others come
        pixels: Pixels = self._decode(data.result(), job.key)
        self._last.image = (job.image, pixels)
        return pixels

    def _decode(self, data: bytes, key: str) -> Pixels:
        if self.apart:
            return self.apart.decode(data, self.extract, key)
        try:
            with watched(key):
                return decode_image(data, self.extract)
        except MemoryError as error:
            raise out_of_memory(key) from error

    def forward(self, chips: Pixels) -> NDArray[np.float32]:
        """Embed one full batch: uint8 [batch, size, size, 3] to float32 [batch, dim]."""
        found = self.network(chips)
        if found.shape != (len(chips), self.network.dim):
            raise ValueError(
                f"{self.extract.extractor}: gave {found.shape[1:]} values a chip, "
                f"but dim is {self.network.dim}"
            )
        return found


class Batch:
    """Chips on their way to the extractor, in one buffer of the fixed batch shape."""

    def __init__(self, engine: Engine, step: Callable[[int], None]) -> None:
        self.engine, self.step = engine, step
        size = engine.network.size
        self.buffer = np.zeros((engine.network.batch, size, size, 3), np.uint8)
        self.owners: list[tuple[PendingTable, int]] = []
        self.checked = False

    def add(self, job: Job, chips: Chips) -> None:
        """Put *chips* into the buffer, embedding whenever it is full."""
        for row, chip in zip(job.rows, chips, strict=True):
            self.buffer[len(self.owners)] = chip
            self.owners.append((job.table, row))
            if len(self.owners) == len(self.buffer):
                self.flush()

    def flush(self) -> None:
        """Embed what is in the buffer, padded with black chips to the fixed shape."""
        if not self.owners:
            return
        self.buffer[len(self.owners) :] = 0
        features = self.engine.forward(self.buffer)
        if not self.checked:
            self.checked = True
            self._check(features)
        for place, (table, row) in enumerate(self.owners):
            table.features[row] = features[place]
            table.open_rows -= 1
        self.step(len(self.owners))
        self.owners.clear()

    def _check(self, features: NDArray[np.float32]) -> None:
        """Say so if a chip's feature depends on its place in the batch.

        It does not for the batch shapes that were tried, but libraries choose their kernels by
        shape, and some (1 × 1 convolutions over 4 chips) add up in another order by place.
        """
        again = np.roll(self.engine.forward(np.roll(self.buffer, 1, axis=0)), -1, axis=0)
        if not np.array_equal(again, features):
            log.warning(
                "extract: with batch %d the last bits of %s features depend on a chip's place in "
                "its batch here, so that increments may not repeat to the byte; another "
                "extract.batch, as 16, avoids it",
                self.engine.network.batch,
                self.engine.extract.extractor,
            )


def _jobs_of(table: PendingTable) -> Iterator[Job]:
    names = ("key", "version", "top", "left", "height", "width")
    columns = (table.chips[name].to_pylist() for name in names)
    rows = enumerate(zip(*columns, strict=True))
    for (key, version), grouped in groupby(rows, lambda item: item[1][:2]):
        chips = list(grouped)
        for start in range(0, len(chips), JOB_CHIPS):
            some = chips[start : start + JOB_CHIPS]
            windows = [row[2:] for _, row in some]
            yield Job(table, key, version, [place for place, _ in some], windows)


def _reject(job: Job, why: Rejected | StorageError) -> None:
    table = job.table
    table.rejected.update(job.rows)
    table.open_rows -= len(job.rows)
    if isinstance(why, StorageError):
        table.moved.append(str(why))
        return
    for place in table.chips.select(["row", "col"]).take(pa.array(job.rows)).to_pylist():
        reject = Reject("extract", job.key, why.reason, message(job.key, why), **place)
        table.rejects.append(reject)


def finish(table: PendingTable, store: str) -> ExtractedTable:
    """Give *table* as done: its features, sorted, without the rejected rows."""
    kept = [row for row in range(table.chips.num_rows) if row not in table.rejected]
    values = table.features[kept].astype(store)
    dim = table.features.shape[1]
    schema = schemas.features(dim, store)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), dim)
    rows = table.chips.select(["chip_id", "key", "row", "col"]).take(pa.array(kept, pa.int64()))
    table.features = np.empty((0, dim), np.float32)
    features = schemas.conform(rows.append_column("feature", vectors), schema)
    return ExtractedTable(table.name, features, table.rejects, table.moved)
