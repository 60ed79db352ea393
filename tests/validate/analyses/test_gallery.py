"""Which chips the report shows and lists."""

import re

import numpy as np
import pytest
from html_pages import Page
from pages import data_of, full_data, html_of, with_validate
from synthetic_predictions import certain_table, random_table, table

from pipeline.validate.analyses import gallery
from pipeline.validate.evaluation import evaluate


def chosen(predictions, classes, count):
    return gallery.choose(predictions, evaluate(predictions, classes), count)


def test_the_gallery_takes_a_third_of_each_kind_and_no_chip_twice():
    predictions, classes = random_table(0, n=300)
    found = chosen(predictions, classes, 24)
    kinds = [choice.kind for choice in found]
    assert kinds == ["wrong"] * 8 + ["undecided"] * 8 + ["correct"] * 8
    assert len({choice.chip_id for choice in found}) == 24


def test_the_gallery_takes_the_labels_in_turn():
    found = chosen(*random_table(0, n=300), 24)
    for kind in ("wrong", "undecided", "correct"):
        labels = [choice.label for choice in found if choice.kind == kind]
        assert {labels.count(label) for label in labels} == {2}


def test_the_gallery_shows_the_most_certain_mistake_the_nearest_tie_and_the_typical_correct():
    a, b = [[x, 1 - x] for x in (0.6, 0.9, 0.51, 0.7, 0.8, 0.99)], ["b", "b", "a", "a", "a", "a"]
    found = chosen(table(b, a, ["a", "b"]), ["a", "b"], 3)
    # Scores of the correct ones are 0.51, 0.7, 0.8 and 0.99: the median is 0.75.
    shown = [(choice.kind, round(choice.score, 2)) for choice in found]
    assert shown[:2] == [("wrong", 0.9), ("undecided", 0.51)]
    assert shown[2] in [("correct", 0.7), ("correct", 0.8)]


def test_if_no_chip_is_wrong_the_other_kinds_take_more():
    predictions = certain_table(list("ab") * 10, list("ab") * 10, ["a", "b"])
    kinds = [choice.kind for choice in chosen(predictions, ["a", "b"], 6)]
    assert kinds == ["undecided"] * 3 + ["correct"] * 3


@pytest.mark.parametrize("count", [0, 1, 500])
def test_the_gallery_has_no_more_than_asked_for_or_there_are(count):
    assert len(chosen(*random_table(0, n=50), count)) == min(count, 50)


def test_the_choice_does_not_depend_on_other_runs():
    assert chosen(*random_table(4), 9) == chosen(*random_table(4), 9)


def test_each_kind_is_under_its_heading():
    data = with_validate(data_of(*random_table(0)), gallery_size=8)
    text = Page(html_of(data)).text
    assert re.search(r"Wrong, the most certain first c\d+ → c\d+ \(0\.\d\d\)a\.jpg · \d+, 0", text)
    assert "Undecided: two classes are nearly tied" in text
    assert "Correct, and typical of their label" in text
    few = Page(html_of(with_validate(data, gallery_size=1))).text
    assert "Correct, and typical of their label" not in few


def test_every_chip_is_listed_mistakes_first():
    predictions, classes = random_table(2, n=150)
    evaluation = evaluate(predictions, classes)
    order = gallery.listed(evaluation)
    assert sorted(order) == list(range(150))
    n_wrong = (~evaluation.correct).sum()
    assert not evaluation.correct[order[:n_wrong]].any()
    assert (np.diff(evaluation.score[order[:n_wrong]]) <= 0).all()
    listed = gallery.browser_data(predictions, evaluation, order)
    for at, (key, row, _, true, predicted, score) in zip(order, listed["rows"], strict=True):
        chip = predictions.slice(int(at), 1).to_pylist()[0]
        assert (listed["keys"][key], row) == (chip["key"], chip["row"])
        assert [listed["labels"][label] for label in true] == [chip["label"]]
        assert [listed["labels"][label] for label in predicted] == [chip["predicted"]]
        assert score == pytest.approx(chip["score"], abs=6e-4)


def test_a_list_that_is_cut_off_says_so(monkeypatch):
    monkeypatch.setattr(gallery, "MAX_LISTED", 20)
    text = Page(html_of(data_of(*random_table(2, n=150)))).text
    assert "The list has 20 chips, mistakes first; predictions.parquet has all." in text


def test_pictures_belong_to_their_rows_of_the_list():
    data = full_data(4, gallery=12)
    html = html_of(data)
    order = gallery.listed(data.evaluation)
    rows = [int(a["data-row"]) for a in Page(html).all("img") if "data-row" in a]
    found = gallery.choose(data.predictions.table, data.evaluation, 12, order)
    places = {chip.listed: chip for chip in found}
    assert rows
    for row in rows:
        chip = data.predictions.table.slice(int(order[row]), 1).to_pylist()[0]
        assert f'alt="{chip["key"]} around row {chip["row"]}, column 0" data-row="{row}"' in html
    assert places
