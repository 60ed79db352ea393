"""Training: right, seeded, calibrated, and honest about what it was given."""

import json
import pickle
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from pipeline.config.sections import TrainParams
from pipeline.core.errors import InputError, SettingError
from pipeline.train import classifiers, model, schedule
from pipeline.train.batches import Data, Rows
from pipeline.train.calibration import fit_mixture, fit_sigmoids, fit_temperature, log_loss
from pipeline.train.fit import Splits, classifier_of, fit
from pipeline.train.loop import Adam


def blobs(count, seed=0, dim=12, classes=3, spread=1.6):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(0, 1, (classes, dim))
    y = rng.integers(0, classes, count)
    x = (centres[y] + rng.normal(0, spread, (count, dim))).astype(np.float32) * 7 + 40
    return Rows.of(x, [f"c{number}" for number in y])


def trained(train, rows=None, held=None):
    return fit(Splits(rows or blobs(600), held or blobs(300, seed=1)), train, "cpu")


def files(fitted):
    return fitted.classifier.files()


@pytest.mark.parametrize("name", ["lr", "mlp"])
def test_two_trainings_give_the_same_bytes_and_another_seed_does_not(name):
    train = TrainParams(classifier=name, epochs=3)
    first = files(trained(train))
    torch.manual_seed(12345)
    np.random.default_rng(5).normal()
    assert files(trained(train)) == first
    assert files(trained(TrainParams(classifier=name, epochs=3, seed=1))) != first


def test_lr_comes_to_scikit_learns_answer():
    rows, test = blobs(600), blobs(2000, seed=2)
    ours = trained(TrainParams(classifier="lr", epochs=200, learning_rate=0.01)).classifier
    mean, scale = rows.read(0).mean(0), rows.read(0).std(0)
    theirs = LogisticRegression(C=1e4, max_iter=2000).fit(
        (rows.read(0) - mean) / scale, rows.labels
    )
    agreed = np.mean(
        np.array(ours.classes)[ours.predict_proba(test.read(0)).argmax(1)]
        == theirs.predict((test.read(0) - mean) / scale)
    )
    assert agreed > 0.97


def test_lr_starts_from_the_shares_of_the_classes():
    x = blobs(100).read(0)
    rows = Rows.of(x, ["a"] * 79 + ["b"] * 20 + ["c"])
    train = TrainParams(classifier="lr", epochs=1, learning_rate=1e-12, calibration="none")
    for balance, shares in (("none", [80, 21, 2]), ("resample", [31, 21, 21])):
        settings = train.model_copy(
            update={"balance": balance, "min_per_class": 20, "max_per_class": 30}
        )
        found = trained(settings, rows, rows).classifier.predict_proba(x)
        np.testing.assert_allclose(found, [np.array(shares) / sum(shares)] * 100, atol=1e-6)


def test_few_steps_on_uneven_classes_are_enough_for_their_shares():
    """Of which the features say nothing: no probability is better than the share."""
    rng = np.random.default_rng(0)
    x = rng.normal(5, 1, (3000, 20)).astype(np.float32)
    labels = rng.choice(["a", "b", "c"], 3000, p=[0.9, 0.09, 0.01]).tolist()
    splits = Splits(Rows.of(x[:1500], labels[:1500]), Rows.of(x[1500:], labels[1500:]))
    for name in ("lr", "mlp"):
        train = TrainParams(classifier=name, epochs=1, calibration="none")
        found = fit(splits, train, "cpu").classifier.predict_proba(x[1500:]).mean(axis=0)
        np.testing.assert_allclose(found, [0.9, 0.09, 0.01], atol=0.04)


def test_mlp_learns_what_no_line_can_part():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (1500, 2)).astype(np.float32)
    labels = ["in" if near else "out" for near in (x**2).sum(1) < 0.5]
    splits = Splits(Rows.of(x[:1000], labels[:1000]), Rows.of(x[1000:], labels[1000:]))
    fitted = fit(splits, TrainParams(epochs=60, learning_rate=0.01), "cpu")
    found = np.array(fitted.classifier.classes)[fitted.classifier.predict_proba(x[1000:]).argmax(1)]
    assert np.mean(found == labels[1000:]) > 0.95


def test_the_artifact_scores_as_the_network_did_and_comes_back_from_disk(tmp_path):
    fitted = trained(TrainParams(epochs=5))
    for name, data in files(fitted).items():
        (tmp_path / name).write_bytes(data)
    back = model.read(tmp_path)
    test = blobs(100, seed=3).read(0)
    assert np.array_equal(back.predict_proba(test), fitted.classifier.predict_proba(test))
    assert np.allclose(back.predict_proba(test).sum(1), 1)
    last = fitted.curve[-1]
    held = blobs(300, seed=1)
    index = [back.classes.index(label) for label in held.labels]
    logits = back.logits(held.read(0)).astype(np.float64)
    assert np.mean(logits.argmax(1) == index) == pytest.approx(last.calibration_accuracy)
    own = model.softmax(logits)[np.arange(300), index]
    assert -np.log(own).mean() == pytest.approx(last.calibration_loss, rel=1e-4)


@pytest.mark.parametrize("true", [0.3, 1.0, 2.5])
def test_the_temperature_that_spoilt_the_logits_is_found(true):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 5))
    shares = model.softmax(logits)
    y = np.array([rng.choice(5, p=share) for share in shares])
    assert fit_temperature(logits * true, y) == pytest.approx(true, rel=0.05)


def test_a_few_right_answers_do_not_make_it_infinitely_sure():
    logits = np.eye(3)[[0, 1, 2] * 5] * 4.0
    y = np.array([0, 1, 2] * 5)
    temperature = fit_temperature(logits, y)
    assert model.softmax(logits / temperature).max() < 0.99


@pytest.mark.parametrize("doubt", [0.0, 0.08, 0.3])
@pytest.mark.parametrize("heat", [0.4, 1.0, 2.5])
def test_the_labels_that_are_wrong_whatever_the_score_are_counted(doubt, heat):
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 3, (20_000, 5))
    shares = model.softmax(logits)
    y = (shares.cumsum(1) > rng.random((20_000, 1))).argmax(1)
    y = np.where(rng.random(20_000) < doubt, rng.integers(0, 5, 20_000), y)
    found_heat, found = fit_mixture(logits * heat, y)
    assert found == pytest.approx(doubt, abs=0.02)
    assert found_heat == pytest.approx(heat, rel=0.06)
    after = model.mixed(model.softmax(logits * heat / found_heat), found, 5)
    plain = model.softmax(logits * heat / fit_temperature(logits * heat, y))
    assert log_loss(after, y) <= log_loss(plain, y) + 1e-6


def test_a_mixture_is_the_least_loss_that_scipy_finds():
    rng = np.random.default_rng(2)
    logits = rng.standard_t(3, (3000, 4)) * 2
    shares = model.softmax(logits / 1.3)
    y = (shares.cumsum(1) > rng.random((3000, 1))).argmax(1)
    y = np.where(rng.random(3000) < 0.2, rng.integers(0, 4, 3000), y)

    def loss(at):
        scores = model.mixed(model.softmax(logits / at[0]), at[1], 4)
        smooth = 1 / 3002
        return (1 - smooth) * log_loss(scores, y) - smooth * np.log(scores).mean()

    wanted = minimize(loss, [1.0, 0.1], method="Nelder-Mead", options={"xatol": 1e-7}).fun
    assert loss(fit_mixture(logits, y)) == pytest.approx(wanted, abs=1e-6)


def test_calibration_lowers_the_loss_of_an_overtrained_network():
    rows, held = blobs(80, spread=3), blobs(400, seed=1, spread=3)
    card = trained(TrainParams(epochs=300, learning_rate=0.01), rows, held).classifier.card[
        "calibration"
    ]
    assert card["temperature"] > 1.5
    assert card["log_loss_after"] < card["log_loss_before"]


def test_without_calibration_chips_the_card_says_why():
    nothing = Rows.of(np.zeros((0, 12), np.float32), [])
    fitted = trained(TrainParams(epochs=1), held=nothing)
    assert fitted.classifier.card["calibration"] == {
        "method": "none",
        "why": "no calibration chip has a known label",
    }
    assert fitted.curve[0].calibration_loss is None


def test_labels_of_the_calibration_split_that_training_never_saw_are_counted():
    held = blobs(50, seed=1)
    strange = Rows.of(held.read(0), ["new", *held.labels[1:]])
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
def test_what_cannot_be_learnt_from_says_so(labels, message):
    rows = Rows.of(np.zeros((len(labels), 4), np.float32), labels)
    with pytest.raises(InputError) as stop:
        fit(Splits(rows, rows), TrainParams(), "cpu")
    assert str(stop.value) == message


def test_a_value_that_never_changes_is_ignored():
    rows = blobs(200)
    flat = rows.read(0).copy()
    flat[:, 3] = 5.0
    fitted = trained(TrainParams(epochs=2), *[Rows.of(flat, rows.labels)] * 2)
    far = flat.copy()
    far[:, 3] = 1e6
    assert np.array_equal(
        fitted.classifier.predict_proba(far), fitted.classifier.predict_proba(flat)
    )


def test_the_default_sizes_are_pyspacers():
    from pipeline.train.classifiers import mlp

    assert mlp.hidden(TrainParams(), 49_999) == (100,)
    assert mlp.hidden(TrainParams(), 50_000) == (200, 100)
    assert mlp.hidden(TrainParams(hidden=(7,)), 10) == (7,)


HARMS = {
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


class Residual(torch.nn.Module):
    """Of linear layers and ReLU, and yet not what these come to one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU())
        self.last = torch.nn.Linear(4, 2)

    def forward(self, rows):
        return self.last(rows + self.parts(rows))


LINEAR, LAST = torch.nn.Linear(4, 3), torch.nn.Linear(3, 2)


@pytest.mark.parametrize(
    ("network", "what"),
    [
        (torch.nn.Sequential(LINEAR, torch.nn.Tanh(), LAST), "Linear, Tanh, Linear"),
        (torch.nn.Sequential(LINEAR, LAST), "Linear, Linear"),
        (torch.nn.Sequential(LINEAR, torch.nn.ReLU()), "Linear, ReLU"),
        (torch.nn.Linear(4, 2, bias=False), "Linear"),
        (Residual(), "Residual, Linear, ReLU, Linear"),
    ],
)
def test_a_network_that_the_file_could_not_hold_is_refused(monkeypatch, network, what):
    """It would be trained as it is and judged as an MLP."""
    mine = SimpleNamespace(build=lambda *_: network)
    monkeypatch.setattr(classifiers.registry, "find", lambda *_, **__: mine)
    with pytest.raises(SettingError, match=f"'mine' is {what}; a classifier is linear layers"):
        classifiers.build(SimpleNamespace(classifier="mine"), 4, 2, 40)


def test_layers_and_their_relu_may_stand_in_a_network_twice():
    rectified = torch.nn.ReLU()
    inner = torch.nn.Sequential(torch.nn.Linear(3, 3), rectified)
    network = torch.nn.Sequential(LINEAR, rectified, inner, inner, torch.nn.Dropout(0.1), LAST)
    data = Data(blobs(40, dim=4), np.zeros(40, np.int64), 1 << 20)
    kept = classifier_of(("a", "b"), data, classifiers.checked(network, "mine").eval())
    rows = np.random.default_rng(0).normal(0, 1, (20, 4)).astype(np.float32)
    logits = network(torch.from_numpy(rows)).detach().numpy()
    np.testing.assert_allclose(kept.logits_of_standardized(rows), logits, atol=1e-6)


@pytest.mark.parametrize("harm", HARMS)
def test_a_classifier_that_cannot_be_trusted_is_refused(tmp_path, harm):
    made = files(trained(TrainParams(epochs=1)))
    tensors, card = made["model.safetensors"], made["model.json"]
    classifier = trained(TrainParams(epochs=1)).classifier
    broken = dict(classifier.tensors)
    if harm == "nan":
        broken["mean"] = broken["mean"] * np.float32("nan")
    if harm == "lacking":
        del broken["scale"]
    if harm == "gap":
        broken["layers.2.weight"] = broken.pop("layers.1.weight")
    if harm in {"nan", "lacking", "gap"}:
        made = model.Classifier(classifier.classes, broken, {}).files()
    said = json.loads(card)
    changes = {
        **{
            f"no {name}": {
                "model.json": json.dumps({k: v for k, v in said.items() if k != name}).encode()
            }
            for name in ("classes", "tensors")
        },
        "no safetensors": {
            "model.json": json.dumps({**said, "tensors": model.sha256(b"no")}).encode(),
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
    for name, data in {**made, **changes.get(harm, {})}.items():
        (tmp_path / name).write_bytes(data)
    if harm == "missing":
        (tmp_path / "model.json").unlink()
    with pytest.raises(InputError, match=HARMS[harm]):
        model.read(tmp_path)


def test_a_step_is_bit_equal_to_torchs_own_adam():
    torch.manual_seed(0)
    ours = torch.nn.Linear(7, 3)
    theirs = torch.nn.Linear(7, 3)
    theirs.load_state_dict(ours.state_dict())
    mine = Adam(list(ours.parameters()), weight_decay=1e-2)
    peer = torch.optim.Adam(theirs.parameters(), lr=3e-3, weight_decay=1e-2, fused=True)
    for _ in range(20):
        x = torch.randn(5, 7)
        for network in (ours, theirs):
            network.zero_grad(set_to_none=True)
            network(x).square().sum().backward()
        mine.step(3e-3)
        peer.step()
    for mine_, theirs_ in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine_, theirs_)


def test_training_does_not_import_torchs_compiler():
    """It would cost more than most trainings."""
    import subprocess
    import sys

    code = (
        "import sys, numpy as np\n"
        "from pipeline.config.sections import TrainParams\n"
        "from pipeline.train.batches import Rows\n"
        "from pipeline.train.fit import Splits, fit\n"
        "x = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)\n"
        "rows = Rows.of(x, ['a', 'b'] * 20)\n"
        "fit(Splits(rows, rows), TrainParams(epochs=1), 'cpu')\n"
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.parametrize("classes", [2, 5])
def test_sigmoids_are_scikit_learns(classes):
    """PySpacer calibrates with CalibratedClassifierCV, sigmoid, on a fitted classifier."""
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.calibration import CalibratedClassifierCV

    class Told(ClassifierMixin, BaseEstimator):
        """Gives the probabilities that it is given."""

        def fit(self, x, y):
            self.classes_ = np.unique(y)
            return self

        def predict_proba(self, x):
            return x

        def predict(self, x):
            return self.classes_[x.argmax(1)]

    rng = np.random.default_rng(0)
    p = model.softmax(rng.normal(0, 2, (3000, classes)))
    y = np.array([rng.choice(classes, p=share) for share in p**0.5 / (p**0.5).sum(1)[:, None]])
    theirs = CalibratedClassifierCV(Told(), method="sigmoid", ensemble=False).fit(p, y)
    columns = slice(1, None) if classes == 2 else slice(None)
    slope, offset = fit_sigmoids(p[:, columns], (y[:, None] == np.arange(classes))[:, columns])
    found = model.sigmoids(p, slope, offset)
    np.testing.assert_allclose(found, theirs.predict_proba(p), atol=2e-4)
    assert found.sum(1) == pytest.approx(1)


def test_a_classifier_with_sigmoids_comes_back_from_disk(tmp_path):
    fitted = trained(TrainParams(epochs=5, calibration="sigmoid"))
    for name, data in files(fitted).items():
        (tmp_path / name).write_bytes(data)
    x = blobs(100, seed=3).read(0)
    assert np.array_equal(model.read(tmp_path).predict_proba(x), fitted.classifier.predict_proba(x))
    assert fitted.classifier.card["calibration"]["method"] == "sigmoid"


def test_presets_fill_what_is_null_and_what_is_set_wins():
    assert TrainParams(preset="mermaid", epochs=None, batch=64) == TrainParams(
        preset="mermaid",
        hidden=(500, 300, 100),
        learning_rate=1e-4,
        epochs=40,
        patience=3,
        batch=64,
        weight_decay=5e-7,
        standardize=False,
        calibration="sigmoid",
    )
    assert TrainParams(preset="pyspacer", standardize=True).standardize
    assert TrainParams(epochs=None).epochs == TrainParams().epochs
    told = TrainParams(preset="pyspacer").recipe_fields()
    assert told == TrainParams(**told).recipe_fields()
    assert told["preset"] == "pyspacer"  # which the learning rate goes by


@pytest.mark.parametrize(
    ("n_rows", "epochs", "rate"),
    [
        (500, 40, 1e-3 * (50 / 200) ** 0.5),
        (5000, 20, 1e-3 * (500 / 200) ** 0.5),
        (49_999, 10, 1e-3 * (500 / 200) ** 0.5),
        (50_000, 4, 2.5e-3 * (500 / 200) ** 0.5),
        (150_000, 2, 2.5e-3 * (500 / 200) ** 0.5),
        (1_770_000, 2, 2.5e-3 * (500 / 200) ** 0.5),
    ],
)
def test_what_is_null_goes_by_the_number_of_rows(n_rows, epochs, rate):
    assert schedule.epochs(TrainParams(), n_rows) == epochs
    for dim in (20, 1280):
        assert schedule.rate(TrainParams(), n_rows, dim) == pytest.approx(rate)
    linear, own = TrainParams(classifier="lr"), rate if n_rows < 50_000 else rate / 2
    assert schedule.rate(linear, n_rows, 1280) == pytest.approx(own)
    assert schedule.rate(linear, n_rows, 80) == pytest.approx(4 * own)
    assert schedule.rate(linear, n_rows, 2) == pytest.approx(10 * own)
    assert schedule.rate(TrainParams(learning_rate=0.5), n_rows, 80) == 0.5
    assert schedule.schedule(TrainParams(), n_rows) == (
        "cosine" if n_rows >= 50_000 else "constant"
    )
    theirs = TrainParams(preset="pyspacer")
    assert schedule.epochs(theirs, n_rows) == 10
    assert schedule.rate(theirs, n_rows, 80) == (1e-3 if n_rows < 50_000 else 1e-4)
    assert schedule.schedule(theirs, n_rows) == "constant"


def test_a_constant_rate_is_smaller_and_takes_more_epochs():
    steady = TrainParams(schedule="constant")
    assert schedule.epochs(steady, 200_000) == 4
    assert schedule.rate(steady, 200_000, 1280) == pytest.approx(5e-4 * (500 / 200) ** 0.5)
