"""Train: fit a classifier to the labelled features of the train and calibration splits."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, fields
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.annotations import label_separator
from pipeline.config.loader import Params
from pipeline.core import hardware
from pipeline.core.errors import InputError
from pipeline.core.hashing import digest
from pipeline.core.progress import Progress, expect
from pipeline.core.run_log import Counts, pluralize
from pipeline.store import outputs, tables
from pipeline.store.context import Context, Report
from pipeline.store.objects import Piece
from pipeline.store.outputs import CLASSIFIER, FEATURES, Out
from pipeline.store.recipe import Recipe
from pipeline.train import dvclive, label_map, labelled_features, model, recipe, training_record
from pipeline.train.label_map import renamed
from pipeline.train.schedule import Schedule
from pipeline.train.training_record import TrainingRecord

if TYPE_CHECKING:
    from pipeline.train.loop import Epoch

log = logging.getLogger(__name__)

TABLE = "classifiers"
SPLITS = ("train", "calibration")


def piece(context: Context) -> Piece:
    """Name the classifier that these features, labels and settings give."""
    classifier = recipe.recipe(context.params, context.machine)
    return piece_of(classifier.digest, labelled_features.digests_of(*SPLITS))


def piece_of(recipe_digest: str, inputs: Mapping[str, str]) -> Piece:
    """Name a classifier by its recipe and its inputs, as its manifest has them."""
    return Piece(TABLE, recipe_digest, "all", digest(dict(inputs)))


def check_labels(params: Params, labels: pa.Table) -> None:
    """Check the names in the label map against *labels*, schemas.LABELS.

    Raises:
        InputError: a name is wrong, by the rule of `train.label_map_check`; or a label is named as
            the class into which rare ones are merged.
    """
    names = labelled_features.names(labels, label_separator(params.annotations))
    label_map.check(label_map.read(params.train), names, params.train)


def make(context: Context, target: Piece, report: Report) -> None:
    """Train, and put the classifier and its learning curve into the store.

    Raises:
        InputError: the train split has no labelled chip, or only one class; the label map has
            wrong names; the label map or the code has changed since *target* was named.
    """
    from pipeline.train import penalty_path
    from pipeline.train.checkpoint import Checkpoint
    from pipeline.train.fit import Splits, fit, fit_on_all

    params, train = context.params, context.params.train
    classifier_recipe = recipe.recipe(params, context.machine)
    labels_to_classes = label_map.read(train)
    expected_map = classifier_recipe.parts["label_map"]
    if (classifier_recipe.digest, expected_map) != (target.recipe, labels_to_classes.sha256):
        raise InputError(
            "train: the label map or the code has changed since this run began; run dvc repro again"
        )
    separator = label_separator(params.annotations)
    labels = tables.labels()
    names = labelled_features.names(labels, separator)
    label_map.check(labels_to_classes, names, train)
    if labels_to_classes.to:
        _log_label_map(names, labels_to_classes.to)
    trained_on, held_out = labelled_features.of_splits(labels, *SPLITS)
    splits = Splits(trained_on, held_out, labels_to_classes, separator)
    device = hardware.device(context.machine.device)
    checkpoint = Checkpoint(
        context.store.storage, f"checkpoints/{target.recipe}/{target.input}.safetensors"
    )
    n_rows, dim = len(trained_on.labels), trained_on.dim
    steps, unit = Schedule.of(train, n_rows, dim).epochs, "epochs"
    if penalty_path.applies(train, n_rows, dim):
        steps, unit = len(penalty_path.PENALTIES), "penalties"
    is_fitted_again = train.final == "all" and held_out.labels.num_rows > 0
    steps *= 1 + is_fitted_again
    expect(steps, unit)
    more_files: dict[str, bytes] = {}
    with Progress("train", unit, steps, report) as progress:

        def step(curve: list[Epoch]) -> None:
            if not progress.done and len(curve) > 1:  # an earlier run's epochs
                progress.resume(len(curve))
            else:
                progress.step()
            dvclive.write([asdict(epoch) for epoch in curve])

        fitted = fit(splits, train, device, step, checkpoint)
        final = fitted.classifier
        if is_fitted_again:
            again, rows = checkpoint.of_final(), labelled_features.of_both(labels, *SPLITS)
            final = fit_on_all(fitted, rows, device, lambda _: progress.step(), again)
            final, more_files = model.with_held_out(final, fitted.classifier)
    record = TrainingRecord.of([trained_on.labels, held_out.labels], params.split)
    card = {**_card(classifier_recipe), **record.card()}
    files = {
        "curve.csv": _curve(fitted.curve),
        training_record.FILE: record.file(),
        **more_files,
        **final.with_card(card).files(),
    }
    note = {"run": context.run, "rows": len(trained_on.labels) + len(held_out.labels)}
    context.store.describe(target.recipe, classifier_recipe.parts)
    context.store.put(target, {name: (data, 0) for name, data in files.items()}, note)
    checkpoint.delete()


def _log_label_map(names: set[str], to: Mapping[str, str | None]) -> None:
    classes = {renamed(to, name) for name in names} - {None}
    dropped = sum(renamed(to, name) is None for name in names)
    log.info(
        "train: the label map turns %s into %s and drops %d; results/tables/labels.csv counts "
        "their chips",
        pluralize(len(names), "labels"),
        pluralize(len(classes), "classes"),
        dropped,
    )


def _card(classifier_recipe: Recipe) -> dict[str, Any]:
    features = outputs.require_manifest(FEATURES)
    return {
        "recipe": classifier_recipe.digest,
        "made_by": dict(classifier_recipe.parts),
        "inputs": labelled_features.digests_of(*SPLITS),
        "extractor": {"recipe": features["recipe"], "made_by": features["made_by"]},
    }


def _curve(curve: list[Epoch]) -> bytes:
    sink = io.StringIO()
    rows = [asdict(epoch) for epoch in curve]
    writer = csv.DictWriter(sink, [field.name for field in fields(curve[0])], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue().encode()


def expected(context: Context) -> dict[str, Any]:
    """Return what the classifier's manifest must say, as far as inputs decide it."""
    return {
        "stage": "train",
        "recipe": recipe.recipe(context.params, context.machine).digest,
        "inputs": labelled_features.digests_of(*SPLITS),
    }


def publish(context: Context, target: Piece, manifest: dict[str, Any]) -> Counts:
    """Put `models/classifier/` and `dvclive/` together, and return the counts."""
    context.store.mark_used([target])
    record = context.store.record(target)
    files = {
        CLASSIFIER / name: Out(stored.sha256, partial(context.store.read, target, name))
        for name, stored in record.files.items()
    }
    digests = {name: stored.sha256 for name, stored in record.files.items()}
    curve = context.store.read(target, "curve.csv").decode()
    files |= dvclive.write(list(csv.DictReader(io.StringIO(curve))))
    outputs.publish(CLASSIFIER, files, {**manifest, "digests": digests})
    if warning := model.not_calibrated(json.loads(context.store.read(target, "model.json"))):
        log.warning("train: %s", warning)
    rows = record.note["rows"]
    is_new = record.note["run"] == context.run
    more = "classifier trained" if is_new else "classifier reused from the store"
    return Counts("train", "labelled chips", rows, rows if is_new else 0, more=more)
