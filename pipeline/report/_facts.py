"""Everything that the report says, handed over whole: the report asks nobody for anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import pandas as pd
import pyarrow as pa

from pipeline.metrics import Judged
from pipeline.report._gallery import GalleryItem


class SplitCount(NamedTuple):
    """How much of the data lies in one split."""

    chips: int
    groups: int
    labelled: int


@dataclass(frozen=True, slots=True, eq=False)
class ReportFacts:
    """What `render` needs.

    Attributes:
        title: the page's heading; the bucket's or the project's name.
        metrics: what `metrics.compute` gave.
        judged: what it was computed from.
        curve: `epoch`, `train_loss`, `calibration_loss`, `calibration_accuracy`, one row an epoch;
            NaN or None where there is no figure; no rows where the classifier has no epochs.
        splits: split → its counts, in the order in which they are shown.
        straddling: groups with chips in more than one split.
        rejects: schemas.REJECTS, of all stages.
        gallery: chips to show, in the order of `choose`.
        provenance: section → name → text, in the order in which they are shown.
    """

    title: str
    metrics: Mapping[str, float]
    judged: Judged
    curve: pd.DataFrame
    splits: Mapping[str, SplitCount]
    straddling: int
    rejects: pa.Table
    gallery: list[GalleryItem] = field(default_factory=list)
    provenance: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
