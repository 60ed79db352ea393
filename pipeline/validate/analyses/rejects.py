"""What was left out, and why."""

from __future__ import annotations

import pyarrow as pa

from pipeline.core import rejects
from pipeline.validate.analyses import Result
from pipeline.validate.data import ValidationData
from pipeline.validate.metrics import Metric
from pipeline.validate.report.blocks import Block, Kind, ReportSection, Table, Text

ORDER = 90
STAGES = ("index", "chip", "extract")

METRICS = {name: Metric(meaning) for name, meaning in rejects.MEANING.items()}


def analyse(data: ValidationData) -> Result:
    """Count the rejects of the stages before this one."""
    rows = by_reason(data.rejected)
    columns: dict[str, Kind] = {"Stage": "text", "Reason": "text", "Meaning": "long"}
    columns |= {"Rows": "count", "First example": "long", "Detail": "long"}
    total = sum(row[3] for row in rows)
    caption = f"Rows that a stage could not use, {total:,} in all; data/rejects/ lists them."
    block: Block = (
        Table("Rejects", columns, rows, caption)
        if rows
        else Text("Nothing: no stage rejected a row.")
    )
    return Result(
        metrics=rejects.metrics(data.rejected),
        sections=[ReportSection("rejects", "What was left out", [block], "Rejects")],
    )


def by_reason(rejected: pa.Table) -> list[tuple[str, str, str, int, str, str]]:
    """Count rejects by stage, in the order of the stages, and by reason, commonest first.

    Returns:
        Stage, reason, its meaning, the number of rejects, and place and detail of the first one.
    """
    groups: dict[tuple[str, str], list[dict[str, object]]] = {}
    for row in rejected.to_pylist():
        groups.setdefault((row["stage"], row["reason"]), []).append(row)
    rows = [
        (
            stage,
            reason,
            rejects.REASONS.get(reason, ""),
            len(group),
            _place(group[0]),
            str(group[0]["detail"]),
        )
        for (stage, reason), group in groups.items()
    ]
    return sorted(rows, key=lambda row: (STAGES.index(row[0]), -row[3], row[1]))


def _place(row: dict[str, object]) -> str:
    if row["row"] is None:
        return str(row["key"])
    return f"{row['key']} ({row['row']}, {row['col']})"
