"""Analyses: what is to be known of a classifier, one file for each.

A file of this folder that does not begin with an underscore defines

    ORDER: int                              its place in the report
    def analyse(data: ValidationData) -> Result

It takes from `data` what it needs: predictions, features, labels, images. What nobody asks for is
not read. A file may also define

    METRICS: dict[str, Metric]              the meaning of the metrics that it returns
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from pipeline.config import registry
from pipeline.validate.report.blocks import ReportSection
from pipeline.validate.report.drawings import Drawing

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Result:
    """What an analysis adds to the results.

    Attributes:
        metrics: numbers by name; counts are ints, and nothing is NaN.
        tables: `results/tables/NAME.csv`, by name.
        plots: title and panels of `results/plots/NAME.png`, by name.
        sections: of the report; those with the same id become one.
        lede: sentences for the top of the report.
        notes: what a reader must know before believing the report.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    plots: Mapping[str, tuple[str, Sequence[Drawing]]] = field(default_factory=dict)
    sections: Sequence[ReportSection] = ()
    lede: Sequence[Markup] = ()
    notes: Sequence[str] = ()


def analyses() -> list[Any]:
    """Import every file of this folder, in the order of the report."""
    names = registry.names("validate.analyses")
    found = [registry.find("validate.analyses", name, key="analyses") for name in names]
    return sorted(found, key=attrgetter("ORDER", "__name__"))
