"""Predictions of a classifier for the labelled chips of a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.core import label_sets, schemas
from pipeline.train.label_map import renamed, renamed_all
from pipeline.train.labelled_features import LabelledFeatures
from pipeline.train.model import Classifier
from pipeline.validate.evaluation import Evaluation, evaluate

Probabilities = NDArray[np.float32]
Flags = NDArray[np.bool_]

NONE = "none of these"
"""What an earlier classifier predicts if its class is left out of today's label map."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions for one split.

    Attributes:
        table: schemas.PREDICTIONS; without the chips whose label is left out by the label map.
        classes: in the order of the probabilities.
        separator: between the labels of a chip; None if it has exactly one.
    """

    table: pa.Table
    classes: list[str]
    separator: str | None

    @property
    def evaluation(self) -> Evaluation:
        """The predictions beside the labels.

        Raises:
            InputError: there is no chip.
        """
        return evaluate(self.table, self.classes, self.separator)


def separator_of(classifier: Classifier) -> str | None:
    """Return the separator between the labels of a chip; None if it has exactly one."""
    separator: str | None = classifier.card.get("label_separator")
    return separator


def predict(
    classifier: Classifier, chips: LabelledFeatures, label_map: Mapping[str, str | None]
) -> Predictions:
    """Return the predictions of *classifier*.

    Args:
        classifier: the one of this run, or an earlier one.
        chips: labelled chips with features.
        label_map: that of this run's classifier. The classes of a classifier that was trained with
            another one are renamed by it, too; probabilities of classes that become one are added.
    """
    separator = separator_of(classifier)
    texts = chips.labels["label"].to_pylist()
    probabilities = _probabilities(classifier, chips)
    classes = list(classifier.classes)
    if classifier.card["labels"]["to"] != label_map:
        classes = [renamed(label_map, name) or NONE for name in classes]
    chosen = None
    if separator is None:
        labels = [renamed(label_map, label) for label in texts]
        classes, probabilities = _add_by_class(classes, probabilities)
    else:
        labels = [renamed_all(label_map, text, separator) for text in texts]
        chosen = classifier.reaches_threshold(probabilities)
        classes, probabilities, chosen = _any_by_class(classes, probabilities, chosen)
    predicted, score = _decide(classes, probabilities, chosen, separator)
    rows = chips.labels.select(["chip_id", "key", "row", "col", "group"])
    ends = pa.array(np.arange(len(probabilities) + 1) * len(classes), pa.int32())
    flat = pa.array(probabilities.ravel(), pa.float32())
    columns = {
        "label": pa.array(labels, pa.string()),
        "predicted": pa.array(predicted, pa.string()),
        "score": pa.array(score, pa.float32()),
        "probabilities": pa.ListArray.from_arrays(ends, flat),
    }
    for name, values in columns.items():
        rows = rows.append_column(name, values)
    table = schemas.conform(rows.filter(pc.is_valid(rows["label"])), schemas.PREDICTIONS)
    return Predictions(table, classes, separator)


def predict_unlabelled(
    classifier: Classifier, chips: LabelledFeatures
) -> tuple[list[str], Probabilities]:
    """Return the prediction for each of *chips*, labelled or not, and its score, float32 [n]."""
    separator = separator_of(classifier)
    predicted = [""] * chips.labels.num_rows
    score = np.zeros(chips.labels.num_rows, np.float32)
    for number, block in enumerate(chips.blocks):  # the probabilities of all would not fit
        probabilities = classifier.predict_proba(chips.read(number)).astype(np.float32)
        chosen = None if separator is None else classifier.reaches_threshold(probabilities)
        texts, score[block.at] = _decide(classifier.classes, probabilities, chosen, separator)
        for at, text in zip(block.at.tolist(), texts, strict=True):
            predicted[at] = text
    return predicted, score


def _decide(
    classes: Sequence[str],
    probabilities: Probabilities,
    chosen: Flags | None,
    separator: str | None,
) -> tuple[list[str], Probabilities]:
    """Return the prediction of each row of *probabilities*, and its score.

    *chosen*, bool [n, n_classes], says which classes are predicted if a chip may have several.
    """
    if chosen is None or separator is None:
        best = probabilities.argmax(axis=1).tolist() if len(probabilities) else []
        return [classes[at] for at in best], probabilities.max(axis=1, initial=0.0)
    predicted = [
        label_sets.join((classes[at] for at in np.flatnonzero(row).tolist()), separator)
        for row in chosen
    ]
    certainty = np.where(chosen, probabilities, 1 - probabilities)
    return predicted, certainty.min(axis=1, initial=1.0)


def _probabilities(classifier: Classifier, chips: LabelledFeatures) -> Probabilities:
    probabilities = np.zeros((len(chips.labels), len(classifier.classes)), np.float32)
    for number, block in enumerate(chips.blocks):
        probabilities[block.at] = classifier.predict_proba(chips.read(number))
    return probabilities


def _add_by_class(
    names: list[str], probabilities: Probabilities
) -> tuple[list[str], Probabilities]:
    """Return today's classes, from *names*, and the sums of the probabilities of each."""
    classes = sorted(set(names))
    if classes == names:
        return classes, probabilities
    whole = np.zeros((len(names), len(classes)), np.float32)
    whole[np.arange(len(names)), [classes.index(name) for name in names]] = 1
    return classes, probabilities @ whole


def _any_by_class(
    names: list[str], probabilities: Probabilities, chosen: Flags
) -> tuple[list[str], Probabilities, Flags]:
    """Return today's classes, from *names*: each as likely as its likeliest, predicted if any is.

    A class that is left out today is left out.
    """
    classes = sorted(set(names) - {NONE})
    if classes == names:
        return classes, probabilities, chosen
    members = [[at for at, name in enumerate(names) if name == wanted] for wanted in classes]
    likeliest = np.stack([probabilities[:, own].max(axis=1) for own in members], axis=1)
    either = np.stack([chosen[:, own].any(axis=1) for own in members], axis=1)
    return classes, likeliest, either
