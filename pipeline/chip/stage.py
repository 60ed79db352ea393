"""Chip: windows, and beside them labels, of the images in the index."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from pipeline.annotations import AnnotationSource, file_name, label_separator
from pipeline.annotations import level as level_of
from pipeline.annotations import read as read_annotations
from pipeline.chip import background, labels, methods, nodata, recipe, tables_stage
from pipeline.chip.methods import _covered, _objects
from pipeline.chip.methods._tables import placed
from pipeline.config.sections import AnnotationParams, ChipParams
from pipeline.core import rejects, schemas
from pipeline.core.errors import InputError
from pipeline.core.hashing import digest
from pipeline.core.progress import Progress
from pipeline.core.rejects import Reject
from pipeline.core.run_log import Counts, pluralize
from pipeline.index.listing import FilesBeside
from pipeline.store import outputs, shards, tables
from pipeline.store.context import Context, Report
from pipeline.store.objects import Piece
from pipeline.store.outputs import CHIPS, INDEX, LABELS, out, rejects_path

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


def files_beside_images(chip: ChipParams, annotations: AnnotationParams) -> FilesBeside:
    """Return which files of the bucket besides the images the chip method reads.

    Raises:
        SettingError: the chip method cannot use what the annotation format describes.
    """
    methods.check_levels(chip, annotations, level_of(annotations))
    masks = methods.masks(chip)
    mask_of = partial(methods.mask_of, masks) if masks else None
    return FilesBeside(methods.tables(chip), mask_of, chip.method)


def read(context: Context, listed: Sequence[shards.ShardPlan] = ()) -> Inputs:
    """Read the index, the annotations that lie in it, and what tables of windows came to.

    Raises:
        InputError: the annotation file cannot be read, or the index is not there.
        SettingError: the chip method and the annotation format do not fit.
    """
    params = context.params
    images = tables.images()
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
    chips = recipe.chips(context.params.chip)
    context.store.describe(chips.digest, chips.parts)
    return shards.plan(TABLE, chips.digest, parts, places.schema)


def make(context: Context, pieces: Sequence[Piece], report: Report) -> None:
    """Cut windows for *pieces*: arithmetic; pixels are read only where no-data is looked for.

    Raises:
        StorageError: the bucket cannot be read, or images changed since they were indexed.
    """
    neighbours = shards.Neighbours(context.store, TABLE, pieces[0].recipe)
    if methods.nodata(context.params.chip) is not None:
        nodata.make(context, pieces, neighbours, report)
        return
    total = shards.count_rows(context.store, pieces)
    with Progress("chip", "places", total, report) as progress:
        for piece, wanted in shards.inputs(context.store, pieces):
            rows = methods.plan(wanted, context.params.chip)
            # To compute windows is cheaper than to find them: those of other pieces count as
            # reused.
            made = shards.Provenance(context.run, shards.count_new(neighbours, piece, rows))
            shards.finish(context.store, piece, rows, [], made)
            progress.step(wanted.num_rows)


def expected(context: Context) -> dict[str, Any]:
    """Give what the labels' manifest says, as far as inputs decide it."""
    manifest = outputs.require_manifest(INDEX)
    by_shard = [[line["shard"], line["sha256"]] for line in manifest["shards"]]
    return {
        "stage": "chip",
        "recipe": digest(
            [recipe.chips(context.params.chip).digest, recipe.labels(context.params).digest]
        ),
        "inputs": {
            "images": digest(by_shard),
            "annotations": manifest["inputs"]["annotations"],
            "tables": manifest["inputs"]["tables"],
        },
        **nodata.limit(context.params.chip),
    }


def _warn_of_unknown_groups(images: pa.Table, by: str) -> None:
    """Say of how many images it is not known what they are to be grouped by."""
    unknown = 0 if by == "group" else labels.of_keys(images["key"], images, by).null_count
    if unknown:
        log.warning(
            "chip: split.by: the %s of %s of %s is not known; each is a group by itself",
            *(by, f"{unknown:,}", pluralize(images.num_rows, "images")),
        )


def _log_background(told: dict[str, Any], section: AnnotationParams) -> None:
    if told:
        some = f"{told['chosen']:,} of {pluralize(told['candidates'], 'unlabelled chips')}"
        are = "is" if told["chosen"] == 1 else "are"
        asked = section.background
        log.info(
            "chip: %s %s labelled %s, by annotations.background %g", some, are, told["label"], asked
        )


def publish(
    context: Context,
    inputs: Inputs,
    plans: Sequence[shards.ShardPlan],
    check_labels: Callable[[pa.Table], None],
) -> Counts:
    """Put `data/chips/` and `data/labels/` together, and return the counts.

    Args:
        context: of the stage.
        inputs: what `read` has returned.
        plans: what `plan` has returned.
        check_labels: called with schemas.LABELS before anything is written; it may raise.

    Raises:
        TooManyRejects: more annotations were rejected than chip.max_rejects allows.
    """
    kept = nodata.kept(context, plans)
    assembled, chips = kept.found, kept.chips
    _warn_of_unknown_groups(inputs.images, context.params.split.by)
    annotations, level, rejected = inputs.said, inputs.level, inputs.rejected
    section, near, out_of = context.params.annotations, None, inputs.places.num_rows
    if level == "object":
        out_of += annotations.num_rows
        near = _covered.near(chips, annotations)
        annotations, conflicts = _covered.said(chips, annotations, section)
        level, rejected = "chip", rejected + conflicts
    out_of += len(rejected)
    labelled = labels.make(chips, inputs.images, annotations, level, context.params.split)
    labelled, chosen = background.label(labelled, chips, rejected, section, near)
    _log_background(chosen, section)
    check_labels(labelled)
    rejected_table = rejects.sort(
        pa.concat_tables([rejects.table(rejected), assembled.rejected, kept.dropped])
    )
    files = {
        **assembled.files,
        rejects_path("chip"): out(schemas.to_bytes(rejected_table)),
    }
    manifest = {
        "stage": "chip",
        "recipe": recipe.chips(context.params.chip).digest,
        "shards_count": context.params.shards.count,
        "shards": assembled.lines,
        **({"nodata": kept.counted} if kept.counted else {}),
    }
    error = rejects.check_limit(
        rejected_table,
        out_of=out_of,
        setting="chip.max_rejects",
        limit=context.params.chip.max_rejects,
    )
    outputs.publish(CHIPS, files, manifest, error)
    labels_out = out(schemas.to_bytes(labelled))
    labels_manifest = {
        **expected(context),
        "rows": labelled.num_rows,
        "labels": labels_out.sha256,
        "chips": hashlib.sha256(outputs.pretty(manifest)).hexdigest(),
        **({"tables": inputs.measured.lines} if inputs.measured.lines else {}),
        **({"background": chosen} if chosen else {}),
    }
    files = {LABELS / name: file for name, file in inputs.measured.files.items()}
    outputs.publish(LABELS, {LABELS / "labels.parquet": labels_out, **files}, labels_manifest)
    if labelled.num_rows and labelled["label"].null_count == labelled.num_rows:
        # Only training needs labels: features may be all that is wanted.
        log.warning(
            "chip: none of %s chips has a label; if the annotations have labels, set "
            "annotations.columns.label to their column",
            f"{labelled.num_rows:,}",
        )
    if inputs.bare:
        have = "has" if len(inputs.bare) == 1 else "have"
        count = pluralize(len(inputs.bare), "images")
        log.info("chip: %s %s no annotation, such as %s", count, have, inputs.bare[0])
    counts = assembled.counts("chip", "chips")
    return counts._replace(rejected=rejects.count_by_reason(rejected_table))
