"""Multi-label chips: how they are read, trained on and predicted."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from pipeline.annotations import AnnotationSource, points
from pipeline.commands import model_export
from pipeline.config.sections import TrainParams
from pipeline.core import label_sets
from pipeline.core.errors import InputError, SettingError
from pipeline.train.balance import repeats
from pipeline.train.classes import choose_classes
from pipeline.train.estimator import FeatureClassifier
from pipeline.train.fit import Splits, fit
from pipeline.train.label_map import LabelMap
from pipeline.train.labelled_features import LabelledFeatures
from pipeline.train.losses import Objective
from pipeline.train.model import Classifier, read
from pipeline.train.thresholds import choose_thresholds

# Reading.


def annotated(text, separator=";"):
    params = points.Settings(format="points", path="p.csv", label_separator=separator)
    table, rejects = points.read(AnnotationSource("p.csv", text.encode(), []), params)
    return table["label"].to_pylist(), [reject.reason for reject in rejects]


HEAD = "image,row,column,label\n"


@pytest.mark.parametrize(
    "rows",
    ["a.jpg,1,2,fish;coral", "a.jpg,1,2, coral ;fish;;fish", "a.jpg,1,2,fish\na.jpg,1,2,coral"],
    ids=["cell", "untidy", "rows"],
)
def test_labels_of_one_point_are_in_one_cell_or_in_several_rows(rows):
    assert annotated(HEAD + rows + "\n") == (["coral;fish"], [])


def test_a_row_that_adds_no_label_is_a_reject():
    rows = "a.jpg,1,2,fish;coral\na.jpg,1,2,coral\na.jpg,1,2,\n"
    assert annotated(HEAD + rows) == (["coral;fish"], ["said_again"] * 2)


def test_without_a_separator_a_cell_is_one_label_and_two_rows_a_conflict():
    assert annotated(HEAD + "a.jpg,1,2,fish;coral\n", None) == (["fish;coral"], [])
    two = HEAD + "a.jpg,1,2,fish\na.jpg,1,2,coral\n"
    assert annotated(two, None) == ([], ["label_conflict"] * 2)


def test_a_cell_of_separators_alone_is_an_unlabelled_point():
    assert annotated(HEAD + "a.jpg,1,2, ; \n") == ([None], [])


# Training.

names = st.sets(st.sampled_from(["a", "b", "c", "d"]), max_size=3)


@given(st.lists(names, min_size=1, max_size=20))
def test_the_label_set_of_a_row_holds_exactly_its_labels(rows):
    texts = [label_sets.join(row, "|") for row in rows]
    classes = choose_classes(texts, LabelMap(), TrainParams(), "|")
    y, sets = classes.encode(texts)
    for row, number in zip(rows, y, strict=True):
        assert {classes.names[at] for at in np.flatnonzero(sets[number])} == row
    assert len(np.unique(sets, axis=0)) == len(sets)


def test_a_label_map_applies_to_each_label_of_a_row():
    label_map = LabelMap({"cod": "fish", "eel": "fish", "sand": None}, "")
    texts = ["cod;eel", "cod;coral", "sand", "coral;sand"]
    classes = choose_classes(texts, label_map, TrainParams(), ";")
    assert classes.names == ("coral", "fish")
    y, sets = classes.encode(texts)
    assert sets[y].tolist() == [[0, 1], [1, 1], [0, 0], [1, 0]]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.floats(0, 0.5), st.booleans())
def test_the_loss_is_binary_cross_entropy_of_every_class(seed, smoothing, weighted):
    rng = np.random.default_rng(seed)
    sets = np.unique(rng.integers(0, 2, (6, 4)), axis=0).astype(np.float32)
    y = rng.integers(0, len(sets), 50)
    train = TrainParams(label_smoothing=smoothing, balance="weights" if weighted else "none")
    objective = Objective(y, 4, train, sets)
    logits = rng.normal(0, 3, (50, 4))
    wanted = sets[y] * (1 - smoothing) + smoothing / 2
    weights = np.ones(4) if objective.weights is None else objective.weights.numpy()
    p = 1 / (1 + np.exp(-logits))
    losses = -(weights * wanted * np.log(p) + (1 - wanted) * np.log(1 - p))
    found = objective.loss(torch.from_numpy(logits), torch.from_numpy(y))
    assert float(found) == pytest.approx(losses.mean(), rel=1e-5)
    plain = -np.log(np.where(sets[y] > 0, p, 1 - p)).mean(axis=1).sum()
    assert objective.plain_loss(torch.from_numpy(logits), torch.from_numpy(y)) == pytest.approx(
        plain
    )
    right = ((p > 0.5) == (sets[y] > 0)).all(axis=1).sum()
    assert int(objective.correct(torch.from_numpy(logits), torch.from_numpy(y))) == right


def test_resampling_takes_a_row_as_often_as_its_rarest_class_needs():
    sets = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    y = np.repeat([0, 1, 2, 3], [3, 3, 40, 2])
    train = TrainParams(balance="resample", min_per_class=10, max_per_class=20)
    rows_by_class = Objective(y, 2, train, sets).rows_by_class(y)
    times = repeats(rows_by_class, len(y), train, np.random.default_rng(0))
    assert times[y == 0].sum() == 10  # of no class: as if they had one
    assert (times[(y == 1) | (y == 3)] == 2).all()  # five rows of the second class up to ten
    assert set(times[y == 2]) <= {0, 1}
    assert 18 <= times[y == 2].sum() <= 20


def scenes(count, seed=0, dim=10):
    """Features of chips that have any of three labels, each where its own direction is high."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(7).normal(0, 1, (3, dim))
    x = rng.normal(0, 1, (count, dim)).astype(np.float32)
    has = x @ directions.T + rng.normal(0, 0.7, (count, 3)) > np.array([0.0, 2.0, 4.0])
    texts = [label_sets.join((f"c{at}" for at in np.flatnonzero(row)), ";") for row in has]
    return x, texts, has


def fit_scenes(train, count=2000):
    (x, texts, _), (held_x, held, _) = scenes(count), scenes(800, 1)
    return fit(
        Splits(LabelledFeatures.of(x, texts), LabelledFeatures.of(held_x, held), separator=";"),
        train,
        "cpu",
    )


@pytest.mark.parametrize("calibration", ["temperature", "mixture", "sigmoid", "none"])
def test_each_label_is_predicted_with_calibrated_probabilities(calibration):
    found = fit_scenes(TrainParams(calibration=calibration, epochs=30)).classifier
    x, _, has = scenes(4000, 2)
    p = found.predict_proba(x)
    assert found.is_multilabel
    assert p.shape == (4000, 3)
    for at in range(3):
        assert sk.roc_auc_score(has[:, at], p[:, at]) > 0.9
        assert abs(p[:, at].mean() - has[:, at].mean()) < 0.03
    assert sk.f1_score(has, found.reaches_threshold(p), average="macro") > 0.7
    card = found.card["calibration"]
    assert list(card["thresholds"]) == ["c0", "c1", "c2"]
    held = scenes(800, 1)[2]
    assert card["positives"] == {f"c{at}": held[:, at].sum() for at in range(3)}
    assert 0 <= card["ece_after"] < 0.2
    assert card["log_loss_after"] <= card["log_loss_before"] + 1e-9


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("name", ["lr", "mlp"])
def test_it_is_as_good_as_one_classifier_for_each_label(name):
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.neural_network import MLPClassifier

    x, _, has = scenes(2000)
    test, _, truth = scenes(4000, 2)
    theirs = (
        OneVsRestClassifier(LogisticRegression(C=1e3, max_iter=500))
        if name == "lr"
        else MLPClassifier(max_iter=30, random_state=0)
    ).fit(x, has)
    ours = fit_scenes(TrainParams(classifier=name, epochs=30)).classifier
    for score, slack in ((sk.log_loss, 0.02), (sk.average_precision_score, -0.01)):
        found, wanted = (
            np.mean([score(truth[:, at], p[:, at]) for at in range(3)])
            for p in (ours.predict_proba(test), theirs.predict_proba(test))
        )
        assert (wanted - found) * np.sign(slack) > -abs(slack)


def test_two_trainings_of_several_labels_give_the_same_files_which_read_back(tmp_path):
    fitted = fit_scenes(TrainParams(epochs=2))
    assert fit_scenes(TrainParams(epochs=2)).classifier.files() == fitted.classifier.files()
    for name, data in fitted.classifier.files().items():
        (tmp_path / name).write_bytes(data)
    again = read(tmp_path)
    x, _, _ = scenes(50, 3)
    assert np.array_equal(again.predict_proba(x), fitted.classifier.predict_proba(x))

    opened = FeatureClassifier.open(tmp_path)
    assert np.array_equal(opened.predict(x), again.reaches_threshold(again.predict_proba(x)))
    with pytest.raises(ValueError, match="several labels"):
        opened.partial_fit(x, np.arange(50) % 2)
    assert opened.fit(x, np.arange(50) % 2).predict(x).shape == (50,)


def test_a_wrong_number_of_thresholds_is_an_error(tmp_path):
    found = fit_scenes(TrainParams(epochs=1)).classifier
    wrong = replace(found, tensors={**found.tensors, "thresholds": np.zeros(2, np.float32)})
    for name, data in wrong.files().items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=r"thresholds is \(\d,\), not \(\d,\)"):
        read(tmp_path)


def test_without_a_calibration_chip_every_threshold_is_one_half():
    x, texts, _ = scenes(300)
    splits = Splits(LabelledFeatures.of(x, texts), LabelledFeatures.of(x[:0], []), separator=";")
    found = fit(splits, TrainParams(epochs=1), "cpu").classifier
    assert found.tensors["thresholds"].tolist() == [0.5] * 3


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=30))
def test_of_enough_chips_no_threshold_below_the_cap_has_a_higher_f1(rows):
    rows = [*rows, *[(7, True)] * 20]
    p = np.array([[number / 12] for number, _ in rows])
    has = np.array([[flag] for _, flag in rows])
    chosen = choose_thresholds(p, has)[0]
    p32 = p.astype(np.float32)
    best = max(sk.f1_score(has, p32 >= value) for value in [*np.unique(p32), np.float32(2)])
    assert sk.f1_score(has, p32 >= chosen) == pytest.approx(best)
    if sk.f1_score(has, p32 >= np.float32(0.5)) == pytest.approx(best):
        assert chosen == 0.5


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=60))
def test_no_class_is_predicted_for_more_than_three_times_the_chips_that_have_it(rows):
    p = np.array([[number / 12] for number, _ in rows])
    has = np.array([[flag] for _, flag in rows])
    chosen = choose_thresholds(p, has)[0]
    if has.any():
        assert np.count_nonzero(p.astype(np.float32) >= chosen) <= 3 * has.sum()
    else:
        assert chosen == 0.5


def shares_predicted(positives, n, separation, repeats=200):
    """Return the shares of all chips predicted by thresholds of calibration splits of *n* chips."""
    rng = np.random.default_rng(0)
    prior = np.log(positives / (n - positives))

    def probabilities(has):
        evidence = separation * (rng.normal(size=len(has)) + separation * has - separation / 2)
        return 1 / (1 + np.exp(-evidence - prior))

    everyone = probabilities(np.arange(100_000) < 100_000 * positives / n)
    has = np.arange(n) < positives
    return np.array(
        [
            (everyone >= choose_thresholds(probabilities(has)[:, None], has[:, None])[0]).mean()
            for _ in range(repeats)
        ]
    )


@pytest.mark.parametrize("separation", [1, 2, 4])
def test_thresholds_of_two_positives_predict_about_the_prevalence(separation):
    """By the highest F1 alone, they predict 0.06 to 76 % where 0.67 % is true."""
    shares = shares_predicted(2, 300, separation)
    low, middle, high = np.quantile(shares, (0.025, 0.5, 0.975))
    assert 100 * low > 0.67 / 8
    assert 0.67 / 1.5 < 100 * middle < 0.67 * 1.5
    assert 100 * high < 0.67 * 4


# Exports.


@pytest.mark.parametrize("calibration", ["temperature", "mixture", "sigmoid"])
def test_onnx_gives_equal_probabilities_and_predictions(calibration):
    onnxruntime = pytest.importorskip("onnxruntime")
    found = fit_scenes(TrainParams(calibration=calibration, epochs=5)).classifier
    x, _, _ = scenes(500, 4)
    session = onnxruntime.InferenceSession(model_export.onnx(found))
    labels, p = session.run(["labels", "probabilities"], {"features": x})
    wanted = found.predict_proba(x)
    assert np.abs(p - wanted).max() < 1e-5
    sure = np.abs(wanted - found.tensors["thresholds"]) > 1e-5
    assert np.array_equal(labels[sure], found.reaches_threshold(wanted)[sure])


def test_pyspacer_export_of_several_labels_is_an_error():
    found = fit_scenes(TrainParams(epochs=1)).classifier
    with pytest.raises(SettingError, match="PySpacer has one label a point"):
        pickle.loads(model_export.scikit_learn(found))


def test_a_classifier_without_thresholds_has_one_label():
    found = Classifier(("a",), {"temperature": np.ones(1, np.float32)}, {})
    assert not found.is_multilabel
