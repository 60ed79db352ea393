"""An evaluation: labels and predictions of the chips of one split, as arrays.

Single-label and multi-label data have the same form: each chip has a set of labels and a set of
predicted labels. With single-label data, each set has exactly one element.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.core import label_sets
from pipeline.core.errors import InputError

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

NONE = "(none)"
"""In the confusion matrix of multi-label data: the row of labels predicted wrongly, and the column
of labels that were missed."""


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """The labels of all chips, one pair for each chip and label, sorted by chip.

    Attributes:
        chips: int64 [m], indices of chips.
        labels: int64 [m], indices of labels.
    """

    chips: Indices
    labels: Indices

    def flags(self, n_chips: int, n_labels: int) -> Flags:
        """Return which chips have which labels, bool [n_chips, n_labels]."""
        found = np.zeros((n_chips, n_labels), bool)
        found[self.chips, self.labels] = True
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Decisions:
    """Decisions of the classifier with their scores: what calibration and thresholds are about.

    Attributes:
        score: float64 [m], between 0 and 1.
        correct: bool [m].
        groups: int64 [m], indices into the evaluation's groups.
        n_groups: the number of groups.
    """

    score: Floats
    correct: Flags
    groups: Indices
    n_groups: int

    @property
    def n(self) -> int:
        """The number of decisions."""
        return len(self.score)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What the classifier predicted for each chip of a split, beside the chip's labels.

    Attributes:
        classes: the labels that the classifier knows, in the order of its probabilities.
        labels: *classes*, then the labels that it has never seen, sorted.
        true: the labels of the chips; indices into *labels*.
        predicted: the predicted labels; indices into *labels*.
        probabilities: float64 [n, n_classes]. Rows of single-label data sum to 1.
        groups: int64 [n], indices into *group_names*.
        group_names: the groups of these chips, sorted.
        images: int64 [n], the number of the chip's image.
        is_multilabel: whether a chip may have several labels, or none.
    """

    classes: list[str]
    labels: list[str]
    true: Pairs
    predicted: Pairs
    probabilities: Floats
    groups: Indices
    group_names: list[str]
    images: Indices
    is_multilabel: bool

    @property
    def n(self) -> int:
        """The number of chips."""
        return len(self.groups)

    @property
    def n_classes(self) -> int:
        """The number of labels that the classifier knows."""
        return len(self.classes)

    @property
    def n_groups(self) -> int:
        """The number of groups that the chips come from."""
        return len(self.group_names)

    @cached_property
    def hits(self) -> Pairs:
        """The labels that were predicted and are true."""
        width = len(self.labels)
        codes = [pairs.chips * width + pairs.labels for pairs in (self.true, self.predicted)]
        both = np.intersect1d(codes[0], codes[1], assume_unique=True)
        return Pairs(both // width, both % width)

    @cached_property
    def correct(self) -> Flags:
        """Which chips were predicted exactly, bool [n]; a label never seen is always wrong."""
        hits, true, predicted = (
            np.bincount(pairs.chips, minlength=self.n)
            for pairs in (self.hits, self.true, self.predicted)
        )
        return np.asarray((hits == true) & (hits == predicted))

    @cached_property
    def known(self) -> Flags:
        """Which chips have only labels that the classifier knows, bool [n]."""
        known = np.ones(self.n, bool)
        known[self.true.chips[self.true.labels >= self.n_classes]] = False
        return known

    @cached_property
    def truth(self) -> Flags:
        """Which chips have which labels, bool [n, n_labels]."""
        return self.true.flags(self.n, len(self.labels))

    @cached_property
    def certainty(self) -> Floats:
        """Multi-label only: the probability of the decision about each class, [n, n_classes]."""
        chosen = self.predicted.flags(self.n, len(self.labels))[:, : self.n_classes]
        return np.where(chosen, self.probabilities, 1 - self.probabilities)

    @cached_property
    def score(self) -> Floats:
        """The probability of each chip's prediction, float64 [n].

        That of the predicted class; for multi-label data, that of the least certain decision.
        """
        if self.is_multilabel:
            return np.asarray(self.certainty.min(axis=1))
        return np.asarray(self.probabilities.max(axis=1))

    @cached_property
    def margin(self) -> Floats:
        """The score less that of the next alternative, float64 [n]: small if nearly undecided."""
        if self.is_multilabel or self.n_classes == 1:
            return self.score
        return np.asarray(self.score - np.partition(self.probabilities, -2, axis=1)[:, -2])

    @cached_property
    def label_probability(self) -> Floats:
        """Single-label only: the probability of each chip's label, float64 [n]; 0 if never seen."""
        found = np.zeros(self.n)
        rows = np.flatnonzero(self.known)
        found[rows] = self.probabilities[rows, self.true.labels[rows]]
        return found

    @cached_property
    def decisions(self) -> Decisions:
        """The predictions of the chips; for multi-label data, one for each predicted label.

        That a chip lacks a label is no decision here: nearly all chips lack nearly all labels, so
        that a classifier would be right, and sure, if it never predicted any.
        """
        if not self.is_multilabel:
            return Decisions(self.score, self.correct, self.groups, self.n_groups)
        chips, labels = self.predicted.chips, self.predicted.labels
        score, groups = self.probabilities[chips, labels], self.groups[chips]
        return Decisions(score, self.truth[chips, labels], groups, self.n_groups)

    def decisions_for(self, label: int) -> Decisions:
        """Return the decisions that predict *label*, an index into *labels*."""
        chosen = self.predicted.labels == label
        every = self.decisions
        return Decisions(
            every.score[chosen], every.correct[chosen], every.groups[chosen], self.n_groups
        )

    @cached_property
    def confusion_pairs(self) -> tuple[Pairs, Indices, list[str]]:
        """What each label was predicted as: chips and true labels, predicted labels, and names.

        For multi-label data: a label that was predicted and is true is itself; a missed one was
        predicted as NONE; NONE was predicted as a label that is not true; a chip without labels for
        which none was predicted counts as one NONE predicted as NONE.
        """
        if not self.is_multilabel:
            return self.true, self.predicted.labels, self.labels
        none = len(self.labels)
        true, predicted = (pairs.flags(self.n, none) for pairs in (self.true, self.predicted))
        parts = []
        for flags, label, prediction in (
            (true & predicted, None, None),
            (true & ~predicted, None, none),
            (~true & predicted, none, None),
        ):
            chips, own = np.nonzero(flags)
            sides = [
                own if fixed is None else np.full_like(own, fixed) for fixed in (label, prediction)
            ]
            parts.append((chips, *sides))
        empty = np.flatnonzero(~(true | predicted).any(axis=1))
        parts.append((empty, np.full_like(empty, none), np.full_like(empty, none)))
        chips, actual, given = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Pairs(chips, actual), given, [*self.labels, NONE]

    @cached_property
    def label_sets(self) -> Indices:
        """A number for each chip's set of labels, int64 [n]."""
        if not self.is_multilabel:
            return self.true.labels
        return np.asarray(np.unique(self.truth, axis=0, return_inverse=True)[1], np.int64).ravel()


def evaluate(
    predictions: pa.Table, classes: Sequence[str], separator: str | None = None
) -> Evaluation:
    """Return the evaluation of *predictions*.

    Args:
        predictions: schemas.PREDICTIONS, one row for each chip, all of them labelled.
        classes: the classifier's classes, in the order of `probabilities`.
        separator: between the labels of a chip, if it may have several.

    Raises:
        InputError: there is no row.
        ValueError: the table does not belong to *classes*.
    """
    if not predictions.num_rows:
        raise InputError(
            "validate: there are no validation chips: no chip in that split has a label; "
            "set split.validation higher, or label chips of more groups"
        )
    texts = pc.unique(predictions["label"]).to_pylist()
    unseen = {label for text in texts for label in label_sets.split(text, separator)} - {*classes}
    labels = [*classes, *sorted(unseen)]
    place = {label: at for at, label in enumerate(labels)}
    probabilities = _probabilities(predictions, len(classes))
    true = _pairs(predictions["label"], separator, place)
    predicted = _pairs(predictions["predicted"], separator, place)
    if (predicted.labels >= len(classes)).any():
        raise ValueError("predicted: a label is not one of the classes")
    if separator is None:
        # float32 sums to 1 only to 1e-6, and log loss depends on the last digits.
        probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
    group_names, groups = _coded(predictions["group"])
    return Evaluation(
        classes=list(classes),
        labels=labels,
        true=true,
        predicted=predicted,
        probabilities=probabilities,
        groups=groups,
        group_names=group_names,
        images=_coded(predictions["key"])[1],
        is_multilabel=separator is not None,
    )


def _pairs(column: pa.ChunkedArray, separator: str | None, place: dict[str, int]) -> Pairs:
    """Return the pairs of a column of label sets.

    Raises:
        ValueError: a label is not in *place*.
    """
    texts, sets = _coded(column)
    try:
        members = [sorted(place[one] for one in label_sets.split(t, separator)) for t in texts]
    except KeyError as error:
        raise ValueError(f"predicted: {error} is not one of the classes") from error
    labels = pd.Series(members, dtype=object).iloc[sets].reset_index(drop=True).explode().dropna()
    return Pairs(labels.index.to_numpy(), labels.to_numpy(np.int64))


def _coded(column: pa.ChunkedArray) -> tuple[list[str], Indices]:
    """Return the sorted values of a column, and the index of each row's value."""
    names = sorted(pc.unique(column).to_pylist())
    codes = pc.index_in(column, value_set=pa.array(names, pa.string()))
    return names, np.asarray(codes.to_numpy(), np.int64)


def _probabilities(predictions: pa.Table, n_classes: int) -> Floats:
    """Return the probabilities as float64 [n, n_classes].

    Raises:
        ValueError: a row has another number of probabilities, or one that is not finite.
    """
    column = predictions["probabilities"].combine_chunks()
    for length in pc.list_value_length(column).unique().to_pylist():
        if length != n_classes:
            raise ValueError(f"probabilities: a row of {length} values for {n_classes} classes")
    values = pc.list_flatten(column).to_numpy(zero_copy_only=False).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("probabilities: a value is not finite")
    return np.asarray(values.reshape(-1, n_classes))
