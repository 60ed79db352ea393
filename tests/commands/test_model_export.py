"""The classifier in others' formats gives the scores that it gives here."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.commands import model_export
from pipeline.train.model import Classifier

onnxruntime = pytest.importorskip("onnxruntime")


def made(rng, sizes, *, calibration="temperature", names=None):
    tensors = {
        "mean": rng.normal(3, 2, sizes[0]),
        "scale": rng.uniform(0, 2, sizes[0]),
        "temperature": rng.uniform(0.5, 3, 1),
    }
    for number, (before, after) in enumerate(zip(sizes, sizes[1:], strict=False)):
        tensors[f"layers.{number}.weight"] = rng.normal(0, before**-0.5, (after, before))
        tensors[f"layers.{number}.bias"] = rng.normal(0, 1, after)
    if calibration == "mixture":
        tensors["doubt"] = rng.uniform(0, 0.4, 1)
    if calibration == "sigmoid":
        count = 1 if sizes[-1] == 2 else sizes[-1]
        tensors["temperature"] = np.ones(1)
        tensors["sigmoid.slope"] = rng.uniform(-9, -2, count)
        tensors["sigmoid.offset"] = rng.uniform(0, 3, count)
    names = names or tuple(f"class {number:02d}" for number in range(sizes[-1]))
    return Classifier(names, {k: v.astype(np.float32) for k, v in tensors.items()}, {})


@st.composite
def cases(draw):
    """Any classifier, and features to score."""
    inner = draw(st.lists(st.integers(1, 30), max_size=3))
    sizes = (draw(st.integers(1, 40)), *inner, draw(st.integers(2, 12)))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    calibration = draw(st.sampled_from(["temperature", "mixture", "sigmoid"]))
    return made(rng, sizes, calibration=calibration), rng.normal(3, 4, (30, sizes[0]))


def likeliest(classifier, scores, least):
    """The answers, where no other class is within *least* of them."""
    sure = np.sort(scores)[:, -2:] @ [-1, 1] > least
    return sure, np.array(classifier.classes)[scores.argmax(1)][sure]


@settings(max_examples=40, deadline=None)
@given(cases())
def test_onnx_gives_equal_scores(case):
    classifier, x = case[0], case[1].astype(np.float32)
    session = onnxruntime.InferenceSession(model_export.onnx(classifier))
    labels, found = session.run(["label", "probabilities"], {"features": x})
    wanted = classifier.predict_proba(x)
    assert np.abs(found - wanted).max() < 1e-5
    sure, answers = likeliest(classifier, wanted, 1e-5)
    assert np.array_equal(labels[sure], answers)
    said = session.get_modelmeta().custom_metadata_map
    assert tuple(json.loads(said["classes"])) == classifier.classes


@settings(max_examples=40, deadline=None)
@given(cases())
def test_scikit_learn_gives_equal_scores(case):
    classifier, x = case
    model = pickle.loads(model_export.scikit_learn(classifier))
    wanted = classifier.predict_proba(x)
    assert np.abs(model.predict_proba(x) - wanted).max() < 1e-9
    assert type(model).__name__ == "CalibratedClassifierCV"  # PySpacer takes nothing else
    assert model.classes_.tolist() == list(classifier.classes)
    sure, answers = likeliest(classifier, wanted, 1e-9)
    assert np.array_equal(model.predict(x)[sure], answers)


@pytest.mark.parametrize("calibration", ["temperature", "mixture", "sigmoid"])
def test_labels_that_are_coralnets_numbers_stay_with_their_scores(calibration):
    rng = np.random.default_rng(0)
    classifier = made(rng, (5, 4, 3), calibration=calibration, names=("10", "102", "9"))
    x = rng.normal(0, 3, (20, 5))
    model = pickle.loads(model_export.scikit_learn(classifier))
    assert model.classes_.tolist() == [9, 10, 102]
    assert np.allclose(model.predict_proba(x), classifier.predict_proba(x)[:, [2, 0, 1]])
    kept = made(rng, (5, 2), names=("09", "10"))
    assert pickle.loads(model_export.scikit_learn(kept)).classes_.tolist() == ["09", "10"]


def test_the_same_classifier_gives_the_same_bytes():
    for write in model_export.FORMATS.values():
        first, second = (write(made(np.random.default_rng(1), (6, 5, 4))) for _ in range(2))
        assert first == second


def command(repo, *words, **env):
    return subprocess.run(
        [sys.executable, "-m", "stages.model_export", *words],
        cwd=repo.path,
        env={**repo.env, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
    )


def test_the_command_writes_what_was_trained(done_repo, tmp_path):
    from pipeline.train import model as _artifact

    classifier = _artifact.read(done_repo.path / "models/classifier")
    x = np.random.default_rng(0).normal(0, 2, (9, classifier.sizes[0])).astype(np.float32)
    done = command(done_repo, str(tmp_path / "c.onnx"))
    assert done.returncode == 0, done.stderr
    assert "to 3 classes" in done.stdout
    session = onnxruntime.InferenceSession((tmp_path / "c.onnx").read_bytes())
    found = session.run(["probabilities"], {"features": x})[0]
    assert np.abs(found - classifier.predict_proba(x)).max() < 1e-5
    assert "filters" in session.get_modelmeta().custom_metadata_map["extractor"]
    assert command(done_repo, str(tmp_path / "c.pkl")).returncode == 0
    model = pickle.loads((tmp_path / "c.pkl").read_bytes())
    assert np.allclose(model.predict_proba(x), classifier.predict_proba(x), atol=1e-6)


def test_a_file_that_cannot_be_written_is_an_error(done_repo, tmp_path):
    done = command(done_repo, str(tmp_path / "c.h5"))
    assert done.returncode == 2
    assert "c.h5: must end in .onnx or .pkl" in done.stderr
    done = command(done_repo, str(tmp_path / "nowhere/c.onnx"))
    assert done.returncode == 4
    assert "cannot be written (No such file or directory)" in done.stderr
    done = command(done_repo, str(tmp_path / "c.onnx"), "--folder", str(tmp_path))
    assert done.returncode == 3
    assert "no classifier here" in done.stderr
    hidden = "import sys; sys.modules['onnx'] = None"
    (tmp_path / "sitecustomize.py").write_text(hidden)
    done = command(done_repo, str(tmp_path / "c.onnx"), PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert done.returncode == 2
    assert "pip install onnx" in done.stderr
    assert not (tmp_path / "c.onnx").exists()
