"""The report: one HTML file that says how good the classifier is, and shows why one may believe it.

It opens from a disk without a network, has no clock and no path in it, and the same facts give the
same bytes.
"""

from __future__ import annotations

import base64
import math
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from pipeline.validate.metrics import Judged
from pipeline.validate.report import _charts, _confusion, _rows
from pipeline.validate.report._facts import NearTwins, ReportFacts, SplitCount, Trust
from pipeline.validate.report._gallery import (
    KINDS,
    GalleryChoice,
    GalleryItem,
    choose,
    picture,
    suspected,
    thumbnail,
)
from pipeline.validate.report._png import plots

__all__ = [
    "KINDS",
    "GalleryChoice",
    "GalleryItem",
    "NearTwins",
    "ReportFacts",
    "SplitCount",
    "Trust",
    "choose",
    "picture",
    "plots",
    "render",
    "suspected",
    "thumbnail",
]

TEMPLATE = "report.html.j2"
MOST_GROUPS = 100
"""Rows of the table of groups: the worst. The rest stand in results/tables."""

MOST_TWINS = 50
"""Rows of the table of images with the same bytes."""

NO_FIGURE = "–"


def render(facts: ReportFacts) -> str:
    """Give the whole page as HTML; every text of *facts* is text there, never markup."""
    return (
        _environment()
        .get_template(TEMPLATE)
        .render(
            facts=facts,
            judged=facts.judged,
            several=not isinstance(facts.judged, Judged),
            metrics=facts.metrics,
            metric_rows=_rows.metric_rows(facts),
            tiles=_rows.TILES,
            notes=list(_rows.notes(facts)),
            weakest=_rows.weakest(facts),
            splits=[(name, SplitCount(*counts)) for name, counts in facts.splits.items()],
            matrix=_confusion.matrix(facts.judged.taken),
            shades=_confusion.SHADES,
            pairs=_confusion.pairs(facts.judged.taken),
            reliability=_charts.reliability_charts(facts.judged.pairs),
            curve=_charts.curve_charts(facts.curve),
            classes=list(facts.classes.itertuples()),
            twins=list(facts.twins.head(MOST_TWINS).itertuples()),
            near=_rows.near_rows(facts),
            compared=list(facts.compared.itertuples()),
            covers=list(facts.covers.itertuples()),
            trust=_charts.trust_chart(facts.judged.decisions, facts.trust),
            groups=list(facts.groups.head(MOST_GROUPS).itertuples()),
            by=[
                (name, len(table), list(table.head(MOST_GROUPS).itertuples(index=False, name=None)))
                for name, table in facts.by.items()
            ],
            gallery=[(kind, [i for i in facts.gallery if i.chip.kind == kind]) for kind in KINDS],
            rejects=_rows.reject_rows(facts.rejects),
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "count": _count,
        "figure": _figure,
        "share": _share,
        "points": _points,
        "hundredths": _hundredths,
        "r2": _r2,
        "signed": _signed,
        "inline": _inline,
        "breakable": _breakable,
        "span": _span,
    }
    return environment


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _figure(value: float | None) -> str:
    """Show counts with separators, other numbers to four decimals."""
    if value is None or math.isnan(value):
        return NO_FIGURE
    return _count(value) if isinstance(value, int) else f"{value:.4f}"


def _share(value: float | None) -> str:
    if value is None or math.isnan(value):
        return NO_FIGURE
    return f"{100 * value:.1f}\u202f%"


def _span(low: float, high: float) -> str:
    """Show an interval of shares, to whole points of a hundred."""
    return f"{100 * low:.0f} to {100 * high:.0f}"


def _breakable(text: str) -> Markup:
    """Let a long name go on in the next line after a sign that joins its words.

    It is isolated, or a name written from the right would turn the numbers after it around.
    """
    broken = re.sub(r"([_/.])(?=\w)", r"\1<wbr>", str(escape(text)))
    return Markup(f"<bdi>{broken}</bdi>")  # noqa: S704 - just escaped


def _points(value: float) -> str:
    """Show a difference of shares in points of a hundred, with its sign."""
    return f"{100 * value:+.1f}".replace("-", "\u2212")


def _hundredths(value: float) -> str:
    """Show a share in points of a hundred."""
    return f"{100 * value:.1f}"


def _r2(value: float) -> str:
    """Show R², which may be negative, to two decimals."""
    return NO_FIGURE if math.isnan(value) else f"{value:.2f}".replace("-", "\u2212")


def _signed(value: float) -> str:
    """Show a difference with its sign, to four decimals."""
    return f"{value:+.4f}".replace("-", "\u2212")


def _inline(webp: bytes) -> str:
    return "data:image/webp;base64," + base64.b64encode(webp).decode()
