"""Networks: their default sizes, and which a file can hold."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from training_rows import blobs

from pipeline.config.sections import TrainParams
from pipeline.core.errors import SettingError
from pipeline.train import classifiers
from pipeline.train.batches import Data
from pipeline.train.fit import classifier_of


def test_the_default_sizes_are_those_of_pyspacer():
    from pipeline.train.classifiers import mlp

    assert mlp.hidden(TrainParams(), 49_999) == (100,)
    assert mlp.hidden(TrainParams(), 50_000) == (200, 100)
    assert mlp.hidden(TrainParams(hidden=(7,)), 10) == (7,)


class Residual(torch.nn.Module):
    """Linear layers and ReLU, but not applied one after the other."""

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
def test_a_network_that_a_file_cannot_hold_is_refused(monkeypatch, network, what):
    """It would be trained as it is and evaluated as an MLP."""
    mine = SimpleNamespace(build=lambda *_: network)
    monkeypatch.setattr(classifiers.registry, "find", lambda *_, **__: mine)
    with pytest.raises(SettingError, match=f"'mine' is {what}; a classifier is linear layers"):
        classifiers.build(SimpleNamespace(classifier="mine"), 4, 2, 40)


def test_a_network_may_use_a_layer_twice():
    rectified = torch.nn.ReLU()
    inner = torch.nn.Sequential(torch.nn.Linear(3, 3), rectified)
    network = torch.nn.Sequential(LINEAR, rectified, inner, inner, torch.nn.Dropout(0.1), LAST)
    data = Data(blobs(40, dim=4), np.zeros(40, np.int64), 1 << 20)
    kept = classifier_of(("a", "b"), data, classifiers.checked(network, "mine").eval())
    rows = np.random.default_rng(0).normal(0, 1, (20, 4)).astype(np.float32)
    logits = network(torch.from_numpy(rows)).detach().numpy()
    np.testing.assert_allclose(kept.logits_of_standardized(rows), logits, atol=1e-6)
