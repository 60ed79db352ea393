"""Training: right, seeded, calibrated, and honest about what it was given."""

import numpy as np
import pytest
import torch
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from pipeline.classifiers import _artifact
from pipeline.errors import InputError
from pipeline.sections import Train
from pipeline.training import Rows, _shuffle, _temperature, fit


def blobs(count, seed=0, dim=12, classes=3, spread=1.6):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(0, 1, (classes, dim))
    y = rng.integers(0, classes, count)
    x = (centres[y] + rng.normal(0, spread, (count, dim))).astype(np.float32) * 7 + 40
    return Rows(x, [f"c{number}" for number in y])


def trained(train, rows=None, held=None):
    return fit(rows or blobs(600), held or blobs(300, seed=1), train, "cpu")


def files(fitted):
    return fitted.classifier.files()


@pytest.mark.parametrize("name", ["lr", "mlp"])
def test_two_trainings_give_the_same_bytes_and_another_seed_does_not(name):
    train = Train(classifier=name, epochs=3)
    first = files(trained(train))
    torch.manual_seed(12345)
    np.random.default_rng(5).normal()
    assert files(trained(train)) == first
    assert files(trained(Train(classifier=name, epochs=3, seed=1))) != first


def test_lr_comes_to_scikit_learns_answer():
    rows, test = blobs(600), blobs(2000, seed=2)
    ours = trained(Train(classifier="lr", epochs=200, learning_rate=0.01)).classifier
    mean, scale = rows.features.mean(0), rows.features.std(0)
    theirs = LogisticRegression(C=1e4, max_iter=2000).fit(
        (rows.features - mean) / scale, rows.labels
    )
    agreed = np.mean(
        np.array(ours.classes)[ours.predict_proba(test.features).argmax(1)]
        == theirs.predict((test.features - mean) / scale)
    )
    assert agreed > 0.97


def test_mlp_learns_what_no_line_can_part():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (1500, 2)).astype(np.float32)
    labels = ["in" if near else "out" for near in (x**2).sum(1) < 0.5]
    held = Rows(x[1000:], labels[1000:])
    fitted = fit(Rows(x[:1000], labels[:1000]), held, Train(epochs=60, learning_rate=0.01), "cpu")
    found = np.array(fitted.classifier.classes)[fitted.classifier.predict_proba(x[1000:]).argmax(1)]
    assert np.mean(found == labels[1000:]) > 0.95


def test_the_artifact_scores_as_the_network_did_and_comes_back_from_disk(tmp_path):
    fitted = trained(Train(epochs=5))
    for name, data in files(fitted).items():
        (tmp_path / name).write_bytes(data)
    back = _artifact.read(tmp_path)
    test = blobs(100, seed=3).features
    assert np.array_equal(back.predict_proba(test), fitted.classifier.predict_proba(test))
    assert np.allclose(back.predict_proba(test).sum(1), 1)
    last = fitted.curve[-1]
    held = blobs(300, seed=1)
    index = [back.classes.index(label) for label in held.labels]
    logits = back.logits(held.features).astype(np.float64)
    assert np.mean(logits.argmax(1) == index) == pytest.approx(last.calibration_accuracy)
    own = _artifact.softmax(logits)[np.arange(300), index]
    assert -np.log(own).mean() == pytest.approx(last.calibration_loss, rel=1e-4)


@pytest.mark.parametrize("true", [0.3, 1.0, 2.5])
def test_the_temperature_that_spoilt_the_logits_is_found(true):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 5))
    shares = _artifact.softmax(logits)
    y = np.array([rng.choice(5, p=share) for share in shares])
    assert _temperature(logits * true, y) == pytest.approx(true, rel=0.05)


def test_a_few_right_answers_do_not_make_it_infinitely_sure():
    logits = np.eye(3)[[0, 1, 2] * 5] * 4.0
    y = np.array([0, 1, 2] * 5)
    temperature = _temperature(logits, y)
    assert _artifact.softmax(logits / temperature).max() < 0.99


def test_calibration_lowers_the_loss_of_an_overtrained_network():
    rows, held = blobs(80, spread=3), blobs(400, seed=1, spread=3)
    card = trained(Train(epochs=300, learning_rate=0.01), rows, held).classifier.card["calibration"]
    assert card["temperature"] > 1.5
    assert card["log_loss_after"] < card["log_loss_before"]


def test_without_calibration_chips_the_card_says_why():
    nothing = Rows(np.zeros((0, 12), np.float32), [])
    fitted = trained(Train(epochs=1), held=nothing)
    assert fitted.classifier.card["calibration"] == {
        "method": "none",
        "why": "no calibration chip has a known label",
    }
    assert fitted.curve[0].calibration_loss is None


def test_labels_of_the_calibration_split_that_training_never_saw_are_counted():
    held = blobs(50, seed=1)
    strange = Rows(held.features, ["new", *held.labels[1:]])
    assert trained(Train(epochs=1), held=strange).classifier.card["n_calibration_unseen"] == 1


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
    rows = Rows(np.zeros((len(labels), 4), np.float32), labels)
    with pytest.raises(InputError) as stop:
        fit(rows, rows, Train(), "cpu")
    assert str(stop.value) == message


def test_a_value_that_never_changes_is_ignored():
    rows = blobs(200)
    flat = rows.features.copy()
    flat[:, 3] = 5.0
    fitted = trained(Train(epochs=2), Rows(flat, rows.labels), Rows(flat, rows.labels))
    far = flat.copy()
    far[:, 3] = 1e6
    assert np.array_equal(
        fitted.classifier.predict_proba(far), fitted.classifier.predict_proba(flat)
    )


@settings(max_examples=30)
@given(st.integers(1, 500), st.integers(0, 2**31), st.integers(1, 100))
def test_a_shuffle_is_a_permutation_that_seed_and_epoch_decide(count, seed, epoch):
    order = _shuffle(count, seed, epoch)
    assert sorted(order.tolist()) == list(range(count))
    assert torch.equal(order, _shuffle(count, seed, epoch))


def test_the_default_sizes_are_pyspacers():
    from pipeline.classifiers import mlp

    assert mlp.hidden(Train(), 50_000) == (100,)
    assert mlp.hidden(Train(), 50_001) == (200, 100)
    assert mlp.hidden(Train(hidden=(7,)), 10) == (7,)


@pytest.mark.parametrize("harm", ["missing", "torn", "foreign", "nan", "classes"])
def test_a_classifier_that_cannot_be_trusted_is_refused(tmp_path, harm):
    from safetensors.numpy import load, save

    made = files(trained(Train(epochs=1)))
    tensors = load(made["model.safetensors"])
    if harm == "nan":
        made["model.safetensors"] = save({**tensors, "mean": tensors["mean"] * np.nan})
    if harm == "classes":
        made["model.json"] = made["model.json"].replace(b'"c0",', b"")
    if harm == "foreign":
        made["model.json"] = b"{}"
    if harm == "torn":
        made["model.safetensors"] = made["model.safetensors"][:-5]
    for name, data in made.items():
        (tmp_path / name).write_bytes(data)
    if harm == "missing":
        (tmp_path / "model.json").unlink()
    messages = {
        "missing": "no classifier here; run the train stage first",
        "torn": "not a classifier that can be read",
        "foreign": "not a classifier of format 1",
        "nan": "mean holds values that are not finite",
        "classes": "gives 3 scores for 2 classes",
    }
    with pytest.raises(InputError, match=messages[harm]):
        _artifact.read(tmp_path)


def test_a_step_is_bit_equal_to_torchs_own_adam():
    from pipeline.sections import Train
    from pipeline.training import Adam

    chosen = Train(learning_rate=3e-3, weight_decay=1e-2)
    torch.manual_seed(0)
    ours = torch.nn.Linear(7, 3)
    theirs = torch.nn.Linear(7, 3)
    theirs.load_state_dict(ours.state_dict())
    mine = Adam(list(ours.parameters()), chosen)
    peer = torch.optim.Adam(theirs.parameters(), lr=3e-3, weight_decay=1e-2)
    for _ in range(20):
        x = torch.randn(5, 7)
        for network, optimizer in ((ours, mine), (theirs, peer)):
            network.zero_grad(set_to_none=True)
            network(x).square().sum().backward()
            optimizer.step()
    for mine_, theirs_ in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine_, theirs_)


def test_training_does_not_import_torchs_compiler():
    """It would cost more than most trainings."""
    import subprocess
    import sys

    code = (
        "import sys, numpy as np\n"
        "from pipeline.sections import Train\n"
        "from pipeline.training import Rows, fit\n"
        "x = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)\n"
        "rows = Rows(x, ['a', 'b'] * 20)\n"
        "fit(rows, rows, Train(epochs=1), 'cpu')\n"
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
