"""Logistic regression solved to its optimum, with the L2 penalty that suits held-out chips best.

A sequence of penalties, from strong to weak, is solved by L-BFGS, each from the optimum of the one
before. The best has the lowest log loss on the calibration split once a temperature is fitted to
it: a strong penalty makes scores too low, which the calibration corrects.

Sources: Friedman, Hastie and Tibshirani 2010, "Regularization paths for generalized linear models",
for the path; Liu and Nocedal 1989, "On the limited memory BFGS method", for the solver.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.config.sections import TrainParams
from pipeline.train.batches import Data
from pipeline.train.loop import Epoch, Loop

MOST_VALUES = 30_000_000
"""Values of all features up to which steps over all rows are fast: 23,000 chips of 1,280 values."""

PENALTIES = tuple(10 ** (exponent / 2) for exponent in range(2, -11, -1))
"""From 10 to 1e-5."""

USUAL_PENALTY = PENALTIES[5]
"""Without a calibration chip: the middle of what suits photographs, plankton and synthetic sets."""

PATIENCE = 2
"""The path ends after so many penalties that are worse than the best."""

ROUGH = {"maxiter": 1000, "gtol": 1e-3, "ftol": 1e-7}
"""L-BFGS ends where no slope is steeper than `gtol`: near enough to compare penalties."""

EXACT = {"maxiter": 1000, "gtol": 1e-5, "ftol": 1e-10}
"""For the penalty that is chosen."""


def applies(train: TrainParams, n_rows: int, dim: int) -> bool:
    """Return True if *train* is solved to its optimum, and not trained by minibatches."""
    of_minibatches = (
        train.epochs,
        train.batch,
        train.learning_rate,
        train.schedule,
        train.patience,
    )
    return (
        train.classifier == "lr"
        and train.weight_decay == "auto"
        and all(value is None for value in of_minibatches)
        and train.balance != "resample"
        and train.precision == "fp32"
        and n_rows * dim <= MOST_VALUES
    )


def choose(
    loop: Loop,
    data: Data,
    held_out: Data,
    loss_of: Callable[[NDArray[np.float64]], float],
    step: Callable[[list[Epoch]], None],
) -> tuple[list[Epoch], float]:
    """Solve the network of *loop*, one linear layer, with the best penalty for *held_out*.

    Args:
        loop: its network is left at the optimum, on the CPU.
        data: standardised.
        held_out: the calibration split, standardised in the same way.
        loss_of: the loss of logits of *held_out* [n, n_classes], by which penalties are compared.
        step: called with the curve so far, after each penalty.

    Returns:
        The learning curve, with a row for each penalty that was tried, and the penalty.
    """
    curve: list[Epoch] = []
    losses: list[float] = []
    best = loop.weights()
    rows = _Rows(loop, data)
    penalties = PENALTIES if len(held_out) else (USUAL_PENALTY,)
    for number, penalty in enumerate(penalties, 1):
        rows.minimize(penalty, ROUGH)
        curve.append(Epoch(number, *rows.measure(), *loop.evaluate(held_out)))
        losses.append(loss_of(rows.logits(held_out)) if len(held_out) else 0.0)
        step(curve)
        if losses[-1] == min(losses):
            best = loop.weights()
        elif number - 1 - int(np.argmin(losses)) >= PATIENCE:
            break
    chosen = penalties[int(np.argmin(losses))]
    loop.network.load_state_dict(best)
    solve(loop, data, chosen)
    return curve, chosen


def solve(loop: Loop, data: Data, penalty: float) -> None:
    """Set the network of *loop*, one linear layer, to its optimum on *data*, and on the CPU."""
    _Rows(loop, data).minimize(penalty, EXACT)
    loop.network.to("cpu")


class _Rows:
    """The rows of a training beside the layer that is trained, on the device."""

    def __init__(self, loop: Loop, data: Data) -> None:
        modules = loop.network.modules()
        (self.layer,) = (module for module in modules if isinstance(module, nn.Linear))
        self.objective, self.device = loop.objective, loop.device
        self.x = torch.from_numpy(data.features).to(self.device)
        self.y = torch.from_numpy(data.y[data.at]).to(self.device)

    @torch.inference_mode()
    def measure(self) -> tuple[float, float]:
        """Return the mean loss, without the penalty, and the accuracy."""
        logits = self.layer(self.x)
        correct = int(self.objective.correct(logits, self.y))
        return float(self.objective.loss(logits, self.y)), correct / len(self.y)

    @torch.inference_mode()
    def logits(self, held_out: Data) -> NDArray[np.float64]:
        """Return the logits of other rows, float64 [n, n_classes]."""
        features = torch.from_numpy(held_out.features).to(self.device)
        logits: NDArray[np.float64] = self.layer(features).double().cpu().numpy()
        return logits

    def minimize(self, penalty: float, options: Mapping[str, float]) -> None:
        """Minimise the mean loss plus half of *penalty* times the sum of the squared weights."""
        from scipy.optimize import minimize

        weight, bias = self.layer.weight, self.layer.bias

        def value_and_gradient(at: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            _unpack(at, weight, bias)
            self.layer.zero_grad(set_to_none=True)
            loss = self.objective.loss(self.layer(self.x), self.y)
            loss.backward()  # type: ignore[no-untyped-call]
            assert weight.grad is not None
            assert bias.grad is not None
            square = float(weight.detach().double().square().sum())
            gradient = _packed(weight.grad + penalty * weight.detach(), bias.grad)
            return float(loss.detach()) + penalty / 2 * square, gradient

        start = _packed(weight, bias)
        found = minimize(
            value_and_gradient, start, jac=True, method="L-BFGS-B", options=dict(options)
        )
        _unpack(found.x, weight, bias)


def _packed(*parts: torch.Tensor) -> NDArray[np.float64]:
    """Return tensors as one vector."""
    flat: NDArray[np.float64] = torch.cat(
        [part.detach().flatten().double().cpu() for part in parts]
    ).numpy()
    return flat


def _unpack(values: NDArray[np.float64], *parts: torch.Tensor) -> None:
    """Set tensors from one vector."""
    flat = torch.from_numpy(values.astype(np.float32)).to(parts[0].device)
    pieces = torch.split(flat, [part.numel() for part in parts])
    with torch.no_grad():
        for part, piece in zip(parts, pieces, strict=True):
            part.copy_(piece.view_as(part))
