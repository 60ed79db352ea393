"""Chip: windows, and beside them labels, of the images in the index."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import chips, labels, outs, recipes, rejects, schemas, shards
from pipeline.annotations import Source, file_name, label_separator
from pipeline.annotations import level as level_of
from pipeline.annotations import read as read_annotations
from pipeline.chips import _covered, _objects
from pipeline.chips._tables import placed
from pipeline.counts import Counts
from pipeline.hashing import digest
from pipeline.label_map import check as check_map
from pipeline.outs import out
from pipeline.rejects import Reject
from pipeline.store import Piece
from pipeline.work import _rows, tables
from pipeline.work._context import CHIPS, INDEX, LABELS, Context, Tell

TABLE = "chips"


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the stage starts from: places for chips, what is said of them, what was rejected.

    Attributes:
        places: schemas.PLACES, or schemas.CHIPS where tables in the bucket list the windows, or
            annotated objects are windows.
        said: schemas.ANNOTATIONS; schemas.SAID of chips; schemas.OBJECTS that may cover chips.
        rejected: annotations, and lines of tables, that cannot be used.
        level: whether *said* speaks of points, of images, of chips or of objects.
        measured: what instruments measured of the chips.
    """

    places: pa.Table
    said: pa.Table
    rejected: list[Reject]
    level: str
    measured: tables.Found


def read(context: Context, listed: Sequence[shards.Planned] = ()) -> Inputs:
    """Read the index, the annotations that lie in it, and what tables of windows came to.

    Raises:
        InputError: the annotation file cannot be read, or the index is not there.
        SettingError: the chip method and the annotation format do not fit.
    """
    params = context.params
    outs.require_manifest(INDEX, "index")
    images = pq.read_table(INDEX / "images.parquet")
    name = file_name(params.annotations)
    data = (INDEX / "annotations").read_bytes()
    sizes = zip(images["height"].to_pylist(), images["width"].to_pylist(), strict=True)
    source = Source(name, data, images["key"].to_pylist(), list(sizes))
    level = level_of(params.annotations)
    chips.check_levels(params.chip, params.annotations, level)
    said, rejected = read_annotations(source, params.annotations)
    found = tables.found(context, listed)
    rejected += found.rejected
    if level == "object":
        said, unusable = _objects.checked(said, images, params.annotations)
        rejected += unusable
        way = chips.level(params.chip)
        if way == "object":
            of = params.chip, params.annotations
            places, said, unplaced = _objects.places(said, images, *of)
            return Inputs(places, said, rejected + unplaced, "chip", found)
        if way == "image":
            nothing = schemas.ANNOTATIONS.empty_table()
            places, _ = chips.places(images, nothing, params.chip, name)
            return Inputs(places, said, rejected, level, found)
        said, unplaced = _objects.middles(said, params.annotations)
        rejected += unplaced
        level = "point"
    if listed:
        said, unplaced = placed(found.chips, said, source.keys, name)
        places, level = schemas.conform(found.chips, schemas.CHIPS), "point"
    else:
        places, unplaced = chips.places(images, said, params.chip, name)
    return Inputs(places, said, rejected + unplaced, level, found)


def plan(context: Context, inputs: Inputs) -> list[shards.Planned]:
    """Name the pieces of the chips table."""
    parts = shards.split(inputs.places, context.params.shards.count)
    recipe = recipes.chip(context.params)
    context.store.describe(recipe.digest, recipe.parts)
    return shards.plan(TABLE, recipe.digest, parts, inputs.places.schema)


def make(context: Context, pieces: Sequence[Piece], tell: Tell) -> None:  # noqa: ARG001
    """Cut windows for *pieces*: arithmetic, no pixel is read."""
    neighbours = shards.Neighbours(context.store, TABLE, pieces[0].recipe)
    for piece, wanted in shards.inputs(context.store, pieces):
        rows = chips.plan(wanted, context.params.chip)
        # Windows are arithmetic, cheaper than finding them: those that are there count as reused.
        made = shards.Made(context.run, shards.count_new(neighbours, piece, rows))
        shards.finish(context.store, piece, rows, [], made)


def expected(context: Context) -> dict[str, Any]:
    """Give what the labels' manifest says, as far as inputs decide it."""
    manifest = outs.require_manifest(INDEX, "index")
    by_shard = [[line["shard"], line["sha256"]] for line in manifest["shards"]]
    return {
        "stage": "chip",
        "recipe": digest(
            [recipes.chip(context.params).digest, recipes.label(context.params).digest]
        ),
        "inputs": {
            "images": digest(by_shard),
            "annotations": manifest["inputs"]["annotations"],
            "tables": manifest["inputs"]["tables"],
        },
    }


def publish(
    context: Context, inputs: Inputs, planned: Sequence[shards.Planned], facts: dict[str, Any]
) -> Counts:
    """Put `data/chips/` and `data/labels/` together; give what it took.

    Raises:
        TooManyRejects: more annotations were rejected than chip.max_rejects allows.
        InputError: the label map has other names than the labels.
    """
    found = shards.assemble(context.store, planned, context.run)
    every = schemas.conform(shards.table_of(context.store, planned, schemas.CHIPS), schemas.CHIPS)
    given, level, rejected = inputs.said, inputs.level, inputs.rejected
    out_of = inputs.places.num_rows + len(rejected)
    if level == "object":
        out_of += given.num_rows
        given, conflicts = _covered.said(every, given, context.params.annotations)
        level, rejected = "chip", rejected + conflicts
    said = labels.make(every, given, level, context.params.split)
    # Training checks it too: here it costs no features if a name is wrong.
    train, separator = context.params.train, label_separator(context.params.annotations)
    check_map(recipes.label_map(train), _rows.names(said, separator), train)
    refused = rejects.table(rejected)
    recipe = recipes.chip(context.params)
    files = {**found.files, "rejects.parquet": shards.rejects_out(refused)}
    manifest = {
        "stage": "chip",
        "recipe": recipe.digest,
        "shards_count": context.params.shards.count,
        "shards": found.lines,
        "files": sorted(files),
    }
    verdict = rejects.verdict(
        refused,
        out_of=out_of,
        setting="chip.max_rejects",
        limit=context.params.chip.max_rejects,
    )
    outs.publish(CHIPS, files, manifest, verdict)
    beside = {
        "labels.parquet": out(schemas.to_bytes(said)),
        "rejects.parquet": shards.rejects_out(schemas.REJECTS.empty_table()),
        **inputs.measured.files,
    }
    facts = {
        **facts,
        "rows": said.num_rows,
        "labels": beside["labels.parquet"].sha256,
        "chips": hashlib.sha256(outs.pretty(manifest)).hexdigest(),
        "files": sorted(beside),
        **({"tables": inputs.measured.lines} if inputs.measured.lines else {}),
    }
    outs.publish(LABELS, beside, facts)
    return found.counts("chip", "chips")
