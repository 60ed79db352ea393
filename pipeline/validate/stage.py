"""Validate: evaluate the classifier on the validation split, and write the results."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from pipeline.chip.labels import image_values
from pipeline.core.errors import InputError
from pipeline.core.hashing import digest
from pipeline.core.run_log import Counts
from pipeline.store import outputs, tables
from pipeline.store.context import Context, Report
from pipeline.store.objects import Piece
from pipeline.store.outputs import CLASSIFIER, RESULTS, Out
from pipeline.train import labelled_features
from pipeline.validate import recipe as results_recipe

TABLE = "results"


def inputs() -> dict[str, Any]:
    """Return digests of what the results are made from, by the manifests of the other stages."""
    classifier = outputs.require_manifest(CLASSIFIER)
    return {
        **labelled_features.digests_of("train", "calibration", "validation"),
        "classifier": classifier["digests"],
        "rejects": digest(tables.rejected().to_pylist()),
    }


def piece(context: Context) -> Piece:
    """Return the store's name of the results of these inputs and settings."""
    made_from: dict[str, Any] = {"inputs": inputs(), "shown": results_recipe.shown(context.params)}
    if context.params.validate.by:
        images = tables.images()
        values = {
            name: image_values(images["key"], images, name) for name in context.params.validate.by
        }
        made_from["by"] = {name: column.to_pylist() for name, column in values.items()}
    recipe = results_recipe.recipe(context.params)
    return Piece(TABLE, recipe.digest, "all", digest(made_from))


def make(context: Context, target: Piece, report_progress: Report) -> None:  # noqa: ARG001
    """Make the results, and put them into the store.

    Raises:
        InputError: the validation split has no labelled chip, or the classifier cannot be read.
        StorageError: a chip of the report cannot be read, or its image has changed.
    """
    from pipeline.validate import results  # which imports much that no other stage needs

    files = results.files(context, inputs())
    recipe = results_recipe.recipe(context.params)
    if recipe.digest != target.recipe:
        raise InputError("validate.compare: a classifier has just changed; run dvc repro again")
    # A file of the store has no folder in its name.
    stored = {name.replace("/", "@"): (content, 0) for name, content in files.items()}
    context.store.describe(target.recipe, recipe.parts)
    context.store.put(target, stored, {"run": context.run})


def expected(context: Context) -> dict[str, Any]:
    """Return what the manifest of the results must say, as far as inputs tell."""
    return {
        "stage": "validate",
        "recipe": results_recipe.recipe(context.params).digest,
        "inputs": inputs(),
        "made_from": piece(context).input,
    }


def publish(context: Context, target: Piece, facts: dict[str, Any]) -> Counts:
    """Put `results/` together; return the number of evaluated chips, and the verdict."""
    context.store.mark_used([target])
    record = context.store.record(target)
    files = {
        RESULTS / name.replace("@", "/"): Out(
            kept.sha256, partial(context.store.read, target, name)
        )
        for name, kept in record.files.items()
    }
    outputs.publish(RESULTS, files, facts, keep_others=True)
    metrics = json.loads((RESULTS / "metrics.json").read_text(encoding="utf-8"))
    verdict = (
        f"accuracy {metrics['accuracy']:.3f} "
        f"({metrics['accuracy_low']:.3f} to {metrics['accuracy_high']:.3f}), "
        f"balanced accuracy {metrics['balanced_accuracy']:.3f}"
    )
    rows = metrics["n_validation"]
    computed = rows if record.note["run"] == context.run else 0
    return Counts("validate", "chips", rows, computed, more=verdict)
