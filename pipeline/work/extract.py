"""Extract: features of the chips that no finished shard has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from pipeline import numerics, outs, recipes, rejects, schemas, shards
from pipeline.errors import InputError, StorageError
from pipeline.hashing import shard_name
from pipeline.outs import Out
from pipeline.progress import Progress
from pipeline.storage import open_storage
from pipeline.store import Piece
from pipeline.work._context import CHIPS, FEATURES, Context, Tell

TABLE = "features"


def plan(context: Context) -> list[shards.Planned]:
    """Name the pieces of the features table: one for each file of `data/chips/`.

    A chips file's bytes follow from its rows, so its digest names the input.
    """
    manifest = outs.require_manifest(CHIPS, "chip")
    recipe = recipes.extract(context.params, context.machine).digest
    planned = []
    for line in manifest["shards"]:
        name = shard_name(line["shard"], manifest["shards_count"])
        piece = Piece(TABLE, recipe, name, line["sha256"])
        rows = (CHIPS / f"{line['shard']:04d}.parquet").read_bytes()
        planned.append(shards.Planned(line["shard"], piece, rows))
    return planned


def make(context: Context, pieces: Sequence[Piece], tell: Tell) -> None:
    """Embed the chips of *pieces* that no neighbour has; each piece is kept once it is done.

    Raises:
        StorageError: the bucket cannot be read, or images changed since they were indexed.
    """
    found: dict[str, shards.Reuse] = {}
    by_name = {piece.shard: piece for piece in pieces}
    for piece in pieces:
        chips = schemas.from_bytes(context.store.input(piece))
        found[piece.shard] = shards.reuse(context.store, piece, chips, ["chip_id"])
    for name, reuse in found.items():
        if not reuse.left.num_rows and reuse.rows is not None:
            _keep(context, by_name[name], reuse.rows, [], 0)
    todo = [(name, reuse.left) for name, reuse in found.items() if reuse.left.num_rows]
    moved: list[str] = []
    for done in _embed(context, pieces[0].recipe, todo, tell):
        moved += done.moved
        if done.moved:
            continue
        reused = found[done.name].rows
        rows = done.features if reused is None else pa.concat_tables([reused, done.features])
        _keep(context, by_name[done.name], rows, done.rejects, done.features.num_rows)
    if moved:
        raise StorageError(f"{moved[0]} ({len(moved):,} in all changed); run dvc repro again")


def _keep(
    context: Context, piece: Piece, rows: pa.Table, refused: list[Any], computed: int
) -> None:
    rows = schemas.conform(rows, rows.schema)
    shards.finish(context.store, piece, rows, refused, shards.Made(context.run, computed))


def _check_recipe(context: Context, recipe: str) -> None:
    """Make sure that what would compute now is what the shards were named for."""
    if recipes.extract(context.params, context.machine).digest != recipe:
        raise InputError(
            "extract: the weights, the code or the machine is not what it was when this run "
            "began; run dvc repro again"
        )


def _embed(
    context: Context, recipe: str, todo: list[tuple[str, pa.Table]], tell: Tell
) -> Iterator[Any]:
    if not todo:
        return
    from pipeline import extractors
    from pipeline.engine import Engine

    _check_recipe(context, recipe)
    extract = context.params.extract
    extractor = extractors.build(extract, extractors.weights_of(extract))
    storage = open_storage(context.params.bucket.url, memory=context.machine.digests)
    device = numerics.device(context.machine.device)
    engine = Engine(storage, extractor, extract, device)
    total = sum(chips.num_rows for _, chips in todo)
    with Progress("extract", "chips", total, tell) as progress:
        yield from engine.run(todo, progress.step)


def expected(context: Context) -> dict[str, Any]:
    """Give what the features' manifest says, as far as inputs decide it."""
    recipe = recipes.extract(context.params, context.machine)
    lines = outs.require_manifest(CHIPS, "chip")["shards"]
    return {
        "stage": "extract",
        "recipe": recipe.digest,
        "made_by": dict(recipe.parts),
        "inputs": {"chips": [line["sha256"] for line in lines]},
    }


def publish(context: Context, planned: Sequence[shards.Planned], facts: dict[str, Any]) -> str:
    """Put `data/features/` together; give the line that says what it took.

    Raises:
        TooManyRejects: more chips could not be read than extract.max_rejects allows.
    """
    found = shards.assemble(context.store, planned, context.run)
    files: dict[str, Out] = {
        **found.files,
        "rejects.parquet": shards.rejects_out(found.rejected),
    }
    verdict = rejects.verdict(
        found.rejected,
        out_of=found.rows + found.rejected.num_rows,
        setting="extract.max_rejects",
        limit=context.params.extract.max_rejects,
    )
    manifest = {**facts, "shards": found.lines, "files": sorted(files)}
    outs.publish(FEATURES, files, manifest, verdict)
    return shards.summary("extract", "chips", found)
