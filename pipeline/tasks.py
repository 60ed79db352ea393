"""Luigi tasks: which work is missing, in what order, by how many workers.

`stages/NAME.py` calls `run`, which has Luigi run one stage's task alone, since DVC has ordered the
stages already. `luigi --module pipeline.tasks Validate` runs the whole chain without DVC. A stage
task yields the tasks of its missing shards and then puts its out together; the work itself is in
`pipeline/work/`. The calls of one key's walk are drawn in the README.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import uuid
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import luigi

from pipeline import numerics, outs
from pipeline.errors import BY_NAME, QuadratError
from pipeline.params import Params, from_json, load
from pipeline.settings import Machine, machine
from pipeline.shards import Planned, missing
from pipeline.store import Piece
from pipeline.work import _context, chip, extract, index, train, validate
from pipeline.work._context import CHIPS, CLASSIFIER, FEATURES, INDEX, LABELS, RESULTS, Context

log = logging.getLogger("quadrat")

PARAMS: Any = "params.yaml"
"""The default of every task's `params`: the file, read when the first task is made."""

RUN = os.environ.setdefault("QUADRAT_RUN", uuid.uuid4().hex)
"""The name of this run, in all of its processes: rows that it computes are counted under it."""


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


class Work(luigi.Task):
    """What stage tasks and shard tasks share: their context, and how they fail."""

    params = ParamsParameter(default=PARAMS)

    @property
    def context(self) -> Context:
        """What the work is given."""
        return _context.context(self.params, machine(), RUN)

    def tell(self, share: int, message: str) -> None:
        """Show progress on the scheduler's page."""
        if callable(self.set_progress_percentage) and callable(self.set_status_message):
            self.set_progress_percentage(share)
            self.set_status_message(message)

    def on_failure(self, exception: BaseException) -> str:
        """Hand the error to whoever started the run, who may be another process."""
        if not isinstance(exception, QuadratError):
            return str(super().on_failure(exception))
        kind = next(name for name, known in BY_NAME.items() if isinstance(exception, known))
        return json.dumps({"kind": kind, "message": str(exception)})


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

    @property
    def pieces(self) -> list[Piece]:
        """The store's names of these shards, in order, whatever order they were handed out in."""
        pairs = [pair.split(":") for pair in sorted(self.shards.split(","))]
        return [Piece(self.work.TABLE, self.recipe, shard, made) for shard, made in pairs]

    def complete(self) -> bool:
        """Say whether the store has every shard."""
        store = self.context.store
        return all(store.has(piece) for piece in self.pieces)

    def run(self) -> None:
        """Compute what is missing."""
        self.work.make(self.context, self.pieces, self.tell)


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


def _whole(manifest: dict[str, Any], folder: Path) -> bool:
    return all((folder / name).exists() for name in manifest.get("files", []))


def _shards(kind: Any, params: Params, planned: Sequence[Planned]) -> list[Shards]:
    """Give the tasks of *planned*, and to each worker an equal share of them at a time."""
    at_once = math.ceil(len(planned) / workers(machine()))
    return [
        kind(
            params=params,
            recipe=item.piece.recipe,
            shards=f"{item.piece.shard}:{item.piece.input}",
            at_once=at_once,
        )
        for item in planned
    ]


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
        yield _shards(IndexShard, self.params, missing(self.context.store, planned))
        log.info(index.publish(self.context, planned, self.expected()))


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
        yield _shards(ChipShard, self.params, missing(self.context.store, planned))
        log.info(chip.publish(self.context, inputs, planned, self.expected()))


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
        yield _shards(ExtractShard, self.params, missing(self.context.store, planned))
        log.info(extract.publish(self.context, planned, self.expected()))


class Train(Stage):
    """features and labels → classifier."""

    before = Extract
    folders = (CLASSIFIER,)

    def expected(self) -> dict[str, Any]:
        """What the classifier's manifest must say."""
        return train.expected(self.context)

    def run(self) -> None:
        """Train unless the store has this very classifier."""
        piece = train.piece(self.context)
        if not self.context.store.has(piece):
            train.make(self.context, piece, self.tell)
        log.info(train.publish(self.context, piece, self.expected()))


class Validate(Stage):
    """classifier, features and labels → results."""

    before = Train
    folders = (RESULTS,)

    def expected(self) -> dict[str, Any]:
        """What the results' manifest must say."""
        return validate.expected(self.context)

    def run(self) -> None:
        """Judge unless the store has these very results."""
        piece = validate.piece(self.context)
        if not self.context.store.has(piece):
            validate.make(self.context, piece, self.tell)
        log.info(validate.publish(self.context, piece, self.expected()))


def workers(settings: Machine) -> int:
    """Count the processes to work with: one a CPU core, or one for an accelerator."""
    if settings.workers != "auto":
        return int(settings.workers)
    return numerics.cores() if numerics.device(settings.device) == "cpu" else 1


def run(stage: type[Stage]) -> int:
    """Run one stage as DVC does; give the exit code, having said what went wrong.

    The out's manifest is taken away first: DVC has found that the stage must run, so every file of
    the out is looked at again, and those that are right are left alone.
    """
    _log_plainly()
    try:
        params = load("params.yaml")
        for folder in stage.folders:
            (folder / outs.MANIFEST).unlink(missing_ok=True)
        return _build(stage(params=params, chain=False))
    except QuadratError as error:
        log.error("%s", error)  # noqa: TRY400 - its sentence is enough
        return error.exit_code


def _build(task: Stage) -> int:
    count = workers(machine())
    result = luigi.build([task], workers=count, detailed_summary=True)
    if result.status in {luigi.LuigiStatusCode.SUCCESS, luigi.LuigiStatusCode.SUCCESS_WITH_RETRY}:
        return 0
    if task.complete():  # others, on other machines, have done the rest
        return 0
    return _say_why(result)


def _say_why(result: Any) -> int:
    """Log each error that failed tasks left with the scheduler, once; give the exit code."""
    scheduler = result.worker._scheduler  # noqa: SLF001 - the only way to the failed tasks' errors
    # Not only tasks that count as failed: after the retry's delay the scheduler has them pending.
    tasks = scheduler.task_list("", "", limit=False)
    said = {scheduler.fetch_error(task_id)["error"] or "" for task_id in tasks}
    codes = [code for code in map(_log_error, sorted(said)) if code]
    if not codes:
        log.error("%s", result.summary_text)
    return codes[0] if codes else 1


def _log_error(text: str) -> int:
    """Log the sentence that `Work.on_failure` left, which Luigi has encoded once more."""
    try:
        found = json.loads(json.loads(text))
    except (ValueError, TypeError):
        return 0
    if not isinstance(found, dict) or found.get("kind") not in BY_NAME:
        return 0
    log.error("%s", found["message"])
    return BY_NAME[found["kind"]].exit_code


def _log_plainly() -> None:
    """One line an event on standard error; Luigi's own only from warnings up."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for name in ("pipeline", "quadrat"):
        logging.getLogger(name).setLevel(logging.INFO)
    luigi.configuration.get_config().set("core", "no_configure_logging", "true")
    for name in ("luigi", "luigi-interface", "luigi.scheduler"):
        logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger(name).addFilter(_is_ours_to_tell)


def _is_ours_to_tell(record: logging.LogRecord) -> bool:
    """Let no traceback through for an error whose sentence `run` tells at the end."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, QuadratError)
