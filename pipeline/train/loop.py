"""The epochs of a training: minibatches, steps, a checkpoint after each epoch, an early stop."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn
from torch.optim.adam import adam

from pipeline.config.sections import TrainParams
from pipeline.core.hashing import digest
from pipeline.train import classes
from pipeline.train.batches import Data
from pipeline.train.losses import Objective

HELD_ROWS = 16_384
"""Rows of the calibration split that are scored at once."""

BEST = "best."


@dataclass(frozen=True, slots=True)
class Epoch:
    """One line of the learning curve; calibration's are None where that split is empty."""

    epoch: int
    train_loss: float
    train_accuracy: float
    calibration_loss: float | None
    calibration_accuracy: float | None


class Schedule(NamedTuple):
    """How fast it learns: epochs, rows of a minibatch, the highest learning rate, its schedule."""

    epochs: int
    batch: int
    rate: float
    schedule: str


class Checkpointer(Protocol):
    """Where a training is kept between its epochs."""

    def load(self) -> bytes | None:
        """Give what was saved last, or None."""

    def save(self, state: bytes) -> None:
        """Keep *state* in place of what was saved before."""


class NullCheckpoint:
    """Keeps nothing: every training begins anew."""

    def load(self) -> bytes | None:
        """Give nothing."""
        return None

    def save(self, state: bytes) -> None:
        """Keep nothing."""


class Adam:
    """Adam (Kingma and Ba 2015) by torch's own function, bit-equal to `torch.optim.Adam`.

    The class itself imports torch's compiler when it is first made: one to three seconds, more
    than most trainings take.
    """

    def __init__(self, parameters: list[nn.Parameter], train: TrainParams) -> None:
        self.parameters, self.train = parameters, train
        self.means = [torch.zeros_like(parameter) for parameter in parameters]
        self.squares = [torch.zeros_like(parameter) for parameter in parameters]
        self.steps = [torch.zeros((), device=parameter.device) for parameter in parameters]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Take one step of *rate* along the gradients."""
        adam(
            cast("list[torch.Tensor]", self.parameters),
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
            weight_decay=self.train.weight_decay,
            eps=1e-8,
            maximize=False,
        )

    def state(self) -> dict[str, torch.Tensor]:
        """Give all that it remembers, by name."""
        kinds = {"mean": self.means, "square": self.squares, "step": self.steps}
        return {
            f"adam.{kind}.{number}": tensor
            for kind, tensors in kinds.items()
            for number, tensor in enumerate(tensors)
        }


class Loop:
    """The epochs of one training.

    Args:
        network: untrained; trained in place, and moved back to the CPU at the end.
        train: the section.
        pace: how fast it learns.
        objective: what it is trained for.
        device: where it runs.
    """

    def __init__(
        self,
        network: nn.Module,
        train: TrainParams,
        pace: Schedule,
        objective: Objective,
        device: torch.device,
    ) -> None:
        self.network, self.train = network.to(device), train
        self.epochs, self.batch, self.rate, self.schedule = pace
        self.device = device
        self.optimizer = Adam(list(self.network.parameters()), train)
        self.objective = objective
        objective.to(device)
        self.curve: list[Epoch] = []
        self.best = {name: value.clone() for name, value in self.network.state_dict().items()}

    def run(
        self, data: Data, held: Data, keeper: Checkpointer, step: Callable[[list[Epoch]], None]
    ) -> list[Epoch]:
        """Train on *data*, watching *held*, from where *keeper* has it on.

        Returns:
            The learning curve. With `train.patience` the network is that of the epoch with the
            least calibration loss, else that of the last.
        """
        self._resume(keeper.load())
        while len(self.curve) < self.epochs and not self._waited_enough():
            number = len(self.curve) + 1
            epoch = Epoch(number, *self.epoch(number, data), *self._held_out(held))
            self.curve.append(epoch)
            if self._best_epoch() == number:
                self.best = {name: v.clone() for name, v in self.network.state_dict().items()}
            keeper.save(self._state())
            step(self.curve)
        if self.train.patience is not None:
            self.network.load_state_dict(self.best)
        self.network.to("cpu")
        return self.curve

    def _best_epoch(self) -> int:
        """Give the epoch of the least calibration loss, or the last where there is none."""
        losses = [e.calibration_loss for e in self.curve if e.calibration_loss is not None]
        return 1 + losses.index(min(losses)) if losses else len(self.curve)

    def _waited_enough(self) -> bool:
        patience = self.train.patience
        return patience is not None and len(self.curve) - self._best_epoch() >= patience

    def epoch(self, number: int, data: Data) -> tuple[float, float]:
        """Learn from every row once, or as often as `train.balance` says.

        Returns:
            The mean loss and the accuracy of the minibatches as they came.
        """
        self.network.train()
        y = torch.from_numpy(data.y).to(self.device)
        rng = np.random.default_rng([self.train.seed, number])
        members = self.objective.members(data.y)
        often = classes.times(members, len(data.y), self.train, rng)
        total = len(data) if often is None else int(often.sum())
        losses = torch.zeros((), dtype=torch.float64, device=self.device)
        right = torch.zeros((), dtype=torch.int64, device=self.device)
        done = 0
        half = self.train.precision == "bf16"
        mixed = torch.autocast(self.device.type, torch.bfloat16, enabled=half)
        with torch.random.fork_rng(devices=[]):  # for dropout alone
            torch.manual_seed(int(rng.integers(2**63)))
            for x, labels in self._batches(data, y, often, rng):
                with mixed:
                    logits = self.network(x)
                loss = self.objective.loss(logits.float(), labels)
                self.network.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                self.optimizer.step(self._rate(number - 1 + done / total))
                losses += loss.detach().double() * len(labels)
                right += self.objective.right(logits.detach(), labels)
                done += len(labels)
        return float(losses) / total, int(right) / total

    def _batches(
        self,
        data: Data,
        y: torch.Tensor,
        often: NDArray[np.int64] | None,
        rng: np.random.Generator,
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for at, features in data.passes(rng):
            own = np.arange(len(at))
            order = rng.permutation(own if often is None else np.repeat(own, often[at]))
            x, places = torch.from_numpy(features), torch.from_numpy(order)
            labels = y[torch.from_numpy(at).to(self.device)]
            if self._fits(x):
                x, places = x.to(self.device), places.to(self.device)
            for batch in torch.split(places, self.batch):
                yield x[batch].to(self.device), labels[batch.to(self.device)]

    def _fits(self, x: torch.Tensor) -> bool:
        """Say whether the card has room for *x* and as much again."""
        if self.device.type != "cuda":
            return True
        free, _ = torch.cuda.mem_get_info(self.device)
        return 2 * x.nbytes < free

    def _rate(self, epochs: float) -> float:
        """Give the learning rate after so many epochs.

        Source: Loshchilov and Hutter 2017, "SGDR", for the cosine.
        """
        if self.schedule == "cosine":
            return self.rate * 0.5 * (1 + math.cos(math.pi * epochs / self.epochs))
        return self.rate

    def _held_out(self, held: Data) -> tuple[float | None, float | None]:
        if not len(held):
            return None, None
        self.network.eval()
        loss, right = 0.0, 0
        with torch.inference_mode():
            for at, features in held.passes():
                for start in range(0, len(at), HELD_ROWS):
                    some = slice(start, start + HELD_ROWS)
                    x = torch.from_numpy(features[some]).to(self.device)
                    y = torch.from_numpy(held.y[at[some]]).to(self.device)
                    logits = self.network(x)
                    loss += self.objective.plain_loss(logits, y)
                    right += int(self.objective.right(logits, y))
        return loss / len(held), right / len(held)

    def _tensors(self) -> dict[str, torch.Tensor]:
        best = {BEST + name: value for name, value in self.best.items()}
        return {**self.network.state_dict(), **best, **self.optimizer.state()}

    def _state(self) -> bytes:
        """Give all that the next epoch starts from, and a digest of it."""
        tensors = {name: value.contiguous().cpu() for name, value in self._tensors().items()}
        curve = json.dumps([asdict(epoch) for epoch in self.curve])
        return save(tensors, {"curve": curve, "sha256": _sha256(tensors, curve)})

    def _resume(self, state: bytes | None) -> None:
        """Go on from *state*, if it is whole and of this network."""
        found = None if state is None else _opened(state)
        own = self._tensors()
        if found is None or own.keys() != found[0].keys():
            return
        tensors, curve = found
        if all(tensors[name].shape == value.shape for name, value in own.items()):
            with torch.no_grad():
                for name, value in own.items():
                    value.copy_(tensors[name])
            self.curve = [Epoch(**epoch) for epoch in json.loads(curve)]


def _opened(state: bytes) -> tuple[dict[str, torch.Tensor], str] | None:
    """Read a checkpoint; None if it is damaged."""
    try:
        length = int.from_bytes(state[:8], "little")
        said: dict[str, Any] = json.loads(state[8 : 8 + length])["__metadata__"]
        tensors = load(state)
        whole = said["sha256"] == _sha256(tensors, said["curve"])
    except (SafetensorError, ValueError, KeyError, TypeError):
        return None
    return (tensors, said["curve"]) if whole else None


def _sha256(tensors: dict[str, torch.Tensor], curve: str) -> str:
    values = {
        name: hashlib.sha256(value.numpy().tobytes()).hexdigest() for name, value in tensors.items()
    }
    return digest({"curve": curve, "tensors": values})
