"""The predictions in PySpacer's form, for CoralNet's and MERMAID's tools to read."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from pipeline.metrics._judged import codes, labels_of


def valresult(predictions: pa.Table, classes: list[str]) -> dict[str, Any]:
    """Give *predictions* as PySpacer's ValResults writes itself.

    Returns:
        `scores`, the highest probability of each chip; `gt` and `est`, the places of its label and
        of its answer in `classes`. Labels that the classifier never saw follow its own classes:
        PySpacer asks that every `gt` has its place there.

    Source: PySpacer 0.14, `data_classes.ValResults` and `train_utils.evaluate_classifier`.
    """
    labels = labels_of(predictions, classes)
    return {
        "scores": predictions["score"].to_pylist(),
        "gt": codes(predictions, "label", labels).tolist(),
        "est": codes(predictions, "predicted", labels).tolist(),
        "classes": labels,
    }
