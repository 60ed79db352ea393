"""Counts of labels before and after the label map, and of classes that chips share."""

import pyarrow as pa
from synthetic_predictions import certain_table, with_keys

from pipeline.validate.analyses import label_counts
from pipeline.validate.evaluation import evaluate


def table(**splits):
    rows = [
        {"split": split, "label": label} for split, labels in splits.items() for label in labels
    ]
    return pa.Table.from_pylist(rows, pa.schema([("split", pa.string()), ("label", pa.string())]))


def test_labels_are_counted_before_and_classes_after_the_map():
    labels = table(train=["a", "a", "b", "x", None], validation=["b", "c"], calibration=["a"])
    counted = label_counts.count(labels, {"a": "ab", "b": "ab", "x": None})
    assert label_counts.of_labels(counted).to_dict("split")["data"] == [
        ["a", "ab", 2, 1, 0],
        ["b", "ab", 1, 0, 1],
        ["c", "c", 0, 0, 1],
        ["x", "", 1, 0, 0],
    ]
    assert label_counts.of_classes(counted).to_dict("split")["data"] == [
        ["ab", 2, 3, 1, 1],
        ["c", 1, 0, 0, 1],
    ]


def test_a_chip_whose_labels_become_one_class_counts_once():
    labels = table(train=["a;b", "a;c", "b", ""])
    counted = label_counts.count(labels, {"a": "ab", "b": "ab"}, ";")
    assert label_counts.of_labels(counted).to_dict("split")["data"] == [
        ["a", "ab", 2, 0, 0],
        ["b", "ab", 2, 0, 0],
        ["c", "c", 1, 0, 0],
    ]
    assert label_counts.of_classes(counted).to_dict("split")["data"] == [
        ["ab", 2, 3, 0, 0],
        ["c", 1, 1, 0, 0],
    ]
    assert label_counts.cooccurrence(counted).to_dict("split")["data"] == [["ab", "c", 1, 1.0]]


def test_classes_that_go_together_come_most_first():
    labels = table(train=["a;b;c", "a;b", "c"], validation=["a;b"])
    counted = label_counts.count(labels, {}, ";")
    assert label_counts.cooccurrence(counted).to_dict("split")["data"] == [
        ["a", "b", 3, 1.0],
        ["a", "c", 1, 0.5],
        ["b", "c", 1, 0.5],
    ]


def test_chips_are_counted_by_split_and_label():
    rows = [("train", "a"), ("calibration", "b"), ("validation", "a"), ("validation", "b")]
    labels = pa.table({"split": [s for s, _ in rows], "label": [name for _, name in rows]})
    evaluation = evaluate(
        with_keys(certain_table(list("ab"), list("ab"), ["a", "b"]), ["x", "y"]), ["a", "b"]
    )
    expected = {"n_images": 2, "n_train": 1, "n_calibration": 1}
    assert label_counts.totals(evaluation, labels) == expected
