"""Drawings as geometry: the places of lines, dots, bars and ticks. A template makes SVG of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

WIDTH = 460.0
LEFT, RIGHT, TOP, BOTTOM = 60.0, 12.0, 32.0, 44.0
FONT_SIZE = 12.0
WIDE = "mwMW@%"
FIRST_CJK = 0x2E80
"""Of Chinese, Japanese and Korean, whose letters are as wide as they are high."""

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """One curve; *kind* is its CSS class, *name* is in the legend at *legend_x*."""

    kind: str
    name: str
    points: str
    last: tuple[float, float]
    summary: str
    legend_x: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A dot (no height) or a bar, with its tooltip."""

    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(slots=True)
class Chart:
    """One panel with its axes, in the units of the SVG's viewBox.

    Attributes:
        x, y: the ends of each axis.
        height: of the whole panel, its labels included.
    """

    macro: ClassVar[str] = "chart"
    title: str
    x: Range
    y: Range
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
    def summary(self) -> str:
        """The chart in words, for those who hear the page."""
        marks = [mark.title for mark in (*self.dots, *self.bars)]
        return "; ".join([*(line.summary for line in self.lines if line.summary), *marks])

    @property
    def right(self) -> float:
        """The right end of the panel's frame."""
        return WIDTH - RIGHT

    @property
    def bottom(self) -> float:
        """The lower end of the panel's frame."""
        return self.height - BOTTOM

    def across(self, value: float) -> float:
        """Return the position of *value* on the x axis."""
        low, high = self.x
        return round(LEFT + (value - low) / (high - low) * (self.right - LEFT), 2)

    def down(self, value: float) -> float:
        """Return the position of *value* on the y axis."""
        low, high = self.y
        return round(self.bottom - (value - low) / (high - low) * (self.bottom - TOP), 2)

    def tick(self, x: Sequence[float], y: Sequence[float]) -> None:
        """Put ticks at the values *x* and *y*."""
        self.x_ticks = [(self.across(value), f"{value:g}") for value in x]
        self.y_ticks = [(self.down(value), f"{value:g}") for value in y]

    def draw(self, kind: str, name: str, x: Sequence[float], y: Sequence[float]) -> None:
        """Add a curve through the values *x*, *y*."""
        places = [(self.across(a), self.down(b)) for a, b in zip(x, y, strict=True)]
        points = " ".join(f"{a:g},{b:g}" for a, b in places)
        summary = "" if kind == "ideal" else f"{name} from {y[0]:.3g} to {y[-1]:.3g}"
        before = sum(36 + text_width(line.name, FONT_SIZE) for line in self.lines)
        self.lines.append(Line(kind, name, points, places[-1], summary, LEFT + before))


@dataclass(frozen=True, slots=True)
class Bar:
    """A row of a Bars drawing, in pixels."""

    y: float
    name: str
    title: str
    width: float
    low: float
    high: float
    text: str


@dataclass(frozen=True, slots=True)
class Bars:
    """Shares as horizontal bars with their intervals, one row each."""

    macro: ClassVar[str] = "bars"
    title: str
    rows: list[Bar]
    left: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class MatrixCell:
    """One pair of label and prediction that occurred, in pixels.

    Attributes:
        kind: the CSS class of its shade.
        label, predicted: numbers in the evaluation's labels; -1 for the merged ones.
    """

    x: float
    y: float
    kind: str
    text: str
    title: str
    label: int
    predicted: int


@dataclass(frozen=True, slots=True)
class MatrixName:
    """A label beside its row and above its column."""

    at: float
    text: str
    title: str


@dataclass(frozen=True, slots=True)
class Matrix:
    """A confusion matrix, in pixels.

    Attributes:
        side: of a cell.
        margin: the room for names on the left and above.
        size: width and height of the whole.
        n_absent: classes that are not in it.
        n_merged: labels that share the last row.
        font: the size of the names.
        guides: lines between cells, as the data of an SVG path.
    """

    macro: ClassVar[str] = "matrix"
    title: str
    side: float
    margin: float
    size: float
    names: list[MatrixName]
    cells: list[MatrixCell]
    n_absent: int
    n_merged: int
    font: float
    guides: str

    @property
    def width(self) -> float:
        """As `size`."""
        return self.size

    @property
    def height(self) -> float:
        """As `size`."""
        return self.size


Drawing = Chart | Bars | Matrix


def abbreviate(n: float) -> str:
    """Return a count in at most five characters: 9999, 12.5k, 3M."""
    for least, size, unit in ((1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if n >= least:
            return f"{n / size:.3g}{unit}"
    return f"{n:.0f}"


def nice_ticks(low: float, high: float, about: int) -> list[float]:
    """Return round values from *low* or less to *high* or more, about *about* steps."""
    span = high - low or abs(high) or 1.0
    size = 10.0 ** math.floor(math.log10(span / about))
    step = next(m * size for m in (1, 2, 5, 10) if span / (m * size) <= about)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, max(last, first + 1) + 1)]


def text_width(text: str, size: float) -> float:
    """Return how wide *text* is at most in a sans-serif font of *size*."""
    n_wide = sum(letter in WIDE or ord(letter) > FIRST_CJK for letter in text)
    n_upper = sum(letter.isupper() and letter not in WIDE for letter in text)
    return size * (n_wide + 0.82 * n_upper + 0.66 * (len(text) - n_wide - n_upper))


def shorten(name: str, size: float, width: float) -> str:
    """Cut off a name that may be wider than *width*, and show it by an ellipsis."""
    shown, kept = name, len(name)
    while kept and text_width(shown, size) > width:
        kept -= 1
        shown = name[:kept] + "…"
    return shown
