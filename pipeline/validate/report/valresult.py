"""The predictions in PySpacer's form, for CoralNet's and MERMAID's tools to read."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from pipeline.core import label_sets
from pipeline.validate.metrics._judged import codes, labels_of


def valresult(
    predictions: pa.Table, classes: list[str], separator: str | None = None
) -> dict[str, Any]:
    """Give *predictions* as PySpacer's ValResults writes itself.

    Of chips of several labels, which PySpacer does not know, `gt` and `est` are lists of places.

    Returns:
        `scores`, the highest probability of each chip; `gt` and `est`, the places of its label and
        of its answer in `classes`. Labels that the classifier never saw follow its own classes:
        PySpacer asks that every `gt` has its place there.

    Source: PySpacer 0.14, `data_classes.ValResults` and `train_utils.evaluate_classifier`.
    """
    if separator is not None:
        return _of_several(predictions, classes, separator)
    labels = labels_of(predictions, classes)
    return {
        "scores": predictions["score"].to_pylist(),
        "gt": codes(predictions, "label", labels).tolist(),
        "est": codes(predictions, "predicted", labels).tolist(),
        "classes": labels,
    }


def _of_several(predictions: pa.Table, classes: list[str], separator: str) -> dict[str, Any]:
    sides = {"gt": "label", "est": "predicted"}
    own = {
        name: [label_sets.split(text, separator) for text in predictions[column].to_pylist()]
        for name, column in sides.items()
    }
    unseen = {label for labels in own["gt"] for label in labels} - set(classes)
    labels = [*classes, *sorted(unseen)]
    place = {label: at for at, label in enumerate(labels)}
    places = {name: [[place[label] for label in found] for found in own[name]] for name in own}
    return {"scores": predictions["score"].to_pylist(), **places, "classes": labels}
