"""The figures that one number hides: by class, by group, and which label is taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from pipeline.config.sections import ValidateParams
from pipeline.validate.metrics._bootstrap import defined, label_counts, resample, shares_within
from pipeline.validate.metrics._judged import Floats, Indices, Judged
from pipeline.validate.metrics._several import Either


def per_class(of: Either, validate: ValidateParams) -> pd.DataFrame:
    """Give `label`, `support`, `predicted`, `precision`, `recall`, `f1`; commonest label first.

    Each of the last three has a 95 % interval beside it (`precision_low`, `precision_high`, …),
    from the same resamples of groups as the metrics'. Every class is there, and every label that
    the classifier never saw. What is undefined is NaN: the precision of what was never answered,
    the recall of what never occurred.
    """
    judged = of.taken
    matrix = confusion(judged)
    right, support, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    columns: dict[str, Any] = {"label": judged.labels, "support": support, "predicted": predicted}
    drawn, n_groups = _drawn(judged, validate)
    found = _of_counts(right.astype(float), support.astype(float), predicted.astype(float))
    for name, values in found.items():
        low, high = _interval(drawn[name], values, n_groups[name])
        columns |= {name: values, f"{name}_low": low, f"{name}_high": high}
    table = pd.DataFrame(columns)
    if of is not judged:
        table = table[:-1]  # NONE
    return table.sort_values(["support", "label"], ascending=[False, True], ignore_index=True)


def _drawn(
    judged: Judged, validate: ValidateParams
) -> tuple[dict[str, Floats], dict[str, Indices]]:
    """Resample groups.

    Returns:
        Every label's figures in each resample, float64 [rounds, n_labels], and in how many groups
        there is anything that the figure tells of, int64 [n_labels].
    """
    sums = label_counts(judged)
    totals = resample(sparse.hstack(sums, format="csr"), validate.bootstrap_rounds, validate.seed)
    has, gives = (table.toarray() > 0 for table in sums[1:])
    groups = {"precision": gives.sum(0), "recall": has.sum(0), "f1": (has | gives).sum(0)}
    return _of_counts(*np.split(totals, 3, axis=1)), groups


def _of_counts(right: Floats, support: Floats, predicted: Floats) -> dict[str, Floats]:
    with np.errstate(invalid="ignore"):
        return {
            "precision": right / predicted,
            "recall": right / support,
            "f1": 2 * right / (support + predicted),
        }


def _interval(drawn: Floats, values: Floats, n_groups: Indices) -> tuple[Floats, Floats]:
    """Give the 95 % interval of each label, over the resamples in which the figure is defined.

    One group says nothing of how groups differ: the interval is then from 0 to 1.
    """
    low, high = defined(drawn, n_groups > 1)
    some = np.isfinite(values)
    ends = ((low, 0.0), (high, 1.0))
    low, high = (np.where(some, np.nan_to_num(end, nan=whole), np.nan) for end, whole in ends)
    return low, high


def per_group(judged: Either, validate: ValidateParams) -> pd.DataFrame:
    """Give `group`, `n`, `accuracy`; worst first, and of equally bad ones the largest.

    The 95 % interval beside it (`accuracy_low`, `accuracy_high`) comes from resampling the
    group's own images; NaN where it has but one.
    """
    groups = pd.Series(judged.group_names, name="group").iloc[judged.groups]
    return _by(judged, groups, judged.images, validate)


def per_value(
    judged: Either, values: Sequence[str | None], validate: ValidateParams
) -> pd.DataFrame:
    """Give `value`, `n`, `accuracy`, as `per_group`, by what is known of each chip.

    The interval comes from resampling the groups that have the value; NaN where it is but one.

    Args:
        judged: the chips.
        values: one a chip, in their order; null, which is nothing in the table: not known.
        validate: the section.
    """
    known = pd.Series([value or "" for value in values], name="value")
    return _by(judged, known, judged.groups, validate)


def _by(
    judged: Either, values: pd.Series[str], witnesses: Indices, validate: ValidateParams
) -> pd.DataFrame:
    codes, names = pd.factorize(values, sort=True)
    n = np.bincount(codes)
    right = np.bincount(codes, weights=judged.correct)
    width = int(witnesses.max()) + 1
    pairs, place = np.unique(codes * width + witnesses, return_inverse=True)
    own_right = np.bincount(place, weights=judged.correct).astype(np.float64)
    low, high = shares_within(pairs // width, own_right, np.bincount(place), validate)
    shares = {"accuracy": right / n, "accuracy_low": low, "accuracy_high": high}
    table = pd.DataFrame({values.name: names, "n": n, **shares})
    order = ["accuracy", "n", values.name]
    return table.sort_values(order, ascending=[True, False, True], ignore_index=True)


def confusion(of: Either) -> Indices:
    """Count chips by label (rows) and answer (columns): int64 [n_labels, n_labels].

    Of several labels: labels by what they were taken for; see JudgedSeveral.
    """
    judged = of.taken
    n_labels = len(judged.labels)
    cells = judged.y_true * n_labels + judged.y_pred
    return np.bincount(cells, minlength=n_labels**2).reshape(n_labels, n_labels)


def confusion_rows(of: Either) -> pd.DataFrame:
    """Give `actual` and `predicted`, one row a chip: what DVC's confusion template counts.

    Of several labels: one row a label.
    """
    judged = of.taken
    labels = np.array(judged.labels, dtype=object)
    return pd.DataFrame({"actual": labels[judged.y_true], "predicted": labels[judged.y_pred]})
