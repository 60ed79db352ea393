"""Rows for training: each once an epoch, in memory or in parts; classes, weights and repeats."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.sections import TrainParams
from pipeline.core.errors import InputError
from pipeline.train.balance import class_weights, repeats
from pipeline.train.batches import LEFT_OUT, Data, Rows
from pipeline.train.classes import choose_classes
from pipeline.train.fit import Splits, fit
from pipeline.train.label_map import LabelMap, parse


def in_blocks(features, labels, sizes):
    """Rows as they lie in shards: blocks of other sizes, each with rows from anywhere."""
    order = np.random.default_rng(5).permutation(len(labels))
    edges = np.minimum(np.cumsum(sizes), len(labels))
    blocks = [part for part in np.split(order, edges) if len(part)]
    return Rows(labels, features.shape[1], blocks, lambda n: features[blocks[n]].copy())


ROWS = st.integers(1, 60)
SIZES = st.lists(st.integers(1, 20), max_size=8)


@settings(max_examples=60)
@given(ROWS, SIZES, st.integers(0, 2**32), st.integers(16, 2000))
def test_an_epoch_has_every_row_once_in_an_order_that_the_seed_decides(count, sizes, seed, room):
    features = np.arange(count * 3, dtype=np.float32).reshape(count, 3)
    y = np.random.default_rng(seed).integers(LEFT_OUT, 3, count)
    rows = in_blocks(features, ["x"] * count, sizes)

    def epoch():
        data = Data(rows, y, room)
        return [(at.copy(), x.copy()) for at, x in data.passes(np.random.default_rng(seed))]

    found = epoch()
    at = np.concatenate([at for at, _ in found]) if found else np.empty(0, int)
    assert sorted(at.tolist()) == np.flatnonzero(y >= 0).tolist()
    for places, x in found:
        np.testing.assert_array_equal(x, features[places])
    again = epoch()
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(found, again, strict=True))


@settings(max_examples=40)
@given(ROWS, SIZES, st.integers(0, 2**32), st.sampled_from([16, 10**6]))
def test_features_are_brought_to_mean_0_and_one_scale(count, sizes, seed, room):
    rng = np.random.default_rng(seed)
    features = rng.normal(rng.uniform(-1e3, 1e3, 4), rng.uniform(0.1, 9, 4), (count, 4))
    features = features.astype(np.float32)
    features[:, 1] = 7.5
    data = Data(in_blocks(features, ["x"] * count, sizes), np.zeros(count, np.int64), room)
    mean, scale = data.mean_and_scale()
    np.testing.assert_allclose(mean, features.mean(0, dtype=np.float64), rtol=1e-6)
    deviation = features.std(0, dtype=np.float64)
    tells = deviation > 1e-6 * np.abs(mean)
    assert scale[~tells].tolist() == [0] * int((~tells).sum())
    common = np.sqrt(np.square(deviation[tells]).mean()) if tells.any() else 1.0
    np.testing.assert_allclose(1 / scale[tells], common, rtol=1e-4)
    data.standardize(mean, scale)
    for at, x in data.passes():
        np.testing.assert_array_equal(x, (features[at] - mean) * scale)


def members(y, n_classes):
    return [np.flatnonzero(y == number) for number in range(n_classes)]


@settings(max_examples=60)
@given(st.lists(st.integers(-1, 4), min_size=1, max_size=80), st.integers(1, 9), st.integers(0, 30))
def test_resampling_gives_every_class_between_floor_and_cap(y, floor, more):
    y = np.array(y)
    train = TrainParams(balance="resample", min_per_class=floor, max_per_class=floor + more)
    often = repeats(members(y, 5), len(y), train, np.random.default_rng(0))
    assert (often[y == LEFT_OUT] == 0).all()
    for number in range(5):
        some = often[y == number]
        if len(some):
            assert some.sum() == min(max(len(some), floor), floor + more)
            assert some.max() - some.min() <= 1


def test_over_the_epochs_a_cap_shows_every_row():
    y = np.zeros(50, np.int64)
    train = TrainParams(balance="resample", min_per_class=1, max_per_class=10)
    rngs = (np.random.default_rng([0, epoch]) for epoch in range(60))
    assert (sum(repeats(members(y, 1), len(y), train, rng) for rng in rngs) > 0).all()


def test_weights_follow_the_effective_number():
    counts = np.array([2000, 100, 1])
    found = class_weights(counts, TrainParams(balance="weights"))
    effective = (1 - 0.999**counts) / (1 - 0.999)
    np.testing.assert_allclose(found / found[0], effective[0] / effective, rtol=1e-5)
    assert np.average(found, weights=counts) == pytest.approx(1)
    assert class_weights(counts, TrainParams()) is None


LABELS = ["Porites"] * 9 + ["Pocillopora"] * 5 + ["sand"] * 4 + ["shadow"] * 2 + ["fish"]
MAP = LabelMap({"Porites": "coral", "Pocillopora": "coral", "shadow": None}, "x")


@pytest.mark.parametrize(
    ("settings", "names", "fish"),
    [
        ({}, ("coral", "fish", "sand"), 1),
        ({"min_class_count": 2, "rare_classes": "drop"}, ("coral", "sand"), LEFT_OUT),
        ({"min_class_count": 2, "rare_classes": "merge"}, ("coral", "other", "sand"), 1),
        ({"min_class_count": 2}, ("coral", "fish", "sand"), 1),
        ({"min_class_count": 5, "rare_classes": "merge"}, ("coral", "other"), 1),
        ({"min_class_count": 99, "rare_classes": "merge"}, ("other",), 0),
    ],
)
def test_labels_become_classes_by_map_and_rule(settings, names, fish):
    found = choose_classes(LABELS, MAP, TrainParams(**settings))
    assert found.names == names
    index, _ = found.encode(["fish", "Porites", "shadow", "never seen"])
    assert index[0] == fish
    assert index[1] == (0 if "coral" in names else names.index("other"))
    assert index[2:].tolist() == [LEFT_OUT, LEFT_OUT]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("old,new\na,b\n", "needs the columns from and to"),
        ("from,to\na,b\na,c\n", "labels.csv:3: 'a' becomes 'c', and 'b' above"),
        ("from,to\n,b\n", "labels.csv:2: names no label"),
        ("from,to\na,b\na,\n", "labels.csv:3: 'a' becomes 'nothing', and 'b' above"),
    ],
)
def test_a_label_map_that_says_two_things_is_refused(text, said):
    with pytest.raises(InputError, match=said):
        parse(text.encode(), "labels.csv")
    with pytest.raises(InputError, match="not UTF-8"):
        parse(b"from,to\n\xff\xfe,a\n", "labels.csv")


def test_a_label_map_is_read_as_a_spreadsheet_writes_it():
    found = parse('\ufefffrom,to,note\r\n a ,b,x\r\n"c, d",,\r\n'.encode(), "m.csv")
    assert found.to == {"a": "b", "c, d": None}


class Kept:
    """Keeps states as a store does, and cuts a run off after some of them."""

    def __init__(self, cut=None):
        self.states, self.cut = [], cut

    def load(self):
        return self.states[-1] if self.states else None

    def save(self, state):
        self.states.append(state)
        if len(self.states) == self.cut:
            raise KeyboardInterrupt


def splits(memory_rows=None):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 8))
    y = rng.integers(0, 4, 500)
    x = (centres[y] + rng.normal(size=(500, 8))).astype(np.float32)
    labels = [f"c{number}" for number in y]
    sizes = [60] * 5
    return Splits(in_blocks(x[:400], labels[:400], sizes), in_blocks(x[400:], labels[400:], [30]))


GIB = 2**30
SETTINGS = [
    {},
    {"memory_gib": 2000 / GIB},
    {"dropout": 0.3, "schedule": "cosine", "patience": 2, "learning_rate": 0.05},
    {"balance": "resample", "min_per_class": 90, "max_per_class": 95, "label_smoothing": 0.1},
    {"precision": "bf16", "min_class_count": 90, "rare_classes": "merge"},
    {"balance": "weights", "classifier": "lr", "calibration": "sigmoid"},
]


@pytest.mark.parametrize("given", SETTINGS)
@pytest.mark.parametrize("cut", [1, 3])
def test_a_training_that_is_cut_off_goes_on_to_the_same_bytes(given, cut):
    train = TrainParams(epochs=6, batch=32, **given)
    whole = fit(splits(), train, "cpu")
    kept = Kept(cut)
    with pytest.raises(KeyboardInterrupt):
        fit(splits(), train, "cpu", checkpoint=kept)
    epochs = []
    rest = fit(splits(), train, "cpu", epochs.append, kept)
    assert len(epochs) == len(whole.curve) - cut
    assert rest.curve == whole.curve
    assert rest.classifier.files() == whole.classifier.files()


def test_a_damaged_state_is_not_gone_on_from():
    train = TrainParams(epochs=4, batch=32)
    whole = fit(splits(), train, "cpu").classifier.files()
    kept = Kept()
    fit(splits(), train, "cpu", checkpoint=kept)
    good = kept.states[1]
    for place in (len(good) // 2, len(good) - 3, 40):
        damaged = bytearray(good)
        damaged[place] ^= 4
        kept.states = [bytes(damaged)]
        assert fit(splits(), train, "cpu", checkpoint=kept).classifier.files() == whole
    for state in (b"", b"{}", good[:-9]):
        kept.states = [state]
        assert fit(splits(), train, "cpu", checkpoint=kept).classifier.files() == whole
    other = TrainParams(epochs=4, batch=32, hidden=(5,))
    kept.states = [good]
    fit(splits(), other, "cpu", checkpoint=kept)


def test_in_parts_it_learns_as_well_as_whole():
    train = TrainParams(epochs=30, batch=32)
    parts = TrainParams(epochs=30, batch=32, memory_gib=2000 / GIB)
    found = [fit(splits(), settings, "cpu").curve[-1] for settings in (train, parts)]
    assert abs(found[0].calibration_accuracy - found[1].calibration_accuracy) < 0.05
    assert found[0] != found[1]


def test_it_stops_early_and_takes_the_best_epoch():
    train = TrainParams(epochs=200, batch=32, hidden=(64,), learning_rate=0.02, patience=3)
    found = fit(splits(), train, "cpu")
    losses = [epoch.calibration_loss for epoch in found.curve]
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + 3 < 200
    held = splits().calibration
    x = np.concatenate([held.read(number) for number in range(len(held.blocks))])
    order = np.concatenate(held.blocks)
    y = [found.classifier.classes.index(held.labels[place]) for place in order]
    logits = found.classifier.logits(x).astype(np.float64)
    own = logits[np.arange(len(y)), y] - np.log(np.exp(logits).sum(1))
    assert -own.mean() == pytest.approx(losses[best], rel=1e-5)


def test_a_cosine_ends_in_smaller_steps():
    rates = []
    from pipeline.train import loop

    class Watched(loop.Adam):
        def step(self, rate):
            rates.append(rate)
            super().step(rate)

    kept = loop.Adam
    loop.Adam = Watched
    try:
        fit(splits(), TrainParams(epochs=5, batch=100, learning_rate=1.0, schedule="cosine"), "cpu")
    finally:
        loop.Adam = kept
    expected = 0.5 * (1 + np.cos(np.pi * np.arange(20) / 20))
    np.testing.assert_allclose(rates, expected)


def test_labels_are_rolled_up_dropped_and_said():
    given = LabelMap({"c0": "even", "c2": "even", "c3": None}, "x")
    own = splits()
    found = fit(Splits(own.train, own.calibration, given), TrainParams(epochs=1), "cpu").classifier
    assert found.classes == ("c1", "even")
    dropped = sum(label == "c3" for label in own.train.labels)
    assert found.card["n_train"] == 400 - dropped
    assert found.card["labels"]["to"] == dict(given.to)
