"""Accuracy by group and by value, with intervals."""

import numpy as np
import pyarrow as pa
import pytest
from synthetic_predictions import certain_table

from pipeline.config.sections import ValidateParams
from pipeline.validate.analyses import per_group
from pipeline.validate.evaluation import evaluate
from pipeline.validate.metrics import _bootstrap


def test_groups_stand_worst_first_and_the_larger_of_equals_before_the_smaller():
    labels, answers = list("aaaaaa"), list("abbaaa")
    predictions = certain_table(labels, answers, ["a", "b"], "uuvwxx")
    found = per_group.per_group(
        evaluate(predictions, ["a", "b"]), ValidateParams(bootstrap_rounds=10)
    )
    rows = [tuple(row)[:3] for row in found.itertuples(index=False)]
    assert rows == [("v", 1, 0.0), ("u", 2, 0.5), ("x", 2, 1.0), ("w", 1, 1.0)]


def test_values_stand_as_groups_do_and_what_is_not_known_has_no_name():
    predictions = certain_table(list("aaaaaa"), list("abbaaa"), ["a", "b"])
    known = ["reef", "reef", None, "bank", "lagoon", "lagoon"]
    found = per_group.per_value(
        evaluate(predictions, ["a", "b"]), known, ValidateParams(bootstrap_rounds=10)
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
    found = per_group.per_group(
        evaluate(made, ["a", "b"]), ValidateParams(bootstrap_rounds=4000)
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
    evaluation = evaluate(made, ["a", "b"])
    groups = per_group.per_group(evaluation, ValidateParams(bootstrap_rounds=50)).set_index("group")
    assert np.isnan(groups.loc["g1", ["accuracy_low", "accuracy_high"]].astype(float)).all()
    assert groups.loc["g0", "accuracy_low"] < groups.loc["g0", "accuracy_high"]
    values = per_group.per_value(
        evaluation, made["group"].to_pylist(), ValidateParams(bootstrap_rounds=50)
    )
    assert values[["accuracy_low", "accuracy_high"]].isna().all(axis=None)
    both = per_group.per_value(
        evaluation, ["reef"] * evaluation.n, ValidateParams(bootstrap_rounds=50)
    ).iloc[0]
    assert both["accuracy_low"] < both["accuracy"] < both["accuracy_high"]
