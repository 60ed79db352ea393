"""How training went, epoch by epoch."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline.validate.analyses import Result
from pipeline.validate.data import ValidationData
from pipeline.validate.report.blocks import Block, Figure, ReportSection, Text
from pipeline.validate.report.drawings import Chart, nice_ticks

ORDER = 58
MIN_SPAN = 0.1
"""Of the axis of accuracy: a curve that hardly moves should look like it."""

CAPTION = (
    "The training split and the calibration split, by epoch. A calibration loss that rises while "
    "the training loss falls is overfitting."
)

Points = list[tuple[float, float]]


def analyse(data: ValidationData) -> Result:
    """Draw the learning curve of the classifier."""
    charts = draw(data.curve)
    block: Block = (
        Figure(charts, CAPTION) if charts else Text("This classifier is not trained in epochs.")
    )
    return Result(
        plots={"learning_curve": ("Learning curve", charts)},
        sections=[ReportSection("learning", "Learning curve", [block])],
    )


def draw(curve: pd.DataFrame) -> list[Chart]:
    """Draw the losses by epoch, and below them the accuracy; what has no values is left out."""
    losses = {
        "train": ("training loss", _points(curve, "train_loss")),
        "curve": ("calibration loss", _points(curve, "calibration_loss")),
    }
    accuracy = {"curve": ("calibration accuracy", _points(curve, "calibration_accuracy"))}
    charts = [
        _by_epoch("Loss", "mean loss", losses, 278),
        _by_epoch("Accuracy", "accuracy", accuracy, 218),
    ]
    return [chart for chart in charts if chart is not None]


def _points(curve: pd.DataFrame, column: str) -> Points:
    if column not in curve:
        return []
    kept = curve[["epoch", column]].apply(pd.to_numeric).dropna()
    kept = kept[np.isfinite(kept[column])]
    return [(float(x), float(y)) for x, y in kept.itertuples(index=False)]


def _by_epoch(
    title: str, y_label: str, lines: dict[str, tuple[str, Points]], height: float
) -> Chart | None:
    """Draw *lines*, name and points by CSS class; None if there is no point."""
    lines = {kind: (name, points) for kind, (name, points) in lines.items() if points}
    if not lines:
        return None
    epochs = [x for _, points in lines.values() for x, _ in points]
    values = [y for _, points in lines.values() for _, y in points]
    least = 0.0 if title == "Loss" else min(*values, max(values) - MIN_SPAN)
    y_ticks = nice_ticks(least, max(values), 4)
    low, high = min(epochs), max(epochs)
    x_ticks = [t for t in nice_ticks(low, high, 6) if t == round(t)]
    x = (low, high) if high > low else (low - 1, high + 1)
    chart = Chart(title, x, (y_ticks[0], y_ticks[-1]), height, "epoch", y_label)
    chart.tick([t for t in x_ticks if x[0] <= t <= x[1]], y_ticks)
    for kind, (name, points) in lines.items():
        chart.draw(kind, name, [x for x, _ in points], [y for _, y in points])
    return chart
