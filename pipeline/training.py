"""Training: minibatches in a shuffle that the seed alone decides, then calibration.

The calibration split chooses the temperature and nothing else; the validation split is not here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim.adam import adam

from pipeline import classifiers
from pipeline.classifiers._artifact import Classifier
from pipeline.errors import InputError
from pipeline.numerics import THREADS
from pipeline.sections import Train

Features = NDArray[np.float32]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rows:
    """Labelled rows of one split: float32 [n, dim] and, for each, its label."""

    features: Features
    labels: list[str]


@dataclass(frozen=True, slots=True)
class Epoch:
    """One line of the learning curve; calibration's are None where that split is empty."""

    epoch: int
    train_loss: float
    train_accuracy: float
    calibration_loss: float | None
    calibration_accuracy: float | None


@dataclass(frozen=True, slots=True)
class Fitted:
    """A classifier and how it got there."""

    classifier: Classifier
    curve: list[Epoch]


def fit(
    train_rows: Rows,
    calibration_rows: Rows,
    train: Train,
    device: str,
    step: Callable[[Epoch], None] = lambda _: None,
) -> Fitted:
    """Train the classifier that *train* names.

    Args:
        train_rows: what is learnt from; its labels are the classes.
        calibration_rows: what the temperature is chosen on; other labels than the classes' are
            left out here, and counted in the card.
        train: the section.
        device: torch's name of the device.
        step: told of each epoch when it is over.

    Raises:
        InputError: there are no labelled rows, or fewer than two classes.
    """
    torch.set_num_threads(THREADS)
    classes = sorted(set(train_rows.labels))
    _check(classes, train_rows)
    index = {label: number for number, label in enumerate(classes)}
    y = np.array([index[label] for label in train_rows.labels], np.int64)
    known = [place for place, label in enumerate(calibration_rows.labels) if label in index]
    kept = calibration_rows.features[known]
    kept_y = np.array([index[calibration_rows.labels[place]] for place in known], np.int64)
    mean, scale = _standard(train_rows.features, wanted=train.standardize)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(train.seed)
        network = classifiers.build(train, len(mean), len(classes), len(y))
    loop = Loop(network, train, torch.device(device))
    curve = loop.run((train_rows.features - mean) * scale, y, (kept - mean) * scale, kept_y, step)
    classifier = _classifier(classes, mean, scale, network)
    calibrated, card = _calibrate(classifier, kept, kept_y, train)
    counts = {
        "n_train": len(y),
        "n_calibration": len(kept_y),
        "n_calibration_unseen": len(calibration_rows.labels) - len(known),
    }
    facts = {**counts, "calibration": card, "classifier": train.classifier, "dim": len(mean)}
    return Fitted(Classifier(calibrated.classes, calibrated.tensors, facts), curve)


def _check(classes: list[str], rows: Rows) -> None:
    if not rows.labels:
        raise InputError(
            "train: no labelled chip in the train split; label some, or lower split.validation "
            "and split.calibration"
        )
    if len(classes) == 1:
        raise InputError(
            f"train: all {len(rows.labels):,} labelled chips of the train split are "
            f"{classes[0]!r}; a classifier needs two classes"
        )


def _standard(features: Features, *, wanted: bool) -> tuple[Features, Features]:
    """Give the mean of each value, and what to multiply with for a deviation of 1."""
    dim = features.shape[1]
    if not wanted:
        return np.zeros(dim, np.float32), np.ones(dim, np.float32)
    mean = features.mean(axis=0, dtype=np.float64)
    deviation = features.std(axis=0, dtype=np.float64)
    # A value that never changes tells nothing; it must not blow up on the first chip that differs.
    scale = np.where(deviation > 1e-6 * (np.abs(mean) + 1e-6), 1 / np.maximum(deviation, 1e-12), 0)
    return mean.astype(np.float32), scale.astype(np.float32)


class Adam:
    """Adam (Kingma and Ba 2015) by torch's own function, bit-equal to `torch.optim.Adam`.

    The class itself imports torch's compiler when it is first made: one to three seconds, more
    than most trainings take.
    """

    def __init__(self, parameters: list[nn.Parameter], train: Train) -> None:
        self.parameters, self.train = parameters, train
        self.means = [torch.zeros_like(parameter) for parameter in parameters]
        self.squares = [torch.zeros_like(parameter) for parameter in parameters]
        self.steps = [torch.zeros(()) for _ in parameters]

    @torch.no_grad()
    def step(self) -> None:
        """Take one step along the gradients."""
        adam(
            cast("list[torch.Tensor]", self.parameters),
            [cast("torch.Tensor", parameter.grad) for parameter in self.parameters],
            self.means,
            self.squares,
            [],
            self.steps,
            foreach=False,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self.train.learning_rate,
            weight_decay=self.train.weight_decay,
            eps=1e-8,
            maximize=False,
        )


class Loop:
    """The epochs of one training.

    Args:
        network: untrained; trained in place, and moved back to the CPU at the end.
        train: the section.
        device: where it runs.
    """

    def __init__(self, network: nn.Module, train: Train, device: torch.device) -> None:
        self.network, self.train, self.device = network.to(device), train, device
        self.optimizer = Adam(list(self.network.parameters()), train)

    def run(
        self,
        x: Features,
        y: Indices,
        held_x: Features,
        held_y: Indices,
        step: Callable[[Epoch], None],
    ) -> list[Epoch]:
        """Train for `train.epochs` epochs on *x* and *y*, watching the held-out rows."""
        rows = torch.from_numpy(x).to(self.device), torch.from_numpy(y).to(self.device)
        held = torch.from_numpy(held_x).to(self.device), torch.from_numpy(held_y).to(self.device)
        curve = []
        for number in range(1, self.train.epochs + 1):
            loss, accuracy = self._epoch(number, *rows)
            epoch = Epoch(number, loss, accuracy, *self._held_out(*held))
            curve.append(epoch)
            step(epoch)
        self.network.to("cpu")
        return curve

    def _epoch(self, number: int, x: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
        self.network.train()
        order = _shuffle(len(y), self.train.seed, number).to(self.device)
        losses = torch.zeros((), dtype=torch.float64, device=self.device)
        right = torch.zeros((), dtype=torch.int64, device=self.device)
        for batch in torch.split(order, self.train.batch):
            logits = self.network(x[batch])
            loss = nn.functional.cross_entropy(logits, y[batch])
            self.network.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            losses += loss.detach().double() * len(batch)
            right += (logits.detach().argmax(1) == y[batch]).sum()
        return float(losses) / len(y), int(right) / len(y)

    def _held_out(self, x: torch.Tensor, y: torch.Tensor) -> tuple[float | None, float | None]:
        if not len(y):
            return None, None
        self.network.eval()
        with torch.inference_mode():
            logits = self.network(x)
            loss = float(nn.functional.cross_entropy(logits.double(), y))
            return loss, int((logits.argmax(1) == y).sum()) / len(y)


def _shuffle(count: int, seed: int, epoch: int) -> torch.Tensor:
    """Give the order of one epoch's rows, by seed and epoch alone."""
    order = np.random.default_rng([seed, epoch]).permutation(count)
    return torch.from_numpy(order)


def _classifier(
    classes: list[str], mean: Features, scale: Features, network: nn.Module
) -> Classifier:
    tensors = {"mean": mean, "scale": scale, "temperature": np.ones(1, np.float32)}
    linear = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    for number, layer in enumerate(linear):
        tensors[f"layers.{number}.weight"] = layer.weight.detach().numpy().copy()
        tensors[f"layers.{number}.bias"] = layer.bias.detach().numpy().copy()
    return Classifier(tuple(classes), tensors, {})


def _calibrate(
    classifier: Classifier, features: Features, y: Indices, train: Train
) -> tuple[Classifier, dict[str, Any]]:
    """Choose the temperature with the least log loss on the calibration split.

    The labels are smoothed by one part in n + 2, so that n chips that are all right do not make
    the classifier infinitely sure of itself.

    Sources: Guo et al. 2017, "On calibration of modern neural networks", section 4.2; Platt 1999,
    section 2.2, for the smoothing.
    """
    if train.calibration == "none" or not len(y):
        why = "train.calibration is none" if len(y) else "no calibration chip has a known label"
        return classifier, {"method": "none", "why": why}
    logits = classifier.logits(features).astype(np.float64)
    temperature = _temperature(logits, y)
    tensors: Mapping[str, Features] = {
        **classifier.tensors,
        "temperature": np.array([temperature], np.float32),
    }
    card = {
        "method": "temperature",
        "temperature": temperature,
        "log_loss_before": _log_loss(logits, y),
        "log_loss_after": _log_loss(logits / temperature, y),
    }
    return Classifier(classifier.classes, tensors, classifier.card), card


def _temperature(logits: NDArray[np.float64], y: Indices) -> float:
    from scipy.optimize import minimize_scalar

    # The log loss has one minimum in 1 / temperature; its logarithm keeps the search's steps fair.
    doubt = 1 / (len(y) + 2)
    found = minimize_scalar(
        lambda power: _log_loss(logits / np.exp(power), y, doubt),
        bounds=(np.log(0.05), np.log(20)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.float32(np.exp(found.x)))


def _log_loss(logits: NDArray[np.float64], y: Indices, doubt: float = 0.0) -> float:
    """Give the mean log loss of labels that are right but for a share of *doubt*."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    chosen = logs[np.arange(len(y)), y]
    return float(-((1 - doubt) * chosen + doubt * logs.mean(axis=1)).mean())
