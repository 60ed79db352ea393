"""The classifier as a scikit-learn estimator."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from pipeline.core.errors import InputError, QuadratError
from pipeline.train.estimator import FeatureClassifier
from pipeline.train.model import read

ESTIMATORS = [
    FeatureClassifier(),
    FeatureClassifier(classifier="lr", learning_rate=0.01),
    FeatureClassifier(hidden=(16, 8), learning_rate=0.01, standardize=False, balance="weights"),
]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Parallel tests would wait for each other's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(ESTIMATORS)
def test_it_passes_scikit_learns_estimator_checks(estimator, check):
    check(estimator)


def rows(count=900, seed=0):
    return make_classification(
        count, 20, n_informative=10, n_classes=3, class_sep=2.0, random_state=seed
    )


def test_it_works_in_pipelines_and_grid_searches():
    x, y = rows()
    model = make_pipeline(StandardScaler(), FeatureClassifier(epochs=30))
    name = "featureclassifier__hidden"
    found = GridSearchCV(model, {name: [(2,), np.array([40])]}, cv=2).fit(x, y)
    assert found.best_params_[name] == [40]
    assert found.score(x, y) > 0.85


def test_labels_may_be_of_any_type():
    x, y = rows()
    numbers = FeatureClassifier(epochs=3).fit(x, y * 5)
    words = FeatureClassifier(epochs=3).fit(x, np.array(["b", "c", "a"])[y])
    assert set(numbers.predict(x)) == {0, 5, 10}
    assert words.classes_.tolist() == ["a", "b", "c"]
    assert np.mean(words.predict(x) == np.array(["b", "c", "a"])[y]) > 0.6


def test_partial_fit_improves_with_each_call():
    x, y = rows()
    model = FeatureClassifier(batch=50, learning_rate=1e-3)
    scores = []
    for _ in range(8):
        for part in np.array_split(np.arange(len(x)), 3):
            model.partial_fit(x[part], y[part], classes=[0, 1, 2])
        scores.append(model.score(x, y))
    assert scores[-1] > 0.9 > scores[0]


def test_partial_fit_refuses_missing_and_unknown_classes():
    x, y = rows()
    with pytest.raises(ValueError, match="needs the classes"):
        FeatureClassifier().partial_fit(x, y)
    model = FeatureClassifier().partial_fit(x, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="7 is none of the classes"):
        model.partial_fit(x, y + 7)
    with pytest.raises(ValueError, match="not those of the first call"):
        model.partial_fit(x, y, classes=[0, 1])


@pytest.mark.parametrize("name", ["lr", "mlp"])
def test_partial_fit_continues_after_fit(name):
    x, y = rows()
    model = FeatureClassifier(classifier=name, epochs=1).fit(x, y)
    before = model.score(x, y)
    for _ in range(30):
        model.partial_fit(x, y)
    assert model.score(x, y) > before


def test_fit_starts_from_scratch():
    (x, y), (other, z) = rows(), rows(seed=1)
    fresh = FeatureClassifier(epochs=2).fit(x, y).partial_fit(x, y)
    used = FeatureClassifier(epochs=2).partial_fit(other, z, classes=[0, 1, 2]).fit(x, y)
    used.partial_fit(x, y)
    assert np.array_equal(used.predict_proba(x), fresh.predict_proba(x))


def test_partial_fit_uses_a_constant_rate():
    x, y = rows()
    steady, falling = (FeatureClassifier(schedule=name) for name in ("constant", "cosine"))
    for model in (steady, falling):
        for _ in range(3):
            model.partial_fit(x, y, classes=[0, 1, 2])
    assert np.array_equal(steady.predict_proba(x), falling.predict_proba(x))


def test_a_trained_classifier_is_opened_and_fine_tuned(done_repo, tmp_path):
    model = FeatureClassifier.open(done_repo.path / "models/classifier")
    assert model.classes_.tolist() == ["noise", "plain", "stripes"]
    x = np.random.default_rng(0).normal(0, 9, (50, model.n_features_in_)).astype(np.float32)
    saved = read(done_repo.path / "models/classifier")
    assert np.array_equal(model.predict_proba(x), saved.predict_proba(x))
    assert set(model.predict(x)) <= set(model.classes_)
    with pytest.raises(ValueError, match="features"):
        model.predict(x[:, :-1])
    again = model.predict_proba(x)
    model.partial_fit(x, model.predict(x))
    assert not np.array_equal(model.predict_proba(x), again)
    with pytest.raises(InputError, match="no classifier here"):
        FeatureClassifier.open(tmp_path)


def test_opening_and_predicting_need_no_torch(done_repo):
    code = (
        "import sys, numpy\n"
        "from pipeline.train.estimator import FeatureClassifier\n"
        "model = FeatureClassifier.open('models/classifier')\n"
        "print(model.predict(numpy.zeros((1, model.n_features_in_))), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=done_repo.path,
        env={**done_repo.env, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split()[-1] == "False", done.stderr


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classifier": "tree"}, "tree"),
        ({"epochs": 0}, "epochs"),
        ({"dropout": 1.5}, "dropout"),
        ({"schedule": "steps"}, "schedule"),
    ],
)
def test_a_wrong_parameter_is_named_in_the_error(settings, message):
    x, y = rows()
    with pytest.raises((ValueError, QuadratError), match=message):
        FeatureClassifier(**settings).fit(x, y)
