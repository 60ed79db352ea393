"""Plan a run of a hundred million chips: everything except image bytes and forward passes.

The listing, the shards, the windows, the store's names and the scheduler's tasks are made by the
code that a real run uses; only the bucket's listing is synthetic, and the store keeps names and
sizes instead of bytes. Prints seconds, requests and the peak memory of each part.

usage: python benchmarks/plan_at_scale.py [--chips 100_000_000] [--points 25] [--shards 4096]

`make bench` runs it with a hundredth of that.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import multiprocessing
import os
import platform
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import luigi
import numpy as np
import pyarrow as pa

from pipeline.chip import methods
from pipeline.chip.methods.points import Settings as Points
from pipeline.core import schemas
from pipeline.core.errors import Missing
from pipeline.storage import Object
from pipeline.store import requests, shards
from pipeline.store.objects import Piece, Store
from pipeline.tasks import ExtractShard

ROOT = Path(__file__).resolve().parent.parent
HIGH, WIDE = 3000, 4000
RUN = "planned"
DIM = 1280
A_LISTING = 1000


class Names:
    """A storage that keeps keys and sizes, and counts the requests to an S3 service."""

    url = "s3://simulated/store"

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self.asked: Counter[str] = Counter()

    def list(self, prefix: str = "") -> Iterator[Object]:
        """List, a thousand keys a request."""
        found = sorted(key for key in self.sizes if key.startswith(prefix))
        self.asked["LIST"] += max(1, math.ceil(len(found) / A_LISTING))
        now = time.time()
        yield from (Object(key, self.sizes[key], modified=now) for key in found)

    def put(self, key: str, data: bytes) -> None:
        """Keep a size."""
        self.asked["PUT"] += 1
        self.sizes[key] = len(data)

    def head(self, key: str) -> Object:
        """Return the object with this key."""
        self.asked["HEAD"] += 1
        if key not in self.sizes:
            raise Missing(key)
        return Object(key, self.sizes[key])

    def delete(self, key: str) -> None:
        """Forget a key."""
        self.asked["DELETE"] += 1
        self.sizes.pop(key, None)

    def touch(self, key: str) -> None:
        """Do nothing: every object is new."""


def key_of(number: int) -> str:
    """Return a key like those of a survey's camera."""
    return f"survey-{number >> 16:03d}/dive-{number >> 10 & 63:02d}/IMG_{number:08d}.jpg"


def listing(images: int) -> pa.Table:
    """Return a synthetic listing of a bucket: schemas.LISTING."""
    keys = [key_of(number) for number in range(images)]
    etags = [hashlib.md5(key.encode(), usedforsecurity=False).hexdigest() for key in keys]
    sizes = np.full(images, 4_200_000)
    table = pa.table({"key": keys, "version": etags, "size": sizes}, schema=schemas.LISTING)
    return schemas.conform(table, schemas.LISTING)


def places(images: pa.Table, points: int) -> pa.Table:
    """Return random places of chips on *images*: schemas.PLACES."""
    seed = int.from_bytes(images["key"][0].as_py().encode()[-8:], "big")
    rng = np.random.default_rng(seed)
    rows = images.num_rows * points
    at = np.repeat(np.arange(images.num_rows), points)
    columns = {
        "key": images["key"].take(pa.array(at)),
        "version": images["version"].take(pa.array(at)),
        "image_height": np.full(rows, HIGH, np.int32),
        "image_width": np.full(rows, WIDE, np.int32),
        "row": rng.integers(0, HIGH, rows, np.int32),
        "col": rng.integers(0, WIDE, rows, np.int32),
    }
    return schemas.conform(pa.table(columns), schemas.PLACES)


@dataclass(frozen=True, slots=True)
class Made:
    """One shard's chips: the digest that names its features, their number and their bytes."""

    number: int
    sha256: str
    rows: int
    size: int
    peak: int


def make(number: int, images: pa.Table, points: int) -> Made:
    """Plan the chips of one shard as ChipShard does."""
    wanted = places(images, points)
    rows = methods.plan(wanted, Points(method="points", size=224))
    data = schemas.to_bytes(rows)
    return Made(number, hashlib.sha256(data).hexdigest(), rows.num_rows, len(data), peak())


def peak() -> int:
    """Return this process's peak memory in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class Clock:
    """Prints how long each part took."""

    def __init__(self) -> None:
        self.begun = time.perf_counter()

    def say(self, what: str, memory: int) -> None:
        """Print a line and start anew."""
        now = time.perf_counter()
        print(f"{what:<66} {now - self.begun:7.1f} s   peak {memory / 1e6:7,.0f} MB", flush=True)
        self.begun = time.perf_counter()


def scheduled(planned: list[shards.ShardPlan]) -> int:
    """Add every shard to Luigi's scheduler and take them all; return the number of takes."""
    scheduler = luigi.scheduler.Scheduler(prune_on_get_work=False)
    for item in planned:
        task = ExtractShard(request="0" * 16, shards=requests.name_of(item), batch_size=64)
        scheduler.add_task_batcher("w", task.task_family, ["shards"], 64)
        scheduler.add_task(
            worker="w",
            task_id=task.task_id,
            family=task.task_family,
            params=task.to_str_params(),
            batchable=True,
        )
    takes = 0
    while True:
        given = scheduler.get_work(worker="w", host="h", current_tasks=[])
        if not given.get("task_id") and not given.get("batch_id"):
            return takes
        takes += 1
        for task_id in given.get("batch_task_ids") or [given["task_id"]]:
            scheduler.add_task(worker="w", task_id=task_id, status="DONE")


def main() -> None:
    """Plan the run part by part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chips", type=int, default=1_000_000)
    parser.add_argument("--points", type=int, default=25)
    parser.add_argument("--shards", type=int, default=4096)
    asked = parser.parse_args()
    images = asked.chips // asked.points
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"python {platform.python_version()}, pyarrow {pa.__version__}, {cores} cores")
    print(f"{asked.chips:,} chips on {images:,} images in {asked.shards:,} shards")
    clock, names = Clock(), Names()
    store = Store(names)  # type: ignore[arg-type]
    listed = listing(images)
    clock.say("(a synthetic listing)", peak())
    parts = shards.split(listed, asked.shards)
    planned = shards.plan("images", "0" * 64, parts, schemas.LISTING)
    shards.put_inputs(store, shards.missing_shards(store, planned, RUN))
    clock.say(f"index: {len(planned):,} shards named and their rows kept", peak())
    del planned, listed
    found = windows(parts, asked.points)
    most = max(item.peak for item in found)
    clock.say(f"chip: windows, a shard at a time in {multiprocessing.cpu_count()} processes", most)
    pieces = [named(item, asked.shards) for item in found]
    shards.put_inputs(store, shards.missing_shards(store, pieces, RUN))
    clock.say(f"extract: {len(pieces):,} shards named, listed and their chips kept", peak())
    takes = scheduled(pieces)
    clock.say(f"luigi: {len(pieces):,} shards scheduled, given out in {takes:,} takes", peak())
    size, rows = sum(item.size for item in found), sum(item.rows for item in found)
    print(f"chips: {rows:,} rows, {size / 1e9:,.2f} GB of Parquet")
    print(
        f"features of {DIM:,} float32: {rows * DIM * 4 / 1e9:,.0f} GB, {DIM * 4 / 1e3:.1f} kB each"
    )
    print("requests to the store: " + ", ".join(f"{n:,} {what}" for what, n in names.asked.items()))
    print(f"objects in the store: {len(names.sizes):,}")


def windows(parts: list[pa.Table], points: int) -> list[Made]:
    """Plan the chips of every shard in as many processes as there are cores."""
    work = [(number, part) for number, part in enumerate(parts) if part.num_rows]
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(multiprocessing.cpu_count(), mp_context=context) as pool:
        futures: list[Any] = [pool.submit(make, number, part, points) for number, part in work]
        return [future.result() for future in futures]


def named(item: Made, count: int) -> shards.ShardPlan:
    """Name the features of one shard; its chips stand for as many bytes as they had."""
    from pipeline.core.hashing import shard_name

    piece = Piece("features", "0" * 64, shard_name(item.number, count), item.sha256)
    return shards.ShardPlan(item.number, piece, lambda: bytes(item.size), item.size)


if __name__ == "__main__":
    main()
