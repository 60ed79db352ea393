"""Find labels that are likely to be wrong: the classifier is confident of another one."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.core import label_sets
from pipeline.validate.evaluation import Evaluation, Floats, Indices, evaluate
from pipeline.validate.predictions import Predictions


def find(validation: Predictions, calibration: Predictions) -> pd.DataFrame:
    """Return the label issues of both splits; see `table`."""
    splits = {"validation": validation.table, "calibration": calibration.table}
    both = pa.concat_tables(splits.values())
    names = np.repeat(list(splits), [part.num_rows for part in splits.values()])
    evaluation = evaluate(both, validation.classes, validation.separator)
    return table(evaluation, both, pa.chunked_array([names]), validation.separator)


def single_label(evaluation: Evaluation) -> tuple[Indices, Indices, Floats]:
    """Find chips whose label is probably wrong, worst first.

    The classifier is confident of a class for a chip if it gives the class at least the probability
    that it gives it, on average, for chips that have it as their label. A chip has a label issue if
    the classifier is confident of another class than its label; of several, the likeliest.

    The classifier must not have been trained on these chips.

    Returns:
        The rows, the class that the classifier predicts instead, and the label quality: the
        probability of the label less that of the other class, from -1 to 0.

    Source: Northcutt, Jiang and Chuang 2021, "Confident learning": the confident joint and its
    normalised margin.
    """
    p, own, label = evaluation.probabilities, evaluation.label_probability, evaluation.true.labels
    n_labels, n_classes = len(evaluation.labels), evaluation.n_classes
    counts = np.bincount(label, minlength=n_labels)[:n_classes]
    sums = np.bincount(label, weights=own, minlength=n_labels)[:n_classes]
    average = np.divide(sums, counts, out=np.full(n_classes, np.inf), where=counts > 0)
    confident = np.where(p >= average, p, -1.0)
    other = confident.argmax(axis=1)
    likeliest = confident[np.arange(evaluation.n), other]
    rows = np.flatnonzero((likeliest > own) & (other != label))
    quality = own[rows] - likeliest[rows]
    order = np.lexsort((rows, quality))
    return rows[order], other[rows[order]], quality[order]


def multilabel(evaluation: Evaluation) -> tuple[Indices, Indices, Floats]:
    """Find chips that probably lack a label or have a wrong one, worst first.

    A chip has each class or lacks it: `single_label` of these two, and the worst class of each
    chip.

    Returns:
        The rows, the class to add or to remove, and the label quality: the probability of the
        chip's having or lacking the class as labelled, less that of the opposite, from -1 to 0.

    Source: Thyagarajan, Snorrason, Northcutt and Mueller 2022, "Identifying incorrect annotations
    in multi-label classification data", for one class at a time.
    """
    has = evaluation.truth[:, : evaluation.n_classes]
    own = np.where(has, evaluation.probabilities, 1 - evaluation.probabilities)
    opposite = np.where(has, _average(own, ~has), _average(own, has))
    margin = np.where((1 - own >= opposite) & (1 - own > own), 2 * own - 1, 0.0)
    worst = margin.argmin(axis=1)
    quality = margin[np.arange(evaluation.n), worst]
    rows = np.flatnonzero(quality < 0)
    order = np.lexsort((rows, quality[rows]))
    return rows[order], worst[rows[order]], quality[rows[order]]


def _average(values: Floats, where: NDArray[np.bool_]) -> Floats:
    """Return the mean of each column over *where*; infinite if there is nothing."""
    count = where.sum(axis=0)
    sums = (values * where).sum(axis=0)
    averages: Floats = np.divide(sums, count, out=np.full(len(count), np.inf), where=count > 0)
    return averages


def table(
    evaluation: Evaluation, predictions: pa.Table, splits: pa.ChunkedArray, separator: str | None
) -> pd.DataFrame:
    """Return the label issues with their places, worst first.

    Args:
        evaluation: of *predictions*.
        predictions: schemas.PREDICTIONS.
        splits: the split of each row.
        separator: between the labels of a chip, if it may have several.

    Returns:
        `chip_id` in hexadecimal, `key`, `row`, `col`, `split`, `given_label`, `predicted_label`,
        `label_quality`, and `predicted_probability`, of the class that the classifier predicts
        instead; for multi-label data, of the class being present or absent as predicted.
    """
    if separator is None:
        rows, classes, quality = single_label(evaluation)
        predicted = [evaluation.classes[at] for at in classes]
        probability = evaluation.probabilities[rows, classes]
    else:
        rows, classes, quality = multilabel(evaluation)
        labels = predictions["label"].to_pylist()
        predicted = [
            _toggled(labels[row], evaluation.classes[at], separator)
            for row, at in zip(rows.tolist(), classes.tolist(), strict=True)
        ]
        probability = (1 - quality) / 2
    taken = predictions.append_column("split", splits).take(pa.array(rows, pa.int64()))
    places = {name: taken[name].to_pylist() for name in ("key", "row", "col", "split")}
    return pd.DataFrame(
        {
            "chip_id": [chip_id.hex() for chip_id in taken["chip_id"].to_pylist()],
            **places,
            "given_label": taken["label"].to_pylist(),
            "predicted_label": predicted,
            "label_quality": quality,
            "predicted_probability": probability,
        }
    )


def _toggled(text: str, label: str, separator: str) -> str:
    """Return the labels of *text* without *label*, or with it if it is not among them."""
    return label_sets.join({*label_sets.split(text, separator)} ^ {label}, separator)
