import math
import warnings

import numpy as np
import pyarrow as pa
import pytest
from judging import certain_table, random_table, table
from sklearn import metrics as sk

from pipeline.config.sections import ValidateParams
from pipeline.core.errors import InputError
from pipeline.validate.metrics import _bootstrap, _tables, judged, scores


def test_no_validation_chips_is_an_error_that_says_what_to_do():
    empty = random_table(0)[0].slice(0, 0)
    with pytest.raises(InputError) as caught:
        judged(empty, ["a"])
    assert str(caught.value) == (
        "validate: no validation chips: no chip with a label is in that split; "
        "set split.validation higher, or label chips of more groups"
    )


def test_predictions_of_another_classifier_are_refused():
    predictions, classes = random_table(0)
    with pytest.raises(ValueError, match="probabilities: a row of 4 values for 3 classes"):
        judged(predictions, classes[:3])


def test_an_answer_that_is_no_class_is_refused():
    predictions, classes = random_table(0)
    with pytest.raises(ValueError, match="predicted: 'c003' is not among 4 known values"):
        judged(predictions, [*classes[:3], "other"])


def test_probabilities_sum_to_one_in_float64():
    facts = judged(*random_table(0))
    np.testing.assert_allclose(facts.probabilities.sum(axis=1), 1, rtol=0, atol=1e-15)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_classes", [2, 4, 9])
def test_scores_are_scikit_learns_where_every_label_is_known(seed, n_classes):
    facts = judged(*random_table(seed, n_classes=n_classes))
    y, p = facts.y_true, facts.probabilities
    everyone = list(range(n_classes))
    expected = {
        "accuracy": sk.accuracy_score(y, facts.y_pred),
        "balanced_accuracy": sk.balanced_accuracy_score(y, facts.y_pred),
        "macro_f1": sk.f1_score(y, facts.y_pred, average="macro"),
        "weighted_f1": sk.f1_score(y, facts.y_pred, average="weighted"),
        "matthews_correlation": sk.matthews_corrcoef(y, facts.y_pred),
        "cohen_kappa": sk.cohen_kappa_score(y, facts.y_pred),
        "log_loss": sk.log_loss(y, p, labels=everyone),
        "brier": ((p - np.eye(n_classes)[y]) ** 2).sum(axis=1).mean(),
    }
    expected["mean_reciprocal_rank"] = sk.label_ranking_average_precision_score(
        np.eye(n_classes)[y], p
    )
    for k in (3, 5):
        if n_classes > k:
            expected[f"top_{k}_accuracy"] = sk.top_k_accuracy_score(y, p, k=k, labels=everyone)
    found = scores.compute(facts)
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_scores_by_hand_with_an_unseen_label():
    """Four chips: two right, one wrong, one of a label that cannot be answered."""
    probabilities = [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]]
    predictions = table(["a", "b", "b", "new"], probabilities, ["a", "b"], "wxyy")
    found = scores.compute(judged(predictions, ["a", "b"]))
    assert found == pytest.approx(
        {
            "accuracy": 2 / 4,
            "balanced_accuracy": (1 + 1 / 2 + 0) / 3,
            "macro_f1": (2 / 4 + 2 / 3 + 0) / 3,
            "weighted_f1": (1 * 2 / 4 + 2 * 2 / 3 + 0) / 4,
            # hits 2 of n 4; chips 1, 2, 1 and answers 3, 1, 0: Σ chips·answers is 5.
            "matthews_correlation": (2 * 4 - 5) / math.sqrt((16 - 6) * (16 - 10)),
            "cohen_kappa": (2 / 4 - 5 / 16) / (1 - 5 / 16),
            "log_loss": -(math.log(0.9) + math.log(0.8) + math.log(0.4)) / 3,
            "brier": (0.02 + 0.08 + 0.72 + (0.49 + 0.09 + 1)) / 4,
            # The last chip's label has no place among the classes.
            "mean_reciprocal_rank": (1 + 1 + 1 / 2 + 0) / 4,
            "baseline_accuracy": 2 / 4,
            "n_validation": 4,
            "n_groups": 3,
            "n_classes": 2,
            "n_unseen": 1,
        },
        abs=1e-7,  # the probabilities are float32
    )


def test_counts_are_whole_numbers():
    found = scores.compute(judged(*random_table(0)))
    counts = ("n_validation", "n_groups", "n_classes", "n_unseen")
    assert [type(found[name]) for name in counts] == [int] * 4


@pytest.mark.parametrize(("n_classes", "tops"), [(3, []), (4, [3]), (5, [3]), (6, [3, 5])])
def test_top_k_is_left_out_where_any_classifier_would_reach_one(n_classes, tops):
    found = scores.compute(judged(*random_table(0, n_classes=n_classes)))
    assert [k for k in (3, 5) if f"top_{k}_accuracy" in found] == tops


def test_of_equal_probabilities_the_earlier_class_stands_first():
    classes = list("abcd")
    predictions = table(classes, np.full((4, 4), 0.25), classes)
    assert scores.compute(judged(predictions, classes))["top_3_accuracy"] == 3 / 4


def test_one_class_gives_numbers_and_no_warning():
    predictions = certain_table(["a"] * 5, ["a"] * 5, ["a"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = scores.compute(judged(predictions, ["a"]))
    assert (found["accuracy"], found["log_loss"], found["brier"]) == (1, 0, 0)
    assert (found["matthews_correlation"], found["cohen_kappa"]) == (0, 0)


def test_only_unseen_labels_give_the_worst_log_loss():
    predictions = certain_table(["x"] * 3, ["a"] * 3, ["a", "b"])
    found = scores.compute(judged(predictions, ["a", "b"]))
    assert found["log_loss"] == pytest.approx(34.538776394910684)
    assert (found["accuracy"], found["n_unseen"]) == (0, 3)


def test_a_probability_of_zero_for_the_label_costs_a_finite_loss():
    predictions = certain_table(["a", "b"], ["a", "a"], ["a", "b"])
    found = scores.compute(judged(predictions, ["a", "b"]))
    assert found["log_loss"] == pytest.approx(34.538776394910684 / 2)


def test_per_class_agrees_with_scikit_learn():
    facts = judged(*random_table(3, unseen=4))
    found = _tables.per_class(facts, ValidateParams(bootstrap_rounds=50)).set_index("label")
    n_labels = len(facts.labels)
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        facts.y_true, facts.y_pred, labels=range(n_labels), zero_division=np.nan
    )
    for at, label in enumerate(facts.labels):
        row = found.loc[label]
        expected = [support[at], precision[at], recall[at], f1[at]]
        got = [row["support"], row["precision"], row["recall"], row["f1"]]
        assert got == pytest.approx(expected, nan_ok=True)


def test_per_class_says_nothing_of_a_class_that_never_occurred():
    predictions = certain_table(["a", "a"], ["a", "a"], ["a", "b"])
    found = _tables.per_class(judged(predictions, ["a", "b"]), ValidateParams(bootstrap_rounds=50))
    row = found.set_index("label").loc["b"]
    assert row[["precision", "recall", "f1"]].isna().all()
    assert row[["recall_low", "recall_high"]].isna().all()


def test_intervals_of_classes_are_those_of_resampled_groups():
    facts = judged(*random_table(5, n=400))
    found = _tables.per_class(facts, ValidateParams(bootstrap_rounds=40, seed=3)).set_index("label")
    drawn = _bootstrap.draws(np.random.default_rng(3), 40, facts.n_groups)
    recalls = []
    for times in drawn.astype(int):
        rows = np.repeat(np.arange(facts.n), times[facts.groups])
        true, said = facts.y_true[rows], facts.y_pred[rows]
        recalls.append(sk.recall_score(true, said, labels=range(4), average=None))
    low, high = np.quantile(recalls, (0.025, 0.975), axis=0)
    for at, label in enumerate(facts.labels):
        assert found.loc[label, "recall_low"] == pytest.approx(low[at])
        assert found.loc[label, "recall_high"] == pytest.approx(high[at])
    alone = judged(*random_table(5, n_groups=1))
    row = _tables.per_class(alone, ValidateParams(bootstrap_rounds=40)).iloc[0]
    assert (row["f1_low"], row["f1_high"]) == (0, 1)


def test_a_label_of_one_group_has_an_interval_that_says_nothing():
    """Or 60 % of one site's chips would stand there as if every site were like it."""
    labels, answers = list("aaaaabbbb"), list("aaabbbbbb")
    made = certain_table(labels, answers, ["a", "b"], list("uuuuuuvwv"))
    found = _tables.per_class(
        judged(made, ["a", "b"]), ValidateParams(bootstrap_rounds=50)
    ).set_index("label")
    assert found.loc["a", ["recall", "recall_low", "recall_high"]].tolist() == [0.6, 0, 1]
    assert found.loc["b", "recall_low"] == 1  # all right in all three groups


def test_groups_stand_worst_first_and_the_larger_of_equals_before_the_smaller():
    labels, answers = list("aaaaaa"), list("abbaaa")
    predictions = certain_table(labels, answers, ["a", "b"], "uuvwxx")
    found = _tables.per_group(judged(predictions, ["a", "b"]), ValidateParams(bootstrap_rounds=10))
    rows = [tuple(row)[:3] for row in found.itertuples(index=False)]
    assert rows == [("v", 1, 0.0), ("u", 2, 0.5), ("x", 2, 1.0), ("w", 1, 1.0)]


def test_values_stand_as_groups_do_and_what_is_not_known_has_no_name():
    predictions = certain_table(list("aaaaaa"), list("abbaaa"), ["a", "b"])
    known = ["reef", "reef", None, "bank", "lagoon", "lagoon"]
    found = _tables.per_value(
        judged(predictions, ["a", "b"]), known, ValidateParams(bootstrap_rounds=10)
    )
    rows = [tuple(row)[:3] for row in found.itertuples(index=False)]
    assert rows == [("", 1, 0.0), ("reef", 2, 0.5), ("lagoon", 2, 1.0), ("bank", 1, 1.0)]


def of_images(seed, n_images, n_groups):
    """Make chips of images, each in one group, some harder than others."""
    generator = np.random.default_rng(seed)
    image = np.sort(generator.integers(0, n_images, 20 * n_images))
    hard = generator.uniform(0, 1, n_images)
    answers = ["a" if hit else "b" for hit in generator.uniform(0, 1, len(image)) > hard[image]]
    groups = [f"g{at % n_groups}" for at in image]
    made = certain_table(["a"] * len(image), answers, ["a", "b"], groups)
    at = made.schema.get_field_index("key")
    return made.set_column(at, "key", pa.array([f"{i}.jpg" for i in image], pa.string()))


@pytest.mark.parametrize("block", [1, 4_000, 4_000_000])
def test_a_groups_interval_is_what_resampling_its_images_by_hand_gives(monkeypatch, block):
    monkeypatch.setattr(_bootstrap, "BLOCK_VALUES", block)
    made = of_images(3, 40, 4)
    found = _tables.per_group(
        judged(made, ["a", "b"]), ValidateParams(bootstrap_rounds=4000)
    ).set_index("group")
    generator = np.random.default_rng(99)
    frame = made.select(["key", "group", "label", "predicted"]).to_pandas()
    frame["right"] = frame["label"] == frame["predicted"]
    for group, chips in frame.groupby("group"):
        of = chips.groupby("key")["right"].agg(["sum", "count"]).to_numpy()
        drawn = of[generator.integers(0, len(of), (4000, len(of)))].sum(axis=1)
        low, high = np.quantile(drawn[:, 0] / drawn[:, 1], (0.025, 0.975))
        row = found.loc[group]
        assert row["accuracy_low"] == pytest.approx(low, abs=0.02)
        assert row["accuracy_high"] == pytest.approx(high, abs=0.02)
        assert row["accuracy_low"] < row["accuracy"] < row["accuracy_high"]


def test_a_group_of_one_image_and_a_value_of_one_group_have_no_interval():
    made = of_images(1, 3, 2)  # two images in g0, one in g1
    facts = judged(made, ["a", "b"])
    groups = _tables.per_group(facts, ValidateParams(bootstrap_rounds=50)).set_index("group")
    assert np.isnan(groups.loc["g1", ["accuracy_low", "accuracy_high"]].astype(float)).all()
    assert groups.loc["g0", "accuracy_low"] < groups.loc["g0", "accuracy_high"]
    values = _tables.per_value(
        facts, made["group"].to_pylist(), ValidateParams(bootstrap_rounds=50)
    )
    assert values[["accuracy_low", "accuracy_high"]].isna().all(axis=None)
    both = _tables.per_value(facts, ["reef"] * facts.n, ValidateParams(bootstrap_rounds=50)).iloc[0]
    assert both["accuracy_low"] < both["accuracy"] < both["accuracy_high"]


def test_confusion_rows_hold_one_row_a_chip():
    predictions = certain_table(["a", "new"], ["b", "a"], ["a", "b"])
    found = _tables.confusion_rows(judged(predictions, ["a", "b"]))
    assert found.to_dict("list") == {"actual": ["a", "new"], "predicted": ["b", "a"]}


def test_confusion_counts_labels_in_rows_and_answers_in_columns():
    predictions = certain_table(["a", "a", "b"], ["b", "b", "b"], ["a", "b"])
    assert _tables.confusion(judged(predictions, ["a", "b"])).tolist() == [[0, 2], [0, 1]]
