"""Two classifiers on the same chips: how much better is one, and might it be chance?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from pipeline.config.sections import ValidateParams
from pipeline.validate.metrics import _multilabel, scores
from pipeline.validate.metrics._bootstrap import TAILS, resample
from pipeline.validate.metrics._judged import Judged
from pipeline.validate.metrics._several import Either

FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss")


def compared(ours: Either, others: Mapping[str, Either], validate: ValidateParams) -> pd.DataFrame:
    """Set *ours* against each of *others*, all judged on the same chips in the same order.

    A difference is ours less theirs. Its 95 % interval comes from resampling groups, the same
    groups for both: what is hard for both cancels out. McNemar's test is exact and two-sided; it
    takes chips for independent, so with few groups believe the intervals instead. With one group
    there is no interval.

    Returns:
        `classifier`; of each of FIGURES theirs, and `_difference`, `_low` and `_high`; `only_ours`
        and `only_theirs`, chips that one alone got right; `mcnemar_p`.

    Sources: Davison and Hinkley 1997, section 3.8; McNemar 1947.
    """
    rows = [{"classifier": name, **_row(ours, theirs, validate)} for name, theirs in others.items()]
    ends = ("", "_difference", "_low", "_high")
    figures = [f"{name}{end}" for name in FIGURES for end in ends]
    columns = ["classifier", *figures, "only_ours", "only_theirs", "mcnemar_p"]
    return pd.DataFrame(rows, columns=columns)


def _row(ours: Either, theirs: Either, validate: ValidateParams) -> dict[str, float]:
    from scipy.stats import binomtest

    own, other = (_part(both).compute(both) for both in (ours, theirs))
    drawn = _drawn(ours, theirs, validate) if ours.n_groups > 1 else {}
    found: dict[str, float] = {}
    for name in FIGURES:
        low, high = np.quantile(drawn[name], TAILS) if drawn else (np.nan, np.nan)
        found |= {
            name: other[name],
            f"{name}_difference": own[name] - other[name],
            f"{name}_low": float(low),
            f"{name}_high": float(high),
        }
    only_ours = int((ours.correct & ~theirs.correct).sum())
    only_theirs = int((theirs.correct & ~ours.correct).sum())
    differ = only_ours + only_theirs
    p = float(binomtest(only_ours, differ).pvalue) if differ else 1.0
    return {**found, "only_ours": only_ours, "only_theirs": only_theirs, "mcnemar_p": p}


def _drawn(ours: Either, theirs: Either, validate: ValidateParams) -> dict[str, np.ndarray]:
    """Give the differences in each resample of groups."""
    part = _part(ours)
    sums = [part.sums(ours), part.sums(theirs)]
    totals = resample(sparse.hstack(sums, format="csr"), validate.bootstrap_rounds, validate.seed)
    cut = sums[0].shape[1]
    own = part.from_sums(ours, totals[:, :cut])
    other = part.from_sums(theirs, totals[:, cut:])
    return {name: own[name] - other[name] for name in FIGURES}


def _part(judged: Either) -> Any:
    return scores if isinstance(judged, Judged) else _multilabel
