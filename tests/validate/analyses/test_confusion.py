"""Which labels are taken for which."""

from synthetic_predictions import certain_table

from pipeline.validate.analyses import confusion
from pipeline.validate.evaluation import evaluate


def test_confusion_rows_hold_one_row_a_chip():
    predictions = certain_table(["a", "new"], ["b", "a"], ["a", "b"])
    found = confusion.rows(evaluate(predictions, ["a", "b"]))
    assert found.to_dict("list") == {"actual": ["a", "new"], "predicted": ["b", "a"]}


def test_confusion_counts_labels_in_rows_and_answers_in_columns():
    predictions = certain_table(["a", "a", "b"], ["b", "b", "b"], ["a", "b"])
    assert confusion.confusion(evaluate(predictions, ["a", "b"]))[0].tolist() == [[0, 2], [0, 1]]
