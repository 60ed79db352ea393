"""The epochs of a training: minibatches, steps, a checkpoint after each epoch, early stopping."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim.adam import adam

from pipeline.config.sections import TrainParams
from pipeline.train.balance import repeats
from pipeline.train.batches import Data
from pipeline.train.checkpoint import Checkpoint, Tensors, decode, encode
from pipeline.train.losses import Objective
from pipeline.train.schedule import Schedule

HELD_OUT_ROWS = 16_384
"""Rows of the calibration split that are evaluated at once."""

BEST = "best."
"""Prefix of the weights of the best epoch in a checkpoint."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """One row of the learning curve; None if the calibration split is empty."""

    epoch: int
    train_loss: float
    train_accuracy: float
    calibration_loss: float | None
    calibration_accuracy: float | None


class Adam:
    """Adam (Kingma and Ba 2015) by torch's own function, bit-equal to `torch.optim.Adam`.

    The class itself imports torch's compiler when the first one is created: one to three seconds,
    more than most trainings take.
    """

    def __init__(self, parameters: list[nn.Parameter], weight_decay: float) -> None:
        self.parameters = cast("list[torch.Tensor]", parameters)
        self.weight_decay = weight_decay
        self.means = [torch.zeros_like(parameter) for parameter in parameters]
        self.squares = [torch.zeros_like(parameter) for parameter in parameters]
        self.steps = [torch.zeros((), device=parameter.device) for parameter in parameters]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Take one step of *rate* along the gradients."""
        adam(
            self.parameters,
            [cast("torch.Tensor", parameter.grad) for parameter in self.parameters],
            self.means,
            self.squares,
            [],
            self.steps,
            foreach=False,
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=rate,
            weight_decay=self.weight_decay,
            eps=1e-8,
            maximize=False,
        )

    def state(self) -> Tensors:
        """Return the moments and the step counts, by name."""
        kinds = {"mean": self.means, "square": self.squares, "step": self.steps}
        return {
            f"adam.{kind}.{number}": tensor
            for kind, tensors in kinds.items()
            for number, tensor in enumerate(tensors)
        }


class Loop:
    """The epochs of one training, which trains *network* in place and moves it back to the CPU."""

    def __init__(
        self,
        network: nn.Module,
        train: TrainParams,
        schedule: Schedule,
        objective: Objective,
        device: torch.device,
    ) -> None:
        self.network, self.train, self.schedule = network.to(device), train, schedule
        self.device = device
        self.optimizer = Adam(list(self.network.parameters()), train.decay)
        self.objective = objective
        objective.to(device)
        self.curve: list[Epoch] = []
        self.best = self.weights()

    def run(
        self,
        data: Data,
        held_out: Data,
        checkpoint: Checkpoint | None,
        step: Callable[[list[Epoch]], None],
    ) -> list[Epoch]:
        """Train on *data*, and evaluate on *held_out*, from the last checkpoint on.

        Returns:
            The learning curve. With `train.patience` the network is that of the epoch with the
            lowest calibration loss, else that of the last one.
        """
        if checkpoint and (state := checkpoint.load()) is not None:
            self._resume(state)
            if self.curve:
                step(self.curve)
        while len(self.curve) < self.schedule.epochs and not self._is_patience_over():
            number = len(self.curve) + 1
            epoch = Epoch(number, *self.epoch(number, data), *self.evaluate(held_out))
            self.curve.append(epoch)
            if self.best_epoch() == number:
                self.best = self.weights()
            if checkpoint:
                curve = [asdict(epoch) for epoch in self.curve]
                checkpoint.save(encode(self._tensors(), curve))
            step(self.curve)
        if self.train.patience is not None:
            self.network.load_state_dict(self.best)
        self.network.to("cpu")
        return self.curve

    def weights(self) -> Tensors:
        """Return a copy of the network's parameters, by name."""
        return {name: value.clone() for name, value in self.network.state_dict().items()}

    def best_epoch(self) -> int:
        """Return the epoch with the lowest calibration loss; without any loss, the last one."""
        losses = [e.calibration_loss for e in self.curve if e.calibration_loss is not None]
        return 1 + losses.index(min(losses)) if losses else len(self.curve)

    def _is_patience_over(self) -> bool:
        patience = self.train.patience
        return patience is not None and len(self.curve) - self.best_epoch() >= patience

    def epoch(self, number: int, data: Data) -> tuple[float, float]:
        """Train on every row once, or as often as `train.balance` asks for.

        Returns:
            The mean loss and the accuracy over the minibatches, each before its step.
        """
        self.network.train()
        rng = np.random.default_rng([self.train.seed, number])
        times = repeats(self.objective.rows_by_class(data.y), len(data.y), self.train, rng)
        total = len(data) if times is None else int(times.sum())
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        done = 0
        is_half = self.train.precision == "bf16"
        mixed_precision = torch.autocast(self.device.type, torch.bfloat16, enabled=is_half)
        with torch.random.fork_rng(devices=[]):  # only dropout draws from torch's generator
            torch.manual_seed(int(rng.integers(2**63)))
            for x, labels in self._batches(data, times, rng):
                with mixed_precision:
                    logits = self.network(x)
                loss = self.objective.loss(logits.float(), labels)
                self.network.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                self.optimizer.step(self.schedule.rate_after(number - 1 + done / total))
                loss_sum += loss.detach().double() * len(labels)
                correct += self.objective.correct(logits.detach(), labels)
                done += len(labels)
        return float(loss_sum) / total, int(correct) / total

    def _batches(
        self, data: Data, times: NDArray[np.int64] | None, rng: np.random.Generator
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield shuffled minibatches of features and classes, on the device."""
        order = torch.from_numpy(data.order(rng, None if times is None else times[data.at]))
        features, y = torch.from_numpy(data.features), torch.from_numpy(data.y[data.at])
        if self._has_room_for(features):
            order, features, y = (part.to(self.device) for part in (order, features, y))
        for batch in torch.split(order, self.schedule.batch):
            yield features[batch].to(self.device), y[batch].to(self.device)

    def _has_room_for(self, x: torch.Tensor) -> bool:
        """Return True if the device can hold *x* and as much again."""
        if self.device.type != "cuda":
            return True
        free, _ = torch.cuda.mem_get_info(self.device)
        return 2 * x.nbytes < free

    def evaluate(self, held_out: Data) -> tuple[float | None, float | None]:
        """Return the mean loss and the accuracy of *held_out*."""
        if not len(held_out):
            return None, None
        self.network.eval()
        loss, correct = 0.0, 0
        with torch.inference_mode():
            for start in range(0, len(held_out), HELD_OUT_ROWS):
                chunk = slice(start, start + HELD_OUT_ROWS)
                x = torch.from_numpy(held_out.features[chunk]).to(self.device)
                y = torch.from_numpy(held_out.y[held_out.at[chunk]]).to(self.device)
                logits = self.network(x)
                loss += self.objective.plain_loss(logits, y)
                correct += int(self.objective.correct(logits, y))
        return loss / len(held_out), correct / len(held_out)

    def _tensors(self) -> Tensors:
        """Return all that the next epoch starts from."""
        best = {BEST + name: value for name, value in self.best.items()}
        return {**self.network.state_dict(), **best, **self.optimizer.state()}

    def _resume(self, state: bytes) -> None:
        """Continue from a checkpoint, unless it is damaged or of another network."""
        tensors, curve = decode(state) or ({}, [])
        current = self._tensors()
        if {name: value.shape for name, value in tensors.items()} == {
            name: value.shape for name, value in current.items()
        }:
            with torch.no_grad():
                for name, value in current.items():
                    value.copy_(tensors[name])
            self.curve = [Epoch(**epoch) for epoch in curve]
