"""Chip: cut the images in the index into windows, and label them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.annotations import AnnotationSource, _frame, file_name, label_separator
from pipeline.annotations import frame as frame_of
from pipeline.annotations import level as level_of
from pipeline.annotations import read as read_annotations
from pipeline.chip import (
    background,
    labels,
    methods,
    nodata,
    particles,
    recipe,
    splits,
    tables_stage,
)
from pipeline.chip.methods import _covered, _objects
from pipeline.config.loader import Params
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

UNANNOTATED = {
    "point": "has a header and no row below it: there is no point to cut",
    "object": "annotates nothing: there is no object to cut",
}


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the stage starts from.

    Attributes:
        images: schemas.IMAGES, and the fields of `index.pattern`.
        places: schemas.PLACES; schemas.CHIPS where objects or particles are cut.
        annotations: schemas.ANNOTATIONS; schemas.CHIP_ANNOTATIONS at level chip; schemas.OBJECTS at
            level object.
        level: what the annotations are of: "point", "image", "chip", or "object" where objects may
            cover chips.
        rejected: annotations, and lines of instrument tables, that cannot be used.
        measured: the instrument tables.
        unannotated: the keys of images without annotations, sorted.
    """

    images: pa.Table
    places: pa.Table
    annotations: pa.Table
    level: str
    rejected: list[Reject]
    measured: tables_stage.InstrumentTables
    unannotated: list[str]


def files_beside_images(chip: ChipParams, annotations: AnnotationParams) -> FilesBeside:
    """Return which files of the bucket besides the images the chip method reads.

    Raises:
        SettingError: the chip method cannot use annotations of this format.
    """
    methods.check_levels(chip, annotations, level_of(annotations))
    patterns = getattr(methods.find(chip), "TABLES", ())
    return FilesBeside(patterns, methods.masks(chip), chip.method)


def read(context: Context, instrument_tables: Sequence[shards.ShardPlan] = ()) -> Inputs:
    """Read the index, with the annotations in it, and the finished *instrument_tables*.

    Raises:
        InputError: the annotation file cannot be read, or the index stage has not run.
        SettingError: the chip method cannot use annotations of this format.
    """
    params = context.params
    images = tables.images()
    name = file_name(params.annotations)
    data = (INDEX / "annotations").read_bytes()
    sizes = list(zip(images["height"].to_pylist(), images["width"].to_pylist(), strict=True))
    keys = images["key"].to_pylist()
    is_displayed = frame_of(params.annotations) == "displayed"
    turned = dict(zip(keys, images["orientation"].to_pylist(), strict=True)) if is_displayed else {}
    source = AnnotationSource(name, data, keys, sizes, turned)
    level, chip_level = level_of(params.annotations), methods.find(params.chip).LEVEL
    methods.check_levels(params.chip, params.annotations, level)
    annotations, rejected = read_annotations(source, params.annotations)
    if not (annotations.num_rows or rejected) and level != "image":
        raise InputError(f"{name}: {UNANNOTATED[level]}")
    _frame.report_turned(annotations, images, params.annotations)
    if is_displayed:
        annotations, unusable = _frame.to_stored(annotations, images, name)
        rejected += unusable
    annotated = annotations["key"]
    measured = tables_stage.gather(context, instrument_tables)
    rejected += measured.rejected
    places = None
    if level == "object":
        annotations, unusable = _objects.checked(annotations, images, params.annotations)
        rejected += unusable
        if chip_level == "object":
            sections = params.chip, params.annotations
            places, annotations, unusable = _objects.places(annotations, images, *sections)
            level = "chip"
            rejected += unusable
        elif chip_level != "image":
            annotations, unusable = _objects.middles(annotations, params.annotations)
            level = "point"
            rejected += unusable
    if instrument_tables:
        separator = label_separator(params.annotations)
        annotations, unusable = particles.assign(measured.chips, annotations, source, separator)
        annotated = annotations["key"]  # of images: the file may name particles
        places, level = schemas.conform(measured.chips, schemas.CHIPS), "point"
        rejected += unusable
    elif places is None:
        annotations = _with_background(images, annotations, params.chip)
        located = schemas.ANNOTATIONS.empty_table() if level == "object" else annotations
        places, unusable = methods.places(images, located, params.chip, name)
        rejected += unusable
    if params.split.by == "group":
        annotations, unusable = labels.fill_groups(annotations, name)
        rejected += unusable
    unannotated = sorted(set(source.keys) - set(annotated.to_pylist()))
    return Inputs(images, places, annotations, level, rejected, measured, unannotated)


def _with_background(images: pa.Table, annotations: pa.Table, params: ChipParams) -> pa.Table:
    """Add the unlabelled points that `chip.background` asks for."""
    size, count = getattr(params, "size", None), getattr(params, "background", 0)
    if size is None or not count:
        return annotations
    return pa.concat_tables([annotations, background.places(images, annotations, size, count)])


def plan(context: Context, inputs: Inputs) -> list[shards.ShardPlan]:
    """Name the pieces of the chips table."""
    places = nodata.with_masks(inputs.places, context.params.chip)
    parts = shards.split(places, context.params.shards.count)
    chips = recipe.chips(context.params.chip)
    context.store.describe(chips.digest, chips.parts)
    return shards.plan(TABLE, chips.digest, parts, places.schema)


def make(context: Context, pieces: Sequence[Piece], report: Report) -> None:
    """Compute the windows of *pieces*; pixels are read only to find no-data.

    Raises:
        StorageError: the bucket cannot be read, or images have changed since they were indexed.
    """
    neighbours = shards.Neighbours(context.store, TABLE, pieces[0].recipe)
    if methods.nodata(context.params.chip) is not None:
        nodata.make(context, pieces, neighbours, report)
        return
    total = shards.count_rows(context.store, pieces)
    with Progress("chip", "places", total, report) as progress:
        for piece, places in shards.inputs(context.store, pieces):
            rows = methods.plan(places, context.params.chip)
            # A window is cheaper to compute than to look up; those that other pieces have still
            # count as reused.
            computed = shards.count_new(neighbours, piece, rows)
            shards.finish(context.store, piece, rows, [], shards.Provenance(context.run, computed))
            progress.step(places.num_rows)


def expected(context: Context) -> dict[str, Any]:
    """Return what the manifest of the labels must say, as far as inputs decide it."""
    params, manifest = context.params, outputs.require_manifest(INDEX)
    images = [[line["shard"], line["sha256"]] for line in manifest["shards"]]
    recipes = [recipe.chips(params.chip).digest, recipe.labels(params).digest]
    return {
        "stage": "chip",
        "recipe": digest(recipes),
        "inputs": {
            "images": digest(images),
            "annotations": manifest["inputs"]["annotations"],
            "tables": manifest["inputs"]["tables"],
        },
        **nodata.limit(params.chip),
    }


def publish(
    context: Context,
    inputs: Inputs,
    plans: Sequence[shards.ShardPlan],
    check_labels: Callable[[pa.Table], None],
) -> Counts:
    """Put `data/chips/` and `data/labels/` together, and return the counts.

    Before anything is written, *check_labels* is called with schemas.LABELS; it may raise.

    Raises:
        TooManyRejects: more annotations were rejected than chip.max_rejects allows.
        InputError: a split has no labelled chip.
    """
    params = context.params
    kept = nodata.assemble(context, plans)
    _warn_of_unknown_groups(inputs.images, params.split.by)
    labelled, chosen, rejected = _labels(params, kept.chips, inputs)
    for line in splits.counts(labelled):
        log.info("chip: %s", line)
    splits.check(labelled, params.split)
    check_labels(labelled)
    tables_of_rejects = rejects.table(rejected), kept.table.rejected, kept.dropped
    rejected_table = rejects.sort(pa.concat_tables(tables_of_rejects))
    objects = inputs.annotations.num_rows if inputs.level == "object" else 0
    error = rejects.check_limit(
        rejected_table,
        out_of=inputs.places.num_rows + objects + len(rejected),
        setting="chip.max_rejects",
        limit=params.chip.max_rejects,
    )
    chips_manifest = {
        "stage": "chip",
        "recipe": recipe.chips(params.chip).digest,
        "shards_count": params.shards.count,
        "shards": kept.table.lines,
        **({"nodata": kept.counts} if kept.counts else {}),
    }
    rejects_file = {rejects_path("chip"): out(schemas.to_bytes(rejected_table))}
    outputs.publish(CHIPS, kept.table.files | rejects_file, chips_manifest, error)
    files = {"labels.parquet": out(schemas.to_bytes(labelled)), **inputs.measured.files}
    labels_manifest = {
        **expected(context),
        "rows": labelled.num_rows,
        "labels": files["labels.parquet"].sha256,
        "chips": hashlib.sha256(outputs.pretty(chips_manifest)).hexdigest(),
        **({"tables": inputs.measured.lines} if inputs.measured.lines else {}),
        **({"background": chosen} if chosen else {}),
    }
    outputs.publish(LABELS, {LABELS / name: file for name, file in files.items()}, labels_manifest)
    _log_missing_labels(labelled, inputs.unannotated)
    counts = kept.table.counts("chip", "chips")
    return counts._replace(rejected=rejects.count_by_reason(rejected_table))


def _labels(
    params: Params, chips: pa.Table, inputs: Inputs
) -> tuple[pa.Table, dict[str, Any], list[Reject]]:
    """Return schemas.LABELS, what was chosen as background, and all rejects but those of chips."""
    annotations, level, rejected = inputs.annotations, inputs.level, inputs.rejected
    touched = None
    if level == "object":
        touched = _covered.touched(chips, annotations)
        annotations, conflicts = _covered.annotate(chips, annotations, params.annotations)
        level, rejected = "chip", rejected + conflicts
    labelled = labels.make(chips, inputs.images, annotations, level, params.split)
    labelled, chosen = background.label(labelled, chips, rejected, params.annotations, touched)
    if chosen:
        log.info(
            "chip: %s of %s %s labelled %s, by annotations.background %g",
            f"{chosen['chosen']:,}",
            pluralize(chosen["candidates"], "unlabelled chips"),
            "is" if chosen["chosen"] == 1 else "are",
            chosen["label"],
            params.annotations.background,
        )
    return labelled, chosen, rejected


def _warn_of_unknown_groups(images: pa.Table, by: str) -> None:
    """Warn of images without the value that groups are made by."""
    unknown = 0 if by == "group" else labels.image_values(images["key"], images, by).null_count
    if unknown:
        log.warning(
            "chip: split.by: the %s of %s of %s is not known; each is a group by itself",
            *(by, f"{unknown:,}", pluralize(images.num_rows, "images")),
        )


def _log_missing_labels(labelled: pa.Table, unannotated: Sequence[str]) -> None:
    if labelled.num_rows and labelled["label"].null_count == labelled.num_rows:
        # A warning and no error: only training needs labels, and features may be all one wants.
        log.warning(
            "chip: none of %s chips has a label; if the annotations have labels, set "
            "annotations.columns.label to their column",
            f"{labelled.num_rows:,}",
        )
    if unannotated:
        have = "has" if len(unannotated) == 1 else "have"
        count = pluralize(len(unannotated), "images")
        log.info("chip: %s %s no annotation, such as %s", count, have, unannotated[0])
