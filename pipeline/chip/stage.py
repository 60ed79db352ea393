"""Chip: windows, and beside them labels, of the images in the index."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import recipes
from pipeline.annotations import AnnotationSource, file_name, label_separator
from pipeline.annotations import level as level_of
from pipeline.annotations import read as read_annotations
from pipeline.chip import background, labels, methods, nodata, tables_stage
from pipeline.chip.methods import _covered, _objects
from pipeline.chip.methods._tables import placed
from pipeline.config.sections import AnnotationParams, ChipParams
from pipeline.core import rejects, schemas
from pipeline.core.errors import InputError
from pipeline.core.hashing import digest
from pipeline.core.rejects import Reject
from pipeline.core.run_log import Counts, pluralize
from pipeline.store import outputs, shards
from pipeline.store.context import CHIPS, INDEX, LABELS, Context, Tell
from pipeline.store.objects import Piece
from pipeline.store.outputs import out
from pipeline.train import labelled_features
from pipeline.train.label_map import check as check_map

log = logging.getLogger(__name__)

TABLE = "chips"

NOTHING = {
    "point": "has a header and no row below it: there is no point to cut",
    "object": "annotates nothing: there is no object to cut",
}


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the stage starts from: places for chips, what is said of them, what was rejected.

    Attributes:
        images: schemas.IMAGES, and the fields of `index.pattern`.
        places: schemas.PLACES, or schemas.CHIPS where tables in the bucket list the windows, or
            annotated objects are windows.
        said: schemas.ANNOTATIONS; schemas.SAID of chips; schemas.OBJECTS that may cover chips.
        rejected: annotations, and lines of tables, that cannot be used.
        level: whether *said* speaks of points, of images, of chips or of objects.
        measured: what instruments measured of the chips.
        bare: the images of which nothing is said.
    """

    images: pa.Table
    places: pa.Table
    said: pa.Table
    rejected: list[Reject]
    level: str
    measured: tables_stage.InstrumentTables
    bare: list[str]


def read(context: Context, listed: Sequence[shards.ShardPlan] = ()) -> Inputs:
    """Read the index, the annotations that lie in it, and what tables of windows came to.

    Raises:
        InputError: the annotation file cannot be read, or the index is not there.
        SettingError: the chip method and the annotation format do not fit.
    """
    params = context.params
    outputs.require_manifest(INDEX, "index")
    images = pq.read_table(INDEX / "images.parquet")
    name = file_name(params.annotations)
    data = (INDEX / "annotations").read_bytes()
    sizes = zip(images["height"].to_pylist(), images["width"].to_pylist(), strict=True)
    source = AnnotationSource(name, data, images["key"].to_pylist(), list(sizes))
    level = level_of(params.annotations)
    methods.check_levels(params.chip, params.annotations, level)
    said, rejected = read_annotations(source, params.annotations)
    if not (said.num_rows or rejected) and level != "image":
        raise InputError(f"{name}: {NOTHING[level]}")
    spoken_of = said
    found = tables_stage.found(context, listed)
    rejected += found.rejected
    places = None
    if level == "object":
        said, unusable = _objects.checked(said, images, params.annotations)
        rejected += unusable
        way = methods.level(params.chip)
        if way == "image":
            places, unplaced = methods.places(
                images, schemas.ANNOTATIONS.empty_table(), params.chip, name
            )
        elif way == "object":
            of = params.chip, params.annotations
            places, said, unplaced = _objects.places(said, images, *of)
            level = "chip"
        else:
            said, unplaced = _objects.middles(said, params.annotations)
            level = "point"
        rejected += unplaced
    if listed:
        separator = label_separator(params.annotations)
        said, unplaced = placed(found.chips, said, source, separator)
        spoken_of = said  # of images: it may have spoken of particles
        places, level = schemas.conform(found.chips, schemas.CHIPS), "point"
        rejected += unplaced
    elif places is None:
        said = _with_free_places(images, said, params.chip)
        places, unplaced = methods.places(images, said, params.chip, name)
        rejected += unplaced
    bare = sorted(set(source.keys) - set(spoken_of["key"].to_pylist()))
    return Inputs(images, places, said, rejected, level, found, bare)


def _with_free_places(images: pa.Table, said: pa.Table, params: ChipParams) -> pa.Table:
    """Add points that nobody has annotated, where the chip method asks for such."""
    size, count = getattr(params, "size", None), getattr(params, "background", 0)
    if size is None or not count:
        return said
    return pa.concat_tables([said, background.places(images, said, size, count)])


def plan(context: Context, inputs: Inputs) -> list[shards.ShardPlan]:
    """Name the pieces of the chips table."""
    places = nodata.with_masks(inputs.places, context.params.chip)
    parts = shards.split(places, context.params.shards.count)
    recipe = recipes.chip(context.params)
    context.store.describe(recipe.digest, recipe.parts)
    return shards.plan(TABLE, recipe.digest, parts, places.schema)


def make(context: Context, pieces: Sequence[Piece], tell: Tell) -> None:
    """Cut windows for *pieces*: arithmetic; pixels are read only where no-data is looked for.

    Raises:
        StorageError: the bucket cannot be read, or images changed since they were indexed.
    """
    neighbours = shards.Neighbours(context.store, TABLE, pieces[0].recipe)
    if methods.nodata(context.params.chip) is not None:
        nodata.make(context, pieces, neighbours, tell)
        return
    for piece, wanted in shards.inputs(context.store, pieces):
        rows = methods.plan(wanted, context.params.chip)
        # Windows are arithmetic, cheaper than finding them: those that are there count as reused.
        made = shards.Provenance(context.run, shards.count_new(neighbours, piece, rows))
        shards.finish(context.store, piece, rows, [], made)


def expected(context: Context) -> dict[str, Any]:
    """Give what the labels' manifest says, as far as inputs decide it."""
    manifest = outputs.require_manifest(INDEX, "index")
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
        **nodata.limit(context.params.chip),
    }


def _say(images: pa.Table, by: str) -> None:
    """Say of how many images it is not known what they are to be grouped by."""
    unknown = 0 if by == "group" else labels.of_keys(images["key"], images, by).null_count
    if unknown:
        log.warning(
            "chip: split.by: the %s of %s of %s is not known; each is a group by itself",
            *(by, f"{unknown:,}", pluralize(images.num_rows, "images")),
        )


def _say_background(told: dict[str, Any], section: AnnotationParams) -> None:
    if told:
        some = f"{told['chosen']:,} of {pluralize(told['candidates'], 'unlabelled chips')}"
        are = "is" if told["chosen"] == 1 else "are"
        asked = section.background
        log.info(
            "chip: %s %s labelled %s, by annotations.background %g", some, are, told["label"], asked
        )


def publish(
    context: Context, inputs: Inputs, planned: Sequence[shards.ShardPlan], facts: dict[str, Any]
) -> Counts:
    """Put `data/chips/` and `data/labels/` together; give what it took.

    Raises:
        TooManyRejects: more annotations were rejected than chip.max_rejects allows.
        InputError: the label map has other names than the labels.
    """
    kept = nodata.kept(context, planned)
    found, every = kept.found, kept.chips
    _say(inputs.images, context.params.split.by)
    given, level, rejected = inputs.said, inputs.level, inputs.rejected
    section, near, out_of = context.params.annotations, None, inputs.places.num_rows
    if level == "object":
        out_of += given.num_rows
        near = _covered.near(every, given)
        given, conflicts = _covered.said(every, given, section)
        level, rejected = "chip", rejected + conflicts
    out_of += len(rejected)
    said = labels.make(every, inputs.images, given, level, context.params.split)
    said, told = background.label(said, every, rejected, section, near)
    _say_background(told, section)
    # Training checks it too: here it costs no features if a name is wrong.
    train = context.params.train
    check_map(
        recipes.label_map(train), labelled_features.names(said, label_separator(section)), train
    )
    refused = rejects.sort(
        pa.concat_tables([rejects.table(rejected), found.rejected, kept.dropped])
    )
    recipe = recipes.chip(context.params)
    files = {**found.files, "rejects.parquet": shards.rejects_out(refused)}
    manifest = {
        "stage": "chip",
        "recipe": recipe.digest,
        "shards_count": context.params.shards.count,
        "shards": found.lines,
        "files": sorted(files),
        **({"nodata": kept.counted} if kept.counted else {}),
    }
    verdict = rejects.check_limit(
        refused,
        out_of=out_of,
        setting="chip.max_rejects",
        limit=context.params.chip.max_rejects,
    )
    outputs.publish(CHIPS, files, manifest, verdict)
    beside = {
        "labels.parquet": out(schemas.to_bytes(said)),
        "rejects.parquet": shards.rejects_out(schemas.REJECTS.empty_table()),
        **inputs.measured.files,
    }
    facts = {
        **facts,
        "rows": said.num_rows,
        "labels": beside["labels.parquet"].sha256,
        "chips": hashlib.sha256(outputs.pretty(manifest)).hexdigest(),
        "files": sorted(beside),
        **({"tables": inputs.measured.lines} if inputs.measured.lines else {}),
        **({"background": told} if told else {}),
    }
    outputs.publish(LABELS, beside, facts)
    if said.num_rows and said["label"].null_count == said.num_rows:
        # Nothing to learn from is an error of training only: features may be all that is wanted.
        log.warning(
            "chip: none of %s chips has a label; if the annotations hold labels, set "
            "annotations.columns.label to their column",
            f"{said.num_rows:,}",
        )
    if inputs.bare:
        have = "has" if len(inputs.bare) == 1 else "have"
        some = pluralize(len(inputs.bare), "images")
        log.info("chip: %s %s no annotation, as %s", some, have, inputs.bare[0])
    return found.counts("chip", "chips")._replace(rejected=refused.num_rows)
