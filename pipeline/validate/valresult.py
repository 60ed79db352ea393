"""The predictions in PySpacer's form, for the tools of CoralNet and MERMAID."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from pipeline.validate.evaluation import Evaluation, Pairs


def valresult(scores: pa.ChunkedArray, evaluation: Evaluation) -> dict[str, Any]:
    """Return *evaluation*, with the *scores* of its chips, as PySpacer's ValResults does.

    For multi-label data, which PySpacer does not know, each `gt` and `est` is a list.

    Returns:
        `scores`, the highest probability of each chip; `gt` and `est`, the places of its label and
        of its prediction in `classes`. Labels that the classifier has never seen follow its own
        classes: PySpacer requires that every `gt` has its place there.

    Source: PySpacer 0.14, `data_classes.ValResults` and `train_utils.evaluate_classifier`.
    """
    return {
        "scores": scores.to_pylist(),
        "gt": _places(evaluation, evaluation.true),
        "est": _places(evaluation, evaluation.predicted),
        "classes": evaluation.labels,
    }


def _places(evaluation: Evaluation, pairs: Pairs) -> list[Any]:
    if not evaluation.is_multilabel:
        places: list[Any] = pairs.labels.tolist()
        return places
    lists: list[Any] = [[] for _ in range(evaluation.n)]
    for chip, label in zip(pairs.chips.tolist(), pairs.labels.tolist(), strict=True):
        lists[chip].append(label)
    return lists
