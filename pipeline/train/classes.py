"""Classes: what is left of the labels after the label map and the rule for rare classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.config.sections import TrainParams
from pipeline.core import label_sets
from pipeline.train.batches import LEFT_OUT, Indices, Targets
from pipeline.train.label_map import OTHER, LabelMap, check_other, renamed, renamed_all


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes of a classifier, and the class of each label.

    Attributes:
        names: in the order of the probabilities.
        to: the class of each label that is renamed; None: the label is dropped.
        rare: the number of rows of each class that has too few.
        separator: between the labels of a row; None if it has exactly one.
    """

    names: tuple[str, ...]
    to: Mapping[str, str | None]
    rare: Mapping[str, int]
    separator: str | None = None

    def encode(self, texts: Sequence[str]) -> tuple[Indices, Targets | None]:
        """Return the class of each row and None; of several labels, its label set and the sets.

        Returns:
            With one label a row: its class, int64 [n], or LEFT_OUT if the label is no class.
            With several: the number of its label set, and the sets, float32 [n_sets, n_classes] of
            0 and 1. Labels that are no class are in no set; a set may be empty.
        """
        number = {name: place for place, name in enumerate(self.names)}
        classes = {
            text: tuple(sorted(number[name] for name in self._renamed(text) if name in number))
            for text in set(texts)
        }
        if self.separator is None:
            y = [classes[text][0] if classes[text] else LEFT_OUT for text in texts]
            return np.array(y, np.int64), None
        sets = {members: place for place, members in enumerate(sorted(set(classes.values())))}
        targets = np.zeros((len(sets), len(self.names)), np.float32)
        for members, place in sets.items():
            targets[place, list(members)] = 1
        return np.array([sets[classes[text]] for text in texts], np.int64), targets

    def count_unknown(self, texts: Sequence[str]) -> int:
        """Count the rows with a label that is no class."""
        names, counts = {*self.names}, Counter(texts)
        return sum(counts[text] for text in counts if not names.issuperset(self._renamed(text)))

    def _renamed(self, text: str) -> tuple[str, ...]:
        return label_sets.split(renamed_all(self.to, text, self.separator), self.separator)

    def card(self, train: TrainParams) -> dict[str, Any]:
        """Return what the classifier's card says of its classes."""
        return {"to": dict(self.to), "rare": dict(self.rare), "rule": train.rare_classes}


def choose_classes(
    texts: Sequence[str], label_map: LabelMap, train: TrainParams, separator: str | None = None
) -> Classes:
    """Choose the classes by the labels of the train split's rows.

    Raises:
        InputError: a label has the name of the class into which rare ones are merged.
    """
    labels = Counter(label for text in texts for label in label_sets.split(text, separator))
    check_other(label_map, labels, train)
    counts: Counter[str] = Counter()
    for label, count in labels.items():
        name = renamed(label_map.to, label)
        if name is not None:
            counts[name] += count
    rare = {name: count for name, count in sorted(counts.items()) if count < train.min_class_count}
    to = dict(label_map.to)
    if train.rare_classes != "keep":
        new = OTHER if train.rare_classes == "merge" else None
        # Labels that the map turns into a rare class are dropped or merged with it.
        to = {old: new if name in rare else name for old, name in to.items()}
        to |= dict.fromkeys((name for name in rare if name not in to), new)
    names = {renamed(to, label) for label in labels}
    return Classes(tuple(sorted(filter(None, names))), dict(sorted(to.items())), rare, separator)
