"""Everything that the report says, handed over whole: the report asks nobody for anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import pandas as pd
import pyarrow as pa

from pipeline.validate.metrics._several import Either
from pipeline.validate.metrics._trust import Threshold
from pipeline.validate.report._gallery import GalleryItem


class SplitCount(NamedTuple):
    """How much of the data lies in one split."""

    chips: int
    groups: int
    labelled: int


class Trust(NamedTuple):
    """Above which score answers may be taken as they are.

    Attributes:
        wanted: the share of right answers that was asked for.
        chosen: the threshold that gives it on the calibration split.
        confirmed: what the same threshold gives on the validation split.
    """

    wanted: float
    chosen: Threshold
    confirmed: Threshold


class NearTwins(NamedTuple):
    """Judged chips that look nearly the same as one that was learnt from.

    Attributes:
        table: what `pipeline.validate.near_duplicates.near` gives.
        judged: validation chips that were compared, of *of_judged* that there are.
        learnt: chips that they were compared with, of *of_learnt*.
        more: whether there may be more pairs than the table has room for.
        pictures: row of the table → pictures of both chips as WebP, for its first rows.
    """

    table: pd.DataFrame
    judged: int
    learnt: int
    of_judged: int
    of_learnt: int
    more: bool = False
    pictures: Mapping[int, tuple[bytes, bytes]] = {}

    @property
    def is_sample(self) -> bool:
        """Whether there are chips that were not compared."""
        return self.judged < self.of_judged or self.learnt < self.of_learnt


@dataclass(frozen=True, slots=True, eq=False)
class ReportFacts:
    """What `render` needs.

    Attributes:
        title: the page's heading; the bucket's or the project's name.
        metrics: what `metrics.compute` gave.
        judged: what it was computed from.
        curve: `epoch`, `train_loss`, `calibration_loss`, `calibration_accuracy`, one row an epoch;
            NaN or None where there is no figure; no rows where the classifier has no epochs.
        classes: what `per_class` gave.
        groups: what `per_group` gave.
        covers: what `cover` gave.
        trust: the threshold that gives the accuracy that was wanted, chosen and confirmed; None
            where no chip could choose it.
        n_label_issues: labels that are likely to be wrong.
        compared: what `_compared.compared` gave: earlier classifiers on the same chips.
        twins: images of different splits with the same bytes: `key`, `split`, `same_as` and
            `same_as_split`.
        near: chips of different splits that look nearly the same; None: nobody has looked.
        splits: split → its counts, in the order in which they are shown.
        straddling: groups with chips in more than one split.
        split_by: what a group is, in words; nothing where it is not known.
        split_shares: which share of the groups each split has, in words.
        rejects: schemas.REJECTS, of all stages.
        gallery: chips to show, in the order of `choose`.
        by: what `validate.by` names → accuracy by its values, as `per_value` gives it.
        settings: of params.yaml, in its own form.
        provenance: section → name → text, in the order in which they are shown.
    """

    title: str
    metrics: Mapping[str, float]
    judged: Either
    curve: pd.DataFrame
    classes: pd.DataFrame
    groups: pd.DataFrame
    covers: pd.DataFrame
    splits: Mapping[str, SplitCount]
    straddling: int
    rejects: pa.Table
    split_by: str = ""
    split_shares: str = ""
    trust: Trust | None = None
    n_label_issues: int = 0
    twins: pd.DataFrame = field(default_factory=pd.DataFrame)
    near: NearTwins | None = None
    compared: pd.DataFrame = field(default_factory=pd.DataFrame)
    gallery: list[GalleryItem] = field(default_factory=list)
    by: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    settings: str = ""
    provenance: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
