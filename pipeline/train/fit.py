"""Training: minibatches in a shuffle that the seed alone decides, then calibration.

The calibration split chooses the calibration, and when to stop; the validation split is not here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.config.sections import TrainParams
from pipeline.core import hardware, label_sets
from pipeline.core.errors import InputError
from pipeline.train import classes as _classes
from pipeline.train import classifiers
from pipeline.train.batches import Data, Rows
from pipeline.train.calibration import calibrate
from pipeline.train.classes import Classes
from pipeline.train.label_map import LabelMap, renamed_all
from pipeline.train.loop import Checkpointer, Epoch, Loop, NullCheckpoint, Schedule
from pipeline.train.losses import Targets, objective
from pipeline.train.model import Classifier
from pipeline.train.thresholds import EVEN, calibrate_several

__all__ = [
    "Checkpointer",
    "Data",
    "Epoch",
    "Fitted",
    "Loop",
    "Rows",
    "Splits",
    "classifier_of",
    "fit",
    "resume",
    "start",
]

GIB = 2**30
NO_MAP = LabelMap()


@dataclass(frozen=True, slots=True)
class Splits:
    """What is learnt from.

    Attributes:
        train: its labels decide the classes.
        calibration: what the calibration is chosen on, and when to stop; rows of no class are left
            out, and counted in the card.
        label_map: what becomes of the labels of both.
        separator: what stands between the labels of a row; None: it has one.
    """

    train: Rows
    calibration: Rows
    label_map: LabelMap = NO_MAP
    separator: str | None = None


@dataclass(frozen=True, slots=True)
class Fitted:
    """A classifier and how it got there."""

    classifier: Classifier
    curve: list[Epoch]


def fit(
    splits: Splits,
    train: TrainParams,
    device: str,
    step: Callable[[list[Epoch]], None] = lambda _: None,
    keeper: Checkpointer | None = None,
) -> Fitted:
    """Train the classifier that *train* names.

    Args:
        splits: labelled features.
        train: the section.
        device: torch's name of the device.
        step: given the learning curve when an epoch is over.
        keeper: where the state after each epoch is kept, for a run that was cut off to go on.

    Raises:
        InputError: there are no labelled rows, or fewer than two classes.
    """
    torch.set_num_threads(hardware.cores())
    train_rows, held_rows = splits.train, splits.calibration
    classes = _classes.classes(_each(splits), splits.label_map, train)
    y, held_y, targets = _numbered(classes, splits)
    _check(classes, splits, y)
    room = int(train.memory_gib * GIB)
    held = Data(held_rows, held_y, min(room // 4, held_y.size * held_rows.dim * 4))
    data = Data(train_rows, y, room - held.room)
    if train.standardize:
        mean, scale = data.measured()
        data.standardize(mean, scale)
        held.standardize(mean, scale)
    loop = start(data, len(classes.names), train, device, targets)
    curve = loop.run(data, held, keeper or NullCheckpoint(), step)
    classifier = classifier_of(classes.names, data, loop.network)
    logits, truth = _logits(classifier, held)
    if targets is None:
        calibrated, said = calibrate(classifier, logits, truth, train)
    else:
        classifier = classifier.of_several(np.full(len(classes.names), EVEN, np.float32))
        calibrated, said = calibrate_several(classifier, logits, targets[truth], train)
    facts = {
        "n_train": len(data),
        "n_calibration": len(held),
        "n_calibration_unseen": _unseen(classes, splits, held_y),
        "calibration": said,
        "classifier": train.classifier,
        "dim": train_rows.dim,
        "epochs": len(curve),
        "labels": classes.card(train),
    }
    if splits.separator is not None:
        facts["label_separator"] = splits.separator
    return Fitted(calibrated.with_card(facts), curve)


def _each(splits: Splits) -> list[str]:
    """Give the labels of the train split, each as often as it occurs."""
    separator = splits.separator
    return [one for text in splits.train.labels for one in label_sets.split(text, separator)]


def _numbered(
    classes: Classes, splits: Splits
) -> tuple[NDArray[np.int64], NDArray[np.int64], Targets | None]:
    """Give the class, or the set of classes, of each row of both splits; and the sets."""
    own, held = splits.train.labels, splits.calibration.labels
    if splits.separator is None:
        return classes.indices(own), classes.indices(held), None
    y, targets = classes.sets([*own, *held], splits.separator)
    return y[: len(own)], y[len(own) :], targets


def _unseen(classes: Classes, splits: Splits, y: NDArray[np.int64]) -> int:
    """Count the calibration rows *y* with a label that is no class."""
    if splits.separator is None:
        return int((y < 0).sum())
    texts, separator, known = splits.calibration.labels, splits.separator, {*classes.names}
    of = {
        text: label_sets.split(renamed_all(classes.to, text, separator), separator)
        for text in set(texts)
    }
    return sum(not known.issuperset(of[text]) for text in texts)


def _check(classes: Classes, splits: Splits, y: NDArray[np.int64]) -> None:
    rows = splits.train
    if not (y >= 0).any() or not classes.names:
        raise InputError(
            "train: no labelled chip in the train split; label some, or lower split.validation "
            "and split.calibration"
            if not rows.labels
            else "train: train.label_map and train.rare_classes leave no labelled chip to train on"
        )
    if len(classes.names) == 1:
        raise InputError(
            f"train: all {len(y):,} labelled chips of the train split are "
            f"{classes.names[0]!r}; a classifier needs two classes"
        )


def start(
    data: Data, n_classes: int, train: TrainParams, device: str, targets: Targets | None = None
) -> Loop:
    """Give a training at its start: an untrained network, and the pace that fits *data*.

    The last bias knows how common each class is.

    Args:
        data: what it learns from.
        n_classes: how many scores the network gives.
        train: the section.
        device: torch's name of it.
        targets: where rows may have several classes, the sets that `data.y` numbers.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(train.seed)
        network = classifiers.build(train, data.rows.dim, n_classes, len(data))
    pace = Schedule(
        classifiers.epochs(train, len(data)),
        classifiers.batch(train, len(data)),
        classifiers.rate(train, len(data), data.rows.dim),
        classifiers.schedule(train, len(data)),
    )
    aim = objective(data.y, n_classes, targets, train)
    with torch.no_grad():
        _linear(network)[-1].bias.copy_(aim.start)
    return Loop(network, train, pace, aim, torch.device(device))


def resume(model: Classifier, data: Data, train: TrainParams, device: str) -> Loop:
    """Give a training that starts from the weights of *model*."""
    sizes = {"classifier": "mlp", "hidden": model.sizes[1:-1]}
    loop = start(data, len(model.classes), train.model_copy(update=sizes), device)
    with torch.no_grad():
        for layer, (weight, bias) in zip(_linear(loop.network), model.layers, strict=True):
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.copy_(torch.from_numpy(bias))
    return loop


def classifier_of(classes: tuple[str, ...], data: Data, network: nn.Module) -> Classifier:
    """Give what *network* has learnt of *data*, not calibrated yet."""
    tensors: dict[str, NDArray[np.float32]] = {
        "mean": data.mean,
        "scale": data.scale,
        "temperature": np.ones(1, np.float32),
    }
    for number, layer in enumerate(_linear(network)):
        tensors[f"layers.{number}.weight"] = layer.weight.detach().cpu().numpy().copy()
        tensors[f"layers.{number}.bias"] = layer.bias.detach().cpu().numpy().copy()
    card: Mapping[str, Any] = {}
    return Classifier(classes, tensors, card)


def _linear(network: nn.Module) -> list[nn.Linear]:
    every = network.named_modules(remove_duplicate=False)
    return [layer for _, layer in every if isinstance(layer, nn.Linear)]


def _logits(classifier: Classifier, held: Data) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Give the logits of the calibration split's rows, which are standardised already."""
    found = np.empty((len(held), len(classifier.classes)))
    place = np.cumsum(held.y >= 0) - 1
    for at, features in held.passes():
        found[place[at]] = classifier.of_standard(features)
    return found, held.y[held.at]
