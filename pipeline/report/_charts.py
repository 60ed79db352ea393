"""Charts as SVG, drawn from their rows: numbers to path, no library's clock or identifiers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

WIDTH, HEIGHT = 460, 320
LEFT, BOTTOM, TOP, RIGHT = 52, 40, 14, 14

Points = Sequence[tuple[float, float]]


def _x(share: float) -> float:
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _y(share: float) -> float:
    return round(HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP), 1)


def _frame(inner: str, x_title: str, y_title: str, says: str, ticks: Ticks) -> Markup:
    x_ticks, y_ticks = ticks
    grid = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_y(at)}" y2="{_y(at)}"/>'
        f'<text class="tick" x="{LEFT - 7}" y="{_y(at) + 4}" text-anchor="end">{text}</text>'
        for at, text in y_ticks
    ) + "".join(
        f'<text class="tick" x="{_x(at)}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">'
        f"{text}</text>"
        for at, text in x_ticks
    )
    middle_y = (TOP + HEIGHT - BOTTOM) / 2
    return Markup(  # noqa: S704 - all of it is ours: numbers and fixed words
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{says}">{grid}{inner}'
        f'<text class="title" x="{_x(0.5)}" y="{HEIGHT - 5}" text-anchor="middle">{x_title}</text>'
        f'<text class="title" x="14" y="{middle_y}" text-anchor="middle" '
        f'transform="rotate(-90 14 {middle_y})">{y_title}</text></svg>'
    )


Ticks = tuple[Sequence[tuple[float, str]], Sequence[tuple[float, str]]]

SHARES = [(number / 5, f"{number * 20} %") for number in range(6)]


def reliability(rows: Sequence[Mapping[str, Any]]) -> Markup:
    """Draw accuracy against score, a dot a bin; on the diagonal scores are true."""
    dots = "".join(
        f'<circle class="dot" cx="{_x(row["score"])}" cy="{_y(row["accuracy"])}" r="5">'
        f"<title>score {row['score']:.3f}, accuracy {row['accuracy']:.3f}, "
        f"{row['chips']:,} chips</title></circle>"
        for row in rows
    )
    line = _path([(row["score"], row["accuracy"]) for row in rows], "line")
    diagonal = f'<line class="ideal" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>'
    says = "Reliability: accuracy against score in bins of equal mass"
    return _frame(diagonal + line + dots, "score", "accuracy", says, (SHARES, SHARES))


def _path(points: Points, kind: str) -> str:
    at = " ".join(f"{_x(x)},{_y(y)}" for x, y in points)
    return f'<polyline class="{kind}" points="{at}"/>'


def curve(rows: Sequence[Mapping[str, Any]]) -> Markup:
    """Draw the loss of the train and calibration splits, epoch by epoch."""
    last = max((row["epoch"] for row in rows), default=1)
    series = {"line": "train_loss", "line second": "calibration_loss"}
    losses = [row[name] for row in rows for name in series.values() if row[name] is not None]
    top = max(losses, default=1.0) or 1.0

    def points(name: str) -> Points:
        found = [(row["epoch"], row[name]) for row in rows if row[name] is not None]
        return [((epoch - 1) / max(last - 1, 1), loss / top) for epoch, loss in found]

    inner = "".join(_path(points(name), kind) for kind, name in series.items())
    x_ticks = [(0.0, "1"), (1.0, str(last))] if last > 1 else [(0.0, "1")]
    y_ticks = [(number / 4, f"{top * number / 4:.2f}") for number in range(5)]
    return _frame(inner, "epoch", "loss", "Loss by epoch of training", (x_ticks, y_ticks))
