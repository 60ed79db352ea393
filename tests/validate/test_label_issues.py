"""Labels that are likely to be wrong."""

import numpy as np
import pyarrow as pa
from synthetic_predictions import certain_table, random_table, table

from pipeline.config.sections import ValidateParams
from pipeline.validate import label_issues
from pipeline.validate.evaluation import evaluate

FEW = ValidateParams(bootstrap_rounds=40)


def test_labels_that_were_swapped_come_first():
    made, classes = random_table(1, n=600, n_classes=3, hit=7.0)
    labels = made["label"].to_pylist()
    swapped = list(range(0, 600, 30))
    for row in swapped:
        labels[row] = next(name for name in classes if name != labels[row])
    made = made.set_column(made.schema.get_field_index("label"), "label", pa.array(labels))
    rows, suggested, margin = label_issues.single_label(evaluate(made, classes))
    assert len(set(rows[: len(swapped)]) & set(swapped)) >= 18
    assert (np.diff(margin) >= 0).all()
    assert (margin < 0).all()
    assert all(classes[to] != labels[row] for row, to in zip(rows, suggested, strict=True))


def test_there_is_no_issue_if_all_is_certain_and_correct():
    made = certain_table(list("abab"), list("abab"), ["a", "b"])
    assert len(label_issues.single_label(evaluate(made, ["a", "b"]))[0]) == 0


def test_a_class_that_is_likelier_but_not_confident_makes_no_issue():
    """Chips of a have a mean probability of 0.9; 0.6 is less than that, 0.95 is not."""
    given = [[0.9, 0.1]] * 4 + [[0.6, 0.4], [0.95, 0.05], [0.2, 0.8], [0.2, 0.8]]
    made = table(list("aaaabbbb"), given, ["a", "b"])
    assert label_issues.single_label(evaluate(made, ["a", "b"]))[0].tolist() == [5]


def test_a_label_not_in_the_training_split_is_an_issue_if_a_class_is_confident():
    made = certain_table(["a", "a", "new"], ["a", "a", "a"], ["a", "b"])
    evaluation = evaluate(made, ["a", "b"])
    table = label_issues.table(evaluation, made, pa.chunked_array([["validation"] * 3]), None)
    assert table[
        ["given_label", "predicted_label", "label_quality", "split"]
    ].to_numpy().tolist() == [["new", "a", -1.0, "validation"]]
    assert table["chip_id"].tolist() == [made["chip_id"][2].as_py().hex()]
