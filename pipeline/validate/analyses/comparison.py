"""Earlier classifiers on the same chips: how much better is the new one, and could it be chance?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import sparse

from pipeline.config.sections import ValidateParams
from pipeline.validate.analyses import Result
from pipeline.validate.data import ValidationData
from pipeline.validate.evaluation import Evaluation, Floats
from pipeline.validate.metrics import scores, values_of
from pipeline.validate.metrics._bootstrap import TAILS, resample
from pipeline.validate.report.blocks import Estimate, Kind, ReportSection, Table

ORDER = 15

COMPARED = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss")

CAPTION = (
    "On the same chips. A difference is this classifier's value less the earlier one's, in "
    "percentage points except for log loss, with its 95\u00a0% interval from resampling whole "
    "groups; if the interval does not contain 0, the difference is unlikely to be chance. "
    "McNemar's test treats chips as independent."
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
    "McNemar’s p": "p",
}


def analyse(data: ValidationData) -> Result:
    """Compare the classifier with those that `validate.compare` names."""
    table = compare(data.evaluation, data.earlier, data.validate)
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
            row["mcnemar_p"],
        )
        for row in table.to_dict("records")
    ]
    block = Table("Earlier classifiers", COLUMNS, rows, CAPTION, style="compact")
    section = ReportSection(
        "comparison", "Compared with earlier classifiers", [block], "Comparison"
    )
    return Result(tables={"comparison": table}, sections=[section])


def _with_difference(row: dict[str, float], name: str) -> tuple[float, Estimate]:
    ends = (row[f"{name}_{end}"] for end in ("difference", "low", "high"))
    return row[name], Estimate(*ends)


def compare(
    evaluation: Evaluation, earlier: Mapping[str, Evaluation], validate: ValidateParams
) -> pd.DataFrame:
    """Compare *evaluation* with each of *earlier*, which are of the same chips in the same order.

    A difference is this one less the other. Its 95 % interval comes from resampling groups, the
    same groups for both: chips that are hard for both cancel out. McNemar's test is exact and
    two-sided; it treats chips as independent, so with few groups rely on the intervals instead.
    With one group there is no interval.

    Returns:
        `classifier`; for each of COMPARED the other's value, and `_difference`, `_low` and `_high`;
        `only_this_correct` and `only_other_correct`, chips that one of the two alone predicted
        correctly; `mcnemar_p`.

    Sources: Davison and Hinkley 1997, section 3.8; McNemar 1947.
    """
    rows = [
        {"classifier": name, **_row(evaluation, other, validate)} for name, other in earlier.items()
    ]
    ends = ("", "_difference", "_low", "_high")
    values = [f"{name}{end}" for name in COMPARED for end in ends]
    columns = ["classifier", *values, "only_this_correct", "only_other_correct", "mcnemar_p"]
    return pd.DataFrame(rows, columns=columns)


def _row(this: Evaluation, other: Evaluation, validate: ValidateParams) -> dict[str, float]:
    from scipy.stats import binomtest

    own, others = (values_of(scores, evaluation) for evaluation in (this, other))
    drawn = _differences(this, other, validate) if this.n_groups > 1 else {}
    row: dict[str, float] = {}
    for name in COMPARED:
        low, high = np.quantile(drawn[name], TAILS) if drawn else (np.nan, np.nan)
        row |= {
            name: others[name],
            f"{name}_difference": own[name] - others[name],
            f"{name}_low": float(low),
            f"{name}_high": float(high),
        }
    only_this = int((this.correct & ~other.correct).sum())
    only_other = int((other.correct & ~this.correct).sum())
    differ = only_this + only_other
    p = float(binomtest(only_this, differ).pvalue) if differ else 1.0
    return {**row, "only_this_correct": only_this, "only_other_correct": only_other, "mcnemar_p": p}


def _differences(
    this: Evaluation, other: Evaluation, validate: ValidateParams
) -> dict[str, Floats]:
    """Return the differences in each resample of groups."""
    sums = [scores.sums(this), scores.sums(other)]
    totals = resample(sparse.hstack(sums, format="csr"), validate)
    cut = sums[0].shape[1]
    own = scores.from_sums(this, totals[:, :cut])
    others = scores.from_sums(other, totals[:, cut:])
    return {name: own[name] - others[name] for name in COMPARED}
