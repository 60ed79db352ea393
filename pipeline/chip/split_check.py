"""What is in each split, and an error if one that is asked for has no labelled chip."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.sections import SplitParams
from pipeline.core import label_sets
from pipeline.core.errors import InputError
from pipeline.core.hashing import place_of
from pipeline.core.run_log import pluralize

SPLITS = ("train", "calibration", "validation", "test")
MAX_CLASSES = 20
"""Lines of the table in a message."""

STEP = 100
"""Shares are suggested in hundredths."""


def summary(labels: pa.Table) -> str:
    """Return the labelled chips and the groups of each split, in one line.

    Args:
        labels: schemas.LABELS.
    """
    labelled = labels.filter(labels["label"].is_valid())
    parts = []
    for name in SPLITS:
        rows = labelled.filter(pc.equal(labelled["split"], name))
        if rows.num_rows or name != "test":
            groups = pluralize(pc.count_distinct(rows["group"]).as_py(), "groups")
            parts.append(f"{name} {rows.num_rows:,} of {groups}")
    return f"labelled chips: {', '.join(parts)}"


def check(labels: pa.Table, split: SplitParams, separator: str | None) -> None:
    """Check that each split with a share has a labelled chip, if there are labels at all.

    Args:
        labels: schemas.LABELS.
        split: the shares.
        separator: between the labels of a chip; None if it has exactly one.

    Raises:
        InputError: one has none. The message has the labelled chips by class and split, and shares
            with which none would be empty.
    """
    labelled = labels.filter(labels["label"].is_valid())
    present = set(pc.unique(labelled["split"]).to_pylist())
    shares = {name: getattr(split, name, 1.0) for name in SPLITS}
    empty = [name for name in SPLITS if shares[name] and name not in present]
    if labelled.num_rows and empty:
        groups = pc.unique(labelled["group"]).to_pylist()
        raise InputError(
            f"split: no labelled chip is in the {' or '.join(empty)} split, of "
            f"{pluralize(len(groups), 'groups')} with labels; {_remedy(groups, split)}\n"
            + _table(labelled, separator)
        )


def _remedy(groups: Sequence[str], split: SplitParams) -> str:
    """Return shares with which no split is empty, or what else to do."""
    places = sorted(place_of(group) for group in groups)
    needed = (split.validation > 0) + (split.calibration > 0) + (split.test > 0) + 1
    other = "choose smaller groups (split.by), or set a share to 0 to do without that split"
    if len(places) < needed:
        return other
    end = 0.0
    shares = {}
    for name in ("validation", "calibration"):
        share = getattr(split, name)
        if share:
            first = next((place for place in places if place >= end), 1.0)
            share = max(share, (math.floor((first - end) * STEP) + 1) / STEP)
            shares[f"split.{name}"] = share
            end += share
    if split.test:
        shares["split.test"] = max(split.test, math.ceil((1 - places[-1]) * STEP) / STEP)
    if not any(end <= place < 1 - shares.get("split.test", 0.0) for place in places):
        return other
    return "set " + " and ".join(f"{name}: {share:g}" for name, share in shares.items())


def _table(labelled: pa.Table, separator: str | None) -> str:
    """Return the number of labelled chips of each class in each split, commonest class first."""
    counts: dict[str, dict[str, int]] = {}
    grouped = labelled.group_by(["label", "split"]).aggregate([([], "count_all")])
    for row in grouped.to_pylist():
        for label in label_sets.split(row["label"], separator):
            of_label = counts.setdefault(label, dict.fromkeys(SPLITS, 0))
            of_label[row["split"]] += row["count_all"]
    order = sorted(counts, key=lambda label: (-sum(counts[label].values()), label))
    lines = [f"  {'':<24}" + "".join(f"{name:>13}" for name in SPLITS)]
    lines += [
        f"  {label[:24]:<24}" + "".join(f"{counts[label][name]:>13,}" for name in SPLITS)
        for label in order[:MAX_CLASSES]
    ]
    if len(order) > MAX_CLASSES:
        lines.append(f"  and {len(order) - MAX_CLASSES:,} more classes")
    return "\n".join(lines)
