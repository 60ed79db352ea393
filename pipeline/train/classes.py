"""From labels to classes: rolled up by a map, rare ones by a rule, uneven ones by a balance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config.sections import TrainParams
from pipeline.core import label_sets
from pipeline.train.batches import LEFT_OUT, Indices
from pipeline.train.label_map import LabelMap, renamed, renamed_all

OTHER = "other"
"""The class into which rare ones are merged."""

BETA = 0.999


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes, and what becomes of every label that training saw.

    Attributes:
        names: in the order of the probabilities.
        to: the class's name by the label, where it is another; None: left out.
        rare: rows by class of those with too few.
    """

    names: tuple[str, ...]
    to: Mapping[str, str | None]
    rare: Mapping[str, int]

    def indices(self, labels: Sequence[str]) -> Indices:
        """Give the class of each label, LEFT_OUT for those that are no class."""
        number = {name: place for place, name in enumerate(self.names)}
        known = {
            label: number.get(renamed(self.to, label) or "", LEFT_OUT) for label in set(labels)
        }
        return np.array([known[label] for label in labels], np.int64)

    def sets(self, labels: Sequence[str], separator: str) -> tuple[Indices, NDArray[np.float32]]:
        """Give which set of classes each row has, and the sets, [n_sets, n_classes] of 0 and 1.

        Labels that are no class are no part of a set; a set may be empty.
        """
        number = {name: place for place, name in enumerate(self.names)}
        known: dict[str, tuple[int, ...]] = {}
        for text in set(labels):
            own = label_sets.split(renamed_all(self.to, text, separator), separator)
            known[text] = tuple(sorted(number[name] for name in own if name in number))
        place = {held: at for at, held in enumerate(sorted(set(known.values())))}
        targets = np.zeros((len(place), len(self.names)), np.float32)
        for held, at in place.items():
            targets[at, list(held)] = 1
        return np.array([place[known[text]] for text in labels], np.int64), targets

    def card(self, train: TrainParams) -> dict[str, Any]:
        """Give what the classifier's card says of it."""
        return {"to": dict(self.to), "rare": dict(self.rare), "rule": train.rare_classes}


def classes(labels: Sequence[str], label_map: LabelMap, train: TrainParams) -> Classes:
    """Decide on the classes from the train split's *labels*, each as often as it occurs."""
    mapped = Counter(renamed(label_map.to, label) for label in labels)
    counts = {name: count for name, count in mapped.items() if name is not None}
    rare = {name: count for name, count in sorted(counts.items()) if count < train.min_class_count}
    to = dict(label_map.to)
    if train.rare_classes != "keep":
        new = OTHER if train.rare_classes == "merge" else None
        # A rare label that others are rolled up to takes them along.
        to = {old: new if name in rare else name for old, name in to.items()}
        to |= dict.fromkeys((name for name in rare if name not in to), new)
    names = {renamed(to, label) for label in set(labels)} - {None}
    return Classes(tuple(sorted(filter(None, names))), dict(sorted(to.items())), rare)


def weights(rows: Indices, train: TrainParams) -> NDArray[np.float32] | None:
    """Give each class's weight in the loss, 1 on average over the rows; None for all alike.

    Args:
        rows: how many rows each class has.
        train: the section.

    Source: Cui et al. 2019, "Class-balanced loss based on effective number of samples".
    """
    if train.balance != "weights":
        return None
    effective = (1 - BETA) / -np.expm1(np.maximum(rows, 1) * np.log(BETA))
    found: NDArray[np.float32] = effective.astype(np.float32)
    return found * np.float32(rows.sum() / (effective * rows).sum())


def wanted(rows: Indices | int, train: TrainParams) -> Indices:
    """Give how many rows resampling makes of a class's *rows*; of none it makes none."""
    least = np.minimum(rows, 1)
    return np.clip(rows, least * train.min_per_class, train.max_per_class)


def times(
    members: Iterable[Indices], count: int, train: TrainParams, rng: np.random.Generator
) -> Indices | None:
    """Give how many times each of *count* rows is learnt from in this epoch; None: once each.

    A class with more rows than `max_per_class` gives so many, others every epoch; one with fewer
    than `min_per_class` repeats its rows up to that. A row of several classes goes by the one
    that wants it most often.

    Args:
        members: the rows of each class.
        count: of all rows.
        train: the section.
        rng: draws the rows that are taken once more than others.
    """
    if train.balance != "resample":
        return None
    found = np.zeros(count, np.int64)
    for rows in members:
        if len(rows):
            whole, rest = divmod(int(wanted(len(rows), train)), len(rows))
            own = np.full(len(rows), whole)
            own[rng.permutation(len(rows))[:rest]] += 1
            found[rows] = np.maximum(found[rows], own)
    return found
