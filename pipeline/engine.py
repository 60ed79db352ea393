"""The extraction engine: storage → decode → crop → batch → forward → rows, streaming.

Images are fetched, decoded and cut ahead of the extractor in threads, a bounded number at a time.
Batches are filled across images and across tables, in one fixed shape that is padded at the end:
with the shape fixed, a chip's feature is the same to the bit whatever else is in its batch.
The engine knows no store, no shard and no scheduler; it runs wherever torch does.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from threading import local

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline import images, schemas
from pipeline.errors import Changed, Missing, Rejected, StorageError
from pipeline.extractors import Extractor
from pipeline.numerics import THREADS
from pipeline.params import Extract
from pipeline.rejects import Reject
from pipeline.storage import Storage
from pipeline.windows import Pixels, Window, crop

log = logging.getLogger(__name__)

READERS = 4
"""Threads that fetch and decode; more hide a slower bucket."""

AHEAD = 8
"""Jobs in flight or waiting: with JOB_CHIPS it bounds the memory whatever the images are."""

JOB_CHIPS = 128
"""Chips of one image that are cut at once."""


@dataclass(slots=True)
class Wanted:
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

    table: Wanted
    key: str
    version: str
    rows: Sequence[int]
    windows: Sequence[Window]


@dataclass(frozen=True, slots=True)
class Done:
    """One finished table: *features* as schemas.features, without the rejected rows.

    *moved* has a sentence for every image that is not what was indexed any more. Such a table is
    not to be kept: what it lacks is no fault of the image's bytes, and may be there tomorrow.
    """

    name: str
    features: pa.Table
    rejects: list[Reject]
    moved: list[str]


Cut = tuple[Job, Pixels | Rejected | StorageError]


class Engine:
    """Features of tables of chips, by one extractor on one device.

    Args:
        storage: the bucket.
        extractor: what embeds; moved to *device*.
        extract: batch shape, precision, pixel rules.
        device: torch's name of the device.
    """

    def __init__(
        self, storage: Storage, extractor: Extractor, extract: Extract, device: str
    ) -> None:
        make_exact()
        self.storage, self.extract = storage, extract
        self.device = torch.device(device)
        self.extractor = extractor.to(self.device)
        self._last = local()

    def run(
        self, tables: Iterable[tuple[str, pa.Table]], step: Callable[[int], None] = lambda _: None
    ) -> Iterator[Done]:
        """Embed every chip of *tables*; give each table as soon as its last row is known.

        Args:
            tables: names with schemas.CHIPS, in the order in which they are to be given back.
            step: told how many more chips are done.

        Raises:
            StorageError: the bucket cannot be read at all.
        """
        opened: deque[Wanted] = deque()
        batch = Batch(self, step)
        for job, cut in self._ahead(self._jobs(tables, opened)):
            if isinstance(cut, np.ndarray):
                batch.add(job, cut)
            else:
                _reject(job, cut)
                step(len(job.rows))
            while opened and not opened[0].open_rows:
                yield _finish(opened.popleft(), self.extract.store)
        batch.flush()
        while opened:
            yield _finish(opened.popleft(), self.extract.store)

    def _jobs(self, tables: Iterable[tuple[str, pa.Table]], opened: deque[Wanted]) -> Iterator[Job]:
        """Open one table after the other, as the readers reach it, and cut it into jobs."""
        for name, chips in tables:
            features = np.zeros((chips.num_rows, self.extractor.dim), np.float32)
            opened.append(Wanted(name, chips, features, chips.num_rows))
            yield from _jobs_of(opened[-1])

    def _ahead(self, jobs: Iterator[Job]) -> Iterator[Cut]:
        """Cut *jobs* in threads, AHEAD of them at a time, and give them in their own order."""
        waiting: deque[tuple[Job, Future[Pixels | Rejected | StorageError]]] = deque()
        pool = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        try:
            for job in jobs:
                waiting.append((job, pool.submit(self._cut, job)))
                if len(waiting) >= AHEAD:
                    first, cut = waiting.popleft()
                    yield first, cut.result()
            while waiting:
                first, cut = waiting.popleft()
                yield first, cut.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _cut(self, job: Job) -> Pixels | Rejected | StorageError:
        """Give the job's chips as uint8 [n, size, size, 3], or why its image has none."""
        try:
            pixels = self._decoded(job.key, job.version)
        except (Rejected, Missing, Changed) as why:
            return why
        size = self.extractor.size
        chips = np.empty((len(job.windows), size, size, 3), np.uint8)
        for place, window in enumerate(job.windows):
            chips[place] = _sized(crop(pixels, window), size)
        return chips

    def _decoded(self, key: str, version: str) -> Pixels:
        """Decode an image; a thread remembers its last one, for images of many jobs."""
        last: tuple[str, str, Pixels] | None = getattr(self._last, "image", None)
        if last is not None and last[:2] == (key, version):
            return last[2]
        pixels: Pixels = images.decode(
            self.storage.read(key, if_version=version), extract=self.extract
        )
        self._last.image = (key, version, pixels)
        return pixels

    def forward(self, chips: Pixels) -> NDArray[np.float32]:
        """Embed one full batch: uint8 [batch, size, size, 3] to float32 [batch, dim]."""
        on_device = torch.from_numpy(chips).to(self.device)
        half = self.extract.precision == "bf16"
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            features = self.extractor(on_device)
        found: NDArray[np.float32] = features.float().cpu().numpy()
        if found.shape != (len(chips), self.extractor.dim):
            raise ValueError(
                f"{self.extract.extractor}: gave {found.shape[1:]} values a chip, "
                f"but dim is {self.extractor.dim}"
            )
        return found


class Batch:
    """Chips on their way to the extractor, in one buffer of the fixed batch shape."""

    def __init__(self, engine: Engine, step: Callable[[int], None]) -> None:
        self.engine, self.step = engine, step
        size = engine.extractor.size
        self.buffer = np.zeros((engine.extract.batch, size, size, 3), np.uint8)
        self.owners: list[tuple[Wanted, int]] = []
        self.checked = False

    def add(self, job: Job, chips: Pixels) -> None:
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
            extract = self.engine.extract
            log.warning(
                "extract: with batch %d the last bits of %s features depend on a chip's place in "
                "its batch here, so that increments may not repeat to the byte; another "
                "extract.batch, as 16, avoids it",
                extract.batch,
                extract.extractor,
            )


def make_exact() -> None:
    """Fix what else would change bits from run to run: threads, TF32, the choice of kernels."""
    torch.set_num_threads(THREADS)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def _jobs_of(table: Wanted) -> Iterator[Job]:
    names = ["key", "version", "top", "left", "height", "width"]
    rows = enumerate(table.chips.select(names).to_pylist())
    for (key, version), grouped in groupby(rows, lambda item: _image(item[1])):
        chips = list(grouped)
        for start in range(0, len(chips), JOB_CHIPS):
            some = chips[start : start + JOB_CHIPS]
            windows = [_window(row) for _, row in some]
            yield Job(table, key, version, [place for place, _ in some], windows)


_image = itemgetter("key", "version")
_window = itemgetter("top", "left", "height", "width")


def _sized(chip: Pixels, size: int) -> Pixels:
    """Resize a chip of another size, bilinear with antialiasing, as torchvision's presets do."""
    if chip.shape[:2] == (size, size):
        return chip
    resized = Image.fromarray(chip).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def _reject(job: Job, why: Rejected | StorageError) -> None:
    table = job.table
    table.rejected.update(job.rows)
    table.open_rows -= len(job.rows)
    if isinstance(why, StorageError):
        table.moved.append(str(why))
        return
    for place in table.chips.select(["row", "col"]).take(pa.array(job.rows)).to_pylist():
        reject = Reject("extract", job.key, why.reason, f"{job.key}: {why.detail}", **place)
        table.rejects.append(reject)


def _finish(table: Wanted, store: str) -> Done:
    kept = [row for row in range(table.chips.num_rows) if row not in table.rejected]
    values = table.features[kept].astype(store)
    dim = table.features.shape[1]
    schema = schemas.features(dim, store)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), dim)
    rows = table.chips.select(["chip_id", "key", "row", "col"]).take(pa.array(kept, pa.int64()))
    table.features = np.empty((0, dim), np.float32)
    features = schemas.conform(rows.append_column("feature", vectors), schema)
    return Done(table.name, features, table.rejects, table.moved)
