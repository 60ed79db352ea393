"""The figures that one number hides: by class, by group, and which label is taken for which."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.metrics._judged import Indices, Judged


def per_class(judged: Judged) -> pd.DataFrame:
    """Give `label`, `support`, `predicted`, `precision`, `recall`, `f1`; commonest label first.

    Every class is there, and every label that the classifier never saw. What is undefined is NaN:
    the precision of what was never answered, the recall of what never occurred.
    """
    matrix = confusion(judged)
    right, support, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    with np.errstate(invalid="ignore"):
        table = pd.DataFrame(
            {
                "label": judged.labels,
                "support": support,
                "predicted": predicted,
                "precision": right / predicted,
                "recall": right / support,
                "f1": 2 * right / (support + predicted),
            }
        )
    return table.sort_values(["support", "label"], ascending=[False, True], ignore_index=True)


def per_group(judged: Judged) -> pd.DataFrame:
    """Give `group`, `n`, `accuracy`; worst first, and of equally bad ones the largest."""
    n = np.bincount(judged.groups, minlength=judged.n_groups)
    right = np.bincount(judged.groups, weights=judged.correct, minlength=judged.n_groups)
    table = pd.DataFrame({"group": judged.group_names, "n": n, "accuracy": right / n})
    order = ["accuracy", "n", "group"]
    return table.sort_values(order, ascending=[True, False, True], ignore_index=True)


def confusion(judged: Judged) -> Indices:
    """Count chips by label (rows) and answer (columns): int64 [n_labels, n_labels]."""
    n_labels = len(judged.labels)
    cells = judged.y_true * n_labels + judged.y_pred
    return np.bincount(cells, minlength=n_labels**2).reshape(n_labels, n_labels)


def confusion_rows(judged: Judged) -> pd.DataFrame:
    """Give `actual` and `predicted`, one row a chip: what DVC's confusion template counts."""
    labels = np.array(judged.labels, dtype=object)
    return pd.DataFrame({"actual": labels[judged.y_true], "predicted": labels[judged.y_pred]})
