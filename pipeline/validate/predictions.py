"""What a classifier says of the labelled chips of a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.core import label_sets, schemas
from pipeline.train import labelled_features
from pipeline.train.label_map import renamed, renamed_all
from pipeline.train.model import Classifier
from pipeline.validate.metrics import _several, judged
from pipeline.validate.metrics._several import Either

Given = NDArray[np.float32]

NONE = "none of these"
"""The answer of an earlier classifier's class that is left out today."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """What the classifier says of one split.

    Attributes:
        predictions: schemas.PREDICTIONS; chips whose label is left out are not among them.
        classes: in the order of the probabilities.
        card: the classifier's.
    """

    predictions: pa.Table
    classes: list[str]
    card: Mapping[str, Any]

    @property
    def separator(self) -> str | None:
        """What stands between the labels of a chip; None: it has one."""
        return separator_of(self.card)

    def judged(self) -> Either:
        """Set them against the labels.

        Raises:
            InputError: there is no chip.
        """
        if self.separator is None:
            return judged(self.predictions, self.classes)
        return _several.judged(self.predictions, self.classes, self.separator)


def separator_of(card: Mapping[str, Any]) -> str | None:
    """Give what stands between the labels of a chip, by the classifier's *card*."""
    separator: str | None = card.get("label_separator")
    return separator


def answers(
    classifier: Classifier, found: labelled_features.LabelledFeatures, to: Mapping[str, str | None]
) -> Predictions:
    """Let *classifier* answer.

    Args:
        classifier: the one of this run, or an earlier one of as many labels a chip.
        found: labelled chips with features.
        to: what becomes of labels, as the card of this run's classifier has it. The classes of one
            that was trained with another are rolled up in the same way.
    """
    separator = separator_of(classifier.card)
    texts = found.labels["label"].to_pylist()
    given = _probabilities(classifier, found)
    names = list(classifier.classes)
    if classifier.card["labels"]["to"] != to:
        names = [renamed(to, name) or NONE for name in names]
    answered = None
    if separator is None:
        told = [renamed(to, label) for label in texts]
        classes, given = _summed(names, given)
    else:
        told = [renamed_all(to, text, separator) for text in texts]
        classes, given, answered = _any(names, given, classifier.answers(given))
    predicted, score = _decided(classes, given, answered, separator)
    rows = found.labels.select(["chip_id", "key", "row", "col", "group"])
    ends = pa.array(np.arange(len(given) + 1) * len(classes), pa.int32())
    columns = {
        "label": pa.array(told, pa.string()),
        "predicted": pa.array(predicted, pa.string()),
        "score": pa.array(score, pa.float32()),
        "probabilities": pa.ListArray.from_arrays(ends, pa.array(given.ravel(), pa.float32())),
    }
    for name, values in columns.items():
        rows = rows.append_column(name, values)
    kept = rows.filter(pc.is_valid(rows["label"]))
    return Predictions(schemas.conform(kept, schemas.PREDICTIONS), classes, classifier.card)


def _decided(
    classes: Sequence[str],
    given: Given,
    answered: NDArray[np.bool_] | None,
    separator: str | None,
) -> tuple[list[str], Given]:
    """Give the answer of each row of probabilities, and its score."""
    if answered is None or separator is None:
        predicted = [classes[at] for at in given.argmax(axis=1).tolist()] if len(given) else []
        return predicted, given.max(axis=1, initial=0.0)
    predicted = [
        label_sets.join((classes[at] for at in np.flatnonzero(row).tolist()), separator)
        for row in answered
    ]
    return predicted, np.where(answered, given, 1 - given).min(axis=1, initial=1.0)


def guesses(
    classifier: Classifier, found: labelled_features.LabelledFeatures
) -> tuple[list[str], Given]:
    """Give the answer about each chip of *found*, labelled or not, and its score, float32 [n]."""
    separator = separator_of(classifier.card)
    predicted = [""] * found.labels.num_rows
    score = np.zeros(found.labels.num_rows, np.float32)
    for number, block in enumerate(found.blocks):  # probabilities of all would not fit
        given = classifier.predict_proba(found.read(number)).astype(np.float32)
        answered = None if separator is None else classifier.answers(given)
        said, score[block.at] = _decided(classifier.classes, given, answered, separator)
        for at, text in zip(block.at.tolist(), said, strict=True):
            predicted[at] = text
    return predicted, score


def _probabilities(
    classifier: Classifier, found: labelled_features.LabelledFeatures
) -> NDArray[np.float32]:
    given = np.zeros((len(found.labels), len(classifier.classes)), np.float32)
    for number, block in enumerate(found.blocks):
        given[block.at] = classifier.predict_proba(found.read(number))
    return given


def _summed(names: list[str], given: Given) -> tuple[list[str], Given]:
    """Give the classes by their *names* today, and the sums of the probabilities of each."""
    classes = sorted(set(names))
    if classes == names:
        return classes, given
    whole = np.zeros((len(names), len(classes)), np.float32)
    whole[np.arange(len(names)), [classes.index(name) for name in names]] = 1
    return classes, given @ whole


def _any(
    names: list[str], given: Given, answered: NDArray[np.bool_]
) -> tuple[list[str], Given, NDArray[np.bool_]]:
    """Give the classes by their *names* today: of several one, its likeliest and any answer.

    What is left out today is left out.
    """
    classes = sorted(set(names) - {NONE})
    if classes == names:
        return classes, given, answered
    of = [[at for at, name in enumerate(names) if name == wanted] for wanted in classes]
    likeliest = np.stack([given[:, own].max(axis=1) for own in of], axis=1)
    either = np.stack([answered[:, own].any(axis=1) for own in of], axis=1)
    return classes, likeliest, either
