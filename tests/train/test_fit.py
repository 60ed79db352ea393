"""Training: deterministic, correct, and stopped by an error where it cannot work."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from training_rows import GIB, blobs, files, in_blocks, splits, trained

from pipeline.config.sections import TrainParams
from pipeline.core.errors import InputError
from pipeline.train.fit import Splits, fit
from pipeline.train.label_map import LabelMap
from pipeline.train.labelled_features import LabelledFeatures


def halves(x, labels, count):
    """Return *count* rows to train on; the others calibrate."""
    parts = (slice(count), slice(count, None))
    return Splits(*(LabelledFeatures.of(x[part], labels[part]) for part in parts))


@pytest.mark.parametrize("name", ["lr", "mlp"])
def test_two_trainings_give_the_same_bytes_and_another_seed_does_not(name):
    train = TrainParams(classifier=name, epochs=3)
    first = files(trained(train))
    torch.manual_seed(12345)
    np.random.default_rng(5).normal()
    assert files(trained(train)) == first
    assert files(trained(TrainParams(classifier=name, epochs=3, seed=1))) != first


SEEN = """
import os, sys, torch
from pipeline.config.sections import TrainParams
from pipeline.train import fit as module
from training_rows import blobs

def stop(*_):
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    print(workspace, torch.are_deterministic_algorithms_enabled(), torch.cuda.is_initialized())
    raise SystemExit

module.Loop = stop
module.fit(module.Splits(blobs(60), blobs(30, seed=1)), TrainParams(epochs=1), sys.argv[1])
"""


@pytest.mark.parametrize(
    ("device", "seen"), [("cuda", ":4096:8 True False"), ("cpu", "None False False")]
)
def test_training_on_a_card_is_deterministic_from_before_cuda_begins(device, seen, monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    env = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT}/tests/support"}
    command = [sys.executable, "-c", SEEN, device]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.stdout.strip() == seen, done.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no card")
@pytest.mark.parametrize("name", ["lr", "mlp"])
def test_two_trainings_on_a_card_give_the_same_bytes(name):
    train = TrainParams(classifier=name, epochs=3, dropout=0.1)
    rows = Splits(blobs(600), blobs(300, seed=1))
    assert files(fit(rows, train, "cuda")) == files(fit(rows, train, "cuda"))


def test_lr_agrees_with_scikit_learns_logistic_regression():
    rows, test = blobs(600), blobs(2000, seed=2)
    ours = trained(TrainParams(classifier="lr", epochs=200, learning_rate=0.01)).classifier
    mean, scale = rows.read(0).mean(0), rows.read(0).std(0)
    theirs = LogisticRegression(C=1e4, max_iter=2000).fit((rows.read(0) - mean) / scale, rows.texts)
    agreed = np.mean(
        np.array(ours.classes)[ours.predict_proba(test.read(0)).argmax(1)]
        == theirs.predict((test.read(0) - mean) / scale)
    )
    assert agreed > 0.97


def test_lr_starts_at_the_shares_of_the_classes():
    x = blobs(100).read(0)
    rows = LabelledFeatures.of(x, ["a"] * 79 + ["b"] * 20 + ["c"])
    train = TrainParams(classifier="lr", epochs=1, learning_rate=1e-12, calibration="none")
    for balance, shares in (("none", [80, 21, 2]), ("resample", [31, 21, 21])):
        settings = train.model_copy(
            update={"balance": balance, "min_per_class": 20, "max_per_class": 30}
        )
        found = trained(settings, rows, rows).classifier.predict_proba(x)
        np.testing.assert_allclose(found, [np.array(shares) / sum(shares)] * 100, atol=1e-6)


def test_few_steps_predict_the_shares_of_uneven_classes():
    """The features are noise: no probability is better than the share."""
    rng = np.random.default_rng(0)
    x = rng.normal(5, 1, (3000, 20)).astype(np.float32)
    labels = rng.choice(["a", "b", "c"], 3000, p=[0.9, 0.09, 0.01]).tolist()
    splits = halves(x, labels, 1500)
    for name in ("lr", "mlp"):
        train = TrainParams(classifier=name, epochs=1, calibration="none")
        found = fit(splits, train, "cpu").classifier.predict_proba(x[1500:]).mean(axis=0)
        np.testing.assert_allclose(found, [0.9, 0.09, 0.01], atol=0.04)


def test_mlp_separates_what_no_line_can():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (1500, 2)).astype(np.float32)
    labels = ["in" if near else "out" for near in (x**2).sum(1) < 0.5]
    splits = halves(x, labels, 1000)
    fitted = fit(splits, TrainParams(epochs=60, learning_rate=0.01), "cpu")
    found = np.array(fitted.classifier.classes)[fitted.classifier.predict_proba(x[1000:]).argmax(1)]
    assert np.mean(found == labels[1000:]) > 0.95


def test_calibration_labels_that_are_no_class_are_counted():
    held = blobs(50, seed=1)
    strange = LabelledFeatures.of(held.read(0), ["new", *held.texts[1:]])
    assert trained(TrainParams(epochs=1), held=strange).classifier.card["n_calibration_unseen"] == 1


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            [],
            "train: no labelled chip in the train split; label some, or lower split.validation "
            "and split.calibration",
        ),
        (
            ["a"] * 5,
            "train: all 5 labelled chips of the train split are 'a'; a classifier needs "
            "two classes",
        ),
    ],
)
def test_too_few_labels_or_classes_are_errors(labels, message):
    rows = LabelledFeatures.of(np.zeros((len(labels), 4), np.float32), labels)
    with pytest.raises(InputError) as stop:
        fit(Splits(rows, rows), TrainParams(), "cpu")
    assert str(stop.value) == message


def test_a_constant_value_is_ignored():
    rows = blobs(200)
    flat = rows.read(0).copy()
    flat[:, 3] = 5.0
    fitted = trained(TrainParams(epochs=2), *[LabelledFeatures.of(flat, rows.texts)] * 2)
    far = flat.copy()
    far[:, 3] = 1e6
    assert np.array_equal(
        fitted.classifier.predict_proba(far), fitted.classifier.predict_proba(flat)
    )


def test_training_does_not_import_torchs_compiler():
    """The import would take longer than most trainings."""
    code = (
        "import sys, numpy as np\n"
        "from pipeline.config.sections import TrainParams\n"
        "from pipeline.train.labelled_features import LabelledFeatures\n"
        "from pipeline.train.fit import Splits, fit\n"
        "x = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)\n"
        "rows = LabelledFeatures.of(x, ['a', 'b'] * 20)\n"
        "fit(Splits(rows, rows), TrainParams(epochs=1), 'cpu')\n"
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 40_000), st.lists(st.integers(1, 200), max_size=8), st.booleans())
def test_neither_the_memory_nor_the_shards_change_a_byte(budget, sizes, balanced):
    rows = blobs(600)
    train = TrainParams(epochs=3, balance="resample" if balanced else "none", min_per_class=300)
    less = train.model_copy(update={"memory_gib": budget / GIB})
    features = rows.shards.read("", 0)
    other = in_blocks(features, rows.texts, sizes)
    assert files(trained(less, other)) == files(trained(train, rows))


def test_labels_are_merged_dropped_and_recorded_in_the_card():
    given = LabelMap({"c0": "even", "c2": "even", "c3": None}, "x")
    rows = splits()
    found = fit(
        Splits(rows.train, rows.calibration, given), TrainParams(epochs=1), "cpu"
    ).classifier
    assert found.classes == ("c1", "even")
    dropped = sum(label == "c3" for label in rows.train.texts)
    assert found.card["n_train"] == 400 - dropped
    assert found.card["labels"]["to"] == dict(given.to)
