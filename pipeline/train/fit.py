"""Training: minibatches in a shuffle that only the seed decides, then calibration.

The calibration split decides the calibration, and when to stop; the validation split is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.config.sections import TrainParams
from pipeline.core import hardware
from pipeline.core.errors import InputError
from pipeline.train import classifiers, penalty_path
from pipeline.train.batches import LEFT_OUT, Data, Targets
from pipeline.train.calibration import HeldOut, calibrate, loss_once_calibrated
from pipeline.train.checkpoint import Checkpoint
from pipeline.train.classes import Classes, choose_classes
from pipeline.train.label_map import LabelMap
from pipeline.train.labelled_features import LabelledFeatures
from pipeline.train.loop import Epoch, Loop
from pipeline.train.losses import Objective
from pipeline.train.model import Classifier
from pipeline.train.schedule import Schedule

GIB = 2**30
NO_MAP = LabelMap()


@dataclass(frozen=True, slots=True)
class Splits:
    """The rows that decide the classifier.

    Attributes:
        train: their labels decide the classes.
        calibration: decides the calibration, and when to stop; rows that have no class are left
            out, and counted in the card.
        label_map: applied to the labels of both.
        separator: between the labels of a row; None if it has exactly one.
    """

    train: LabelledFeatures
    calibration: LabelledFeatures
    label_map: LabelMap = NO_MAP
    separator: str | None = None


@dataclass(frozen=True, slots=True)
class Fitted:
    """A classifier and its learning curve.

    Attributes:
        classifier: calibrated.
        curve: its epochs, or the penalties that were tried.
        classes: of the train split.
        chosen: the settings, with the number of epochs or the penalty that was chosen.
        is_solved: whether a penalty was; see train/penalty_path.py.
    """

    classifier: Classifier
    curve: list[Epoch]
    classes: Classes
    chosen: TrainParams
    is_solved: bool


def fit(
    splits: Splits,
    train: TrainParams,
    device: str,
    step: Callable[[list[Epoch]], None] = lambda _: None,
    checkpoint: Checkpoint | None = None,
) -> Fitted:
    """Train the classifier that *train* names.

    *step* is called with the learning curve after each epoch, and when a run resumes; *checkpoint*
    keeps the state after each epoch, to resume an interrupted run.

    Raises:
        InputError: there are no labelled rows, or fewer than two classes.
    """
    torch.set_num_threads(hardware.cores())
    hardware.compute_deterministically(device)
    train_labels, held_out_labels = splits.train.texts, splits.calibration.texts
    classes = choose_classes(train_labels, splits.label_map, train, splits.separator)
    y, targets = classes.encode([*train_labels, *held_out_labels])
    y, held_out_y = y[: len(train_labels)], y[len(train_labels) :]
    _check(classes, y)
    dim, budget = splits.train.dim, int(train.memory_gib * GIB)
    held_out_budget = min(budget // 4, held_out_y.size * dim * 4)
    held_out = Data(splits.calibration, held_out_y, held_out_budget)
    data = Data(splits.train, y, budget - held_out_budget)
    loop = start(data, len(classes.names), train, device, targets)
    held_out.standardize(data.mean, data.scale)
    groups = _groups(splits.calibration)[held_out.at]

    def held_out_with(logits: NDArray[np.float64]) -> HeldOut:
        return HeldOut(logits, held_out_y[held_out.at], groups, targets)

    def loss_of(logits: NDArray[np.float64]) -> float:
        return loss_once_calibrated(held_out_with(logits))

    is_solved = penalty_path.applies(train, len(train_labels), dim)
    if is_solved:
        curve, penalty = penalty_path.choose(loop, data, held_out, loss_of, step)
        chosen = train.model_copy(update={"weight_decay": penalty})
    else:
        curve = loop.run(data, held_out, checkpoint, step)
        epochs = len(curve) if train.patience is None else loop.best_epoch()
        chosen = train.model_copy(update={"epochs": epochs, "patience": None})
    classifier = classifier_of(classes.names, data, loop.network)
    logits = _logits(classifier, held_out)
    classifier, calibration_card = calibrate(classifier, held_out_with(logits), train)
    card = {
        "n_train": len(data),
        "n_calibration": len(held_out),
        "n_calibration_unseen": classes.count_unknown(held_out_labels),
        "calibration": calibration_card,
        "classifier": train.classifier,
        "dim": dim,
        "epochs": len(curve),
        "weight_decay": chosen.decay,
        "labels": classes.card(train),
    }
    if splits.separator is not None:
        card["label_separator"] = splits.separator
    return Fitted(classifier.with_card(card), curve, classes, chosen, is_solved)


def fit_on_all(
    fitted: Fitted,
    rows: LabelledFeatures,
    device: str,
    step: Callable[[list[Epoch]], None] = lambda _: None,
    checkpoint: Checkpoint | None = None,
) -> Classifier:
    """Train the classifier of *fitted* anew on *rows*, those of the calibration split included.

    Its classes, calibration and thresholds stay, and so does the number of epochs or the penalty:
    all were chosen with chips that the classifier had not seen. *step* and *checkpoint*: see `fit`.
    """
    before, chosen = fitted.classifier, fitted.chosen
    y, targets = fitted.classes.encode(rows.texts)
    data = Data(rows, y, int(chosen.memory_gib * GIB))
    loop = start(data, len(before.classes), chosen, device, targets)
    if fitted.is_solved:
        penalty_path.solve(loop, data, chosen.decay)
    else:
        loop.run(data, Data(rows, np.full(len(y), LEFT_OUT), 0), checkpoint, step)
    trained = classifier_of(before.classes, data, loop.network).tensors
    tensors = {**before.tensors, **trained, "temperature": before.tensors["temperature"]}
    return Classifier(before.classes, tensors, {**before.card, "n_final": len(data)})


def _groups(chips: LabelledFeatures) -> NDArray[np.int64]:
    """Return the number of each chip's group; without groups, each chip is one of its own."""
    if "group" not in chips.labels.column_names:
        return np.arange(chips.labels.num_rows)
    names = chips.labels["group"].to_numpy(zero_copy_only=False)
    return np.asarray(np.unique(names, return_inverse=True)[1], np.int64)


def _check(classes: Classes, y: NDArray[np.int64]) -> None:
    """Raise InputError if there is nothing to train on, or only one class."""
    if not (y >= 0).any() or not classes.names:
        raise InputError(
            "train: no labelled chip in the train split; label some, or lower split.validation "
            "and split.calibration"
            if not len(y)
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
    """Return a training of an untrained network, and standardise *data* if *train* asks for it.

    The network's last bias fits the shares of the classes. With several labels a row, *targets* are
    the label sets that `data.y` numbers.
    """
    if train.standardize:
        data.standardize(*data.mean_and_scale())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(train.seed)
        network = classifiers.build(train, data.rows.dim, n_classes, len(data))
    objective = Objective(data.y, n_classes, train, targets)
    with torch.no_grad():
        _linear(network)[-1].bias.copy_(objective.start)
    schedule = Schedule.of(train, len(data), data.rows.dim)
    return Loop(network, train, schedule, objective, torch.device(device))


def resume(model: Classifier, data: Data, train: TrainParams, device: str) -> Loop:
    """Return a training that starts from the weights of *model*; *data* is standardised by it."""
    data.standardize(model.tensors["mean"], model.tensors["scale"])
    settings = {"classifier": "mlp", "hidden": model.sizes[1:-1], "standardize": False}
    loop = start(data, len(model.classes), train.model_copy(update=settings), device)
    with torch.no_grad():
        for layer, (weight, bias) in zip(_linear(loop.network), model.layers, strict=True):
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.copy_(torch.from_numpy(bias))
    return loop


def classifier_of(classes: Iterable[Any], data: Data, network: nn.Module) -> Classifier:
    """Return the classifier that *network* is after training on *data*, not calibrated yet."""
    tensors = {"mean": data.mean, "scale": data.scale, "temperature": np.ones(1, np.float32)}
    for number, layer in enumerate(_linear(network)):
        tensors[f"layers.{number}.weight"] = layer.weight.detach().cpu().numpy().copy()
        tensors[f"layers.{number}.bias"] = layer.bias.detach().cpu().numpy().copy()
    return Classifier(tuple(map(str, classes)), tensors, {})


def _linear(network: nn.Module) -> list[nn.Linear]:
    modules = network.named_modules(remove_duplicate=False)
    return [layer for _, layer in modules if isinstance(layer, nn.Linear)]


def _logits(classifier: Classifier, data: Data) -> NDArray[np.float64]:
    """Return the logits of the rows of *data*, which are standardised already."""
    logits = [classifier.logits_of_standardized(chunk) for chunk in data.chunks()]
    return np.concatenate([np.empty((0, len(classifier.classes))), *logits])
