"""What is in each split, and whether a split that is asked for has no labelled chip.

The chip stage is the first that knows: features and a training that could not be evaluated are
spared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from operator import itemgetter

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config.sections import SplitParams
from pipeline.core.errors import InputError
from pipeline.core.hashing import split_of, split_place
from pipeline.core.run_log import pluralize

SPLITS = ("train", "calibration", "validation", "test")
N_LABELS = 5
"""Labels that a line names, the most frequent ones."""


def counts(labels: pa.Table) -> list[str]:
    """Return a line for each split with its groups, its labelled chips and their labels.

    Args:
        labels: schemas.LABELS.
    """
    labelled = labels.filter(pc.is_valid(labels["label"]))
    lines = []
    for name in SPLITS:
        chips = labelled.filter(pc.equal(labelled["split"], name))
        if not chips.num_rows:
            continue
        counted = pc.value_counts(chips["label"]).to_pylist()
        counted.sort(key=itemgetter("values"))
        counted.sort(key=itemgetter("counts"), reverse=True)
        named = [f"{row['values']} {row['counts']:,}" for row in counted[:N_LABELS]]
        if more := len(counted) - N_LABELS:
            named += [f"{pluralize(more, 'more labels')}"] if more > 0 else []
        n_groups = pc.count_distinct(chips["group"]).as_py()
        lines.append(
            f"{name}: {pluralize(n_groups, 'groups')}, "
            f"{pluralize(chips.num_rows, 'labelled chips')} ({', '.join(named)})"
        )
    return lines


def check(labels: pa.Table, split: SplitParams) -> None:
    """Check that each split with a share has a labelled chip, if any chip has a label.

    Raises:
        InputError: a split is empty; the message has shares with which none is.
    """
    labelled = labels.filter(pc.is_valid(labels["label"]))
    if not labelled.num_rows:
        return
    groups = labelled["group"].unique().to_pylist()
    shares = split.model_dump(include={"validation", "calibration", "test"})
    wanted = ["train", *(name for name in SPLITS if shares.get(name))]
    n_groups = dict.fromkeys(wanted, 0)
    for group in groups:
        n_groups[split_of(group, **shares)] += 1
    empty = [name for name in wanted if not n_groups[name]]
    if not empty:
        return
    spread = ", ".join(f"{name} {n}" for name, n in n_groups.items())
    settings = [f"split.{name} {shares[name]:g}" for name in empty if name in shares]
    raise InputError(
        f"chip: no labelled chip is in the {' or the '.join(empty)} split"
        f"{' (' + ', '.join(settings) + ')' if settings else ''}: of "
        f"{pluralize(len(groups), 'groups')} with labels, by their hashes: {spread}; "
        f"{_remedy(groups, shares)}"
    )


def _remedy(groups: Sequence[str], shares: Mapping[str, float]) -> str:
    """Return what to do about an empty split."""
    optional = "; with a share of 0 a split is left out" if shares["calibration"] else ""
    more = f"label more groups, or choose smaller ones (split.by){optional}"
    found = enough(groups, shares)
    if found is None:
        return more
    changed = [f"split.{name} to {found[name]:g}" for name in shares if found[name] != shares[name]]
    return f"set {' and '.join(changed)}, with which no split is empty; or {more}"


def enough(groups: Sequence[str], shares: Mapping[str, float]) -> dict[str, float] | None:
    """Return shares close to *shares* with which each split has a group; None if there are none.

    Args:
        groups: with labelled chips.
        shares: of validation, calibration and test; one that is 0 stays 0.
    """
    places = sorted({split_place(group) for group in groups})
    if len(places) < 1 + sum(share > 0 for share in shares.values()):
        return None
    for grow in (True, False):
        found = _shares(places, shares, grow=grow)
        splits = {split_of(group, **found) for group in groups}
        if splits >= {"train", *(name for name in shares if shares[name])}:
            return found
    return None


def _shares(
    places: Sequence[float], shares: Mapping[str, float], *, grow: bool
) -> dict[str, float]:
    """Return shares with one group at least for each split but train.

    Args:
        places: of the groups, from 0 to 1, sorted.
        shares: those that are set.
        grow: keep a share that has a group; else each split gets one group.
    """
    ends = [*places, 1.0]
    start, found = 0.0, dict(shares)
    for name in ("validation", "calibration"):
        if not shares[name]:
            continue
        first = next((at for at, place in enumerate(places) if place >= start), len(places) - 1)
        if not grow or places[first] >= start + shares[name]:
            found[name] = _between(places[first], ends[first + 1], start)
        start += found[name]
    if shares["test"] and (not grow or places[-1] < 1 - shares["test"]):
        below = places[-2] if len(places) > 1 else 0.0
        found["test"] = _between(1 - places[-1], 1 - below, 0.0)
    return found


def _between(low: float, high: float, start: float) -> float:
    """Return a share that reaches from *start* over *low* and not over *high*, of few digits."""
    share = 1.0
    for digits in range(2, 8):
        share = math.ceil((low - start) * 10**digits + 1e-6) / 10**digits
        if start + share <= high:
            break
    return share
