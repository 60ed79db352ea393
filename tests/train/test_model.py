"""The files of a classifier: what they hold, and which are refused."""

import json
import pickle
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_rows import blobs, files, trained

from pipeline.config.sections import TrainParams
from pipeline.core.errors import InputError
from pipeline.train import model


def test_the_files_score_as_the_network_did(tmp_path):
    fitted = trained(TrainParams(epochs=5))
    for name, data in files(fitted).items():
        (tmp_path / name).write_bytes(data)
    back = model.read(tmp_path)
    test = blobs(100, seed=3).read(0)
    assert np.array_equal(back.predict_proba(test), fitted.classifier.predict_proba(test))
    assert np.allclose(back.predict_proba(test).sum(1), 1)
    last = fitted.curve[-1]
    held = blobs(300, seed=1)
    index = [back.classes.index(label) for label in held.texts]
    logits = back.logits(held.read(0)).astype(np.float64)
    assert np.mean(logits.argmax(1) == index) == pytest.approx(last.calibration_accuracy)
    chosen = model.softmax(logits)[np.arange(300), index]
    assert -np.log(chosen).mean() == pytest.approx(last.calibration_loss, rel=1e-4)


CLASSIFIER = trained(TrainParams(epochs=2)).classifier
CHIPS = blobs(700, seed=5).read(0)
PROBABILITIES = CLASSIFIER.predict_proba(CHIPS)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, len(CHIPS) - 1), min_size=1, max_size=600))
def test_a_probability_does_not_depend_on_the_chips_beside(rows):
    np.testing.assert_array_equal(CLASSIFIER.predict_proba(CHIPS[rows]), PROBABILITIES[rows])


def test_a_classifier_with_sigmoids_reads_back(tmp_path):
    fitted = trained(TrainParams(epochs=5, calibration="sigmoid"))
    for name, data in files(fitted).items():
        (tmp_path / name).write_bytes(data)
    x = blobs(100, seed=3).read(0)
    assert np.array_equal(model.read(tmp_path).predict_proba(x), fitted.classifier.predict_proba(x))
    assert fitted.classifier.card["calibration"]["method"] == "sigmoid"


DAMAGES = {
    "missing": "no classifier here; run the train stage first",
    "torn": "model.safetensors is not the one that model.json describes",
    "changed": "model.safetensors is not the one that model.json describes",
    "pickled": "model.safetensors is not the one that model.json describes",
    "foreign": "not a classifier of format 3",
    "list": "not a classifier of format 3",
    "no json": "model.json: not JSON",
    "no classes": "model.json: lacks classes",
    "no tensors": "model.json: lacks tensors",
    "lacking": "model.safetensors: lacks scale",
    "gap": "model.safetensors: lacks 'layers.1.weight'",
    "no safetensors": "not a classifier that can be read",
    "nan": "mean holds values that are not finite",
    "classes": "gives 3 scores for 2 classes",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_foreign_classifier_is_refused(tmp_path, damage):
    made = files(trained(TrainParams(epochs=1)))
    tensors, card = made["model.safetensors"], made["model.json"]
    classifier = trained(TrainParams(epochs=1)).classifier
    broken = dict(classifier.tensors)
    if damage == "nan":
        broken["mean"] = broken["mean"] * np.float32("nan")
    if damage == "lacking":
        del broken["scale"]
    if damage == "gap":
        broken["layers.2.weight"] = broken.pop("layers.1.weight")
    if damage in {"nan", "lacking", "gap"}:
        made = model.Classifier(classifier.classes, broken, {}).files()
    content = json.loads(card)
    changes = {
        **{
            f"no {name}": {
                "model.json": json.dumps({k: v for k, v in content.items() if k != name}).encode()
            }
            for name in ("classes", "tensors")
        },
        "no safetensors": {
            "model.json": json.dumps({**content, "tensors": model.sha256(b"no")}).encode(),
            "model.safetensors": b"no",
        },
        "classes": {"model.json": re.sub(rb'"c0",\s*', b"", card)},
        "foreign": {"model.json": b"{}"},
        "list": {"model.json": b"[3]"},
        "no json": {"model.json": card[:-9]},
        "torn": {"model.safetensors": tensors[:-5]},
        "changed": {"model.safetensors": tensors[:-5] + b"12345"},
        "pickled": {"model.safetensors": pickle.dumps(card)},
    }
    for name, data in {**made, **changes.get(damage, {})}.items():
        (tmp_path / name).write_bytes(data)
    if damage == "missing":
        (tmp_path / "model.json").unlink()
    with pytest.raises(InputError, match=DAMAGES[damage]):
        model.read(tmp_path)
