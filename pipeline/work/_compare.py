"""Earlier classifiers' answers on the chips that the new one is judged on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import earlier, outs, schemas
from pipeline.classifiers._artifact import Classifier
from pipeline.errors import SettingError
from pipeline.label_map import LabelMap, renamed
from pipeline.metrics import Judged, judged
from pipeline.work import _rows
from pipeline.work._context import FEATURES

NONE = "none of these"
"""The answer where a classifier's own class is one that the label map drops."""


def others(
    names: tuple[str, ...], state: Path, predictions: pa.Table, label_map: LabelMap
) -> dict[str, Judged]:
    """Judge the classifiers that *names* names on the chips of *predictions*.

    Args:
        names: `validate.compare`.
        state: the machine's folder.
        predictions: schemas.PREDICTIONS of the new classifier.
        label_map: what rolls up the earlier classifiers' classes as it does the labels.

    Raises:
        SettingError: a classifier is not there, or has learnt from other features.
        InputError: it cannot be read.
    """
    found = {name: _fitting(name, state) for name in names}
    return {name: _judged(found[name], predictions, label_map) for name in found}


def _fitting(name: str, state: Path) -> Classifier:
    found = earlier.read(name, state)
    made_by = outs.require_manifest(FEATURES, "extract")["made_by"]
    if earlier.identity(found) != earlier.identity_of(made_by):
        raise SettingError(
            f"validate.compare: {name!r} has learnt from another extractor's features, which are "
            "not at hand; compare classifiers of one extractor"
        )
    return found


def _judged(classifier: Classifier, predictions: pa.Table, label_map: LabelMap) -> Judged:
    classes, whole = _rolled_up(classifier, label_map)
    (found,) = _rows.labelled(_rows.labels(), "validation")
    given = np.zeros((found.labels.num_rows, len(classes)), np.float32)
    for number, block in enumerate(found.blocks):
        given[block.at] = classifier.predict_proba(found.read(number)) @ whole
    place = pa.compute.index_in(predictions["chip_id"], value_set=found.labels["chip_id"])
    given = given[np.asarray(place)]
    best = given.argmax(axis=1)
    columns = {
        "predicted": pa.array([classes[number] for number in best], pa.string()),
        "score": pa.array(given[np.arange(len(best)), best], pa.float32()),
        "probabilities": pa.array(list(given), schemas.PREDICTIONS.field("probabilities").type),
    }
    table = predictions
    for name, values in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, values)
    return judged(table, classes)


def _rolled_up(
    classifier: Classifier, label_map: LabelMap
) -> tuple[list[str], NDArray[np.float64]]:
    """Give the classes as the label map has them, and which of its own make each up."""
    to = [renamed(label_map.to, name) or NONE for name in classifier.classes]
    classes = sorted(set(to))
    whole = np.zeros((len(to), len(classes)))
    whole[np.arange(len(to)), [classes.index(name) for name in to]] = 1
    return classes, whole
