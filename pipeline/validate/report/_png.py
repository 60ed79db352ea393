"""The report's charts as PNG files, for papers, slides and messages.

Drawn by Pillow from the same geometry as the report's, so that both show the same.
"""

from __future__ import annotations

import io
import re
from functools import cache
from itertools import pairwise
from pathlib import Path

import pandas as pd
from PIL import Image, ImageDraw

from pipeline.validate.report import _charts, _confusion
from pipeline.validate.report._charts import Chart
from pipeline.validate.report._facts import ReportFacts
from pipeline.validate.report._letters import drawable, fitted, font

SHARP = 2
"""Pixels of the file for one of the report."""

SMOOTH = 2
"""Drawn so many times larger than it is kept: Pillow's lines have no half-tones."""

SCALE = SHARP * SMOOTH
TITLE = 34
LINE = 18
TEXT = 12
"""Height of letters, where nothing else is said."""
BAR_LEFT, BAR_WIDTH = 180.0, 420.0
MOST_BARS = 100

PAPER, INK, QUIET, RULE, BLUE, ORANGE = (
    "#ffffff", "#1b1f23", "#59616a", "#d8dad5", "#1d5c96", "#a23e12",
)  # fmt: skip
LINES = {"ideal": (QUIET, 1, 4), "train": (QUIET, 2, 6), "held": (BLUE, 2, 0)}
"""By kind of line: colour, width, and length of dashes."""

Place = tuple[float, float]


def plots(facts: ReportFacts) -> dict[str, bytes]:
    """Give the charts' names and PNG files; none of what has no figures."""
    matrix = _confusion.matrix(facts.judged.taken)
    panels = {
        "reliability": ("Accuracy by score", _charts.reliability_charts(facts.judged.pairs)),
        "coverage": (
            "Accuracy of the surest answers",
            [_charts.trust_chart(facts.judged.decisions, facts.trust)],
        ),
        "learning": ("Learning curves", _charts.curve_charts(facts.curve)),
    }
    return {
        "confusion": _matrix(matrix, of_row=False),
        "confusion_shares": _matrix(matrix, of_row=True),
        "f1": _bars(facts.classes),
        **{name: _panels(title, charts) for name, (title, charts) in panels.items() if charts},
    }


class _Canvas:
    """White paper, in the units of the report's drawings."""

    def __init__(self, width: float, height: float) -> None:
        self.size = round(width), round(height)
        self.image = Image.new("RGB", (self.size[0] * SCALE, self.size[1] * SCALE), PAPER)
        self.draw = ImageDraw.Draw(self.image)

    def line(
        self, start: Place, end: Place, colour: str, width: float = 1, dash: float = 0
    ) -> None:
        """Draw a straight line, in dashes of the length *dash* and gaps of it."""
        (x1, y1), (x2, y2) = start, end
        length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
        parts = [(0.0, 1.0)]
        if dash and length:
            step = dash / length
            parts = [(2 * i * step, min(1, (2 * i + 1) * step)) for i in range(int(0.5 / step) + 1)]
        for a, b in parts:
            ends = [x1 + a * (x2 - x1), y1 + a * (y2 - y1), x1 + b * (x2 - x1), y1 + b * (y2 - y1)]
            self.draw.line([at * SCALE for at in ends], colour, round(width * SCALE))

    def box(self, left: float, top: float, width: float, height: float, colour: str) -> None:
        """Fill a rectangle; nothing where it has no width or height."""
        ends = [left * SCALE, top * SCALE, (left + width) * SCALE - 1, (top + height) * SCALE - 1]
        if ends[2] >= ends[0] and ends[3] >= ends[1]:
            self.draw.rectangle(ends, colour)

    def dot(self, x: float, y: float, radius: float, colour: str) -> None:
        """Fill a circle."""
        ends = [x - radius, y - radius, x + radius, y + radius]
        self.draw.ellipse([at * SCALE for at in ends], colour)

    def text(
        self, at: Place, text: str, anchor: str = "lm", colour: str = QUIET, size: float = TEXT
    ) -> None:
        """Write *text*; *anchor* is one of Pillow's."""
        place = at[0] * SCALE, at[1] * SCALE
        self.draw.text(place, drawable(text), colour, font(size * SCALE), anchor)

    def upwards(self, at: Place, text: str, anchor: str, colour: str, size: float) -> None:
        """Write *text* from below to above; *anchor* is `l`, its beginning, or `m`, its middle."""
        letters, shown = font(size * SCALE), drawable(text)
        long, high = round(letters.getlength(shown)) + SCALE, round(size * SCALE * 1.4)
        strip = Image.new("L", (long, high))
        ImageDraw.Draw(strip).text((0, high / 2), shown, 255, letters, "lm")
        strip = strip.transpose(Image.Transpose.ROTATE_90)
        x, y = round(at[0] * SCALE - high / 2), round(at[1] * SCALE)
        y -= long if anchor == "l" else long // 2
        self.image.paste(colour, (x, y), strip)

    def png(self) -> bytes:
        """Give the file: pixels alone, neither time nor version."""
        sink = io.BytesIO()
        size = self.size[0] * SHARP, self.size[1] * SHARP
        self.image.resize(size, Image.Resampling.BOX).save(sink, "PNG")
        return sink.getvalue()


@cache
def _shades() -> dict[str, tuple[str, str]]:
    """Give fill and text of every shade of the light page, as its style has them."""
    style = (Path(__file__).parent / "report.html.j2").read_text(encoding="utf-8")
    found = re.findall(r"^\.([rw]\d) \{ --f: (#\w+); --t: (#\w+) \}", style, re.MULTILINE)
    return {kind: (fill, text) for kind, fill, text in found}


def _panels(title: str, charts: list[Chart]) -> bytes:
    """Draw *charts* below one another, each with its legend."""
    legends = [LINE * len(chart.lines) for chart in charts]
    height = TITLE + sum(chart.height for chart in charts) + sum(legends) + 8
    canvas = _Canvas(charts[0].width, height)
    canvas.text((charts[0].left, TITLE / 2), title, colour=INK, size=15)
    top = float(TITLE)
    for chart, legend in zip(charts, legends, strict=True):
        for i, line in enumerate(chart.lines):
            y, (colour, width, dash) = top + LINE * (i + 0.5), LINES[line.kind]
            canvas.line((chart.left, y), (chart.left + 26, y), colour, width, dash)
            canvas.text((chart.left + 34, y), line.name)
        _chart(canvas, chart, top + legend)
        top += legend + chart.height
    return canvas.png()


def _chart(canvas: _Canvas, chart: Chart, top: float) -> None:
    below = top + chart.bottom
    for y, text in chart.y_ticks:
        canvas.line((chart.left, top + y), (chart.right, top + y), RULE)
        canvas.text((chart.left - 7, top + y), text, "rm")
    for x, text in chart.x_ticks:
        canvas.line((x, below), (x, below + 4), QUIET)
        canvas.text((x, below + 13), text, "mm")
    canvas.line((chart.left, below), (chart.right, below), QUIET)
    canvas.text(((chart.left + chart.right) / 2, top + chart.height - 9), chart.x_label, "mm")
    middle = top + (chart.top + chart.bottom) / 2
    canvas.upwards((10, middle), chart.y_label, "m", QUIET, TEXT)
    for bar in chart.bars:
        canvas.box(bar.x, top + bar.y, bar.width, bar.height, BLUE)
    for x, y1, y2 in chart.gaps:
        canvas.line((x, top + y1), (x, top + y2), ORANGE, 2)
    for line in chart.lines:
        places = [tuple(map(float, place.split(","))) for place in line.points.split()]
        colour, width, dash = LINES[line.kind]
        for (x1, y1), (x2, y2) in pairwise(places):
            canvas.line((x1, top + y1), (x2, top + y2), colour, width, dash)
        if line.kind != "ideal":
            canvas.dot(line.last[0], top + line.last[1], 3.5, colour)
    for dot in chart.dots:
        canvas.dot(dot.x, top + dot.y, dot.width, BLUE)


def _matrix(matrix: _confusion.Matrix, *, of_row: bool) -> bytes:
    """Draw the confusion matrix: shades and numbers are counts, or shares *of_row*."""
    top, far = TITLE + LINE, matrix.margin + len(matrix.names) * matrix.side
    canvas = _Canvas(max(matrix.size + 12, 380), matrix.size + top + 12)
    of = "% of the label's chips" if of_row else "chips"
    canvas.text((8, TITLE / 2), "Rows are labels, columns answers", colour=INK, size=15)
    for at, (colour, text) in enumerate([("r7", f"right, {of}"), ("w5", f"wrong, {of}")]):
        canvas.box(8 + 180 * at, TITLE - 1, 12, 12, _shades()[colour][0])
        canvas.text((26 + 180 * at, TITLE + 5), text)
    side = far - matrix.margin
    canvas.box(matrix.margin, matrix.margin + top, side, side, "#f1f2ee")
    for name in matrix.names:
        text = fitted(name.text, matrix.font, matrix.margin - 8)
        canvas.text((matrix.margin - 6, name.at + top), text, "rm", INK, matrix.font)
        canvas.upwards((name.at, matrix.margin + top - 6), text, "l", INK, matrix.font)
    if matrix.guides:
        for at in range(_confusion.GUIDED, len(matrix.names), _confusion.GUIDED):
            place = matrix.margin + at * matrix.side
            canvas.line((place, matrix.margin + top), (place, far + top), RULE)
            canvas.line((matrix.margin, place + top), (far, place + top), RULE)
    most = max(cell.n for cell in matrix.cells)
    for cell in matrix.cells:
        share = cell.share if of_row else cell.n / most
        fill, ink = _shades()[f"{cell.kind[0]}{_confusion.shade(share)}"]
        canvas.box(cell.x, cell.y + top, matrix.side - 0.5, matrix.side - 0.5, fill)
        if cell.text:
            middle = (cell.x + matrix.side / 2, cell.y + matrix.side / 2 + top)
            text = f"{100 * cell.share:.0f}" if of_row else cell.text
            canvas.text(middle, text, "mm", ink, 11)
    return canvas.png()


def _bars(classes: pd.DataFrame) -> bytes:
    """Draw F1 and its interval of each class, best first; beyond 100, of the commonest."""
    shown = classes[classes["f1"].notna()].head(MOST_BARS).sort_values("f1", ascending=False)
    rows = list(shown.itertuples())
    below = TITLE + LINE * len(rows)
    canvas = _Canvas(BAR_LEFT + BAR_WIDTH + 24, below + 44)
    more = "" if len(classes) <= MOST_BARS else f" of the {MOST_BARS} commonest"
    title = f"F1 by class{more}, with 95 % intervals"
    canvas.text((8, TITLE / 2), title, colour=INK, size=15)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = BAR_LEFT + share * BAR_WIDTH
        canvas.line((x, TITLE), (x, below), RULE)
        canvas.text((x, below + 12), f"{share:g}", "mm")
    canvas.text((BAR_LEFT + BAR_WIDTH / 2, below + 32), "F1", "mm")
    for i, row in enumerate(rows):
        y = TITLE + LINE * (i + 0.5)
        canvas.text((BAR_LEFT - 8, y), fitted(row.label, TEXT, BAR_LEFT - 12), "rm", INK)
        canvas.box(BAR_LEFT, y - 5, row.f1 * BAR_WIDTH, 10, _shades()["r3"][0])
        ends = [BAR_LEFT + end * BAR_WIDTH for end in (row.f1_low, row.f1_high)]
        canvas.line((ends[0], y), (ends[1], y), INK, 1.5)
        for x in ends:
            canvas.line((x, y - 3), (x, y + 3), INK, 1.5)
    return canvas.png()
