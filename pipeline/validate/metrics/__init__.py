"""How good the classifier is: one file a family of metrics, all of them always computed.

A file of this folder that does not begin with an underscore defines

    BETTER: dict[str, Literal["higher", "lower"]]    of each metric for which one is better
    RANGE: dict[str, tuple[float, float]]            its least and greatest possible value
    MEANING: dict[str, str]                          one sentence for the report
    def compute(judged: Judged) -> dict[str, float]

and, for metrics that are to have an interval, what a resample of whole groups needs:

    def sums(judged: Judged) -> csr_array            float64 [n_groups, k], sums over rows
    def from_sums(judged: Judged, totals) -> dict[str, float64 [rounds]]

where `totals`, float64 [rounds, k], are the rows of `sums` added up once for every time that the
round drew the group. `from_sums` of the plain total must give what `compute` gives.
A metric may be left out of `compute` where it would mislead, but is never NaN.
Where chips may have several labels, `_multilabel` is all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.config import registry
from pipeline.config.sections import ValidateParams
from pipeline.validate.metrics._bootstrap import Metrics, intervals
from pipeline.validate.metrics._judged import Judged, judged

if TYPE_CHECKING:
    from pipeline.validate.metrics._several import Either

__all__ = ["Judged", "compute", "judged", "parts"]


def parts(judged: Either | None = None) -> list[Metrics]:
    """Import every file of this folder, in the order of their names; for several labels theirs."""
    if judged is not None and not isinstance(judged, Judged):
        from pipeline.validate.metrics import _multilabel

        return [_multilabel]
    names = registry.names("validate.metrics")
    return [registry.find("validate.metrics", name, key="metrics") for name in names]


def compute(judged: Either, validate: ValidateParams) -> dict[str, float]:
    """Compute every metric, and a 95 % interval for those that can be resampled.

    Returns:
        Flat and finite: `accuracy`, `accuracy_low`, `accuracy_high`, …; counts are ints.
    """
    chosen = parts(judged)
    bounds = intervals(judged, chosen, validate)
    flat: dict[str, float] = {}
    for part in chosen:
        for name, value in part.compute(judged).items():
            flat[name] = value
            if name in bounds:
                flat[f"{name}_low"], flat[f"{name}_high"] = bounds[name]
    return flat
