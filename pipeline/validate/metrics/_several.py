"""The predictions table as arrays where a chip may have several labels, or none."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.core import label_sets
from pipeline.validate.metrics import _judged
from pipeline.validate.metrics._judged import Floats, Indices, Judged

Flags = NDArray[np.bool_]

NONE = "(none)"
"""In the confusion matrix, the row of labels given wrongly and the column of those missed."""


@dataclass(frozen=True, eq=False)
class JudgedSeveral:
    """What the classifier said of every chip of several labels, beside what people have said.

    Its views are Judged of one label each, for all that is computed from such.

    Attributes:
        classes: the labels that the classifier knows, in the order of its probabilities.
        labels: *classes*, then the labels it has never seen, sorted.
        truth: bool [n, n_labels].
        answered: bool [n, n_labels].
        probabilities: float64 [n, n_classes], each between 0 and 1.
        texts: the labels of each chip as people gave them, then as they were answered, [2 n].
        groups: int64 [n], indices into *group_names*.
        images: int64 [n], the number of the image that the chip is of.
        group_names: the groups of these chips, sorted.
    """

    classes: list[str]
    labels: list[str]
    truth: Flags
    answered: Flags
    probabilities: Floats
    texts: list[str]
    groups: Indices
    group_names: list[str]
    images: Indices

    @property
    def n(self) -> int:
        """How many chips were judged."""
        return len(self.truth)

    @property
    def n_classes(self) -> int:
        """How many labels the classifier knows."""
        return len(self.classes)

    @property
    def n_groups(self) -> int:
        """How many groups the chips come from."""
        return len(self.group_names)

    @cached_property
    def correct(self) -> Flags:
        """Which chips were given exactly their labels: bool [n]."""
        return np.asarray((self.truth == self.answered).all(axis=1))

    @cached_property
    def certainty(self) -> Floats:
        """The probability of what was answered of each class: float64 [n, n_classes]."""
        given = self.answered[:, : self.n_classes]
        return np.where(given, self.probabilities, 1 - self.probabilities)

    @cached_property
    def chips(self) -> Judged:
        """Each chip with its set of labels as one; its score is of its least sure decision."""
        sets = sorted(set(self.texts))
        place = {text: at for at, text in enumerate(sets)}
        number = np.array([place[text] for text in self.texts], np.int64)
        score = self.certainty.min(axis=1, keepdims=True)
        both = np.concatenate([score, np.zeros_like(score)], axis=1)
        true, answered = number[: self.n], number[self.n :]
        return Judged(sets, sets, true, answered, both, self.groups, self.group_names, self.images)

    @cached_property
    def taken(self) -> Judged:
        """What each label was taken for: itself, or NONE where it was missed or given wrongly.

        A chip without labels that was given none counts as one NONE taken for NONE.
        """
        none = len(self.labels)
        found = []
        for flags, label, answer in (
            (self.truth & self.answered, None, None),
            (self.truth & ~self.answered, None, none),
            (~self.truth & self.answered, none, None),
        ):
            rows, own = np.nonzero(flags)
            sides = [
                own if fixed is None else np.full_like(own, fixed) for fixed in (label, answer)
            ]
            found.append((rows, *sides))
        empty = np.flatnonzero(~(self.truth | self.answered).any(axis=1))
        found.append((empty, np.full_like(empty, none), np.full_like(empty, none)))
        rows, true, answered = (np.concatenate(parts) for parts in zip(*found, strict=True))
        names = [*self.labels, NONE]
        return Judged(
            names,
            names,
            true,
            answered,
            np.broadcast_to(1.0, (len(rows), 1)),
            self.groups[rows],
            self.group_names,
            self.images[rows],
        )

    @cached_property
    def pairs(self) -> Judged:
        """Each chip and class, right where the chip has it, its score the class's probability."""
        return self._each(self.probabilities, self.truth[:, : self.n_classes])

    @cached_property
    def decisions(self) -> Judged:
        """Each chip and class, right where it was decided rightly, its score how surely."""
        right = (self.truth == self.answered)[:, : self.n_classes]
        return self._each(self.certainty, right)

    def _each(self, score: Floats, right: Flags) -> Judged:
        n = score.size
        return Judged(
            ["yes"],
            ["yes", "no"],
            (~right).ravel().astype(np.int64),
            np.broadcast_to(np.int64(0), n),
            score.reshape(n, 1),
            np.repeat(self.groups, self.n_classes),
            self.group_names,
            np.broadcast_to(np.int64(0), n),
        )


Either = Judged | JudgedSeveral


def judged(predictions: pa.Table, classes: list[str], separator: str) -> JudgedSeveral:
    """Turn *predictions* (schemas.PREDICTIONS) of several labels a chip into arrays.

    Args:
        predictions: one row a chip; `label` and `predicted` as `multilabel.join` has them.
        classes: the classifier's classes, in the order of `probabilities`.
        separator: between a chip's labels.

    Raises:
        InputError: there is no row to judge.
        ValueError: the table does not belong to *classes*.
    """
    _judged.check_some(predictions)
    said = {name: predictions[name].to_pylist() for name in ("label", "predicted")}
    known = {text: label_sets.split(text, separator) for texts in said.values() for text in texts}
    unseen = {label for text in set(said["label"]) for label in known[text]} - set(classes)
    labels = [*classes, *sorted(unseen)]
    place = {label: at for at, label in enumerate(labels)}
    group_names = sorted(pc.unique(predictions["group"]).to_pylist())
    keys = sorted(pc.unique(predictions["key"]).to_pylist())
    truth, answered = (
        _flags([[place[label] for label in known[text]] for text in texts], len(labels))
        for texts in said.values()
    )
    return JudgedSeveral(
        classes=list(classes),
        labels=labels,
        truth=truth,
        answered=answered,
        probabilities=_judged.probabilities(predictions, len(classes)),
        texts=[*said["label"], *said["predicted"]],
        groups=_judged.codes(predictions, "group", group_names),
        group_names=group_names,
        images=_judged.codes(predictions, "key", keys),
    )


def _flags(places: list[list[int]], count: int) -> Flags:
    found = np.zeros((len(places), count), bool)
    lengths = [len(own) for own in places]
    rows = np.repeat(np.arange(len(places)), lengths)
    found[rows, [at for own in places for at in own]] = True
    return found
