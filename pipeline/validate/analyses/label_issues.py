"""Labels that are likely to be wrong, for a person to look at again."""

from __future__ import annotations

from pipeline.core.run_log import pluralize
from pipeline.validate.analyses import Result
from pipeline.validate.data import ValidationData
from pipeline.validate.metrics import Metric
from pipeline.validate.report.blocks import ReportSection, Text

ORDER = 35

METRICS = {
    "n_label_issues": Metric("labels of the calibration and validation splits that may be wrong")
}


def analyse(data: ValidationData) -> Result:
    """List the label issues of the calibration and validation splits, worst first."""
    n = len(data.label_issues)
    text = (
        f"{pluralize(n, 'labels')} of the calibration and validation splits may be wrong: the "
        "classifier is confident of another one. results/tables/label_issues.csv lists them, "
        "worst first, and the pictures above show some. Correct the annotations and run again."
        if n
        else "No label of the calibration and validation splits is probably wrong: the classifier "
        "is confident of no other one."
    )
    return Result(
        metrics={"n_label_issues": n},
        tables={"label_issues": data.label_issues},
        sections=[ReportSection("gallery", "", [Text(text)])],
    )
