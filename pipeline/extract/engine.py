"""The extraction engine: storage → decode → crop → batch → network → rows, as a stream.

Threads fetch objects and decode images ahead of the network, a bounded number at a time. Batches
are filled across images and across tables, in one fixed shape that is padded at the end: with a
fixed shape, a chip's feature is the same to the bit whatever else is in its batch. The engine knows
nothing of the store, of shards, of the scheduler, or of torch.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from threading import local
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.config.sections import ExtractParams
from pipeline.core import schemas
from pipeline.core.errors import Changed, Missing, Rejected, StorageError
from pipeline.core.rejects import Reject, message
from pipeline.extract.runtimes import Network
from pipeline.images.resize import resize_chip
from pipeline.images.sandbox import Decode, decoding
from pipeline.images.windows import Pixels, Window, crop
from pipeline.storage import Storage

log = logging.getLogger(__name__)

FETCHERS = 8
"""Threads that fetch. They hide the latency of the bucket."""

FETCHED = 16
"""Objects being fetched or waiting to be decoded: a bound on the memory for raw bytes."""

JOB_CHIPS = 512
"""Chips that are cut from an image at once; an image with more is cut in several jobs."""


@dataclass(slots=True)
class PendingTable:
    """A table that is being embedded: its chips, the features so far, the number of open rows."""

    name: Any
    chips: pa.Table
    features: NDArray[np.float32]
    open_rows: int
    rejects: list[Reject] = field(default_factory=list)
    rejected: set[int] = field(default_factory=set)
    warnings: dict[int, str] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Job:
    """Some chips of one image of one table; *rows* are their positions in the table."""

    table: PendingTable
    key: str
    version: str
    rows: Sequence[int]
    windows: Sequence[Window]

    @property
    def image(self) -> tuple[str, str]:
        """The image's key and version."""
        return self.key, self.version


@dataclass(frozen=True, slots=True)
class ExtractedTable:
    """A finished table.

    Attributes:
        name: what the caller calls it by.
        features: schemas.features, without the rejected rows.
        rejects: the chips that could not be read.
        changed: a message for each image that has changed since it was indexed. Such a table must
            not be stored: the image may be readable in the next run.
    """

    name: Any
    features: pa.Table
    rejects: list[Reject]
    changed: list[str]


Chips = list[Pixels]

Cut = Chips | Rejected | StorageError

Decoded = tuple[Cut, str | None]
"""What became of a job, and what the decoder warned of."""


class Engine:
    """Embeds tables of chips with one network.

    Besides the network it needs memory for FETCHED objects as they are in the bucket, and for two
    more decoded images than *decoders*, or JOB_CHIPS chips of each.

    Args:
        storage: the bucket.
        network: computes the features.
        extract: the section.
        decoders: threads that decode and cut.
        isolate: decode in separate processes. Otherwise a broken image can end this one, and so
            does `images.watchdog` if a decoder does not return.
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
        self.decoders, self.isolate = decoders, isolate
        self._last = local()

    def run(
        self, tables: Iterable[tuple[Any, pa.Table]], step: Callable[[int], None] = lambda _: None
    ) -> Iterator[ExtractedTable]:
        """Embed every chip of *tables*; yield each table as soon as its last row is done.

        Args:
            tables: any names, with schemas.CHIPS. They are yielded in the same order.
            step: called with the number of chips that have been done since the last call.

        Raises:
            StorageError: the bucket cannot be read at all.
        """
        opened: deque[PendingTable] = deque()
        batch = Batch(self, step)
        for job, (cut, warning) in self._ahead(self._jobs(tables, opened)):
            if warning is not None:
                job.table.warnings.update(dict.fromkeys(job.rows, warning))
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
        self, tables: Iterable[tuple[Any, pa.Table]], opened: deque[PendingTable]
    ) -> Iterator[Job]:
        """Open one table after another, when the fetchers reach it, and yield its jobs."""
        for name, chips in tables:
            features = np.zeros((chips.num_rows, self.network.dim), np.float32)
            opened.append(PendingTable(name, chips, features, chips.num_rows))
            yield from _jobs_of(opened[-1])

    def _ahead(self, jobs: Iterator[Job]) -> Iterator[tuple[Job, Decoded]]:
        """Fetch and cut *jobs* in threads, ahead of the caller, and yield them in their order."""
        fetched: deque[tuple[Job, Future[bytes]]] = deque()
        cut: deque[tuple[Job, Future[Decoded]]] = deque()
        with ExitStack() as stack:
            decode = stack.enter_context(decoding(self.extract, isolate=self.isolate))
            fetchers = ThreadPoolExecutor(FETCHERS, thread_name_prefix="fetch")
            decoders = ThreadPoolExecutor(self.decoders, thread_name_prefix="decode")
            for pool in (decoders, fetchers):
                stack.callback(pool.shutdown, wait=True, cancel_futures=True)
            while True:
                while len(fetched) < FETCHED and (job := next(jobs, None)):
                    again = fetched and fetched[-1][0].image == job.image
                    data = fetched[-1][1] if again else fetchers.submit(self._fetch, job)
                    fetched.append((job, data))
                while fetched and len(cut) <= self.decoders:
                    job, data = fetched.popleft()
                    cut.append((job, decoders.submit(self._cut, job, data, decode)))
                if not cut:
                    return
                job, chips = cut.popleft()
                yield job, chips.result()

    def _fetch(self, job: Job) -> bytes:
        return self.storage.read(job.key, if_version=job.version)

    def _cut(self, job: Job, data: Future[bytes], decode: Decode) -> Decoded:
        """Return the job's chips, each uint8 [size, size, 3], or why the image cannot be used.

        Each thread keeps its last image, since an image may have several jobs.
        """
        last = self._last
        if getattr(last, "image", None) != job.image:
            last.image = last.decoded = None  # free the pixels before the next ones are decoded
            try:
                last.decoded = decode(data.result(), job.key)
            except (Rejected, Missing, Changed) as why:
                return why, None
            last.image = job.image
        size, (pixels, warning) = self.network.size, last.decoded
        chips = [resize_chip(crop(pixels, window), size, self.extract) for window in job.windows]
        return chips, warning

    def forward(self, chips: Pixels) -> NDArray[np.float32]:
        """Embed one full batch: uint8 [batch, size, size, 3] to float32 [batch, dim]."""
        features = self.network(chips)
        if features.shape != (len(chips), self.network.dim):
            raise ValueError(
                f"{self.extract.extractor}: gave {features.shape[1:]} values a chip, "
                f"but dim is {self.network.dim}"
            )
        return features


class Batch:
    """The chips of the next forward pass, in one buffer of the fixed batch shape."""

    def __init__(self, engine: Engine, step: Callable[[int], None]) -> None:
        self.engine, self.step = engine, step
        size = engine.network.size
        self.buffer = np.zeros((engine.network.batch, size, size, 3), np.uint8)
        self.owners: list[tuple[PendingTable, int]] = []
        self.checked = False

    def add(self, job: Job, chips: Chips) -> None:
        """Add *chips* to the buffer, and embed whenever it is full."""
        for row, chip in zip(job.rows, chips, strict=True):
            self.buffer[len(self.owners)] = chip
            self.owners.append((job.table, row))
            if len(self.owners) == len(self.buffer):
                self.flush()

    def flush(self) -> None:
        """Embed the chips in the buffer, padded with black chips to the fixed shape."""
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
        """Warn if a chip's feature depends on its position in the batch.

        It does not for the batch shapes that were tried. But libraries choose their kernels by
        shape, and some (1 × 1 convolutions over 4 chips) sum in another order by position.
        """
        rolled = np.roll(self.engine.forward(np.roll(self.buffer, 1, axis=0)), -1, axis=0)
        if not np.array_equal(rolled, features):
            log.warning(
                "extract: with batch %d the last bits of %s features depend on a chip's position "
                "in its batch, so increments may not repeat to the byte; another extract.batch, "
                "such as 16, avoids this",
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
            part = chips[start : start + JOB_CHIPS]
            windows = [row[2:] for _, row in part]
            yield Job(table, key, version, [place for place, _ in part], windows)


def _reject(job: Job, why: Rejected | StorageError) -> None:
    table = job.table
    table.rejected.update(job.rows)
    table.open_rows -= len(job.rows)
    if isinstance(why, StorageError):
        table.changed.append(str(why))
        return
    for place in table.chips.select(["row", "col"]).take(pa.array(job.rows)).to_pylist():
        reject = Reject("extract", job.key, why.reason, message(job.key, why), **place)
        table.rejects.append(reject)


def finish(table: PendingTable, store: str) -> ExtractedTable:
    """Return *table* as finished: its features, sorted, without the rejected rows."""
    kept = [row for row in range(table.chips.num_rows) if row not in table.rejected]
    values = table.features[kept].astype(store)
    dim = table.features.shape[1]
    schema = schemas.features(dim, store)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), dim)
    rows = table.chips.select(["chip_id", "key", "row", "col"]).take(pa.array(kept, pa.int64()))
    table.features = np.empty((0, dim), np.float32)
    warnings = pa.array([table.warnings.get(row) for row in kept], pa.string())
    rows = rows.append_column("feature", vectors).append_column("decoder_warning", warnings)
    features = schemas.conform(rows, schema)
    return ExtractedTable(table.name, features, table.rejects, table.changed)
