"""Luigi tasks: which work is missing, in what order, by how many workers.

`pipeline/run.py` has Luigi run one stage's task alone, since DVC has ordered the stages already.
`luigi --module pipeline.tasks Validate` runs the whole chain without DVC. A stage task yields the
tasks of its missing shards and then puts its out together; the work itself is in `pipeline/work/`.
The calls of one key's walk are drawn in the README.
"""

from __future__ import annotations

import json
import logging
import math
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import luigi
from luigi.rpc import RPCError

from pipeline import numerics, outs
from pipeline.errors import BY_NAME, Passing, QuadratError
from pipeline.params import Params, from_json, load
from pipeline.progress import Counts
from pipeline.settings import Machine, machine
from pipeline.shards import Planned, missing
from pipeline.storage import local_path
from pipeline.store import Piece
from pipeline.work import _context, chip, extract, index, train, validate
from pipeline.work._context import CHIPS, CLASSIFIER, FEATURES, INDEX, LABELS, RESULTS, Context

log = logging.getLogger("quadrat")

PARAMS: Any = "params.yaml"
"""The default of every task's `params`: the file, read when the first task is made."""

RUN = uuid.uuid4().hex
"""The name of this run: rows that are computed for it, by whoever, are counted under it."""

TAKES = 8
"""Into how many takes a worker's share is cut where other machines may join, or leave."""

# Luigi reads these from [core] itself, and warns all the same that core has no such parameter.
luigi.interface.core.ignore_unconsumed |= {"rpc_retry_attempts", "rpc_retry_wait"}

MOST_AT_ONCE = 256
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


class CheckoutParameter(luigi.Parameter[str]):
    """The checkout whose outs a stage task writes; another checkout's is another task."""

    def normalize(self, x: Any) -> str:
        """Give host and folder if nothing was given."""
        return str(x) or f"{socket.gethostname()}:{Path.cwd()}"


class Work(luigi.Task):
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
        if not isinstance(exception, Passing):
            _take_no_more()
        if not isinstance(exception, QuadratError):
            return str(super().on_failure(exception))
        kind = next(name for name, known in BY_NAME.items() if isinstance(exception, known))
        passing = isinstance(exception, Passing)
        return json.dumps({"kind": kind, "message": str(exception), "passing": passing})


def _take_no_more() -> None:
    """Send Luigi's worker, which is this process or the one that started it, its SIGUSR1."""
    usr1 = getattr(signal, "SIGUSR1", None)
    if usr1 is not None and callable(signal.getsignal(usr1)):
        started_by = multiprocessing.parent_process()
        os.kill(os.getpid() if started_by is None else int(started_by.pid or 0), usr1)


def _end_with_the_worker() -> None:
    """End a worker's process once the worker itself has been killed: nobody waits for it."""
    started_by = multiprocessing.parent_process()
    if started_by is None:
        return

    def watch() -> None:
        while os.getppid() == started_by.pid:
            time.sleep(LOOKS_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Shards(Work):
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
        listed = _finished(self.context.machine.store_url, self.work.TABLE, self.recipe, age)
        return all(piece.input in listed.get(piece.shard, ()) for piece in self.pieces)

    def run(self) -> None:
        """Compute what is missing."""
        _end_with_the_worker()
        self.work.make(self.context, self.pieces, self.tell)
        self.has_run = True


@cache
def _finished(store_url: str, table: str, recipe: str, age: int) -> dict[str, list[str]]:  # noqa: ARG001
    """List the finished pieces of a recipe; *age* makes an older listing another one."""
    return _context.store(store_url).finished(table, recipe)


class IndexShard(Shards):
    """Headers of the images of some shards."""

    work = index


class ChipShard(Shards):
    """Windows on the images of some shards."""

    work = chip


class ExtractShard(Shards):
    """Features of the chips of some shards."""

    work = extract


class Stage(Work):
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
        return [luigi.LocalTarget(str(folder / outs.MANIFEST)) for folder in self.folders]

    def complete(self) -> bool:
        """Say whether the out is what its inputs ask for, and theirs, up to the bucket."""
        if not all(task.complete() for task in self.requires()):
            return False
        found = [outs.read_manifest(folder) for folder in self.folders]
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

    def lacking(self, kind: type[Shards], planned: Sequence[Planned]) -> Iterator[Any]:
        """Yield the tasks of those shards that are not finished, if there are any."""
        _end_with_the_worker()
        found = missing(self.context.store, planned)
        if found:
            # They have just been listed as missing: Luigi need not ask for each of them.
            tasks = _tasks(kind, self.params, found)
            yield luigi.DynamicRequirements(tasks, custom_complete=lambda _: False)

    def report(self, counts: Counts) -> None:
        """Say and write down what the stage took, for people, programs and the scheduler."""
        log.info(counts.sentence())
        sys.stdout.write(f"{counts.line()}\n")
        sys.stdout.flush()
        self.tell(100, counts.sentence())
        line = {"run": self.run_name, "at": datetime.now(UTC).isoformat(timespec="seconds")}
        write_down({**line, **json.loads(counts.line())}, counts.sentence())


def write_down(line: dict[str, Any], sentence: str) -> None:
    """Add a stage's counts to the machine's own list of runs, `.quadrat/runs.jsonl`."""
    path = machine().state / "runs.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({**line, "said": sentence}, ensure_ascii=False) + "\n")


def _whole(manifest: dict[str, Any], folder: Path) -> bool:
    return all((folder / name).exists() for name in manifest.get("files", []))


def _tasks(kind: type[Shards], params: Params, planned: Sequence[Planned]) -> list[Shards]:
    """Give the tasks of *planned*.

    Without others, each worker takes an equal share of them at once. Where a central scheduler
    lets other machines join, a share is cut into TAKES, so that there is something to take.
    """
    alone = luigi.configuration.get_config().getboolean("core", "local_scheduler", False)
    shares = workers(machine()) * (1 if alone else TAKES)
    at_once = min(MOST_AT_ONCE, math.ceil(len(planned) / shares))
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


class Index(Stage):
    """bucket → images."""

    folders = (INDEX,)

    def expected(self) -> dict[str, Any]:
        """What the index must say of the bucket as it was when this run began."""
        return index.expected(self.context, _listing(self.params))

    def run(self) -> Iterator[Any]:
        """Read the headers that are missing, then put the index together."""
        planned = index.plan(self.context, _listing(self.params))
        yield from self.lacking(IndexShard, planned)
        self.report(index.publish(self.context, planned, self.expected()))


@cache
def _listing(params: Params) -> Any:
    """List the bucket once a run: what is fixed here is what every later read is checked by."""
    return index.listing(_context.context(params, machine(), RUN))


class Chip(Stage):
    """images and annotations → chips and labels."""

    before = Index
    folders = (CHIPS, LABELS)

    def expected(self) -> dict[str, Any]:
        """What the labels' manifest must say."""
        return chip.expected(self.context)

    def run(self) -> Iterator[Any]:
        """Plan the windows that are missing, then put chips and labels together."""
        inputs = chip.read(self.context)
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

    def run(self) -> None:
        """Train unless the store has this very classifier."""
        _end_with_the_worker()
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
        _end_with_the_worker()
        piece = validate.piece(self.context)
        if not self.context.store.has(piece):
            validate.make(self.context, piece, self.tell)
        self.report(validate.publish(self.context, piece, self.expected()))


def workers(settings: Machine) -> int:
    """Count the processes to work with: one a CPU core, or one for an accelerator."""
    if settings.workers != "auto":
        return int(settings.workers)
    return numerics.cores() if numerics.device(settings.device) == "cpu" else 1


class WithCounts(logging.Filter):
    """Adds what the stages took to the summary that Luigi writes at the end of a run."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through, the summary with its counts."""
        if SUMMARY in str(record.msg):
            record.msg = with_counts(str(record.msg))
        return True


SUMMARY = "===== Luigi Execution Summary ====="


def with_counts(summary: str) -> str:
    """Put this run's counts before the end of Luigi's *summary*."""
    head, mark, tail = summary.rpartition(SUMMARY)
    return f"{head}{counted()}{mark}{tail}" if head else summary


def counted() -> str:
    """Give the counts that were written down for this run, a sentence a line."""
    path = machine().state / "runs.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows = (json.loads(line) for line in lines if RUN in line)
    return "".join(f"{row['said']}\n" for row in rows) + "\n"


if "luigi" in Path(sys.argv[0]).name:  # the luigi command, which sets up its own logging
    logging.getLogger("luigi-interface").addFilter(WithCounts())
