"""What the choice of the best experiment of a sweep is worth, if `validate.sweep` names one."""

from __future__ import annotations

from pipeline.validate import sweep
from pipeline.validate.analyses import Result
from pipeline.validate.data import ValidationData
from pipeline.validate.report.blocks import Block, Kind, ReportSection, Table, Text

ORDER = 17


def analyse(data: ValidationData) -> Result:
    """Show the experiments, and the corrected value of the best."""
    if data.validate.sweep is None:
        return Result()
    found = sweep.read(data.validate.sweep)
    name = found.metric.replace("_", " ").capitalize()
    columns: dict[str, Kind] = {"Experiment": "text", name: "figure"}
    rows = list(found.values.items())
    blocks: list[Block] = [
        Text(found.verdict),
        Table("Experiments", columns, rows, style="narrow", order=None),
    ]
    return Result(
        notes=[f"The settings were chosen by a sweep. {found.verdict}"] if len(rows) > 1 else [],
        sections=[ReportSection("sweep", "The sweep that chose these settings", blocks, "Sweep")],
    )
