"""All metrics of all analyses in one table, and what weakens them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pipeline.core.run_log import pluralize
from pipeline.validate import metrics
from pipeline.validate.analyses import Result, analyses
from pipeline.validate.data import ValidationData
from pipeline.validate.evaluation import Evaluation
from pipeline.validate.metrics import Metric
from pipeline.validate.report.blocks import Estimate, Kind, ReportSection, Table

ORDER = 95
FEW_GROUPS = 10
"""A reader should know of fewer."""

CAPTION = (
    "Every metric of results/all_metrics.json. Intervals are 95\u00a0% and come from how "
    "groups differ."
)


def analyse(data: ValidationData) -> Result:
    """Show the metrics of the analyses before this one."""
    computed = {name: v for result in data.results for name, v in result.metrics.items()}
    rows = table(computed, meanings(), is_multilabel=data.evaluation.is_multilabel)
    columns: dict[str, Kind] = {"Metric": "text", "Value": "figure", "Meaning": "long"}
    block = Table("Metrics", columns, rows, CAPTION)
    return Result(
        notes=notes(data.evaluation, computed),
        sections=[ReportSection("metrics", "All metrics", [block])],
    )


def meanings() -> dict[str, Metric]:
    """Return the meaning of every metric, by name."""
    own = {name: m for part in analyses() for name, m in getattr(part, "METRICS", {}).items()}
    return metrics.definitions() | own


def table(
    computed: Mapping[str, float], meanings: Mapping[str, Metric], *, is_multilabel: bool
) -> list[tuple[str, float | Estimate, str]]:
    """Return name, value with interval, and meaning of each metric by name; counts come last."""
    rows: list[tuple[str, float | Estimate, str]] = []
    for name, value in computed.items():
        if name.removesuffix("_low").removesuffix("_high") in computed.keys() - {name}:
            continue
        low, high = (computed.get(f"{name}_{end}", math.nan) for end in ("low", "high"))
        shown = value if math.isnan(low) else Estimate(value, low, high)
        known = meanings.get(name)
        rows.append((name, shown, known.describe(is_multilabel=is_multilabel) if known else ""))
    return sorted(rows, key=lambda row: (row[0].startswith("n_"), row[0]))


def notes(evaluation: Evaluation, computed: Mapping[str, float]) -> list[str]:
    """Return what a reader must know before believing the metrics."""
    several, n_groups, found = evaluation.is_multilabel, evaluation.n_groups, []
    if n_groups == 1:
        found.append(
            "All validation chips are from one group, which does not show how groups differ: the "
            "intervals are the whole range of each metric."
        )
    elif n_groups < FEW_GROUPS:
        found.append(
            f"The intervals are based on only {n_groups} groups: they are wide, and hold only if "
            "these are a fair sample of all."
        )
    of_labels = metrics.groups_of_means(evaluation)[1]
    if n_groups >= FEW_GROUPS > of_labels:
        found.append(
            "Balanced accuracy and macro F1 count all labels alike, and some are in few groups: "
            f"their intervals are as wide as those of {of_labels:.2g} groups."
        )
    unseen = int(computed.get("n_unseen", 0))
    if unseen:
        one = unseen == 1
        left_out = "is" if one and not several else "are"
        found.append(
            f"{pluralize(unseen, 'chips')} {'has' if one else 'have'} a label that is not in the "
            f"training split; {'it counts' if one else 'they count'} as wrong, and "
            f"{'those labels ' if several else ''}{left_out} left out of the log loss."
        )
    if computed.get("accuracy", 1.0) <= computed.get("baseline_accuracy", 0.0):
        found.append(
            "The classifier is not better than always predicting the commonest "
            f"{'set of labels' if several else 'label'}."
        )
    return found
