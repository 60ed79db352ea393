"""Whether the scores can be believed."""

from __future__ import annotations

import numpy as np

from pipeline.core.run_log import pluralize
from pipeline.validate.analyses import Result
from pipeline.validate.data import ValidationData
from pipeline.validate.evaluation import Decisions
from pipeline.validate.metrics.calibration import reliability
from pipeline.validate.report.blocks import Figure, ReportSection
from pipeline.validate.report.drawings import Chart, Mark, abbreviate, nice_ticks

ORDER = 55
HISTOGRAM_BARS = 20
QUARTERS = [0.0, 0.25, 0.5, 0.75, 1.0]

SINGLE = (
    "Each dot is a bin of about equally many chips. On the dashed line, chips with a score of 0.8 "
    "are correct four times in five; below it the classifier is overconfident, above it "
    "underconfident. Underneath is the distribution of the scores."
)
MULTI = (
    "Each dot is a bin of about equally many pairs of a chip and a label. On the dashed line, a "
    "label with a probability of 0.8 is right four times in five; below it the classifier is "
    "overconfident, above it underconfident. Underneath is the distribution of the probabilities."
)


def analyse(data: ValidationData) -> Result:
    """Compare scores with accuracy; the calibration error is in metrics/calibration.py."""
    decisions = data.evaluation.probability_decisions
    charts = [draw_reliability(decisions), draw_histogram(decisions)]
    caption = MULTI if data.evaluation.is_multilabel else SINGLE
    return Result(
        tables={"reliability": reliability(decisions)},
        plots={"reliability": ("Accuracy by score", charts)},
        sections=[
            ReportSection(
                "calibration",
                "Can the scores be believed?",
                [Figure(charts, caption)],
                "Calibration",
            )
        ],
    )


def draw_reliability(decisions: Decisions) -> Chart:
    """Draw accuracy against score, in bins."""
    chart = Chart("Reliability", (0, 1), (0, 1), 358, "mean score in the bin", "accuracy")
    chart.tick(QUARTERS, QUARTERS)
    chart.draw("ideal", "a perfectly calibrated classifier", [0, 1], [0, 1])
    for row in reliability(decisions).itertuples():
        x, y = chart.across(row.score), chart.down(row.accuracy)
        title = f"{row.n:,} chips: mean score {row.score:.3f}, accuracy {row.accuracy:.3f}"
        chart.gaps.append((x, chart.down(row.score), y))
        chart.dots.append(Mark(x, y, 4.5, 0, title))
    return chart


def draw_histogram(decisions: Decisions) -> Chart:
    """Draw the distribution of the scores."""
    n, edges = np.histogram(decisions.score, bins=HISTOGRAM_BARS, range=(0, 1))
    y_ticks = nice_ticks(0, float(n.max()), 3)
    chart = Chart("Scores", (0, 1), (0, y_ticks[-1]), 168, "score", "chips")
    chart.tick(QUARTERS, y_ticks)
    chart.y_ticks = [(chart.down(value), abbreviate(value)) for value in y_ticks]
    for count, low, high in zip(n, edges[:-1], edges[1:], strict=True):
        left, above = chart.across(low), chart.down(count)
        width = round(chart.across(high) - left - 1, 2)
        title = f"{pluralize(int(count), 'chips')} with a score from {low:.2f} to {high:.2f}"
        chart.bars.append(Mark(left, above, width, round(chart.bottom - above, 2), title))
    return chart
