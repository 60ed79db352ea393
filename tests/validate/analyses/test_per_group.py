"""Accuracy by group and by value, with intervals."""

import numpy as np
import pyarrow as pa
import pytest
from scipy import special, stats
from synthetic_predictions import certain_table

from pipeline.validate.analyses import per_group
from pipeline.validate.evaluation import evaluate


def test_groups_stand_worst_first_and_the_larger_of_equals_before_the_smaller():
    labels, answers = list("aaaaaa"), list("abbaaa")
    predictions = certain_table(labels, answers, ["a", "b"], "uuvwxx")
    found = per_group.per_group(evaluate(predictions, ["a", "b"]))
    rows = list(found[["group", "n", "accuracy"]].itertuples(index=False, name=None))
    assert rows == [("v", 1, 0.0), ("u", 2, 0.5), ("x", 2, 1.0), ("w", 1, 1.0)]


def test_values_stand_as_groups_do_and_what_is_not_known_has_no_name():
    predictions = certain_table(list("aaaaaa"), list("abbaaa"), ["a", "b"])
    known = ["reef", "reef", None, "bank", "lagoon", "lagoon"]
    found = per_group.per_value(evaluate(predictions, ["a", "b"]), known)
    rows = list(found[["value", "n", "accuracy"]].itertuples(index=False, name=None))
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


def test_a_groups_interval_is_a_t_interval_of_its_images_by_hand():
    made = of_images(3, 40, 4)
    found = per_group.per_group(evaluate(made, ["a", "b"])).set_index("group")
    frame = made.select(["key", "group", "label", "predicted"]).to_pandas()
    frame["right"] = frame["label"] == frame["predicted"]
    for group, chips in frame.groupby("group"):
        right, n = chips.groupby("key")["right"].agg(["sum", "count"]).to_numpy().T
        share = right.sum() / n.sum()
        halved = [(right.sum() - right[at] / 2) / (n.sum() - n[at] / 2) for at in range(len(right))]
        influence = 2 * (share - np.array(halved))
        moments = (influence**2).sum(), (influence**4).sum()
        freedom = min(n.sum() ** 2 / (n**2).sum(), 3 * moments[0] ** 2 / moments[1]) - 1
        reach = stats.t.ppf(0.975, freedom) * np.sqrt(moments[0]) / (share * (1 - share))
        odds = np.log(share / (1 - share))
        row = found.loc[group]
        assert row["images"] == len(right)
        assert row["accuracy_low"] == pytest.approx(special.expit(odds - reach))
        assert row["accuracy_high"] == pytest.approx(special.expit(odds + reach))


def test_a_group_of_one_image_and_a_value_of_one_group_have_no_interval():
    made = of_images(1, 3, 2)  # two images in g0, one in g1
    evaluation = evaluate(made, ["a", "b"])
    groups = per_group.per_group(evaluation).set_index("group")
    assert np.isnan(groups.loc["g1", ["accuracy_low", "accuracy_high"]].astype(float)).all()
    assert groups.loc["g0", "accuracy_low"] < groups.loc["g0", "accuracy_high"]
    values = per_group.per_value(evaluation, made["group"].to_pylist())
    assert values[["accuracy_low", "accuracy_high"]].isna().all(axis=None)
    both = per_group.per_value(evaluation, ["reef"] * evaluation.n).iloc[0]
    assert both["groups"] == 2
    assert both["accuracy_low"] < both["accuracy"] < both["accuracy_high"]
