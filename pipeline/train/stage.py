"""Train: a classifier from the labelled features of the train and calibration splits."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping
from dataclasses import asdict, fields
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline import recipes
from pipeline.annotations import label_separator
from pipeline.core import hardware
from pipeline.core.errors import InputError, Missing
from pipeline.core.hashing import digest
from pipeline.core.progress import Progress
from pipeline.core.run_log import Counts, pluralize
from pipeline.store import outputs
from pipeline.store.context import CLASSIFIER, FEATURES, Context, Tell
from pipeline.store.objects import Piece
from pipeline.store.outputs import Out
from pipeline.train import classifiers, dvclive, labelled_features
from pipeline.train.label_map import check, renamed

if TYPE_CHECKING:
    from pipeline.train.fit import Epoch, Rows

log = logging.getLogger(__name__)

TABLE = "classifiers"
FILES = ("curve.csv", "model.json", "model.safetensors")


def piece(context: Context) -> Piece:
    """Name the classifier that these features, labels and settings give."""
    recipe = recipes.train(context.params, context.machine).digest
    return piece_of(recipe, labelled_features.inputs())


def piece_of(recipe: str, inputs: Mapping[str, str]) -> Piece:
    """Name the classifier by *recipe* from *inputs*, as its manifest has them."""
    return Piece(TABLE, recipe, "all", digest(dict(inputs)))


def make(context: Context, target: Piece, tell: Tell) -> None:
    """Train, and keep the classifier and its learning curve in the store.

    Raises:
        InputError: the train split has no labelled chip, or only one class; the label map has
            other names than the labels; it or the code changed since *target* was named.
    """
    from pipeline.train.fit import Splits, fit

    train, recipe = context.params.train, recipes.train(context.params, context.machine)
    label_map = recipes.label_map(train)
    if (recipe.digest, recipe.parts["label_map"]) != (target.recipe, label_map.sha256):
        raise InputError(
            "train: the label map or the code is not what it was when this run began; run dvc "
            "repro again"
        )
    separator = label_separator(context.params.annotations)
    labels = labelled_features.labels()
    names = labelled_features.names(labels, separator)
    check(label_map, names, train)
    if label_map.to:
        kept = {renamed(label_map.to, name) for name in names} - {None}
        dropped = sum(renamed(label_map.to, name) is None for name in names)
        log.info(
            "train: by the label map %s become %s and %d %s dropped; "
            "results/tables/labels.csv will count their chips",
            pluralize(len(names), "labels"),
            pluralize(len(kept), "classes"),
            dropped,
            "is" if dropped == 1 else "are",
        )
    learnt, held = labelled_features.labelled(labels, "train", "calibration")
    splits = Splits(_learnt(learnt), _learnt(held), label_map, separator)
    device = hardware.device(context.machine.device)
    keeper = StoreCheckpointer(context, target)
    epochs = classifiers.epochs(train, len(learnt.labels))
    with Progress("train", "epochs", epochs, tell) as progress:

        def step(curve: list[Epoch]) -> None:
            progress.step()
            dvclive.write([asdict(epoch) for epoch in curve])

        fitted = fit(splits, train, device, step, keeper)
    files = {
        "curve.csv": _curve(fitted.curve),
        **fitted.classifier.with_card(_card(recipe)).files(),
    }
    note = {"run": context.run, "rows": len(learnt.labels) + len(held.labels)}
    context.store.describe(target.recipe, recipe.parts)
    context.store.put(target, {name: (data, 0) for name, data in files.items()}, note)
    keeper.forget()


def _learnt(part: labelled_features.LabelledFeatures) -> Rows:
    from pipeline.train.fit import Rows

    labels = part.labels["label"].to_pylist()
    return Rows(labels, part.dim, [block.at for block in part.blocks], part.read)


class StoreCheckpointer:
    """A training's state after its last epoch, in the store under the classifier's own name."""

    def __init__(self, context: Context, target: Piece) -> None:
        self.storage = context.store.storage
        self.key = f"checkpoints/{target.recipe}/{target.input}.safetensors"

    def load(self) -> bytes | None:
        """Give the state, or None."""
        try:
            return self.storage.read(self.key)
        except Missing:
            return None

    def save(self, state: bytes) -> None:
        """Keep *state* in place of the epoch's before."""
        self.storage.put(self.key, state)

    def forget(self) -> None:
        """Remove it: the training is done."""
        self.storage.delete(self.key)


def _card(recipe: recipes.Recipe) -> dict[str, Any]:
    features = outputs.require_manifest(FEATURES, "extract")
    return {
        "recipe": recipe.digest,
        "made_by": dict(recipe.parts),
        "inputs": labelled_features.inputs(),
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
    """Give what the classifier's manifest says, as far as inputs decide it."""
    return {
        "stage": "train",
        "recipe": recipes.train(context.params, context.machine).digest,
        "inputs": labelled_features.inputs(),
    }


def publish(context: Context, target: Piece, facts: dict[str, Any]) -> Counts:
    """Put `models/classifier/` and the curve together; give how many chips it was learnt from."""
    context.store.use([target])
    record = context.store.record(target)
    files = {
        name: Out(kept.sha256, partial(context.store.read, target, name))
        for name, kept in record.files.items()
    }
    digests = {name: kept.sha256 for name, kept in record.files.items()}
    curve = context.store.read(target, "curve.csv").decode()
    dvclive.write(list(csv.DictReader(io.StringIO(curve))))
    outputs.publish(CLASSIFIER, files, {**facts, "files": sorted(files), "digests": digests})
    rows = record.note["rows"]
    trained = record.note["run"] == context.run
    more = "classifier trained" if trained else "classifier taken from the store"
    return Counts("train", "labelled chips", rows, rows if trained else 0, more=more)
