"""What a person decides by: cover, a threshold to trust, labels to look at again."""

from math import comb

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judging import certain_table, random_table, table

from pipeline.config.sections import ValidateParams
from pipeline.core import schemas
from pipeline.validate.metrics import (
    _bootstrap,
    _compared,
    _counts,
    _cover,
    _doubts,
    _trust,
    _twins,
    judged,
    scores,
)

FEW = ValidateParams(bootstrap_rounds=40)


def with_images(made, keys):
    at = made.schema.get_field_index("key")
    return made.set_column(at, "key", pa.array(keys, pa.string()))


def test_cover_by_hand():
    """Two images: one of 4 chips, half sand, one of 2, all sand; one sand is taken for rock."""
    made = certain_table(
        ["sand", "sand", "rock", "rock", "sand", "sand"],
        ["sand", "rock", "rock", "rock", "sand", "sand"],
        ["rock", "sand"],
    )
    found = _cover.cover(judged(with_images(made, list("aaaabb")), ["rock", "sand"]), FEW)
    sand = found.set_index("label").loc["sand"]
    assert found["label"].tolist() == ["sand", "rock"]  # the most cover first
    assert sand["images"] == 2
    assert sand["cover"] == pytest.approx((0.5 + 1) / 2)
    assert sand["answered"] == pytest.approx((0.25 + 1) / 2)
    assert sand["bias"] == pytest.approx(-0.25 / 2)
    assert sand["rmse"] == pytest.approx(np.sqrt(0.25**2 / 2))
    assert sand["r2"] == pytest.approx(1 - 0.25**2 / (2 * 0.25**2))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 999), st.integers(1, 6), st.integers(0, 4))
def test_cover_is_what_loops_give(seed, n_images, unseen):
    made, classes = random_table(seed, n=60, unseen=unseen)
    keys = np.random.default_rng(seed).integers(0, n_images, 60).astype(str)
    facts = judged(with_images(made, keys.tolist()), classes)
    found = _cover.cover(facts, FEW).set_index("label")
    assert found["cover"].sum() == pytest.approx(1)
    assert found["answered"].sum() == pytest.approx(1)
    for at, label in enumerate(facts.labels):
        true, said = [], []
        for key in sorted(set(keys)):
            own = keys == key
            true.append(np.mean(facts.y_true[own] == at))
            said.append(np.mean(facts.y_pred[own] == at))
        error = np.subtract(said, true)
        assert found.loc[label, "bias"] == pytest.approx(error.mean())
        assert found.loc[label, "rmse"] == pytest.approx(np.sqrt((error**2).mean()))
        if np.ptp(true):
            r2 = 1 - (error**2).sum() / ((true - np.mean(true)) ** 2).sum()
            assert found.loc[label, "r2"] == pytest.approx(r2)
        else:
            assert np.isnan(found.loc[label, "r2"])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_intervals_of_cover_are_those_of_the_same_draws_by_hand(seed):
    made, classes = random_table(seed, n=400, n_groups=6, unseen=3)
    groups = made["group"].to_pylist()
    keys = [f"{group}/{at % 3}" for at, group in enumerate(groups)]
    facts = judged(with_images(made, keys), classes)
    found = _cover.cover(facts, FEW).set_index("label")
    draws = _bootstrap.draws(np.random.default_rng(FEW.seed), FEW.bootstrap_rounds, 6).astype(int)
    images = sorted(set(keys))
    of_group = [[at for at, key in enumerate(images) if key.startswith(f"g{g}/")] for g in range(6)]
    true, said = _cover.shares(facts)
    for at, label in enumerate(facts.labels):
        figures = []
        for often in draws:
            rows = [i for g, times in enumerate(often) for i in of_group[g] * times]
            t, error = true[rows, at], said[rows, at] - true[rows, at]
            spread = ((t - t.mean()) ** 2).sum()
            r2 = 1 - (error**2).sum() / spread if np.ptp(t) else np.nan
            figures.append((error.mean(), np.sqrt((error**2).mean()), r2))
        for name, values in zip(("bias", "rmse", "r2"), np.transpose(figures), strict=True):
            low, high = np.nanquantile(values, (0.025, 0.975))
            assert found.loc[label, f"{name}_low"] == pytest.approx(low)
            assert found.loc[label, f"{name}_high"] == pytest.approx(high)


def test_cover_of_one_group_has_no_interval():
    found = _cover.cover(judged(*random_table(1, n_groups=1)), FEW)
    ends = [name for name in found if name.endswith(("_low", "_high"))]
    assert len(ends) == 6
    assert found[ends].isna().all(axis=None)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 999), st.sampled_from([1, 7, 150]), st.sampled_from([0.3, 0.6, 0.9, 1.0]))
def test_a_threshold_is_the_lowest_that_gives_what_was_wanted(seed, n, wanted):
    facts = judged(*random_table(seed, n=n))
    found = _trust.choose(facts, wanted)
    good = [score for score in facts.score if facts.correct[facts.score >= score].mean() >= wanted]
    assert found.score == (min(good) if good else None)
    again = _trust.confirm(facts, found.score)
    assert again.coverage == pytest.approx(found.coverage)
    assert again.accuracy == (pytest.approx(found.accuracy) if good else None)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 999), st.sampled_from([1, 3, 150, 900]))
def test_the_curve_of_coverage_is_every_thresholds(seed, n):
    facts = judged(*random_table(seed, n=n))
    table = _trust.coverage(facts)
    assert len(table) <= _trust.MOST_ROWS
    assert table["coverage"].is_monotonic_increasing
    assert table["coverage"].iloc[-1] == 1
    assert table["accuracy"].iloc[-1] == pytest.approx(facts.correct.mean())
    for row in table.itertuples():
        above = facts.score >= row.score
        assert row.coverage == pytest.approx(above.mean())
        assert row.accuracy == pytest.approx(facts.correct[above].mean())


def test_labels_that_were_swapped_are_suspected_first():
    made, classes = random_table(1, n=600, n_classes=3, hit=7.0)
    labels = made["label"].to_pylist()
    swapped = list(range(0, 600, 30))
    for row in swapped:
        labels[row] = next(name for name in classes if name != labels[row])
    made = made.set_column(made.schema.get_field_index("label"), "label", pa.array(labels))
    rows, suggested, margin = _doubts.suspects(judged(made, classes))
    assert len(set(rows[: len(swapped)]) & set(swapped)) >= 18
    assert (np.diff(margin) >= 0).all()
    assert (margin < 0).all()
    assert all(classes[to] != labels[row] for row, to in zip(rows, suggested, strict=True))


def test_nothing_is_suspected_where_all_is_sure_and_right():
    made = certain_table(list("abab"), list("abab"), ["a", "b"])
    assert len(_doubts.suspects(judged(made, ["a", "b"]))[0]) == 0


def test_a_class_that_is_likelier_but_not_confident_suspects_nothing():
    """Chips of a are given 0.9 by it; 0.6 is less than that, 0.95 is not."""
    given = [[0.9, 0.1]] * 4 + [[0.6, 0.4], [0.95, 0.05], [0.2, 0.8], [0.2, 0.8]]
    made = table(list("aaaabbbb"), given, ["a", "b"])
    assert _doubts.suspects(judged(made, ["a", "b"]))[0].tolist() == [5]


def test_a_label_that_was_never_learnt_is_suspected_if_a_class_is_confident():
    made = certain_table(["a", "a", "new"], ["a", "a", "a"], ["a", "b"])
    facts = judged(made, ["a", "b"])
    table = _doubts.table(facts, made, pa.chunked_array([["validation"] * 3]))
    assert table[["label", "suggested", "label_probability", "split"]].to_numpy().tolist() == [
        ["new", "a", 0.0, "validation"]
    ]
    assert table["chip_id"].tolist() == [made["chip_id"][2].as_py().hex()]


def labels_of(rows):
    columns = ["key", "label", "split"]
    table = pa.table({name: [row[at] for row in rows] for at, name in enumerate(columns)})
    rest = {"chip_id": [b"0" * 16] * len(rows), "row": [0] * len(rows), "col": [0] * len(rows)}
    for name, values in {**rest, "group": [""] * len(rows)}.items():
        table = table.append_column(name, pa.array(values, schemas.LABELS.field(name).type))
    return schemas.conform(table, schemas.LABELS)


def test_equal_bytes_in_two_splits_are_found():
    images = pa.table({"key": list("abcdef"), "version": ["1", "1", "2", "2", "3", "1"]})
    labels = labels_of(
        [
            ("a", "x", "train"),
            ("a", "x", "train"),
            ("b", "x", "validation"),
            ("c", "x", "train"),
            ("d", "x", "train"),  # the same split as c
            ("e", "x", "train"),
            ("f", None, "calibration"),  # nobody learns from it
        ]
    )
    found = _twins.twins(images, labels)
    assert found.to_numpy().tolist() == [["a", "train", "b", "validation"]]
    assert _twins.twins(images.slice(2), labels).empty


def test_a_classifier_is_no_better_than_itself():
    facts = judged(*random_table(3))
    row = _compared.compared(facts, {"it": facts}, ValidateParams(bootstrap_rounds=30)).iloc[0]
    for name in _compared.FIGURES:
        assert row[name] == pytest.approx(scores.compute(facts)[name])
        assert [row[f"{name}{end}"] for end in ("_difference", "_low", "_high")] == [0, 0, 0]
    assert (row["only_ours"], row["only_theirs"], row["mcnemar_p"]) == (0, 0, 1)


def test_differences_are_of_the_same_resamples_of_groups():
    labels = list("ab" * 60)
    groups = [f"g{n % 7}" for n in range(120)]
    swapped = {"a": "b", "b": "a"}
    own, other = (
        judged(certain_table(labels, answers, ["a", "b"], groups), ["a", "b"])
        for answers in (
            [swapped[label] if n % every == 0 else label for n, label in enumerate(labels)]
            for every in (5, 3)
        )
    )
    row = _compared.compared(own, {"old": other}, ValidateParams(bootstrap_rounds=60, seed=4)).iloc[
        0
    ]
    drawn = _bootstrap.draws(np.random.default_rng(4), 60, 7).astype(int)
    differences = []
    for times in drawn:
        rows = np.repeat(np.arange(120), times[own.groups])
        differences.append(own.correct[rows].mean() - other.correct[rows].mean())
    low, high = np.quantile(differences, (0.025, 0.975))
    assert row["accuracy_difference"] == pytest.approx(own.correct.mean() - other.correct.mean())
    assert [row["accuracy_low"], row["accuracy_high"]] == pytest.approx([low, high])
    # Every fifteenth is wrong in both: of 24 and 40 wrong ones, 8.
    assert (row["only_theirs"], row["only_ours"]) == (16, 32)
    tail = sum(comb(48, k) for k in range(17)) / 2**48
    assert row["mcnemar_p"] == pytest.approx(2 * tail)


def test_one_group_has_no_interval_of_a_difference():
    facts = judged(*random_table(3, n_groups=1))
    row = _compared.compared(facts, {"it": facts}, ValidateParams(bootstrap_rounds=30)).iloc[0]
    assert np.isnan(row["accuracy_low"])


@pytest.mark.parametrize(("seed", "score"), [(0, 0.5), (1, 0.9), (2, 0.999)])
def test_the_interval_of_a_threshold_is_that_of_a_loop_over_groups(seed, score):
    facts = judged(*random_table(seed, n=60, n_groups=5, hit=2.0))
    found = _trust.interval(facts, score, ValidateParams(bootstrap_rounds=50, seed=seed))
    generator = np.random.default_rng(seed)
    shares, accuracies = [], []
    for _ in range(50):
        drawn = generator.integers(0, facts.n_groups, size=facts.n_groups)
        rows = np.concatenate([np.flatnonzero(facts.groups == group) for group in drawn])
        sure = rows[facts.score[rows] >= score]
        shares.append(len(sure) / len(rows))
        accuracies += [facts.correct[sure].mean()] if len(sure) else []
    ends = (2.5, 97.5)
    expected = dict(zip(("low", "high"), np.percentile(shares, ends), strict=True))
    assert {end: found[f"threshold_coverage_{end}"] for end in expected} == pytest.approx(expected)
    if accuracies:
        expected = dict(zip(("low", "high"), np.percentile(accuracies, ends), strict=True))
        own = {end: found[f"threshold_accuracy_{end}"] for end in expected}
        assert own == pytest.approx(expected)
    assert all(np.isfinite(list(found.values())))


def test_of_one_group_a_threshold_has_the_whole_range():
    facts = judged(*random_table(0, n_groups=1))
    ends = _trust.interval(facts, 0.5, ValidateParams(bootstrap_rounds=10))
    assert set(ends.values()) == {0.0, 1.0}


def test_chips_are_counted_by_split_and_label():
    told = [("train", "a"), ("train", None), ("calibration", "b"), ("validation", None)]
    labels = pa.table({"split": [s for s, _ in told], "label": [name for _, name in told]})
    facts = judged(
        with_images(certain_table(list("ab"), list("ab"), ["a", "b"]), ["x", "y"]), ["a", "b"]
    )
    expected = {"n_images": 2, "n_train": 1, "n_calibration": 1, "n_unlabelled": 2}
    assert _counts.counts(facts, labels) == expected
