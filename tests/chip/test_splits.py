"""Splits without a labelled chip stop the chip stage, with shares that would do."""

import re

import pyarrow as pa
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from pipeline.chip import splits
from pipeline.config.sections import SplitParams
from pipeline.core import schemas
from pipeline.core.errors import InputError
from pipeline.core.hashing import split_of


def labels_of(groups, shares, label="x"):
    rows = [
        {"chip_id": at.to_bytes(16, "big"), "key": group, "row": 0, "col": 0, "label": label}
        | {"group": group, "split": split_of(group, **shares)}
        for at, group in enumerate(groups)
    ]
    return pa.Table.from_pylist(rows, schemas.LABELS)


def parsed(message):
    found = re.findall(r"split\.(\w+) to ([\d.e-]+)", message)
    return {name: float(value.rstrip(".,")) for name, value in found}


@settings(max_examples=200, deadline=None)
@given(
    st.sets(st.text("abcdefgh", min_size=1, max_size=6), min_size=1, max_size=8),
    st.tuples(
        st.sampled_from([0.0, 0.05, 0.2, 0.5]),
        st.sampled_from([0.0, 0.05, 0.15, 0.3]),
        st.sampled_from([0.0, 0.1]),
    ),
)
@example({"a", "b", "c"}, (0.2, 0.15, 0.0))
def test_the_shares_that_the_message_names_leave_no_split_empty(groups, shares):
    """One guess is enough, if there are enough groups."""
    shares = dict(zip(("validation", "calibration", "test"), shares, strict=True))
    labels = labels_of(sorted(groups), shares)
    wanted = {"train", *(name for name, share in shares.items() if share)}
    empty = wanted - set(labels["split"].to_pylist())
    if not empty:
        splits.check(labels, SplitParams(**shares))
        return
    with pytest.raises(InputError) as stop:
        splits.check(labels, SplitParams(**shares))
    assert all(name in str(stop.value) for name in empty)
    assume(len(groups) >= len(wanted))
    better = {**shares, **parsed(str(stop.value))}
    assert better != shares
    assert {split_of(group, **better) for group in groups} >= wanted
    SplitParams(**better)


def test_the_message_names_the_empty_split_its_share_and_what_to_do():
    shares = {"validation": 0.001, "calibration": 0.15}
    groups = [f"site {number}" for number in range(20)]
    with pytest.raises(InputError) as stop:
        splits.check(labels_of(groups, shares), SplitParams(**shares))
    text = str(stop.value)
    assert text.startswith(
        "chip: no labelled chip is in the validation split (split.validation 0.001): of 20 groups "
        "with labels, by their hashes: train "
    )
    assert "validation 0; set split.validation to 0." in text
    assert text.endswith(
        "or label more groups, or choose smaller ones (split.by); with a share of 0 a split is "
        "left out"
    )


def test_a_split_without_a_share_may_be_empty_and_so_may_all_without_labels():
    groups = [f"site {number}" for number in range(20)]
    shares = {"validation": 0.3, "calibration": 0.0}
    splits.check(labels_of(groups, shares), SplitParams(**shares))
    shares = {"validation": 0.001, "calibration": 0.001}
    splits.check(labels_of(groups, shares, None), SplitParams(**shares))


def test_the_lines_of_two_hundred_classes_are_short():
    shares = {"validation": 0.5, "calibration": 0.0}
    tables = [
        labels_of([f"g{n % 9}" for n in range(200 - at)], shares, f"class {at:03d}")
        for at in range(200)
    ]
    lines = splits.counts(pa.concat_tables(tables))
    assert len(lines) == 2
    for line in lines:
        assert re.fullmatch(
            r"(train|validation): \d groups, [\d,]+ labelled chips \(class 000 \d+, class 001 \d+, "
            r"class 002 \d+, class 003 \d+, class 004 \d+, 19[45] more labels\)",
            line,
        )
