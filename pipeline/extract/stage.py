"""Extract: features of the chips that no finished shard has."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import recipes
from pipeline.config.sections import ExtractParams
from pipeline.core import hardware, rejects, schemas
from pipeline.core.errors import InputError, StorageError
from pipeline.core.hashing import shard_name
from pipeline.core.progress import Progress
from pipeline.core.rejects import Reject
from pipeline.core.run_log import Counts, pluralize
from pipeline.store import outputs, shards
from pipeline.store.context import CHIPS, FEATURES, Context, Tell, bucket
from pipeline.store.objects import Piece
from pipeline.store.outputs import Out

if TYPE_CHECKING:
    from pipeline.extract.engine import Engine
    from pipeline.extract.precomputed import PrecomputedFeatures

log = logging.getLogger("quadrat")

TABLE = "features"


def plan(context: Context) -> list[shards.ShardPlan]:
    """Name the pieces of the features table: one for each file of `data/chips/`.

    A chips file's bytes follow from its rows, so its digest names the input.
    """
    manifest = outputs.require_manifest(CHIPS, "chip")
    recipe = recipes.extract(context.params, context.machine)
    context.store.describe(recipe.digest, recipe.parts)
    planned = []
    for line in manifest["shards"]:
        name = shard_name(line["shard"], manifest["shards_count"])
        piece = Piece(TABLE, recipe.digest, name, line["sha256"])
        rows = CHIPS / f"{line['shard']:04d}.parquet"
        planned.append(shards.ShardPlan(line["shard"], piece, rows.read_bytes))
    return planned


def make(context: Context, pieces: Sequence[Piece], tell: Tell) -> None:
    """Embed the chips of *pieces* that no neighbour has; each piece is kept once it is done.

    Raises:
        StorageError: the bucket cannot be read, or images changed since they were indexed.
    """
    taken: dict[str, tuple[Piece, pa.Table | None]] = {}
    todo = _todo(context, pieces, taken)
    first = next(todo, None)
    if first is None:
        return
    engine = _engine(context, pieces[0].recipe)
    moved: list[str] = []
    with Progress("extract", "chips", shards.count_rows(context.store, pieces), tell) as progress:
        for done in engine.run(chain([first], todo), progress.step):
            moved += done.moved
            piece, reused = taken.pop(done.name)
            if not done.moved:
                parts = [done.features] if reused is None else [reused, done.features]
                _keep(context, piece, parts, done.rejects, done.features.num_rows)
    if moved:
        raise StorageError(f"{moved[0]} ({len(moved):,} in all changed); run dvc repro again")


def _todo(
    context: Context, pieces: Sequence[Piece], taken: dict[str, tuple[Piece, pa.Table | None]]
) -> Iterator[tuple[str, pa.Table]]:
    """Give the chips to embed, shard by shard as they are asked for; finish what needs none.

    Args:
        context: the work's.
        pieces: the shards.
        taken: filled with what of each given shard was there already.
    """
    neighbours = shards.Neighbours(context.store, TABLE, pieces[0].recipe)
    for piece in pieces:
        chips = shards.input_rows(context.store, piece)
        if chips is None:
            continue
        found = shards.reuse(neighbours, piece, chips)
        if found.rows is not None and not found.left.num_rows:
            _keep(context, piece, [found.rows], [], 0)
        else:
            name = f"{piece.shard}:{piece.input}"
            taken[name] = (piece, found.rows)
            yield name, found.left


def _keep(
    context: Context, piece: Piece, parts: Sequence[pa.Table], refused: list[Reject], computed: int
) -> None:
    rows = schemas.conform(pa.concat_tables(parts), parts[0].schema)
    shards.finish(context.store, piece, rows, refused, shards.Provenance(context.run, computed))


def _engine(context: Context, recipe: str) -> Engine | PrecomputedFeatures:
    """Load what gives features, having seen that it is what the shards are named for.

    Raises:
        InputError: it is not: the weights or the code have changed, or it is another machine.
    """
    from pipeline.extract import extractors, runtimes
    from pipeline.extract.engine import Engine
    from pipeline.extract.precomputed import PrecomputedFeatures

    asked = recipes.runtime_asked(context.params, context.machine)
    if recipes.extract_by(asked).digest != recipe:
        raise InputError(
            "extract: the weights, the code or the machine is not what it was when this run "
            "began; run dvc repro again"
        )
    if weights := extractors.looked_up(asked.extract):
        return PrecomputedFeatures(weights.path, asked.extract)
    network = runtimes.load(asked)
    storage = bucket(context)
    decoders = max(1, hardware.cores() // hardware.processes(asked.device))
    return Engine(
        storage, network, asked.extract, decoders, isolate=context.machine.isolates_decoding
    )


def expected(context: Context) -> dict[str, Any]:
    """Give what the features' manifest says, as far as inputs decide it."""
    recipe = recipes.extract(context.params, context.machine)
    lines = outputs.require_manifest(CHIPS, "chip")["shards"]
    return {
        "stage": "extract",
        "recipe": recipe.digest,
        "made_by": dict(recipe.parts),
        "inputs": {"chips": [line["sha256"] for line in lines]},
    }


def publish(context: Context, planned: Sequence[shards.ShardPlan], facts: dict[str, Any]) -> Counts:
    """Put `data/features/` together; give what it took.

    Raises:
        TooManyRejects: more chips could not be read than extract.max_rejects allows.
    """
    found = shards.assemble(context.store, planned, context.run)
    files: dict[str, Out] = {
        **found.files,
        "rejects.parquet": shards.rejects_out(found.rejected),
    }
    verdict = rejects.check_limit(
        found.rejected,
        out_of=found.rows + found.rejected.num_rows,
        setting="extract.max_rejects",
        limit=context.params.extract.max_rejects,
    )
    manifest = {
        **facts,
        "shards_count": outputs.require_manifest(CHIPS, "chip")["shards_count"],
        "shards": found.lines,
        "files": sorted(files),
    }
    outputs.publish(FEATURES, files, manifest, verdict)
    _say_shrunk(context.params.extract)
    return found.counts("extract", "chips")


def _say_shrunk(extract: ExtractParams) -> None:
    """Warn of chips larger than `extract.pad_extent`: they are not at the scale of the others."""
    if extract.resize != "pad":
        return
    lines = outputs.require_manifest(CHIPS, "chip")["shards"]
    paths = [CHIPS / f"{line['shard']:04d}.parquet" for line in lines]
    parts = [pq.read_table(path, columns=["height", "width"]) for path in paths]
    sides = [pc.max_element_wise(part["height"], part["width"]) for part in parts]
    larger = sum(pc.sum(pc.greater(side, extract.pad_extent)).as_py() or 0 for side in sides)
    if larger:
        longest = max(pc.max(side).as_py() or 0 for side in sides)
        log.warning(
            "extract: %s of %s %s larger than extract.pad_extent %d and %s shrunk to it; "
            "%d would keep all at one scale (every feature is then computed again)",
            f"{larger:,}",
            pluralize(sum(part.num_rows for part in parts), "chips"),
            "is" if larger == 1 else "are",
            extract.pad_extent,
            "was" if larger == 1 else "were",
            longest,
        )
