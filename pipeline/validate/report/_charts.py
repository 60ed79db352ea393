"""Charts as geometry: where lines, dots and ticks stand. The template draws them as SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from pipeline.core.run_log import pluralize
from pipeline.validate.metrics import Judged
from pipeline.validate.metrics._trust import coverage
from pipeline.validate.metrics.calibration import reliability
from pipeline.validate.report._facts import Trust

WIDTH = 460.0
LEFT, RIGHT, TOP, BOTTOM = 60.0, 12.0, 14.0, 44.0
HISTOGRAM_BARS = 20
FEWEST = 20
"""Chips below which a share of right answers is not drawn: it would be noise."""

HIGHEST_FLOOR = 0.9
LEAST_SPAN = 0.1
"""Of an axis of accuracy: a curve that hardly moves is not to look as if it did."""

Point = tuple[float, float]
Ends = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """One curve; *kind* is its CSS class, *name* stands in the legend."""

    kind: str
    name: str
    points: str
    last: Point
    in_words: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A dot (no height) or a bar, with the sentence that its tooltip shows."""

    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(slots=True)
class Chart:
    """One panel with its axes, in the units of the SVG's viewBox.

    Attributes:
        x, y: least and greatest value of each axis.
        height: of the whole panel, its labels included.
    """

    title: str
    x: Ends
    y: Ends
    height: float
    x_label: str
    y_label: str
    x_ticks: list[tuple[float, str]] = field(default_factory=list)
    y_ticks: list[tuple[float, str]] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    gaps: list[tuple[float, float, float]] = field(default_factory=list)
    dots: list[Mark] = field(default_factory=list)
    bars: list[Mark] = field(default_factory=list)

    width: float = WIDTH
    left: float = LEFT
    top: float = TOP

    @property
    def in_words(self) -> str:
        """What the chart shows, for those who hear it."""
        marks = [mark.title for mark in (*self.dots, *self.bars)]
        return "; ".join([*(line.in_words for line in self.lines if line.in_words), *marks])

    @property
    def right(self) -> float:
        """Where the panel's frame ends on the right."""
        return WIDTH - RIGHT

    @property
    def bottom(self) -> float:
        """Where the panel's frame ends below."""
        return self.height - BOTTOM

    def across(self, value: float) -> float:
        """Place *value* on the x axis."""
        low, high = self.x
        return round(LEFT + (value - low) / (high - low) * (self.right - LEFT), 2)

    def down(self, value: float) -> float:
        """Place *value* on the y axis."""
        low, high = self.y
        return round(self.bottom - (value - low) / (high - low) * (self.bottom - TOP), 2)

    def tick(self, x: list[float], y: list[float]) -> None:
        """Put ticks at the values *x* and *y*."""
        self.x_ticks = [(self.across(value), f"{value:g}") for value in x]
        self.y_ticks = [(self.down(value), f"{value:g}") for value in y]

    def draw(self, kind: str, name: str, x: list[float], y: list[float]) -> None:
        """Add a curve through the values *x*, *y*."""
        places = [(self.across(a), self.down(b)) for a, b in zip(x, y, strict=True)]
        points = " ".join(f"{a:g},{b:g}" for a, b in places)
        words = "" if kind == "ideal" else f"{name} from {y[0]:.3g} to {y[-1]:.3g}"
        self.lines.append(Line(kind, name, points, places[-1], words))


def reliability_charts(judged: Judged) -> list[Chart]:
    """Draw accuracy against score, and below it how the scores are spread."""
    return [_reliability(judged), _histogram(judged)]


def _reliability(judged: Judged) -> Chart:
    quarters = [0.0, 0.25, 0.5, 0.75, 1.0]
    chart = Chart("Reliability", (0, 1), (0, 1), 340, "mean score in the bin", "accuracy")
    chart.tick(quarters, quarters)
    chart.draw("ideal", "a perfectly calibrated classifier", [0, 1], [0, 1])
    for one in reliability(judged).itertuples():
        x, y = chart.across(one.score), chart.down(one.accuracy)
        title = f"{one.n:,} chips: mean score {one.score:.3f}, accuracy {one.accuracy:.3f}"
        chart.gaps.append((x, chart.down(one.score), y))
        chart.dots.append(Mark(x, y, 4.5, 0, title))
    return chart


def _histogram(judged: Judged) -> Chart:
    n, edges = np.histogram(judged.score, bins=HISTOGRAM_BARS, range=(0, 1))
    top = nice_ticks(0, float(n.max()), 3)
    chart = Chart("Scores", (0, 1), (0, top[-1]), 150, "score", "chips")
    chart.tick([0.0, 0.25, 0.5, 0.75, 1.0], top)
    chart.y_ticks = [(chart.down(value), brief(value)) for value in top]
    for count, low, high in zip(n, edges[:-1], edges[1:], strict=True):
        left, above = chart.across(low), chart.down(count)
        width = round(chart.across(high) - left - 1, 2)
        title = f"{pluralize(int(count), 'chips')} with a score from {low:.2f} to {high:.2f}"
        chart.bars.append(Mark(left, above, width, round(chart.bottom - above, 2), title))
    return chart


def trust_chart(judged: Judged, trust: Trust | None) -> Chart:
    """Draw the accuracy of the answers of a score or more, by the share of chips that have it."""
    table = coverage(judged)
    y_ticks = nice_ticks(min(float(table["accuracy"].min()), HIGHEST_FLOOR), 1.0, 4)
    chart = Chart("Coverage", (0, 1), (y_ticks[0], 1.0), 260, "share of chips", "accuracy")
    chart.tick([0.0, 0.25, 0.5, 0.75, 1.0], [tick for tick in y_ticks if tick <= 1])
    # Of the first few chips the curve says nothing but noise.
    table = table[table["coverage"] * judged.n >= min(FEWEST, judged.n)]
    x, y = table["coverage"].tolist(), table["accuracy"].tolist()
    chart.draw("held", "accuracy of the surest answers", x, y)
    accuracy = trust.confirmed.accuracy if trust else None
    if trust and accuracy is not None and accuracy >= y_ticks[0]:
        share = trust.confirmed.coverage
        title = f"score {trust.confirmed.score:.3f}: {share:.1%} of chips, {accuracy:.1%} right"
        chart.dots.append(Mark(chart.across(share), chart.down(accuracy), 5.5, 0, title))
    return chart


def brief(n: float) -> str:
    """Give a count in at most five signs: 9999, 12.5k, 3M."""
    for least, size, unit in ((1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if n >= least:
            return f"{n / size:.3g}{unit}"
    return f"{n:.0f}"


def curve_charts(curve: pd.DataFrame) -> list[Chart]:
    """Draw the losses by epoch, and below them the accuracy; none of what has no figures."""
    losses = [
        ("train", "training loss", _figures(curve, "train_loss")),
        ("held", "calibration loss", _figures(curve, "calibration_loss")),
    ]
    accuracy = [("held", "calibration accuracy", _figures(curve, "calibration_accuracy"))]
    charts = [
        _by_epoch("Loss", "mean loss", losses, 260),
        _by_epoch("Accuracy", "accuracy", accuracy, 200),
    ]
    return [chart for chart in charts if chart is not None]


def _figures(curve: pd.DataFrame, column: str) -> list[Point]:
    if column not in curve:
        return []
    kept = curve[["epoch", column]].apply(pd.to_numeric).dropna()
    kept = kept[np.isfinite(kept[column])]
    return [(float(x), float(y)) for x, y in kept.itertuples(index=False)]


def _by_epoch(
    title: str, y_label: str, named: list[tuple[str, str, list[Point]]], height: float
) -> Chart | None:
    present = [(kind, name, points) for kind, name, points in named if points]
    if not present:
        return None
    values = [y for _, _, points in present for _, y in points]
    epochs = [x for _, _, points in present for x, _ in points]
    least = 0.0 if title == "Loss" else min(*values, max(values) - LEAST_SPAN)
    y_ticks = nice_ticks(least, max(values), 4)
    x_ticks = [t for t in nice_ticks(min(epochs), max(epochs), 6) if t == round(t)]
    x_low, x_high = min(epochs), max(epochs)
    x = (x_low, x_high) if x_high > x_low else (x_low - 1, x_high + 1)
    chart = Chart(title, x, (y_ticks[0], y_ticks[-1]), height, "epoch", y_label)
    chart.tick([t for t in x_ticks if x[0] <= t <= x[1]], y_ticks)
    for kind, name, points in present:
        chart.draw(kind, name, [x for x, _ in points], [y for _, y in points])
    return chart


def nice_ticks(low: float, high: float, about: int) -> list[float]:
    """Give round values from *low* or below to *high* or above, *about* so many steps apart."""
    span = high - low or abs(high) or 1.0
    size = 10.0 ** math.floor(math.log10(span / about))
    step = next(m * size for m in (1, 2, 5, 10) if span / (m * size) <= about)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]
