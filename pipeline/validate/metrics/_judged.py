"""The predictions table as arrays: what every metric computes from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.core.errors import InputError

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Judged:
    """What the classifier said of every validation chip, beside what people have said.

    Attributes:
        classes: the labels that the classifier knows, in the order of its probabilities.
        labels: *classes*, then the labels it has never seen, sorted.
        y_true: int64 [n], indices into *labels*.
        y_pred: int64 [n], indices into *classes*.
        probabilities: float64 [n, n_classes]; every row sums to 1.
        groups: int64 [n], indices into *group_names*.
        images: int64 [n], the number of the image that the chip is of.
        group_names: the groups of these chips, sorted.
    """

    classes: list[str]
    labels: list[str]
    y_true: Indices
    y_pred: Indices
    probabilities: Floats
    groups: Indices
    group_names: list[str]
    images: Indices

    @property
    def n(self) -> int:
        """How many chips were judged."""
        return len(self.y_true)

    @property
    def n_classes(self) -> int:
        """How many labels the classifier knows."""
        return len(self.classes)

    @property
    def n_groups(self) -> int:
        """How many groups the chips come from."""
        return len(self.group_names)

    @property
    def chips(self) -> Judged:
        """The same; see JudgedSeveral for `chips`, `taken`, `pairs` and `decisions`."""
        return self

    taken = pairs = decisions = chips

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """Which chips were given their label: bool [n]; a label never seen is always wrong."""
        return np.equal(self.y_true, self.y_pred)

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """Which chips have a label that the classifier knows: bool [n]."""
        return np.less(self.y_true, self.n_classes)

    @cached_property
    def score(self) -> Floats:
        """The highest probability of each chip: float64 [n]."""
        return np.asarray(self.probabilities.max(axis=1), dtype=np.float64)

    @cached_property
    def given_to_label(self) -> Floats:
        """The probability that each chip's own label was given: float64 [n]; 0 if never seen."""
        given = np.zeros(self.n)
        rows = np.flatnonzero(self.known)
        given[rows] = self.probabilities[rows, self.y_true[rows]]
        return given

    @cached_property
    def rank(self) -> Indices:
        """How many classes stand before each chip's label, likeliest first: int64 [n].

        Of equal probabilities the earlier class stands first, as in argmax.
        """
        own = self.given_to_label[:, None]
        earlier = np.arange(self.n_classes) < self.y_true[:, None]
        before = (self.probabilities > own) | ((self.probabilities == own) & earlier)
        return np.asarray(before.sum(axis=1), dtype=np.int64)


def judged(predictions: pa.Table, classes: list[str]) -> Judged:
    """Turn *predictions* (schemas.PREDICTIONS, every label known) into arrays.

    Args:
        predictions: one row a chip of the validation split.
        classes: the classifier's classes, in the order of `probabilities`.

    Raises:
        InputError: there is no row to judge.
        ValueError: the table does not belong to *classes*.
    """
    check_some(predictions)
    labels = labels_of(predictions, classes)
    group_names = sorted(set(predictions["group"].to_pylist()))
    given = probabilities(predictions, len(classes))
    return Judged(
        classes=list(classes),
        labels=labels,
        y_true=codes(predictions, "label", labels),
        y_pred=codes(predictions, "predicted", list(classes)),
        # float32 sums to 1 within 1e-6 only, and log loss is about the last digits.
        probabilities=given / given.sum(axis=1, keepdims=True),
        groups=codes(predictions, "group", group_names),
        group_names=group_names,
        images=codes(predictions, "key", sorted(set(predictions["key"].to_pylist()))),
    )


def check_some(predictions: pa.Table) -> None:
    """Check that there is a chip to judge.

    Raises:
        InputError: there is none.
    """
    if not predictions.num_rows:
        raise InputError(
            "validate: no validation chips: no chip with a label is in that split; "
            "set split.validation higher, or label chips of more groups"
        )


def labels_of(predictions: pa.Table, classes: list[str]) -> list[str]:
    """Give *classes*, then the labels of *predictions* that are not among them, sorted."""
    unseen = set(predictions["label"].unique().to_pylist()) - set(classes)
    return [*classes, *sorted(unseen)]


def codes(predictions: pa.Table, column: str, names: list[str]) -> Indices:
    """Give the place in *names* of every row's *column*: int64 [n].

    Raises:
        ValueError: a row has a value that is not among *names*.
    """
    found = pc.index_in(predictions[column], value_set=pa.array(names, pa.string()))
    if found.null_count:
        first = predictions[column].filter(pc.is_null(found))[0].as_py()
        raise ValueError(f"{column}: {first!r} is not among {len(names)} known values")
    return np.asarray(found.to_numpy(), dtype=np.int64)


def probabilities(predictions: pa.Table, n_classes: int) -> Floats:
    """Give the probabilities of *predictions* as float64 [n, n_classes].

    Raises:
        ValueError: a row has another number of probabilities, or one that is not finite.
    """
    column = predictions["probabilities"].combine_chunks()
    for length in pc.list_value_length(column).unique().to_pylist():
        if length != n_classes:
            raise ValueError(f"probabilities: a row of {length} values for {n_classes} classes")
    given = pc.list_flatten(column).to_numpy(zero_copy_only=False).astype(np.float64)
    if not np.isfinite(given).all():
        raise ValueError("probabilities: a value is not finite")
    return np.asarray(given.reshape(-1, n_classes))
