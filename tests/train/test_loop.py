"""The epochs of a training: steps, learning rates, early stopping."""

import numpy as np
import pytest
import torch
from training_rows import splits

from pipeline.config.sections import TrainParams
from pipeline.train.fit import fit
from pipeline.train.loop import Adam


def test_a_step_is_bit_equal_to_torch_adam():
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


def test_patience_stops_early_and_keeps_the_best_epoch():
    train = TrainParams(epochs=200, batch=32, hidden=(64,), learning_rate=0.02, patience=3)
    found = fit(splits(), train, "cpu")
    losses = [epoch.calibration_loss for epoch in found.curve]
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + 3 < 200
    held = splits().calibration
    x = np.concatenate([held.read(number) for number in range(len(held.blocks))])
    order = np.concatenate([block.at for block in held.blocks])
    y = [found.classifier.classes.index(held.texts[place]) for place in order]
    logits = found.classifier.logits(x).astype(np.float64)
    log_p = logits[np.arange(len(y)), y] - np.log(np.exp(logits).sum(1))
    assert -log_p.mean() == pytest.approx(losses[best], rel=1e-5)


def test_the_rate_of_a_cosine_falls_to_zero():
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
