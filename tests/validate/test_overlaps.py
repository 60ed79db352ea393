"""What is in several splits: windows that share pixels, and images."""

from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core import schemas
from pipeline.validate import overlaps

SIDE = 24


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """So that a few pairs are many blocks."""
    monkeypatch.setattr(overlaps, "CANDIDATES", 5)


@st.composite
def windows(draw):
    """Windows inside images of SIDE pixels, some of them empty, with their images and splits."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    n = draw(st.integers(0, 40))
    corners = rng.integers(0, SIDE, (n, 2))
    largest = draw(st.sampled_from([1, 3, 8, SIDE]))
    ends = np.minimum(corners + rng.integers(0, largest + 1, (n, 2)), SIDE)
    n_images, n_splits = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    boxes = np.concatenate([corners, ends], axis=1)
    return boxes, rng.integers(0, n_images, n), rng.integers(0, n_splits, n)


@settings(max_examples=200, deadline=None)
@given(windows(), st.integers(0, 50))
def test_pairs_are_those_whose_masks_share_pixels(case, most):
    boxes, images, splits = case
    masks = np.zeros((len(boxes), SIDE, SIDE), bool)
    for mask, (top, left, bottom, right) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = True
    expected = []
    for a, b in combinations(range(len(boxes)), 2):
        shared = int((masks[a] & masks[b]).sum())
        if shared and images[a] == images[b] and splits[a] != splits[b]:
            smaller = int(min(masks[a].sum(), masks[b].sum()))
            expected.append((a, b, shared, shared / smaller))
    expected.sort(key=lambda pair: (-pair[3], pair[0], pair[1]))
    count, pairs, is_in_pair = overlaps.overlapping(boxes, images, splits, most)
    assert set(np.flatnonzero(is_in_pair)) == {row for pair in expected for row in pair[:2]}
    columns = (pairs.first, pairs.second, pairs.pixels, pairs.share)
    assert count == len(expected)
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == expected[:most]


def chip_tables(chips):
    """Make labels, and chips in two parts, of (key, top, left, size, label, split)."""
    ids = [bytes([n]) * 16 for n in range(len(chips))]
    key, top, left, size, label, split = zip(*chips, strict=True)
    centre = {
        "row": [t + s // 2 for t, s in zip(top, size, strict=True)],
        "col": [t + s // 2 for t, s in zip(left, size, strict=True)],
    }
    common = {"chip_id": pa.array(ids, schemas.CHIP_ID), "key": key, **centre}
    labels = pa.table({**common, "label": label, "group": key, "split": split})
    window = {"top": top, "left": left, "height": size, "width": size}
    rows = pa.table({**common, "version": key, **window})
    parts = [schemas.conform(rows.slice(*part), schemas.CHIPS) for part in ((3,), (0, 3))]
    return labels.cast(schemas.LABELS).filter(labels["label"].is_valid()), parts


CHIPS = [
    ("a.png", 0, 0, 10, "x", "train"),
    ("a.png", 5, 8, 10, "y", "validation"),  # shares 5 × 2 pixels of 100
    ("a.png", 50, 50, 10, "x", "calibration"),  # shares none
    ("a.png", -6, 92, 20, None, "train"),  # without a label
    ("b.png", 0, 0, 20, "x", "train"),
    ("b.png", 0, 0, 10, "x", "train"),  # the same split
    ("c.png", 90, -8, 20, "x", "train"),  # 10 × 12 of its pixels are inside
    ("d.png", 94, 0, 20, "z", "validation"),  # 6 × 20 are, and the bytes are those of c.png
    ("e.png", 0, 0, 90, "x", "validation"),
]
IMAGES = pa.table(
    {
        "key": [f"{name}.png" for name in "abcde"],
        "version": ["1", "2", "3", "3", "4"],
        "width": pa.array([100] * 5, pa.int32()),
        "height": pa.array([100] * 5, pa.int32()),
    }
)


def test_each_kind_is_counted_with_its_shared_pixels():
    labels, parts = chip_tables(CHIPS)
    found = overlaps.find(labels, IMAGES, parts)
    assert (found.n_pairs, found.n_validation) == (2, 2)
    names = ["key", "split", "label", "near_key", "near_split", "near_label"]
    assert found.table[[*names, "shared_pixels", "share"]].to_numpy().tolist() == [
        ["c.png", "train", "x", "d.png", "validation", "z", 6 * 12, 6 * 12 / 120],
        ["a.png", "train", "x", "a.png", "validation", "y", 10, 0.1],
    ]
    assert found.table["chip_id"].tolist() == ["06" * 16, "00" * 16]
    assert found.n_images == 1
    assert found.images.to_dict("records") == [
        {"key": "a.png", "calibration": 1, "train": 1, "validation": 1}
    ]


def test_the_table_is_cut_and_the_count_is_not(monkeypatch):
    monkeypatch.setattr(overlaps, "MAX_ROWS", 1)
    found = overlaps.find(chip_tables(CHIPS)[0], IMAGES, chip_tables(CHIPS)[1])
    assert (found.n_pairs, found.table["key"].tolist()) == (2, ["c.png"])


def test_without_an_image_in_several_splits_no_chip_is_read():
    labels, _ = chip_tables(CHIPS[4:7])

    def unread():
        raise AssertionError
        yield

    found = overlaps.find(labels, IMAGES, unread())
    assert (found.n_pairs, found.n_images) == (0, 0)
    assert found.table.empty
    assert found.images.empty
