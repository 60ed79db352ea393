"""Interrupted trainings resume from their last checkpoint, to the same bytes."""

import pytest
from training_rows import GIB, splits

from pipeline.config.sections import TrainParams
from pipeline.train.fit import fit


class CuttingCheckpoint:
    """Keeps all checkpoints in memory, and interrupts the run after *cut* of them."""

    def __init__(self, cut=None):
        self.states, self.cut = [], cut

    def load(self):
        return self.states[-1] if self.states else None

    def save(self, state):
        self.states.append(state)
        if len(self.states) == self.cut:
            raise KeyboardInterrupt


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
def test_an_interrupted_training_resumes_to_the_same_bytes(given, cut):
    train = TrainParams(epochs=6, batch=32, **given)
    whole = fit(splits(), train, "cpu")
    kept = CuttingCheckpoint(cut)
    with pytest.raises(KeyboardInterrupt):
        fit(splits(), train, "cpu", checkpoint=kept)
    epochs = []
    rest = fit(splits(), train, "cpu", lambda curve: epochs.append(len(curve)), kept)
    assert epochs == list(range(cut, len(whole.curve) + 1))
    assert rest.curve == whole.curve
    assert rest.classifier.files() == whole.classifier.files()


def test_a_damaged_checkpoint_is_ignored():
    train = TrainParams(epochs=4, batch=32)
    whole = fit(splits(), train, "cpu").classifier.files()
    kept = CuttingCheckpoint()
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
