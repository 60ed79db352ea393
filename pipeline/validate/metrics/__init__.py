"""Metrics: how good the classifier is, in figures with 95 % intervals. One file for each family.

A file of this folder that does not begin with an underscore defines

    METRICS: dict[str, Metric]      what each metric means, and which values it may have
    def sums(evaluation) -> csr_array               float64 [n_groups, k]
    def from_sums(evaluation, totals) -> dict       name → float64 [rounds]

`sums` has what the metrics need, added up over the chips of each group. `totals`, float64 [rounds,
k], are the rows of `sums` added up once for every time that a resample drew the group; the metrics
of all chips are those of the plain total. So a metric is defined once, for its value and its
interval. It may be left out where it would mislead, but it is never NaN. A file may also define

    def figures(evaluation) -> dict[str, float]     figures without an interval
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import sparse

from pipeline.config import registry
from pipeline.config.sections import ValidateParams
from pipeline.validate.evaluation import Evaluation, Floats
from pipeline.validate.metrics._bootstrap import TAILS, resample


@dataclass(frozen=True, slots=True)
class Metric:
    """What a metric means.

    Attributes:
        meaning: one sentence for the report.
        multilabel: the same for multi-label data, if it differs.
        better: whether higher or lower values are better; None for what only describes the data.
        range: its least and greatest possible value; None for counts.
    """

    meaning: str
    multilabel: str = ""
    better: Literal["higher", "lower"] | None = None
    range: tuple[float, float] | None = None

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

    One group does not show how groups differ: the interval is then the metric's whole range.

    Returns:
        `accuracy`, `accuracy_low`, `accuracy_high`, …; finite, counts as int.
    """
    parts = families()
    tables = [family.sums(evaluation) for family in parts]
    whole = sparse.hstack(tables, format="csr")
    edges = np.cumsum([table.shape[1] for table in tables])[:-1]
    plain = np.split(np.asarray(whole.sum(axis=0))[None, :], edges, axis=1)
    drawn = np.split(resample(whole, validate), edges, axis=1) if evaluation.n_groups > 1 else None
    flat: dict[str, float] = {}
    for number, family in enumerate(parts):
        values = family.from_sums(evaluation, plain[number])
        rounds = family.from_sums(evaluation, drawn[number]) if drawn else {}
        for name, value in values.items():
            flat[name] = float(value[0])
            bounds = family.METRICS[name].range
            if name in rounds:
                bounds = tuple(map(float, np.quantile(rounds[name], TAILS)))
            flat[f"{name}_low"], flat[f"{name}_high"] = bounds
        flat |= family.figures(evaluation) if hasattr(family, "figures") else {}
    return flat


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
