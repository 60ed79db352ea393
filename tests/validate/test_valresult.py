import json

import pytest
from synthetic_predictions import random_table, table

from pipeline.validate.evaluation import evaluate
from pipeline.validate.valresult import valresult


def valresult_of(predictions, classes):
    return valresult(predictions["score"], evaluate(predictions, classes))


def test_it_has_pyspacers_form():
    probabilities = [[0.75, 0.25], [0.5, 0.5], [0.125, 0.875]]
    found = valresult_of(table(["a", "b", "b"], probabilities, ["a", "b"]), ["a", "b"])
    assert found == {
        "scores": [0.75, 0.5, 0.875],
        "gt": [0, 1, 1],
        "est": [0, 0, 1],
        "classes": ["a", "b"],
    }


def test_unseen_labels_follow_the_classes_in_order():
    predictions = table(["z", "b", "c"], [[0.75, 0.25]] * 3, ["a", "b"])
    found = valresult_of(predictions, ["a", "b"])
    assert (found["classes"], found["gt"]) == (["a", "b", "c", "z"], [3, 1, 2])


def test_it_is_json():
    found = valresult_of(*random_table(0, unseen=3))
    assert json.loads(json.dumps(found)) == found


def test_pyspacer_reads_it():
    spacer = pytest.importorskip("spacer.data_classes", reason="PySpacer is not installed here")
    found = valresult_of(*random_table(0, unseen=3))
    assert spacer.ValResults.deserialize(found).serialize() == found
