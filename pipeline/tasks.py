"""Luigi tasks: which work is missing, in what order, and by how many workers.

`luigi --module pipeline.tasks Validate` runs the whole chain without DVC. `dvc repro` runs one
stage's task at a time (scheduler/run.py), since DVC has ordered the stages already. A stage task
yields the tasks of its missing shards and then puts its out together. The work itself is in the
stages' folders.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import luigi

from pipeline.chip import recipe as chip_recipe
from pipeline.chip import stage as chip
from pipeline.chip import tables_stage
from pipeline.config.loader import Params, load
from pipeline.config.machine import Machine, machine
from pipeline.core import progress, signals, urls
from pipeline.core.errors import QuadratError
from pipeline.core.hashing import digest
from pipeline.core.luigi_task import QuadratTask
from pipeline.core.run_log import Counts, append_run_log
from pipeline.extract import recipe as extract_recipe
from pipeline.extract import stage as extract
from pipeline.index import stage as index
from pipeline.index.listing import BucketListing, list_bucket
from pipeline.storage import local_path
from pipeline.store import outputs, requests
from pipeline.store.adoption import adopt
from pipeline.store.context import Context, open_store
from pipeline.store.outputs import CHIPS, CLASSIFIER, FEATURES, INDEX, LABELS, RESULTS
from pipeline.store.recipe import Recipe
from pipeline.store.shard_task import ShardTask, shard_tasks
from pipeline.store.shards import ShardPlan, missing_shards, put_inputs
from pipeline.train import recipe as train_recipe
from pipeline.train import stage as train
from pipeline.validate import recipe as validate_recipe
from pipeline.validate import stage as validate

log = logging.getLogger("quadrat")

PARAMS: Any = "params.yaml"
"""The default of every task's `params`: the file, which is read when the first task is created."""

DIGEST_SHOWN = 8


class ParamsParameter(luigi.Parameter[Params]):
    """All of params.yaml as one task parameter: the name of the file, or the value itself."""

    def parse(self, x: str) -> Params:
        """Read the file *x*."""
        return load(x)

    def normalize(self, x: Any) -> Params:
        """Return *x* as Params."""
        return x if isinstance(x, Params) else self.parse(x)

    def serialize(self, x: Params) -> str:
        """Return a short digest: the scheduler's page shows it, and it is never read back."""
        return digest(x.to_json())[:DIGEST_SHOWN]


class CheckoutParameter(luigi.Parameter[str]):
    """The checkout whose outs a stage task writes; in another checkout it is another task."""

    def normalize(self, x: Any) -> str:
        """Return *x*, or host and folder if it is empty."""
        return str(x) or f"{socket.gethostname()}:{Path.cwd()}"


class IndexShard(ShardTask):
    """Headers of the images of some shards."""

    stage, unit, out = index, "images", INDEX


class TableShard(ShardTask):
    """The windows that some instrument tables in the bucket list."""

    stage, unit = tables_stage, "tables"


class ChipShard(ShardTask):
    """Windows on the images of some shards."""

    stage, unit, out = chip, "places", CHIPS


class ExtractShard(ShardTask):
    """Features of the chips of some shards."""

    stage, unit, out, embeds = extract, "chips", FEATURES, True


def _for_shard_tasks(params: Params) -> Params:
    """Return *params* as another checkout of this machine can use them, for everyone to read.

    Paths are absolute. The address of the annotations, which shard tasks do not read, loses its
    password and query.
    """
    bucket, section, annotations = params.bucket, params.extract, params.annotations
    if annotations.path:
        annotations = annotations.model_copy(update={"path": urls.redacted(annotations.path)})
    if "://" not in bucket.url:
        bucket = bucket.model_copy(update={"url": str(local_path(bucket.url))})
    if section.weights and local_path(section.weights).exists():
        section = section.model_copy(update={"weights": str(local_path(section.weights))})
    return replace(params, bucket=bucket, annotations=annotations, extract=section)


def requested_recipes(params: Params, machine: Machine) -> dict[str, Recipe]:
    """Return what is requested of each stage after the index.

    The index writes them to `data/index/recipes/`, on which DVC lets the stages depend: a change of
    weights or code, which params.yaml does not show, is seen there.
    """
    return {
        "chip": chip_recipe.requested(params),
        "extract": extract_recipe.request(params.extract, machine).recipe,
        "train": train_recipe.requested(params),
        "validate": validate_recipe.requested(params),
    }


class StageTask(QuadratTask):
    """One of the stages: complete when the manifests of its outs say what its inputs ask for."""

    params = ParamsParameter(default=PARAMS)
    checkout = CheckoutParameter(default="")
    chain = luigi.BoolParameter(
        default=True,
        significant=False,
        parsing=luigi.BoolParameter.EXPLICIT_PARSING,
        description="run the stages before this one first",
    )

    before: ClassVar[type[StageTask] | None] = None
    stage: ClassVar[ModuleType]
    folders: ClassVar[tuple[Path, ...]]

    @property
    def context(self) -> Context:
        """The context of the stage's functions."""
        return Context(self.params, machine(), open_store(machine()), self.run_name)

    def requires(self) -> list[luigi.Task]:
        """Return the stage before this one, unless DVC has run it."""
        if not self.chain or self.before is None:
            return []
        return [self.before(params=self.params, run_name=self.run_name)]

    def output(self) -> list[luigi.LocalTarget]:
        """Return the manifests of the outs."""
        return [luigi.LocalTarget(str(outputs.manifest_path(at))) for at in self.folders]

    def complete(self) -> bool:
        """Return True if this stage's outs, and those of the stages before it, are up to date.

        In a chain, an error counts as incomplete: `run` meets it again and ends the chain, while
        Luigi would wait for ever for a task whose completeness it cannot tell.
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
        manifests = [outputs.read_manifest(folder) for folder in self.folders]
        if not all(
            manifest is not None and outputs.is_complete(folder, manifest)
            for manifest, folder in zip(manifests, self.folders, strict=True)
        ):
            return False
        last = manifests[-1] or {}
        return all(last.get(name) == value for name, value in self.expected().items())

    def expected(self) -> dict[str, Any]:
        """Return what the manifest of the last of `folders` must say, as far as inputs tell."""
        expected: dict[str, Any] = self.stage.expected(self.context)
        return expected

    def missing(self, kind: type[ShardTask], plans: Sequence[ShardPlan]) -> Iterator[Any]:
        """Yield the tasks of the shards that are not finished, if there are any."""
        signals.end_with_parent()
        store = self.context.store
        missing = missing_shards(store, plans, self.run_name)
        if missing and kind.out:
            piece = missing[0].piece
            if adopt(store, piece.table, piece.recipe, kind.out):
                missing = missing_shards(store, plans, self.run_name)
        if missing:
            put_inputs(store, missing)
            progress.expect(sum(plan.size for plan in missing), kind.unit)
            request = requests.put(store, _for_shard_tasks(self.params).to_json(), plans)
            # They have just been listed as missing: Luigi need not ask for each of them.
            tasks = shard_tasks(kind, self.run_name, request, missing)
            yield luigi.DynamicRequirements(tasks, custom_complete=lambda _: False)

    def done(self, counts: Counts) -> None:
        """Report the counts to people, to the run log, and to the scheduler."""
        log.info(counts.summary())
        self.report(100, counts.summary())
        append_run_log(machine().runs, self.run_name, counts)


class Index(StageTask):
    """bucket → images."""

    stage, folders = index, (INDEX,)

    @cached_property
    def listing(self) -> BucketListing:
        """The bucket, listed once in a run: every later read is checked against this listing."""
        beside = chip.files_beside_images(self.params.chip, self.params.annotations)
        return list_bucket(self.context, beside)

    def _is_complete(self) -> bool:
        if self.chain:  # a stage has listed the bucket already; see scheduler/run.py
            _ = self.listing  # in this process, or each worker would list it anew
        return super()._is_complete()

    def expected(self) -> dict[str, Any]:
        """Return what the index must say of the bucket as it was when this run began."""
        recipes = requested_recipes(self.params, machine())
        return index.expected(self.context, self.listing, recipes)

    def run(self) -> Iterator[Any]:
        """Read the missing headers, then put the index together."""
        recipes = requested_recipes(self.params, machine())
        extract.check_weights(self.context, recipes["extract"])
        plans = index.plan(self.context, self.listing)
        yield from self.missing(IndexShard, plans)
        self.done(index.publish(self.context, self.listing, plans, recipes))


class Chip(StageTask):
    """images and annotations → chips and labels."""

    before, stage, folders = Index, chip, (CHIPS, LABELS)

    def run(self) -> Iterator[Any]:
        """Plan the missing windows, then put chips and labels together."""
        tables = tables_stage.plan(self.context)
        yield from self.missing(TableShard, tables)
        inputs = chip.read(self.context, tables)
        plans = chip.plan(self.context, inputs)
        yield from self.missing(ChipShard, plans)
        # Training checks the label map again; here, a wrong name costs no features.
        check_labels = partial(train.check_labels, self.params)
        self.done(chip.publish(self.context, inputs, plans, check_labels))


class Extract(StageTask):
    """chips and the bucket → features."""

    before, stage, folders = Chip, extract, (FEATURES,)

    def run(self) -> Iterator[Any]:
        """Embed what is missing, then put the features together."""
        plans = extract.plan(self.context)
        yield from self.missing(ExtractShard, plans)
        self.done(extract.publish(self.context, plans, self.expected()))


class WholeTask(StageTask):
    """A stage whose out is one piece of the store, computed in this process."""

    def run(self) -> None:
        """Compute the piece, unless the store has it already, and put the out together."""
        signals.end_with_parent()
        piece = self.stage.piece(self.context)
        if not self.context.store.has(piece):
            self.stage.make(self.context, piece, self.report)
        self.done(self.stage.publish(self.context, piece, self.expected()))


class Train(WholeTask):
    """features and labels → classifier."""

    before, stage, folders = Extract, train, (CLASSIFIER,)


class Validate(WholeTask):
    """classifier, features and labels → results."""

    before, stage, folders = Train, validate, (RESULTS,)
