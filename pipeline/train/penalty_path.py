"""Logistic regression solved to its optimum, with the L2 penalty that suits held-out chips best.

A sequence of penalties, from strong to weak, is solved by L-BFGS, each from the optimum of the one
before. The best has the lowest log loss on the calibration split once a temperature is fitted to
it: a strong penalty makes scores too low, which the calibration corrects.

Sources: Friedman, Hastie and Tibshirani 2010, "Regularization paths for generalized linear models",
for the path; Liu and Nocedal 1989, "On the limited memory BFGS method", for the solver.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Solved:
    """The penalty that was chosen, and a row of the learning curve for each that was tried."""

    penalty: float
    curve: list[Epoch]


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


def solve(
    loop: Loop,
    data: Data,
    held_out: Data,
    loss_of: Callable[[NDArray[np.float64]], float],
    step: Callable[[list[Epoch]], None],
) -> Solved:
    """Solve the network of *loop*, one linear layer, on *data*.

    Args:
        loop: its network is left at the best optimum, on the CPU.
        data: standardised.
        held_out: the calibration split, standardised in the same way.
        loss_of: the loss of logits of *held_out* [n, n_classes], by which penalties are compared.
        step: called with the curve so far, after each penalty.
    """
    (layer,) = (module for module in loop.network.modules() if isinstance(module, nn.Linear))
    x, y = (torch.from_numpy(part).to(loop.device) for part in (data.features, data.y[data.at]))

    def loss() -> torch.Tensor:
        return loop.objective.loss(layer(x), y)

    curve: list[Epoch] = []
    losses: list[float] = []
    best = loop.weights()
    penalties = PENALTIES if len(held_out) else (USUAL_PENALTY,)
    for number, penalty in enumerate(penalties, 1):
        _minimize(loss, layer, penalty, ROUGH)
        with torch.inference_mode():
            correct = int(loop.objective.correct(layer(x), y))
            logits = layer(torch.from_numpy(held_out.features).to(loop.device))
            curve.append(Epoch(number, float(loss()), correct / len(y), *loop.evaluate(held_out)))
        losses.append(loss_of(logits.double().cpu().numpy()) if len(held_out) else 0.0)
        step(curve)
        if losses[-1] == min(losses):
            best = loop.weights()
        elif number - 1 - int(np.argmin(losses)) >= PATIENCE:
            break
    chosen = penalties[int(np.argmin(losses))]
    loop.network.load_state_dict(best)
    _minimize(loss, layer, chosen, EXACT)
    loop.network.to("cpu")
    return Solved(chosen, curve)


def _minimize(
    loss: Callable[[], torch.Tensor],
    layer: nn.Linear,
    penalty: float,
    options: Mapping[str, float],
) -> None:
    """Set *layer* to where *loss* plus half of *penalty* times its squared weights is least."""
    from scipy.optimize import minimize

    weight, bias = layer.weight, layer.bias

    def value_and_gradient(at: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        _set(layer, at)
        layer.zero_grad(set_to_none=True)
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        square = float(weight.detach().double().square().sum())
        assert weight.grad is not None
        assert bias.grad is not None
        parts = (weight.grad + penalty * weight.detach(), bias.grad)
        gradient = torch.cat([part.flatten().double().cpu() for part in parts]).numpy()
        return float(value.detach()) + penalty / 2 * square, gradient

    start = torch.cat([part.detach().flatten().double().cpu() for part in (weight, bias)]).numpy()
    found = minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", options=dict(options))
    _set(layer, found.x)


def _set(layer: nn.Linear, values: NDArray[np.float64]) -> None:
    """Set weight and bias from one vector."""
    flat = torch.from_numpy(values.astype(np.float32)).to(layer.weight.device)
    with torch.no_grad():
        layer.weight.copy_(flat[: layer.weight.numel()].view_as(layer.weight))
        layer.bias.copy_(flat[layer.weight.numel() :])
