"""Luigi tasks: which work is missing, in what order, by how many workers.

`scheduler/run.py` has Luigi run one stage's task alone, since DVC has ordered the stages already.
`luigi --module pipeline.tasks Validate` runs the whole chain without DVC. A stage task yields the
tasks of its missing shards and then puts its out together; the work is in the stages' folders.
The calls of one key's walk are drawn in the README.
"""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from pipeline.chip import stage as chip
from pipeline.chip import tables_stage
from pipeline.config.loader import Params
from pipeline.config.machine import machine
from pipeline.core.errors import QuadratError
from pipeline.core.run_log import Counts, append_run_log
from pipeline.extract import stage as extract
from pipeline.index import stage as index
from pipeline.scheduler._luigi import IS_COMMAND, luigi
from pipeline.scheduler.shard_tasks import (
    ChipShard,
    ExtractShard,
    IndexShard,
    QuadratTask,
    ShardTask,
    TableShard,
    end_with_the_worker,
    tasks_of,
)
from pipeline.scheduler.summary import RUN, SummaryFilter
from pipeline.store import context, outputs
from pipeline.store.context import CHIPS, CLASSIFIER, FEATURES, INDEX, LABELS, RESULTS
from pipeline.store.shards import ShardPlan, missing
from pipeline.train import dvclive
from pipeline.train import stage as train
from pipeline.validate import stage as validate

log = logging.getLogger("quadrat")

# Luigi reads these from [core] itself, and warns all the same that core has no such parameter.
luigi.interface.core.ignore_unconsumed |= {"rpc_retry_attempts", "rpc_retry_wait"}
if IS_COMMAND:  # a stage and a worker say by themselves what came of it
    logging.getLogger("luigi-interface").addFilter(SummaryFilter())


class CheckoutParameter(luigi.Parameter[str]):
    """The checkout whose outs a stage task writes; another checkout's is another task."""

    def normalize(self, x: Any) -> str:
        """Give host and folder if nothing was given."""
        return str(x) or f"{socket.gethostname()}:{Path.cwd()}"


class Stage(QuadratTask):
    """One of the five: complete when its out's manifest is what its inputs and recipe ask for."""

    checkout = CheckoutParameter(default="")
    chain = luigi.BoolParameter(
        default=True,
        significant=False,
        parsing=luigi.BoolParameter.EXPLICIT_PARSING,
        description="run the stages before this one first",
    )

    before: ClassVar[type[Stage] | None] = None
    folders: ClassVar[tuple[Path, ...]]

    def requires(self) -> list[luigi.Task]:
        """The stage before, unless DVC has seen to it."""
        return [self.before(params=self.params)] if self.chain and self.before else []

    def output(self) -> list[luigi.LocalTarget]:
        """The manifests of the outs."""
        return [luigi.LocalTarget(str(folder / outputs.MANIFEST)) for folder in self.folders]

    def complete(self) -> bool:
        """Say whether the out is what its inputs ask for, and theirs, up to the bucket.

        In a chain, what cannot be told is not complete: `run` meets the same fault, and a task that
        fails ends the chain, while Luigi would wait for ever for one of which nothing can be told.
        """
        try:
            return self._is_complete()
        except QuadratError:
            if not self.chain:
                raise
            return False

    def _is_complete(self) -> bool:
        if not all(task.complete() for task in self.requires()):
            return False
        found = [outputs.read_manifest(folder) for folder in self.folders]
        if not all(
            manifest and _whole(manifest, folder)
            for manifest, folder in zip(found, self.folders, strict=True)
        ):
            return False
        facts = self.expected()
        return all(found[-1].get(name) == value for name, value in facts.items())  # type: ignore[union-attr]

    def expected(self) -> dict[str, Any]:
        """What the manifest of the last of `folders` must say."""
        raise NotImplementedError

    def lacking(self, kind: type[ShardTask], planned: Sequence[ShardPlan]) -> Iterator[Any]:
        """Yield the tasks of those shards that are not finished, if there are any."""
        end_with_the_worker()
        found = missing(self.context.store, planned, self.context.run)
        if found:
            # They have just been listed as missing: Luigi need not ask for each of them.
            tasks = tasks_of(kind, self.params, found)
            yield luigi.DynamicRequirements(tasks, custom_complete=lambda _: False)

    def report(self, counts: Counts) -> None:
        """Say and write down what the stage took, for people, programs and the scheduler."""
        log.info(counts.sentence())
        sys.stdout.write(f"{counts.line()}\n")
        sys.stdout.flush()
        self.tell(100, counts.sentence())
        append_run_log(machine().runs, self.run_name, counts)


def _whole(manifest: dict[str, Any], folder: Path) -> bool:
    return all((folder / name).exists() for name in manifest.get("files", []))


class Index(Stage):
    """bucket → images."""

    folders = (INDEX,)

    def expected(self) -> dict[str, Any]:
        """What the index must say of the bucket as it was when this run began."""
        return index.expected(self.context, _listing(self.params))

    def run(self) -> Iterator[Any]:
        """Read the headers that are missing, then put the index together."""
        listed = _listing(self.params)
        planned = index.plan(self.context, listed)
        yield from self.lacking(IndexShard, planned)
        self.report(index.publish(self.context, listed, planned, self.expected()))


@cache
def _listing(params: Params) -> Any:
    """List the bucket once a run: what is fixed here is what every later read is checked by."""
    return index.listing(context.context(params, machine(), RUN))


class Chip(Stage):
    """images and annotations → chips and labels."""

    before = Index
    folders = (CHIPS, LABELS)

    def expected(self) -> dict[str, Any]:
        """What the labels' manifest must say."""
        return chip.expected(self.context)

    def run(self) -> Iterator[Any]:
        """Plan the windows that are missing, then put chips and labels together."""
        listed = tables_stage.plan(self.context)
        yield from self.lacking(TableShard, listed)
        inputs = chip.read(self.context, listed)
        planned = chip.plan(self.context, inputs)
        yield from self.lacking(ChipShard, planned)
        self.report(chip.publish(self.context, inputs, planned, self.expected()))


class Extract(Stage):
    """chips and the bucket → features."""

    before = Chip
    folders = (FEATURES,)

    def expected(self) -> dict[str, Any]:
        """What the features' manifest must say."""
        return extract.expected(self.context)

    def run(self) -> Iterator[Any]:
        """Embed what is missing, then put the features together."""
        planned = extract.plan(self.context)
        yield from self.lacking(ExtractShard, planned)
        self.report(extract.publish(self.context, planned, self.expected()))


class Train(Stage):
    """features and labels → classifier."""

    before = Extract
    folders = (CLASSIFIER,)

    def expected(self) -> dict[str, Any]:
        """What the classifier's manifest must say."""
        return train.expected(self.context)

    def _is_complete(self) -> bool:
        """Say whether the classifier and its learning curve are there."""
        return dvclive.exists() and super()._is_complete()

    def run(self) -> None:
        """Train unless the store has this very classifier."""
        end_with_the_worker()
        piece = train.piece(self.context)
        if not self.context.store.has(piece):
            train.make(self.context, piece, self.tell)
        self.report(train.publish(self.context, piece, self.expected()))


class Validate(Stage):
    """classifier, features and labels → results."""

    before = Train
    folders = (RESULTS,)

    def expected(self) -> dict[str, Any]:
        """What the results' manifest must say."""
        return validate.expected(self.context)

    def run(self) -> None:
        """Judge unless the store has these very results."""
        end_with_the_worker()
        piece = validate.piece(self.context)
        if not self.context.store.has(piece):
            validate.make(self.context, piece, self.tell)
        self.report(validate.publish(self.context, piece, self.expected()))
