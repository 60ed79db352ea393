"""Earlier classifiers on the same chips: how much better is the new one, and could it be chance?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from pipeline.config.sections import ValidateParams
from pipeline.core.run_log import pluralize
from pipeline.validate.analyses import Result
from pipeline.validate.comparable import Comparable
from pipeline.validate.data import ValidationData
from pipeline.validate.evaluation import Evaluation, Floats
from pipeline.validate.metrics import groups_of_means, ratio, scores
from pipeline.validate.metrics._bootstrap import sum_by_group
from pipeline.validate.metrics._intervals import effective_groups, interval, spreads
from pipeline.validate.metrics._sign_flips import holm, p_value
from pipeline.validate.report.blocks import Estimate, Kind, ReportSection, Table

ORDER = 15

COMPARED = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss")

CAPTION = (
    "On the same chips, of groups that neither classifier was trained on. A difference is this "
    "classifier's value less the earlier one's, in percentage points except for log loss, with its "
    "95\u00a0% interval from how groups differ. Log loss is of the chips whose label both know. p "
    "is of the difference in accuracy: how often it would be as large if each group could as well "
    "have come out the other way round, corrected for the number of comparisons (Holm)."
)

COLUMNS: dict[str, Kind] = {
    "Earlier classifier": "text",
    "Accuracy": "share",
    "Difference": "points",
    "Balanced accuracy": "share",
    "Its difference": "points",
    "Log loss": "figure",
    "Its change": "signed",
    "Only this correct": "count",
    "Only earlier correct": "count",
    "p": "p",
}


def analyse(data: ValidationData) -> Result:
    """Compare the classifier with those that `validate.compare` names."""
    table = compare(data.earlier, data.validate)
    if table.empty:
        return Result(tables={"comparison": table})
    rows = [
        (
            row["classifier"],
            *_with_difference(row, "accuracy"),
            *_with_difference(row, "balanced_accuracy"),
            *_with_difference(row, "log_loss"),
            row["only_this_correct"],
            row["only_other_correct"],
            row["p_holm"],
        )
        for row in table.to_dict("records")
    ]
    block = Table("Earlier classifiers", COLUMNS, rows, CAPTION, style="compact")
    section = ReportSection(
        "comparison", "Compared with earlier classifiers", [block], "Comparison"
    )
    notes = [
        f"Compared with {name}: {note}"
        for name, note in zip(table["classifier"], table["note"], strict=True)
        if note
    ]
    return Result(tables={"comparison": table}, sections=[section], notes=notes)


def _with_difference(row: dict[str, float], name: str) -> tuple[float, Estimate]:
    ends = (row[f"{name}_{end}"] for end in ("difference", "low", "high"))
    return row[name], Estimate(*ends)


def compare(earlier: Mapping[str, Comparable], validate: ValidateParams) -> pd.DataFrame:
    """Compare this classifier with each of *earlier*.

    A difference is this one less the other. Its 95 % interval comes from how much it differs
    between groups: what is hard for both cancels out. With one group there is no interval. The log
    losses are of the chips whose label both know, or, if chips have several labels, over the
    classes that both know; NaN if there are none.

    Returns:
        `classifier`; `n` and `n_groups`, what both are evaluated on; `n_used`, the validation chips
        left out; for each of COMPARED the other's value, and `_difference`, `_low` and `_high`;
        `n_log_loss`, the chips of the log loss; `n_labels_unknown` and `n_labels_unknown_other`,
        labels of these chips that this classifier, and the other one, does not know;
        `only_this_correct` and `only_other_correct`, chips that one of the two alone predicted
        correctly; `p`, of the difference in accuracy, and `p_holm`, corrected for the number of
        comparisons; `note`, what weakens the comparison.
    """
    rows = [{"classifier": name, **_row(pair, validate)} for name, pair in earlier.items()]
    corrected = holm([row["p"] for row in rows])
    for row, p in zip(rows, corrected, strict=True):
        row["p_holm"] = p
    ends = ("", "_difference", "_low", "_high")
    values = [f"{name}{end}" for name in COMPARED for end in ends]
    columns = ["classifier", "n", "n_groups", "n_used", *values, "n_log_loss"]
    columns += ["n_labels_unknown", "n_labels_unknown_other"]
    columns += ["only_this_correct", "only_other_correct", "p", "p_holm", "note"]
    return pd.DataFrame(rows, columns=columns)


def _row(pair: Comparable, validate: ValidateParams) -> dict[str, Any]:
    this, other = pair.this, pair.other
    row: dict[str, Any] = {"n": this.n, "n_groups": this.n_groups, "n_used": pair.n_used}
    losses, n_log_loss = _log_losses(this, other)
    row |= _differences(this, other, losses)
    only_this, only_other = this.correct & ~other.correct, other.correct & ~this.correct
    won = only_this.astype(np.float64) - only_other
    by_group = np.bincount(this.groups, weights=won, minlength=this.n_groups).astype(np.float64)
    row |= {
        "n_log_loss": n_log_loss,
        "n_labels_unknown": len(this.labels) - this.n_classes,
        "n_labels_unknown_other": len(other.labels) - other.n_classes,
        "only_this_correct": int(only_this.sum()),
        "only_other_correct": int(only_other.sum()),
        "p": p_value(by_group, validate.seed),
    }
    return row | {"note": " ".join(_notes(pair, row))}


def _log_losses(this: Evaluation, other: Evaluation) -> tuple[sparse.csr_array, int]:
    """Add up, by group, the chips whose log loss both have, and the losses of each of the two.

    Returns:
        float64 [n_groups, 3], and the number of those chips.
    """
    classes = [name for name in this.classes if name in set(other.classes)]
    both = this.known & other.known
    if this.is_multilabel:
        both = np.full(this.n, bool(classes))
    losses = [
        np.where(both, scores.log_losses(one, classes), 0.0) if both.any() else np.zeros(one.n)
        for one in (this, other)
    ]
    sums = sum_by_group(this.groups, this.n_groups, [both.astype(np.float64), *losses])
    return sums, int(both.sum())


def _differences(this: Evaluation, other: Evaluation, losses: sparse.csr_array) -> dict[str, float]:
    """Return the other's value of each of COMPARED, the difference, and its interval."""
    sums = [scores.sums(this), scores.sums(other), losses]
    edges = np.cumsum([part.shape[1] for part in sums])[:-1]

    def compute(totals: Floats) -> dict[str, Floats]:
        own, others, (n, loss, other_loss) = (
            part if at < len(edges) else part.T
            for at, part in enumerate(np.split(totals, edges, axis=1))
        )
        found, of_other = scores.from_sums(this, own), scores.from_sums(other, others)
        found["log_loss"], of_other["log_loss"] = (
            ratio(part, n, np.nan) for part in (loss, other_loss)
        )
        differences = {name: found[name] - of_other[name] for name in COMPARED}
        return differences | {f"other {name}": of_other[name] for name in COMPARED}

    whole = sparse.hstack(sums, format="csr")
    values = compute(np.asarray(whole.sum(axis=0), np.float64)[None, :])
    spread = spreads(whole, compute)
    of_chips, of_labels = groups_of_means(this)
    groups = dict.fromkeys(COMPARED, of_chips) | {"log_loss": float(effective_groups(losses)[0])}
    row: dict[str, float] = {}
    for name in COMPARED:
        n_groups = of_labels if scores.METRICS[name].over_labels else groups[name]
        low, high = interval(values[name][0], spread[name], n_groups)
        if name != "log_loss":
            low, high = np.maximum(low, -1.0), np.minimum(high, 1.0)
        row[name] = float(values[f"other {name}"][0])
        row[f"{name}_difference"] = float(values[name][0])
        row |= {f"{name}_low": float(low), f"{name}_high": float(high)}
    return row


def _notes(pair: Comparable, row: Mapping[str, Any]) -> list[str]:
    """Return what weakens the comparison, in sentences."""
    found = []
    if pair.n_used:
        found.append(
            f"it was trained on the groups of {pluralize(pair.n_used, 'validation chips')}; both "
            f"are compared on the other {pluralize(pair.this.n, 'chips')} of "
            f"{pluralize(pair.this.n_groups, 'groups')}."
        )
    if not pair.has_record:
        found.append(
            "it does not record what it was trained on; if these chips were among it, it looks "
            "better than it is."
        )
    if pair.this.n_groups == 1:
        found.append("all chips are of one group, which does not show how groups differ.")
    elif np.isnan(row["balanced_accuracy_low"]):
        found.append(
            "each label is in one group, so balanced accuracy and macro F1 have no interval."
        )
    if row["n_labels_unknown"] or row["n_labels_unknown_other"]:
        found.append(
            f"of the labels, this classifier does not know {row['n_labels_unknown']}, the earlier "
            f"one {row['n_labels_unknown_other']}; the log loss is of the "
            f"{pluralize(row['n_log_loss'], 'chips')} whose label both know."
        )
    return found
