"""The report: one HTML file that opens from disk.

`render` is pure: the same facts give the same bytes. No clock, host or path is in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.metrics import Judged, _tables, calibration
from pipeline.report import _charts
from pipeline.report._gallery import Shown

TEMPLATE = "report.html.j2"

HEADLINES = (
    ("accuracy", "Accuracy", "share of chips that get the right class"),
    ("balanced_accuracy", "Balanced accuracy", "mean over labels of the share found"),
    ("macro_f1", "Macro F1", "mean over labels of precision and recall"),
    ("log_loss", "Log loss", "lower is better"),
    ("brier", "Brier score", "0 is perfect, 2 the worst"),
    ("ece", "Calibration error", "how far scores are from the truth"),
)


@dataclass(frozen=True)
class Facts:
    """All that the report tells.

    Attributes:
        metrics: results/metrics.json.
        judged: the judged chips.
        curve: rows of the learning curve.
        splits: a row a split: split, chips, labelled, groups.
        straddling: groups that lie in more than one split; there must be none.
        rejects: a row a stage and reason: stage, reason, sentence, count, first.
        gallery: chips cut from the images.
        provenance: what made this, by section, as text.
        card: the classifier's card.
    """

    metrics: Mapping[str, float]
    judged: Judged
    curve: Sequence[Mapping[str, Any]]
    splits: Sequence[Mapping[str, Any]]
    straddling: int
    rejects: Sequence[Mapping[str, Any]]
    gallery: Sequence[Shown]
    provenance: Mapping[str, str]
    card: Mapping[str, Any]


def render(facts: Facts) -> str:
    """Give the whole page."""
    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(
        facts=facts,
        headlines=HEADLINES,
        confusion=_confusion(facts.judged),
        reliability=_charts.reliability(calibration.reliability(facts.judged)),
        curve=_charts.curve(facts.curve),
        per_class=_tables.per_class(facts.judged),
        per_group=_tables.per_group(facts.judged),
    )


def _confusion(judged: Judged) -> list[dict[str, Any]]:
    """Give a row a label that occurs, and a cell a class: count and share of the row."""
    counted = _tables.confusion(judged)
    rows = []
    for index, label in enumerate(judged.labels):
        total = int(counted[index].sum())
        if total:
            cells = [
                {
                    "name": judged.labels[column],
                    "count": int(counted[index, column]),
                    "share": round(int(counted[index, column]) / total, 3),
                    "right": column == index,
                }
                for column in range(judged.n_classes)
            ]
            rows.append({"label": label, "total": total, "cells": cells})
    return rows
