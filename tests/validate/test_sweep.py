"""What the best of several experiments is worth: the correction, and what the user is told."""

import math

import numpy as np
import pyarrow as pa
import pytest
from synthetic_predictions import certain_table

from pipeline.core.errors import InputError, SettingError
from pipeline.validate import sweep
from pipeline.validate.sweep import Predicted


def experiments(rng, n_experiments, n_groups, skills):
    """Predictions of classifiers that are right with these probabilities, on 20 chips a group."""
    n = 20 * n_groups
    labels = rng.choice(["a", "b"], n)
    groups = [f"g{at // 20}" for at in range(n)]
    other = {"a": "b", "b": "a"}
    found = {}
    for number in range(n_experiments):
        right = rng.random(n) < skills[number % len(skills)]
        predicted = [label if ok else other[label] for label, ok in zip(labels, right, strict=True)]
        table = certain_table(labels.tolist(), predicted, ["a", "b"])
        table = table.set_column(table.schema.get_field_index("group"), "group", pa.array(groups))
        found[f"e{number:02}"] = Predicted(table, ["a", "b"], None)
    return found


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_among_equal_classifiers_the_best_is_corrected_to_what_all_are_worth(metric):
    rng = np.random.default_rng(0)
    found = [
        sweep.compare(experiments(rng, 20, 15, [0.8]), metric, 200, seed) for seed in range(15)
    ]
    best = np.mean([each.values[each.best] for each in found])
    corrected = np.mean([each.corrected for each in found])
    assert best > 0.825
    assert corrected == pytest.approx(0.8, abs=0.01)


def test_a_clear_winner_is_hardly_corrected():
    rng = np.random.default_rng(1)
    found = sweep.compare(experiments(rng, 5, 30, [0.95, 0.5, 0.5, 0.5, 0.5]), "accuracy", 300, 0)
    assert found.best == "e00"
    assert found.values["e00"] - found.corrected == pytest.approx(0, abs=0.005)
    assert list(found.values.values()) == sorted(found.values.values(), reverse=True)


def test_only_chips_that_all_evaluate_count():
    given = experiments(np.random.default_rng(2), 2, 4, [0.9])
    given["e01"] = Predicted(given["e01"].table.slice(10), ["a", "b"], None)
    found = sweep.compare(given, "accuracy", 50, 0)
    assert found.chips == 70
    table = given["e00"].table.slice(10).to_pylist()
    right = np.mean([row["label"] == row["predicted"] for row in table])
    assert found.values["e00"] == pytest.approx(right)


def test_a_lower_log_loss_is_better():
    given = experiments(np.random.default_rng(3), 2, 8, [0.9, 0.6])
    assert sweep.compare(given, "log_loss", 50, 0).best == "e00"


def test_experiments_of_other_labels_cannot_be_compared():
    given = experiments(np.random.default_rng(4), 2, 4, [0.9])
    table = given["e01"].table
    swapped = pa.array(["b" if label == "a" else "a" for label in table["label"].to_pylist()])
    at = table.schema.get_field_index("label")
    given["e01"] = Predicted(table.set_column(at, "label", swapped), ["a", "b"], None)
    with pytest.raises(InputError, match="e01 and e00 give chips other labels or groups"):
        sweep.compare(given, "accuracy", 50, 0)
    given["e01"] = Predicted(table.slice(0, 0), ["a", "b"], None)
    with pytest.raises(InputError, match="no chip in common"):
        sweep.compare(given, "accuracy", 50, 0)


def test_a_metric_that_the_data_do_not_have_is_refused():
    given = experiments(np.random.default_rng(5), 2, 4, [0.9])
    with pytest.raises(SettingError, match="--by: jaccard is not defined here"):
        sweep.compare(given, "jaccard", 50, 0)


def test_one_group_gives_no_correction_and_the_file_reads_back(tmp_path):
    found = sweep.compare(experiments(np.random.default_rng(6), 3, 1, [0.8]), "accuracy", 50, 0)
    assert math.isnan(found.corrected)
    assert "one group does not show by how much" in found.verdict
    path = tmp_path / "sweep.json"
    path.write_bytes(found.to_bytes())
    back = sweep.read(str(path))
    assert back.values == found.values
    assert math.isnan(back.corrected)
    path.write_text("[]")
    with pytest.raises(InputError, match=r"validate\.sweep: .*: not what python -m stages\.sweep"):
        sweep.read(str(path))
