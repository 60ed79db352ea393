"""Metrics: how good the classifier is, in figures with 95 % intervals. One file for each family.

A file of this folder that does not begin with an underscore defines

    METRICS: dict[str, Metric]      what each metric means, and which values it may have
    def sums(evaluation) -> csr_array               float64 [n_groups, k]
    def from_sums(evaluation, totals) -> dict       name → float64 [rounds]

`sums` has what the metrics need, added up over the chips of each group. `totals`, float64 [rounds,
k], are its rows added up with a weight for each group; the metrics of all chips are those of the
plain total. So a metric is defined once, for its value and its interval. It may be left out where
it would mislead, but it is never NaN. A file may also define

    RESAMPLED = True                                intervals from resamples; see `_bootstrap`
    def figures(evaluation) -> dict[str, float]     figures without an interval
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from pipeline.config import registry
from pipeline.config.sections import ValidateParams
from pipeline.validate.evaluation import Evaluation, Floats
from pipeline.validate.metrics._bootstrap import TAILS, label_counts, resample, sum_by_group
from pipeline.validate.metrics._intervals import (
    effective_groups,
    interval,
    of_mean_over_labels,
    spreads,
)


@dataclass(frozen=True, slots=True)
class Metric:
    """What a metric means.

    Attributes:
        meaning: one sentence for the report.
        multilabel: the same for multi-label data, if it differs.
        better: whether higher or lower values are better; None for what only describes the data.
        range: its least and greatest possible value; None for counts.
        over_labels: whether it is a mean in which all labels count alike.
    """

    meaning: str
    multilabel: str = ""
    better: Literal["higher", "lower"] | None = None
    range: tuple[float, float] | None = None
    over_labels: bool = False

    def describe(self, *, is_multilabel: bool) -> str:
        """Return the sentence for one kind of data."""
        return self.multilabel if is_multilabel and self.multilabel else self.meaning


def families() -> list[Any]:
    """Import every file of this folder, in the order of their names."""
    names = registry.names("validate.metrics")
    return [registry.find("validate.metrics", name, key="metrics") for name in names]


def definitions() -> dict[str, Metric]:
    """Return every metric by name."""
    return {name: metric for family in families() for name, metric in family.METRICS.items()}


def compute(evaluation: Evaluation, validate: ValidateParams) -> dict[str, float]:
    """Compute every metric, and its 95 % interval.

    One group does not show how groups differ: the interval is then the metric's whole range. So is
    that of a mean over labels, if each label is in one group.

    Returns:
        `accuracy`, `accuracy_low`, `accuracy_high`, …; finite, counts as int.
    """
    flat: dict[str, float] = {}
    for family in families():
        ends = _ends(family, evaluation, validate) if evaluation.n_groups > 1 else {}
        for name, value in values_of(family, evaluation).items():
            flat[name] = value
            flat[f"{name}_low"], flat[f"{name}_high"] = ends.get(name, family.METRICS[name].range)
        flat |= family.figures(evaluation) if hasattr(family, "figures") else {}
    return flat


def _ends(
    family: Any, evaluation: Evaluation, validate: ValidateParams
) -> dict[str, tuple[float, float]]:
    """Return the ends of the intervals of the metrics of one family, by name."""
    sums, from_sums = family.sums(evaluation), partial(family.from_sums, evaluation)
    if getattr(family, "RESAMPLED", False):
        drawn = from_sums(resample(sums, validate))
        low, high = np.quantile(list(drawn.values()), TAILS, axis=1)
        return dict(zip(drawn, zip(low.tolist(), high.tolist(), strict=True), strict=True))
    of_chips, of_labels = groups_of_means(evaluation)
    values, ends = values_of(family, evaluation), {}
    for name, spread in spreads(sums, from_sums).items():
        metric = family.METRICS[name]
        n_groups = of_labels if metric.over_labels else of_chips
        low, high = interval(values[name], spread, n_groups, metric.range)
        if np.isfinite(low):
            ends[name] = float(low), float(high)
    return ends


def groups_of_means(evaluation: Evaluation) -> tuple[float, float]:
    """Return the effective numbers of groups of a mean over chips, and of one over labels."""
    chips = sum_by_group(evaluation.groups, evaluation.n_groups, [np.ones(evaluation.n)])
    of_chips = float(effective_groups(chips)[0])
    of_labels = of_mean_over_labels(effective_groups(label_counts(evaluation)[1]))
    return of_chips, min(of_chips, of_labels) if of_labels else of_chips


def values(evaluation: Evaluation) -> dict[str, float]:
    """Return the metrics that have intervals, without them."""
    return {name: v for family in families() for name, v in values_of(family, evaluation).items()}


def values_of(family: Any, evaluation: Evaluation) -> dict[str, float]:
    """Return the metrics of one family that have intervals, without them."""
    total = np.asarray(family.sums(evaluation).sum(axis=0))[None, :]
    return {name: float(value[0]) for name, value in family.from_sums(evaluation, total).items()}


def ratio(above: Floats, below: Floats, undefined: float = 0.0) -> Floats:
    """Divide, and return *undefined* where there is nothing to divide by."""
    above, below = np.broadcast_arrays(above, below)
    out = np.full(np.shape(above), undefined, dtype=np.float64)
    return np.divide(above, below, out=out, where=below > 0)
