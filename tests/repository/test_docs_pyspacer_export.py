"""A classifier of PySpacer's, exported beside it, gives the scores that the pickle gave."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.tree import DecisionTreeClassifier

from pipeline.commands import model_export
from pipeline.core.errors import SettingError
from pipeline.train import model as _artifact


def learnt(inner, count):
    """As PySpacer trains: CoralNet's ids, `partial_fit`, sigmoids on rows that were held back."""
    rng = np.random.default_rng(0)
    ids = np.array([82, 9, 105, 7][:count])
    x = rng.normal(0, 1, (400, 12)).astype(np.float32)
    y = ids[(x[:, :count] + rng.normal(0, 0.7, (400, count))).argmax(axis=1)]
    inner.fit(x[:300], y[:300])
    return CalibratedClassifierCV(FrozenEstimator(inner), method="sigmoid").fit(x[300:], y[300:])


def export(tmp_path, data, *more):
    (tmp_path / "old.pkl").write_bytes(data)
    (tmp_path / "manifest.json").write_text(json.dumps({"made_by": {"identity": {"name": "it"}}}))
    script, manifest = ROOT / "docs/pyspacer_export.py", tmp_path / "manifest.json"
    words = [script, tmp_path / "old.pkl", tmp_path / "new", "--features", manifest, *more]
    command = [sys.executable, "-W", "ignore", *map(str, words)]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)


MODELS = {
    "mlp": MLPClassifier((10, 6), max_iter=30, random_state=0),
    "lr": SGDClassifier(loss="log_loss", average=True, random_state=0),
    "lr2": LogisticRegression(),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("kind", MODELS)
def test_the_exported_classifier_gives_the_pickles_scores(kind, count, tmp_path):
    model = learnt(MODELS[kind], count)
    done = export(tmp_path, pickle.dumps(model, protocol=2))
    assert done.returncode == 0, done.stderr
    found = _artifact.read(tmp_path / "new")
    assert found.classes == tuple(map(str, model.classes_))
    x = np.random.default_rng(1).normal(0, 4, (200, 12)).astype(np.float32)
    assert np.abs(found.predict_proba(x) - model.predict_proba(x)).max() < 1e-6
    assert found.card["extractor"]["made_by"]["identity"] == {"name": "it"}


@pytest.mark.filterwarnings("ignore")
def test_ids_become_names_and_two_of_one_name_are_refused(tmp_path):
    data = pickle.dumps(learnt(MODELS["mlp"], 4))
    (tmp_path / "names.csv").write_text("from,to\n82,Porites\n7,Sand\n")
    assert export(tmp_path, data, "--labels", "names.csv").returncode == 0
    assert _artifact.read(tmp_path / "new").classes == ("Sand", "9", "Porites", "105")
    (tmp_path / "names.csv").write_text("from,to\n82,Sand\n7,Sand\n")
    done = export(tmp_path, data, "--labels", "names.csv")
    assert done.returncode == 3
    assert "two classes become Sand" in done.stderr


@pytest.mark.parametrize("calibration", ["temperature", "mixture", "sigmoid"])
def test_what_quadrat_exported_comes_back(calibration, tmp_path):
    rng = np.random.default_rng(2)
    tensors = {
        "mean": rng.normal(0, 1, 5),
        "scale": np.ones(5),
        "temperature": np.full(1, 1.0 if calibration == "sigmoid" else 1.7),
        "layers.0.weight": rng.normal(0, 1, (3, 5)),
        "layers.0.bias": rng.normal(0, 1, 3),
    }
    if calibration == "mixture":
        tensors["doubt"] = np.array([0.1])
    if calibration == "sigmoid":
        tensors |= {"sigmoid.slope": np.array([-5.0, -3, -4]), "sigmoid.offset": np.ones(3)}
    classifier = _artifact.Classifier(
        ("a", "b", "c"), {name: value.astype(np.float32) for name, value in tensors.items()}, {}
    )
    done = export(tmp_path, model_export.scikit_learn(classifier))
    assert done.returncode == 0, done.stderr
    x = rng.normal(0, 3, (50, 5))
    found = _artifact.read(tmp_path / "new").predict_proba(x)
    assert np.abs(found - classifier.predict_proba(x)).max() < 1e-9


@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_exported_is_said(tmp_path):
    tree = learnt(DecisionTreeClassifier(max_depth=2), 4)
    done = export(tmp_path, pickle.dumps(tree))
    assert done.returncode == 3
    assert "calibrates a DecisionTreeClassifier" in done.stderr
    done = export(tmp_path, pickle.dumps(MLPClassifier()))
    assert "a MLPClassifier, not a fitted CalibratedClassifierCV" in done.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.filterwarnings("ignore")
def test_a_foreign_classifier_of_class_against_rest_is_not_written_on(tmp_path):
    assert export(tmp_path, pickle.dumps(learnt(MODELS["lr"], 4))).returncode == 0
    found = _artifact.read(tmp_path / "new")
    for write in model_export.FORMATS.values():
        with pytest.raises(SettingError, match="comes from a pickle"):
            write(found)
