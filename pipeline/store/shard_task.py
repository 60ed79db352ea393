"""Luigi tasks that compute missing shards.

Such a task may run in any process on any machine: all that it needs is in its parameters and in the
store. How it fails decides whether Luigi tries it again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import luigi

from pipeline.config.loader import from_json
from pipeline.config.machine import machine
from pipeline.core import signals
from pipeline.core.luigi_task import QuadratTask
from pipeline.store import requests
from pipeline.store.context import Context, open_store
from pipeline.store.objects import Piece, Store
from pipeline.store.requests import read_request
from pipeline.store.shards import ShardPlan

BATCHES_PER_WORKER = 8
"""With a central scheduler, a worker's share is cut into so many batches, so that other machines
that join have something to take, and those that leave lose little."""

MAX_BATCH_ALONE = 256
MAX_BATCH_SHARED = 8
"""Shards in a batch at most: what is lost with a worker."""

LISTING_S = 2.0
"""Seconds for which all tasks of a stage share one listing of the finished shards."""


class ShardTask(QuadratTask):
    """Some missing shards of one table: complete when all of them are in the store.

    Each shard is complete or not by itself. But a worker takes several at once, so that batches are
    filled across shards and the model is loaded once.
    """

    # Not significant: other settings may ask for the same shards, which are then the same tasks.
    request = luigi.Parameter(significant=False)
    shards = luigi.Parameter(batch_method=",".join)
    batch_size = luigi.IntParameter(significant=False)

    stage: ClassVar[ModuleType]
    unit: ClassVar[str]
    embeds: ClassVar[bool] = False
    out: ClassVar[Path | None] = None
    """The out that has the table's shards, from which the store can take them."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.max_batch_size = int(self.batch_size)  # Luigi's own default is all of them
        self.has_run = False

    @property
    def store(self) -> Store:
        """The store of finished shards."""
        return open_store(machine())

    @property
    def pieces(self) -> list[Piece]:
        """The store's names of these shards, sorted."""
        request = read_request(str(self.request))
        return [request.piece(name) for name in sorted(self.shards.split(","))]

    def complete(self) -> bool:
        """Return True if the store has every shard; one listing serves all tasks of a stage."""
        pieces = self.pieces
        if self.has_run:
            return all(self.store.has(piece) for piece in pieces)
        age = int(time.monotonic() / LISTING_S)
        finished = _finished(pieces[0].table, pieces[0].recipe, self.run_name, age)
        return all(piece.input in finished.get(piece.shard, ()) for piece in pieces)

    def run(self) -> None:
        """Compute the shards."""
        signals.end_with_parent()
        params = from_json(read_request(str(self.request)).params)
        context = Context(params, machine(), self.store, self.run_name)
        self.stage.make(context, self.pieces, self.report)
        self.has_run = True


@lru_cache(maxsize=1)
def _finished(table: str, recipe: str, run: str, age: int) -> dict[str, list[str]]:  # noqa: ARG001
    """List the finished pieces of a recipe; another *age* makes a new listing, and drops this."""
    return open_store(machine()).finished(table, recipe, run)


def shard_tasks(
    kind: type[ShardTask], run: str, request: str, missing: Sequence[ShardPlan]
) -> list[ShardTask]:
    """Return the tasks of the *missing* shards, with the size of the batches that workers take.

    With a local scheduler, each worker takes an equal share. With a central scheduler, a share is
    cut into BATCHES_PER_WORKER batches or more.
    """
    is_local = luigi.configuration.get_config().getboolean("core", "local_scheduler", False)
    workers = machine().processes(embeds=kind.embeds)
    batches = workers * (1 if is_local else BATCHES_PER_WORKER)
    largest = MAX_BATCH_ALONE if is_local else MAX_BATCH_SHARED
    size = min(largest, math.ceil(len(missing) / batches))
    names = map(requests.name_of, missing)
    return [kind(run_name=run, request=request, shards=name, batch_size=size) for name in names]
