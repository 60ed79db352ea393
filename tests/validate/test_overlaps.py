"""Chips that share pixels with chips of other splits."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core import schemas
from pipeline.validate import overlaps
from pipeline.validate.overlaps import Windows

window = st.tuples(
    *(st.integers(-9, 30), st.integers(-9, 30)), *(st.integers(1, 12), st.integers(1, 12))
)
placed = st.lists(st.tuples(st.integers(0, 2), window), max_size=25)


def windows(rows):
    images = np.array([image for image, _ in rows], np.int64)
    return Windows(images, np.array([w for _, w in rows], np.int64).reshape(-1, 4))


def pixels(top, left, height, width):
    return {(row, col) for row in range(top, top + height) for col in range(left, left + width)}


@settings(max_examples=150, deadline=None)
@given(placed, placed, st.sampled_from([1, 7, overlaps.PAIRS]))
def test_shares_are_those_of_counted_pixels(one, other, pairs):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlaps, "PAIRS", pairs)
        at, share = overlaps.most_shared(windows(one), windows(other))
    for place, (image, own) in enumerate(one):
        common = [
            len(pixels(*own) & pixels(*theirs)) if image == at_image else 0
            for at_image, theirs in other
        ]
        most = max(common, default=0)
        assert share[place] == most / (own[2] * own[3])
        assert at[place] == (common.index(most) if most else -1)


def chip(number, key, place, split, label="x"):
    """A chip of 10 pixels and its label."""
    top, left = place
    identity = number.to_bytes(16, "big")
    shared = {"chip_id": identity, "key": key, "row": top + 5, "col": left + 5}
    window = {"version": "v", "top": top, "left": left, "height": 10, "width": 10}
    return {**shared, **window}, {**shared, "label": label, "group": split, "split": split}


def found_in(rows):
    chips, labels = (
        pa.Table.from_pylist([row[at] for row in rows], schema)
        for at, schema in enumerate((schemas.CHIPS, schemas.LABELS))
    )
    validation = labels.filter(pa.compute.equal(labels["split"], "validation"))
    shards = [chips.filter(pa.compute.equal(chips["key"], key)) for key in chips["key"].unique()]
    return overlaps.find(validation, labels, lambda: shards)


def test_planted_overlaps_are_counted_and_listed_the_largest_first():
    found = found_in(
        [
            chip(0, "a", (0, 0), "validation"),
            chip(1, "a", (0, 1), "train"),  # 9 of 10 columns
            chip(2, "a", (0, 2), "train"),  # fewer
            chip(3, "b", (0, 0), "validation"),
            chip(4, "b", (5, 5), "calibration", "y"),  # a quarter
            chip(5, "b", (40, 40), "validation"),  # alone
            chip(6, "c", (0, 0), "validation"),
            chip(7, "d", (0, 0), "train"),  # the same place of another image
            chip(8, "e", (0, 0), "validation"),
            chip(9, "e", (10, 0), "train"),  # touches it
        ]
    )
    assert (found.n, found.median) == (2, pytest.approx(0.575))
    shown = found.table[["key", "row", "near_row", "near_col", "near_split", "near_label", "share"]]
    assert shown.to_numpy().tolist() == [
        ["a", 5, 5, 6, "train", "x", 0.9],
        ["b", 5, 10, 10, "calibration", "y", 0.25],
    ]


def test_chips_are_not_read_where_no_image_is_in_two_splits():
    labels = pa.Table.from_pylist(
        [chip(0, "a", (0, 0), "validation")[1], chip(1, "b", (0, 0), "train")[1]], schemas.LABELS
    )
    found = overlaps.find(labels.slice(0, 1), labels, lambda: pytest.fail("read"))
    assert (found.n, found.median, len(found.table)) == (0, 0.0, 0)
