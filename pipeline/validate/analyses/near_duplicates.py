"""Chips of different splits that look nearly the same: copies that have other bytes."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from pipeline.core.run_log import pluralize
from pipeline.validate.analyses import Result, _pairs
from pipeline.validate.data import ValidationData
from pipeline.validate.metrics import Metric
from pipeline.validate.near_duplicates import NearDuplicates
from pipeline.validate.report.blocks import Block, Gallery, ReportSection, Text
from pipeline.validate.report.page import share

ORDER = 74

METRICS = {
    "n_near_duplicates": Metric(
        "validation chips that look nearly the same as a chip of the training or calibration split"
    )
}


def analyse(data: ValidationData) -> Result:
    """Search the validation split for near duplicates, and show the closest."""
    found = data.near_duplicates
    n, at_least = len(found.table), "At least " if found.may_have_more else ""
    look = "looks" if n == 1 else "look"
    blocks: list[Block] = [Text(_explained(found))]
    notes = []
    if n:
        chips = pluralize(n, "validation chips")
        notes.append(
            f"{at_least}{chips} {look} nearly the same as a chip that the classifier was trained "
            "on: perhaps copies of one picture, saved again. The closest are shown "
            "below the splits. Put copies into one group, or remove them."
        )
        rows = found.table.head(_pairs.N_SHOWN).to_dict("records")
        if data.validate.gallery_size and (items := _pairs.pictured(data, rows, _caption)):
            blocks.append(
                Text(
                    "On the left is a validation chip, on the right the nearest chip of the "
                    "training or calibration split. results/tables/near_duplicates.csv lists all "
                    "of them."
                )
            )
            blocks.append(Gallery(items, "Near duplicates", "pairs"))
    return Result(
        metrics={"n_near_duplicates": n},
        tables={"near_duplicates": found.table},
        notes=notes,
        sections=[ReportSection("splits", "", blocks)],
    )


def _explained(found: NearDuplicates) -> str:
    n = len(found.table)
    compared = (
        f"{'a sample of ' if found.n_validation < found.all_validation else ''}"
        f"{pluralize(found.n_validation, 'validation chips')} compared by features with "
        f"{'a sample of ' if found.n_training < found.all_training else ''}"
        f"{pluralize(found.n_training, 'chips')} of the other splits"
    )
    if found.is_sample:
        compared += f" (of {found.all_validation:,} and {found.all_training:,})"
    result = (
        f"{'at least ' if found.may_have_more else ''}{n:,} {'looks' if n == 1 else 'look'} nearly "
        "the same as one of them"
        if n
        else "none looks nearly the same as one of them"
    )
    return f"Checked: {compared}; {result}."


def _caption(row: dict[str, Any]) -> Markup:
    distance = share(row["distance"] / row["usual_distance"])
    return _pairs.labels(row) + f"; {distance} of the usual distance" + _pairs.places(row)
