"""Extract: compute the features that no finished shard has."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.sections import ExtractParams
from pipeline.core import hardware, rejects, schemas
from pipeline.core.errors import InputError
from pipeline.core.hashing import shard_name
from pipeline.core.progress import Progress
from pipeline.core.rejects import Reject
from pipeline.core.run_log import Counts, pluralize
from pipeline.extract import extractors, recipe
from pipeline.store import outputs, shards, tables
from pipeline.store.context import Context, Report
from pipeline.store.objects import Piece
from pipeline.store.outputs import CHIPS, FEATURES, out, rejects_path
from pipeline.store.recipe import Recipe

if TYPE_CHECKING:
    from pipeline.extract.engine import Engine
    from pipeline.extract.extractors.precomputed import PrecomputedFeatures

log = logging.getLogger("quadrat")

TABLE = "features"
NAMED = 3
"""Images in a message."""


def plan(context: Context) -> list[shards.ShardPlan]:
    """Name the pieces of the features table: one for each shard of the chips.

    The bytes of a shard of chips follow from its rows, so its digest names the input rows.
    """
    manifest = outputs.require_manifest(CHIPS)
    features = recipe.embedding(context.params.extract, context.machine).recipe
    context.store.describe(features.digest, features.parts)
    plans = []
    for line in manifest["shards"]:
        name = shard_name(line["shard"], manifest["shards_count"])
        piece = Piece(TABLE, features.digest, name, line["sha256"])
        rows = outputs.shard_path(CHIPS, line["shard"])
        plans.append(shards.ShardPlan(line["shard"], piece, rows.read_bytes, line["rows"]))
    return plans


def check_weights(context: Context, requested: Recipe) -> None:
    """Check, once for each recipe, that the weights are those of the extractor.

    Args:
        context: of the stage.
        requested: what is requested of this stage.

    Raises:
        SettingError, InputError: they are not, or there are none.
    """
    mark = context.machine.state / "weights-checked" / requested.digest
    if mark.exists():
        return
    chosen = extractors.choose(context.params.extract, context.machine)
    if chosen.weights and hasattr(chosen.part, "build"):
        chosen.build()
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()


def make(context: Context, pieces: Sequence[Piece], report: Report) -> None:
    """Embed the chips of *pieces* that no neighbour has; each piece is stored when it is done.

    Raises:
        StorageError: the bucket cannot be read, or images changed since they were indexed.
    """
    tables_to_embed = _tables_to_embed(context, pieces)
    first = next(tables_to_embed, None)
    if first is None:
        return
    engine = _engine(context, pieces[0].recipe)
    changed: list[str] = []
    total = shards.count_rows(context.store, pieces)
    with Progress("extract", "chips", total, report) as progress:
        for table in engine.run(chain([first], tables_to_embed), progress.step):
            changed += table.changed
            piece, reuse = table.name
            if not table.changed:
                _finish(context, piece, reuse, table.features, table.rejects)
    shards.check_unchanged(changed)


def _tables_to_embed(
    context: Context, pieces: Sequence[Piece]
) -> Iterator[tuple[tuple[Piece, shards.Reuse], pa.Table]]:
    """Yield each piece with what it reuses and the chips to embed; finish those without any."""
    neighbours = shards.Neighbours(context.store, TABLE, pieces[0].recipe)
    for piece, chips in shards.inputs(context.store, pieces):
        reuse = shards.reuse(neighbours, piece, chips)
        if reuse.rows is not None and not reuse.left.num_rows:
            _finish(context, piece, reuse, reuse.rows.slice(0, 0), [])
        else:
            yield (piece, reuse), reuse.left


def _finish(
    context: Context,
    piece: Piece,
    reuse: shards.Reuse,
    computed: pa.Table,
    rejected: list[Reject],
) -> None:
    made = shards.Provenance(context.run, computed.num_rows)
    shards.finish(context.store, piece, reuse.with_computed(computed), rejected, made)


def _engine(context: Context, recipe_digest: str) -> Engine | PrecomputedFeatures:
    """Load what returns features, after checking that its recipe is that of the shards.

    Raises:
        InputError: the weights, the code or the machine has changed.
    """
    from pipeline.extract import runtime
    from pipeline.extract.engine import Engine

    extract, machine = context.params.extract, context.machine
    chosen = recipe.embedding(extract, machine)
    if chosen.recipe.digest != recipe_digest:
        raise InputError(
            "extract: the weights, the code or the machine has changed since this run began; "
            "run dvc repro again"
        )
    extractor = chosen.request.extractor
    if hasattr(extractor.part, "engine"):
        features: PrecomputedFeatures = extractor.part.engine(extract, extractor.weights)
        return features
    network = runtime.load(chosen)
    processes = hardware.processes(chosen.request.device)
    decoders = max(1, hardware.cores() // processes)
    return Engine(context.bucket, network, extract, decoders, isolate=machine.isolates_decoding)


def expected(context: Context) -> dict[str, Any]:
    """Return what the manifest of the features must say, as far as inputs decide it."""
    features = recipe.embedding(context.params.extract, context.machine).recipe
    lines = outputs.require_manifest(CHIPS)["shards"]
    return {
        "stage": "extract",
        "recipe": features.digest,
        "made_by": dict(features.parts),
        "inputs": {"chips": [line["sha256"] for line in lines]},
    }


def publish(
    context: Context, plans: Sequence[shards.ShardPlan], manifest: dict[str, Any]
) -> Counts:
    """Put `data/features/` together, and return the counts.

    Raises:
        TooManyRejects: more chips could not be read than extract.max_rejects allows.
    """
    table = shards.assemble(context.store, plans, context.run, FEATURES)
    files = {**table.files, rejects_path("extract"): out(schemas.to_bytes(table.rejected))}
    error = rejects.check_limit(
        table.rejected,
        out_of=table.rows + table.rejected.num_rows,
        setting="extract.max_rejects",
        limit=context.params.extract.max_rejects,
    )
    manifest = {
        **manifest,
        "shards_count": outputs.require_manifest(CHIPS)["shards_count"],
        "shards": table.lines,
    }
    outputs.publish(FEATURES, files, manifest, error)
    _warn_of_shrunk_chips(context.params.extract)
    _report_decoder_warnings()
    return table.counts("extract", "chips")


def _report_decoder_warnings() -> None:
    """Warn of images whose pixels may be damaged, and name the first of them."""
    warned = tables.decoder_warnings().group_by(["key", "decoder_warning"]).aggregate([])
    if not warned.num_rows:
        return
    first = warned.sort_by("key").slice(0, NAMED).to_pylist()
    log.warning(
        "extract: the decoder warned of %s, whose pixels may be damaged: %s; the report shows them",
        pluralize(warned.num_rows, "images"),
        ", ".join(f"{row['key']} ({row['decoder_warning']})" for row in first),
    )


def _warn_of_shrunk_chips(extract: ExtractParams) -> None:
    """Warn of chips larger than `extract.pad_extent`: they are not at the scale of the others."""
    if extract.resize != "pad":
        return
    sizes = schemas.CHIPS.empty_table().select(["height", "width"])
    sizes = pa.concat_tables([sizes, *tables.chips(sizes.column_names)])
    sides = pc.max_element_wise(sizes["height"], sizes["width"])
    larger = pc.sum(pc.greater(sides, extract.pad_extent)).as_py() or 0
    if larger:
        log.warning(
            "extract: %s of %s %s larger than extract.pad_extent %d and %s shrunk to it; "
            "%d would keep all at one scale (every feature is then computed again)",
            f"{larger:,}",
            pluralize(sizes.num_rows, "chips"),
            "is" if larger == 1 else "are",
            extract.pad_extent,
            "was" if larger == 1 else "were",
            pc.max(sides).as_py(),
        )
