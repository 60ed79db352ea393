"""Luigi tasks that make shards, and what they share with the stages that ask for them.

A shard task may run in any process on any machine: all that it needs is in its parameters and in
the store. How it fails decides whether Luigi tries it again.
"""

from __future__ import annotations

import json
import logging
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from types import ModuleType
from typing import Any

from pipeline.chip import stage as chip
from pipeline.chip import tables_stage
from pipeline.config.loader import Params, from_json, load
from pipeline.config.machine import Machine, machine
from pipeline.core import hardware
from pipeline.core.errors import BY_NAME, QuadratError, TransientError
from pipeline.extract import stage as extract
from pipeline.index import stage as index
from pipeline.scheduler._luigi import RPCError, luigi
from pipeline.scheduler.summary import RUN
from pipeline.storage import local_path
from pipeline.store import context as _context
from pipeline.store.context import Context
from pipeline.store.objects import Piece
from pipeline.store.shards import ShardPlan

log = logging.getLogger("quadrat")

PARAMS: Any = "params.yaml"
"""The default of every task's `params`: the file, read when the first task is made."""

TAKES = 8
"""Into how many takes a worker's share is cut where other machines may join, or leave."""

MOST_ALONE = 256
MOST_SHARED = 8
"""Shards in one take at most: what is lost with a worker, and what no other machine can take."""

LISTED_FOR_S = 2.0
LOOKS_S = 1.0


class ParamsParameter(luigi.Parameter[Params]):
    """All of params.yaml as one task parameter: a file's name, its JSON, or the value itself."""

    def parse(self, x: str) -> Params:
        """Read a file if *x* names one, else JSON."""
        return from_json(x) if x.lstrip().startswith("{") else load(x)

    def normalize(self, x: Any) -> Params:
        """Give Params whatever was given, the default file's name included."""
        return x if isinstance(x, Params) else self.parse(x)

    def serialize(self, x: Params) -> str:
        """Give the JSON that other workers read back."""
        return x.to_json()


class QuadratTask(luigi.Task):
    """What stage tasks and shard tasks share: their context, and how they fail."""

    params = ParamsParameter(default=PARAMS)
    run_name = luigi.Parameter(default=RUN, significant=False)

    @property
    def context(self) -> Context:
        """What the work is given."""
        return _context.context(self.params, machine(), self.run_name)

    def tell(self, share: int, message: str) -> None:
        """Show progress on the scheduler's page; work goes on where no scheduler answers."""
        if callable(self.set_progress_percentage) and callable(self.set_status_message):
            try:
                self.set_progress_percentage(share)
                self.set_status_message(message)
            except RPCError as error:
                log.warning("the scheduler does not answer: %s", error)

    def on_failure(self, exception: BaseException) -> str:
        """Hand the error to whoever started the run, who may be another process.

        What another try may not meet is tried again as luigi.cfg says. Anything else would fail
        again: the worker is told to finish what it has in hand and to take no more.
        """
        if not isinstance(exception, TransientError):
            _take_no_more()
        if not isinstance(exception, QuadratError):
            return str(super().on_failure(exception))
        kind = next(name for name, known in BY_NAME.items() if isinstance(exception, known))
        passing = isinstance(exception, TransientError)
        return json.dumps({"kind": kind, "message": str(exception), "passing": passing})


@QuadratTask.event_handler(luigi.Event.PROCESS_FAILURE)  # type: ignore[untyped-decorator]
def _go_on_with_care(task: QuadratTask, said: str) -> None:  # noqa: ARG001 - Luigi gives both
    """Have workers that are started from now on read images apart: one may have killed this one."""
    log.warning("%s; from now on images are read in processes of their own", said)
    os.environ["QUADRAT_ISOLATE_DECODING"] = "true"


def _take_no_more() -> None:
    """Send Luigi's worker, which is this process or the one that started it, its SIGUSR1."""
    usr1 = getattr(signal, "SIGUSR1", None)
    if usr1 is not None and callable(signal.getsignal(usr1)):
        started_by = multiprocessing.parent_process()
        os.kill(os.getpid() if started_by is None else int(started_by.pid or 0), usr1)


def end_with_the_worker() -> None:
    """End a worker's process once the worker itself has been killed: nobody waits for it."""
    started_by = multiprocessing.parent_process()
    if started_by is None:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the worker ends this process by SIGTERM

    def watch() -> None:
        while os.getppid() == started_by.pid:
            time.sleep(LOOKS_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class ShardTask(QuadratTask):
    """Some missing shards of one table: complete when the store has them all.

    The unit of completeness is one shard; the unit of work is as many as the scheduler hands over,
    so that batches fill across shards and the model is loaded once.
    """

    params = ParamsParameter(significant=False)
    recipe = luigi.Parameter()
    shards = luigi.Parameter(batch_method=",".join)
    at_once = luigi.IntParameter(significant=False)

    work: ModuleType = index

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        # How many shards one worker takes at a time; Luigi's default is all of them.
        self.max_batch_size = int(self.at_once)
        self.has_run = False

    @property
    def pieces(self) -> list[Piece]:
        """The store's names of these shards, in order, whatever order they were handed out in."""
        pairs = [pair.split(":") for pair in sorted(self.shards.split(","))]
        return [Piece(self.work.TABLE, self.recipe, shard, made) for shard, made in pairs]

    def complete(self) -> bool:
        """Say whether the store has every shard, by one listing for the tasks of a whole stage."""
        store = self.context.store
        if self.has_run:
            return all(store.has(piece) for piece in self.pieces)
        age = int(time.monotonic() / LISTED_FOR_S)
        listed = _finished(
            self.context.machine.store_url, self.work.TABLE, self.recipe, self.run_name, age
        )
        return all(piece.input in listed.get(piece.shard, ()) for piece in self.pieces)

    def run(self) -> None:
        """Compute what is missing."""
        end_with_the_worker()
        self.work.make(self.context, self.pieces, self.tell)
        self.has_run = True


@cache
def _finished(store_url: str, table: str, recipe: str, run: str, age: int) -> dict[str, list[str]]:  # noqa: ARG001
    """List the finished pieces of a recipe; *age* makes an older listing another one."""
    return _context.store(store_url).finished(table, recipe, run)


class IndexShard(ShardTask):
    """Headers of the images of some shards."""

    work = index


class TableShard(ShardTask):
    """What some tables of windows in the bucket list."""

    work = tables_stage


class ChipShard(ShardTask):
    """Windows on the images of some shards."""

    work = chip


class ExtractShard(ShardTask):
    """Features of the chips of some shards."""

    work = extract


def tasks_of(
    kind: type[ShardTask], params: Params, planned: Sequence[ShardPlan]
) -> list[ShardTask]:
    """Give the tasks of *planned*.

    Without others, each worker takes an equal share of them at once. Where a central scheduler
    lets other machines join, a share is cut into TAKES or more, so that there is something to take.
    """
    alone = luigi.configuration.get_config().getboolean("core", "local_scheduler", False)
    shares = workers(machine(), embeds=kind is ExtractShard) * (1 if alone else TAKES)
    at_once = min(MOST_ALONE if alone else MOST_SHARED, math.ceil(len(planned) / shares))
    return [
        kind(
            params=_anywhere(params),
            recipe=item.piece.recipe,
            shards=f"{item.piece.shard}:{item.piece.input}",
            at_once=at_once,
        )
        for item in planned
    ]


def _anywhere(params: Params) -> Params:
    """Give *params* with whole paths: a shard may be made in another checkout of this machine."""
    bucket, extract = params.bucket, params.extract
    if "://" not in bucket.url:
        bucket = bucket.model_copy(update={"url": str(local_path(bucket.url))})
    if extract.weights and local_path(extract.weights).exists():
        extract = extract.model_copy(update={"weights": str(local_path(extract.weights))})
    return replace(params, bucket=bucket, extract=extract)


def workers(settings: Machine, *, embeds: bool = True) -> int:
    """Count the processes to work with: one a core, or, to embed, as many as the device takes."""
    if settings.workers != "auto":
        return int(settings.workers)
    return hardware.processes(hardware.device(settings.device) if embeds else "cpu")
