"""What a classifier says of the labelled chips of a split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import schemas
from pipeline.classifiers._artifact import Classifier
from pipeline.label_map import renamed
from pipeline.metrics import Judged, judged
from pipeline.work import _rows

NONE = "none of these"
"""The answer of an earlier classifier's class that is left out today."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What the classifier says of one split.

    Attributes:
        predictions: schemas.PREDICTIONS; chips whose label is left out are not among them.
        classes: in the order of the probabilities.
        card: the classifier's.
    """

    predictions: pa.Table
    classes: list[str]
    card: Mapping[str, Any]

    def judged(self) -> Judged:
        """Set them against the labels.

        Raises:
            InputError: there is no chip.
        """
        return judged(self.predictions, self.classes)


def answers(classifier: Classifier, found: _rows.Labelled, to: Mapping[str, str | None]) -> Answers:
    """Let *classifier* answer.

    Args:
        classifier: the one of this run, or an earlier one.
        found: labelled chips with features.
        to: what becomes of labels, as the card of this run's classifier has it. The classes of one
            that was trained with another are rolled up in the same way.
    """
    told = [renamed(to, label) for label in found.labels["label"].to_pylist()]
    meant = np.array([label is not None for label in told], bool)
    given = _probabilities(classifier, found)[meant]
    classes = list(classifier.classes)
    if classifier.card["labels"]["to"] != to:
        names = [renamed(to, name) or NONE for name in classes]
        classes = sorted(set(names))
        given = given @ _sums(names, classes)
    best = given.argmax(axis=1) if len(given) else np.empty(0, np.int64)
    rows = found.labels.select(["chip_id", "key", "row", "col", "group"])
    rows = rows.append_column("label", pa.array(told, pa.string())).filter(pa.array(meant))
    ends = pa.array(np.arange(len(best) + 1) * len(classes), pa.int32())
    columns = {
        "predicted": pa.array([classes[index] for index in best], pa.string()),
        "score": pa.array(given[np.arange(len(best)), best], pa.float32()),
        "probabilities": pa.ListArray.from_arrays(ends, pa.array(given.ravel(), pa.float32())),
    }
    for name, values in columns.items():
        rows = rows.append_column(name, values)
    return Answers(schemas.conform(rows, schemas.PREDICTIONS), classes, classifier.card)


def _probabilities(classifier: Classifier, found: _rows.Labelled) -> NDArray[np.float32]:
    given = np.zeros((len(found.labels), len(classifier.classes)), np.float32)
    for number, block in enumerate(found.blocks):
        given[block.at] = classifier.predict_proba(found.read(number))
    return given


def _sums(names: list[str], classes: list[str]) -> NDArray[np.float32]:
    """Say which of its own classes, by their names today, make up each class."""
    whole = np.zeros((len(names), len(classes)), np.float32)
    whole[np.arange(len(names)), [classes.index(name) for name in names]] = 1
    return whole
