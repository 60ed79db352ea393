"""What the classifier is worst at."""

import pytest
from html_pages import Page
from pages import data_of, html_of
from synthetic_predictions import certain_table

from pipeline.validate.analyses import figures, headline
from pipeline.validate.evaluation import evaluate
from pipeline.validate.report.blocks import Estimate


def test_the_weakest_classes_and_groups_are_in_the_headline():
    labels, predicted = ["a"] * 10 + ["b"] * 10 + ["c"] * 2, ["a"] * 16 + ["b"] * 6
    groups = ["good"] * 10 + ["bad"] * 10 + ["tiny"] * 2
    predictions = certain_table(labels, predicted, list("abc"), groups)
    evaluation = evaluate(predictions, list("abc"))
    assert headline.weakest_classes(evaluation) == [
        ("c", 2, 0, "b"),
        ("b", 10, pytest.approx(8 / 16), "a"),
        ("a", 10, pytest.approx(20 / 26), "–"),
    ]
    assert headline.weakest_groups(evaluation) == [("bad", 10, 0.4)]
    text = Page(html_of(data_of(predictions, list("abc")))).text
    assert "Weakest classes Label Chips F1 Most often taken for c 2 0.0 % b b 10 50.0 % a" in text
    assert "Weakest groups of 10 chips or more Group Chips Accuracy bad 10 40.0 %" in text


def test_a_metric_without_a_known_meaning_is_shown():
    rows = figures.table(
        {
            "accuracy": 0.5,
            "accuracy_low": 0.4,
            "accuracy_high": 0.6,
            "n_x": 3,
            "cover_error": 0.1,
        },
        {},
        is_multilabel=False,
    )
    assert rows == [
        ("accuracy", Estimate(0.5, 0.4, 0.6), ""),
        ("cover_error", 0.1, ""),
        ("n_x", 3, ""),
    ]
