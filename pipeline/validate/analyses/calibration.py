"""Whether the scores can be believed."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from pipeline.core.run_log import pluralize
from pipeline.train.model import not_calibrated
from pipeline.validate.analyses import Result
from pipeline.validate.data import ValidationData
from pipeline.validate.evaluation import Decisions, Evaluation
from pipeline.validate.metrics import Metric
from pipeline.validate.metrics.calibration import gaps, reliability
from pipeline.validate.report.blocks import Block, Figure, ReportSection, Text
from pipeline.validate.report.drawings import Chart, Mark, abbreviate, nice_ticks

ORDER = 55
HISTOGRAM_BARS = 20
QUARTERS = [0.0, 0.25, 0.5, 0.75, 1.0]

METRICS = {
    "calibrated": Metric(
        "1 if the scores were calibrated on the calibration split, 0 if not", range=(0.0, 1.0)
    )
}

SINGLE = (
    "Each dot is a bin of about equally many chips. On the dashed line, chips with a score of 0.8 "
    "are correct four times in five; below it the classifier is overconfident, above it "
    "underconfident. Underneath is the distribution of the scores."
)
MULTI = (
    "Each dot is a bin of about equally many predicted labels. On the dashed line, a predicted "
    "label with a probability of 0.8 is right four times in five; below it the classifier is "
    "overconfident, above it underconfident. Underneath is the distribution of the probabilities."
)


def analyse(data: ValidationData) -> Result:
    """Compare scores with accuracy; the calibration error is in metrics/calibration.py."""
    decisions = data.evaluation.decisions
    charts = [draw_reliability(decisions), draw_histogram(decisions)]
    caption = MULTI if data.evaluation.is_multilabel else SINGLE
    is_calibrated = data.card["calibration"]["method"] != "none"
    return Result(
        metrics={"calibrated": int(is_calibrated)},
        tables={"reliability": reliability(decisions)},
        plots={"reliability": ("Accuracy by score", charts)},
        sections=[
            ReportSection(
                "calibration",
                "Can the scores be believed?",
                [*explain(data.evaluation), Figure(charts, caption)],
                "Calibration",
            )
        ],
        notes=[note for note in [not_calibrated(data.card)] if note],
    )


def explain(evaluation: Evaluation) -> list[Block]:
    """Say how large the calibration error is beside that of a perfectly calibrated classifier."""
    decisions = evaluation.decisions
    found = gaps(decisions)
    if found is None:
        return [Text("The classifier predicts no label for any validation chip.")]
    what = "predicted labels" if evaluation.is_multilabel else "chips"
    sentence = Markup(
        "The calibration error is <strong>{:.3f}</strong>. Measured in bins, score and accuracy "
        "are {:.3f} apart. On average, a perfectly calibrated classifier would show {:.3f} on {} "
        "of as many groups; the error is what remains without that noise."
    ).format(found.error, found.uncorrected, found.by_chance, pluralize(decisions.n, what))
    return [Text(sentence)]


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
    y_ticks = nice_ticks(0, float(max(n.max(), 1)), 3)
    chart = Chart("Scores", (0, 1), (0, y_ticks[-1]), 168, "score", "chips")
    chart.tick(QUARTERS, y_ticks)
    chart.y_ticks = [(chart.down(value), abbreviate(value)) for value in y_ticks]
    for count, low, high in zip(n, edges[:-1], edges[1:], strict=True):
        left, above = chart.across(low), chart.down(count)
        width = round(chart.across(high) - left - 1, 2)
        title = f"{pluralize(int(count), 'chips')} with a score from {low:.2f} to {high:.2f}"
        chart.bars.append(Mark(left, above, width, round(chart.bottom - above, 2), title))
    return chart
