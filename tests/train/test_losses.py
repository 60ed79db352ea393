"""What a network is trained for: losses, correct rows and the logits to start at."""

import numpy as np
import pytest
import torch
from scipy.special import expit, log_softmax, logit

from pipeline.config.sections import TrainParams
from pipeline.train.batches import LEFT_OUT
from pipeline.train.losses import Objective

Y = np.array([0] * 6 + [1] * 3 + [LEFT_OUT] * 4)
"""Of three classes, the last of which no row has."""

SETS = np.array([[0, 0, 0], [0, 1, 0], [1, 1, 0], [1, 0, 0]], np.float32)
IN_SETS = np.array([2] * 5 + [1] * 3 + [0] * 2 + [LEFT_OUT] * 4)
"""The first class has 5 of 10 rows, the second 8, the third none; no row has the last set."""

UNEVEN = TrainParams(balance="weights", label_smoothing=0.1)


def some_logits(rows):
    return np.random.default_rng(0).normal(0, 2, (rows, 3)).astype(np.float32)


def effective(*counts):
    return np.array([(1 - 0.999**count) / (1 - 0.999) for count in counts])


def test_the_loss_of_one_label_is_weighted_and_smoothed_cross_entropy():
    objective = Objective(Y, 3, UNEVEN)
    logits, y = some_logits(9), Y[:9]
    weights = 1 / effective(6, 3, 1)
    weights *= 9 / (weights[:2] @ [6, 3])  # a mean over the rows of 1
    np.testing.assert_allclose(objective.weights, weights, rtol=1e-5)
    losses = -log_softmax(logits.astype(float), axis=1)
    smoothed = 0.9 * np.eye(3)[y] + 0.1 / 3
    wanted = (smoothed * weights * losses).sum() / weights[y].sum()
    batch = torch.from_numpy(logits), torch.from_numpy(y)
    assert float(objective.loss(*batch)) == pytest.approx(wanted, rel=1e-5)
    plain = losses[np.arange(9), y].sum()
    assert objective.plain_loss(*batch) == pytest.approx(plain, rel=1e-12)  # in float64
    assert int(objective.correct(*batch)) == np.count_nonzero(logits.argmax(1) == y)


def test_the_sum_of_losses_of_several_labels_is_taken_in_float64():
    objective = Objective(IN_SETS, 3, UNEVEN, SETS)
    logits, y = some_logits(10), IN_SETS[:10]
    p = expit(logits.astype(float))
    wanted = -np.log(np.where(SETS[y] > 0, p, 1 - p)).mean(axis=1).sum()
    found = objective.plain_loss(torch.from_numpy(logits), torch.from_numpy(y))
    assert found == pytest.approx(wanted, rel=1e-12)


def test_a_row_of_several_labels_is_correct_if_exactly_they_are_above_one_half():
    objective = Objective(IN_SETS, 3, TrainParams(), SETS)
    logits = torch.tensor([[-1, 0.0, -2], [0, 0.5, -1], [0.1, 2, -9], [0.1, -0.1, 3], [0, 0, 0]])
    assert int(objective.correct(logits, torch.tensor([0, 1, 2, 3, 3]))) == 3


@pytest.mark.parametrize(
    ("train", "rows"),
    [
        (TrainParams(), [7, 4, 1]),
        (TrainParams(balance="resample", min_per_class=4, max_per_class=5), [6, 5, 1]),
        (UNEVEN, [7, 4, 1] / effective(6, 3, 1)),
    ],
    ids=["plain", "resampled", "weighted"],
)
def test_one_label_starts_at_the_shares_of_the_classes_plus_one_row(train, rows):
    start = Objective(Y, 3, train).start
    assert start.dtype == torch.float32
    np.testing.assert_allclose(start.softmax(0), rows / np.sum(rows), rtol=1e-5)
    assert float(start.mean()) == pytest.approx(0, abs=1e-6)


def test_several_labels_start_at_the_share_of_each_class_plus_one_row():
    plain = Objective(IN_SETS, 3, TrainParams(balance="resample"), SETS).start
    np.testing.assert_allclose(plain, logit([6 / 12, 9 / 12, 1 / 12]), rtol=1e-5, atol=1e-6)
    weights = 1 / effective(5, 8, 1)
    weights *= 13 / (weights @ [5, 8, 0])
    weighted = Objective(IN_SETS, 3, UNEVEN, SETS)
    np.testing.assert_allclose(weighted.weights, weights, rtol=1e-5)
    np.testing.assert_allclose(weighted.start, plain.numpy() + np.log(weights), atol=1e-5)


def test_the_rows_of_each_class_leave_out_those_without_one():
    rows = [part.tolist() for part in Objective(Y, 3, TrainParams()).rows_by_class(Y)]
    assert rows == [[0, 1, 2, 3, 4, 5], [6, 7, 8], []]
    several = Objective(IN_SETS, 3, TrainParams(), SETS).rows_by_class(IN_SETS)
    first, both = [0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5, 6, 7]
    assert [part.tolist() for part in several] == [first, both, [], [8, 9]]


@pytest.mark.parametrize(("y", "sets"), [(Y, None), (IN_SETS, SETS)])
def test_tensors_move_to_a_device(y, sets):
    for train in (UNEVEN, TrainParams()):
        objective = Objective(y, 3, train, sets)
        objective.to(torch.device("meta"))
        moved = [part for part in (objective.weights, objective.targets) if part is not None]
        assert all(part.device.type == "meta" for part in moved)
        assert len(moved) == (train is UNEVEN) + (sets is not None)
