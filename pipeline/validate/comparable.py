"""An earlier classifier beside this one: on the chips of groups that neither was trained on.

After another `split.by` or `split.validation`, an earlier classifier may have been trained on
chips that validate today: what it remembers would count as what it recognises.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.chip.labels import image_values
from pipeline.core.errors import SettingError
from pipeline.core.run_log import pluralize
from pipeline.train.training_record import TrainingRecord
from pipeline.validate.evaluation import Evaluation
from pipeline.validate.predictions import Predictions

log = logging.getLogger(__name__)

LEAST_GROUPS = 2
"""Fewer do not show how groups differ."""

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Comparable:
    """Two classifiers evaluated on the same chips.

    Attributes:
        this: the new classifier.
        other: the earlier one, on the same chips in the same order.
        n_used: validation chips left out, since one of the two was trained on their group.
        has_record: whether the earlier one records what it was trained on.
    """

    this: Evaluation
    other: Evaluation
    n_used: int = 0
    has_record: bool = True


@dataclass(frozen=True, slots=True)
class Today:
    """What groups are today.

    Attributes:
        images: schemas.IMAGES, and the fields of `index.pattern`.
        by: `split.by`.
        record: what this classifier was trained on.
    """

    images: pa.Table
    by: str
    record: TrainingRecord


def compare_on_unused(
    name: str,
    both: tuple[Predictions, Predictions],
    record: TrainingRecord | None,
    today: Today,
) -> Comparable:
    """Return both classifiers on the chips of groups that neither was trained on.

    Args:
        name: of the earlier classifier, for messages.
        both: the predictions of this classifier and of the earlier one, of the same chips.
        record: of what the earlier one was trained on. What this one was trained on is in no
            validation group.
        today: the groups of these chips.

    Raises:
        SettingError: fewer than two groups are left.
    """
    this, other = both
    chips = this.table.select(["key", "group"])
    if record is None:
        log.warning(
            "validate.compare: %r does not record what it was trained on: if these validation "
            "chips were among it, it looks better than it is",
            name,
        )
        return Comparable(this.evaluation, other.evaluation, has_record=False)
    used = are_used(chips, record, today)
    n_used = int(used.sum())
    if not n_used:
        return Comparable(this.evaluation, other.evaluation)
    unused = pa.array(~used)
    n_groups = pc.count_distinct(chips.filter(unused)["group"]).as_py()
    left = f"{pluralize(int((~used).sum()), 'chips')} of {pluralize(n_groups, 'groups')}"
    if n_groups < LEAST_GROUPS:
        raise SettingError(
            f"validate.compare: {name!r} was trained or calibrated on groups that validate today: "
            f"of {pluralize(len(used), 'validation chips')}, {left} are left, too few to compare "
            "on; compare classifiers of the same split settings, or train the earlier one anew "
            "with today's"
        )
    log.info("validate.compare: %r: %s are left that it was not trained on", name, left)
    this, other = (replace(one, table=one.table.filter(unused)) for one in both)
    return Comparable(this.evaluation, other.evaluation, n_used)


def are_used(chips: pa.Table, record: TrainingRecord, today: Today) -> Flags:
    """Return which of *chips*, with `key` and `group`, are of groups in *record*, bool [n].

    A group is used if its name is recorded, or if any image of its chips is: groups of another kind
    have other names, and a site is used if one of its images was. If a group was something that is
    known of images, such as their day, today's images have its name, too. If groups are of the same
    kind, an image with chips of several splits says nothing of any group.
    """
    by = str(record.split["by"])
    used = record.has_images(chips["key"])
    if by == today.by:
        used &= ~today.record.has_images(chips["key"])
        used |= record.has_groups(chips["group"])
    elif by in ("image", "folder", "day", "place", *today.images.column_names):
        names = image_values(chips["key"], today.images, by)
        used |= record.has_groups(pc.coalesce(names, chips["key"]))
    groups = pc.unique(chips["group"].filter(pa.array(used)))
    return np.asarray(pc.is_in(chips["group"], value_set=groups), np.bool_)
