"""Accuracy by group, and by what is known of the images, such as site or day."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pipeline.validate.analyses import Result
from pipeline.validate.data import ValidationData
from pipeline.validate.evaluation import Evaluation, Indices
from pipeline.validate.metrics._intervals import share_intervals
from pipeline.validate.report.blocks import Estimate, Kind, ReportSection, Table

ORDER = 45
MAX_ROWS = 100
"""Of a table in the report: the worst. results/tables has all."""

CHANCE = "Those with few chips are at both ends of any such table by chance. "
OF_GROUP = "Small: the 95\u00a0% interval, from how its images differ; none if there is only one."
OF_VALUE = "Small: the 95\u00a0% interval, from how its groups differ; none if there is only one."


def analyse(data: ValidationData) -> Result:
    """Compute the accuracy of each group and of each value of `validate.by`."""
    groups = per_group(data.evaluation)
    tables = {"per_group": groups}
    sections = [_section("groups", "Groups", "Group", groups, OF_GROUP)]
    for number, name in enumerate(data.validate.by):
        values = per_value(data.evaluation, data.metadata(name))
        tables[f"by_{name}"] = values
        sections.append(_section(f"by-{number}", f"By {name}", name, values, OF_VALUE))
    return Result(tables=tables, sections=sections)


def _section(id_: str, title: str, heading: str, table: pd.DataFrame, note: str) -> ReportSection:
    shown = table.head(MAX_ROWS).itertuples(index=False, name=None)
    rows = [
        (name or "unknown", n, clusters, Estimate(accuracy, low, high))
        for name, n, clusters, accuracy, low, high in shown
    ]
    caption = "" if len(table) <= MAX_ROWS else f"The worst {MAX_ROWS} of {len(table):,}. "
    columns: dict[str, Kind] = {heading: "text", "Chips": "count"}
    columns |= {table.columns[2].capitalize(): "count", "Accuracy": "share"}
    order = {"Accuracy": "ascending"}
    block = Table(
        f"Accuracy by {heading.lower()}",
        columns,
        rows,
        caption + CHANCE + note,
        order=order,
        style="narrow",
    )
    return ReportSection(id_, f"{title}, worst first", [block], title)


def per_group(evaluation: Evaluation) -> pd.DataFrame:
    """Return `group`, `n`, `images` and `accuracy`; worst first, and of equals the largest first.

    The 95 % interval (`accuracy_low`, `accuracy_high`) comes from how the group's images differ; it
    is NaN if there is only one.
    """
    groups = pd.Series(evaluation.group_names, name="group").iloc[evaluation.groups]
    return _accuracy(evaluation, groups, evaluation.images, "images")


def per_value(evaluation: Evaluation, values: Sequence[str | None]) -> pd.DataFrame:
    """Return `value`, `n`, `groups` and `accuracy`, as `per_group` does.

    The interval comes from how the groups with the value differ; it is NaN if there is only one.

    Args:
        evaluation: of the chips.
        values: one for each chip; None, which is empty in the table, if it is unknown.
    """
    known = pd.Series([value or "" for value in values], name="value")
    return _accuracy(evaluation, known, evaluation.groups, "groups")


def _accuracy(
    evaluation: Evaluation, values: pd.Series[str], clusters: Indices, what: str
) -> pd.DataFrame:
    """Return the accuracy by value; *clusters* [n], named *what*, are the units of its interval."""
    codes, names = pd.factorize(values, sort=True)
    n = np.bincount(codes)
    correct = np.bincount(codes, weights=evaluation.correct)
    width = int(clusters.max()) + 1
    pairs, place = np.unique(codes * width + clusters, return_inverse=True)
    own_correct = np.bincount(place, weights=evaluation.correct).astype(np.float64)
    low, high, several = share_intervals(pairs // width, own_correct, np.bincount(place))
    shares = {"accuracy": correct / n, "accuracy_low": low, "accuracy_high": high}
    table = pd.DataFrame({values.name: names, "n": n, what: several, **shares})
    order = ["accuracy", "n", values.name]
    return table.sort_values(order, ascending=[True, False, True], ignore_index=True)
