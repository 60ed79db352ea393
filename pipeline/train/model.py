"""A trained classifier: tensors in safetensors, everything else in JSON; nothing is unpickled.

`model.safetensors` holds `mean` and `scale` [dim], which standardise a feature, the network's
layers `layers.<i>.weight` and `.bias`, and `temperature` [1], which divides the logits. The
calibration adds `doubt` [1], the share of the probability that is divided equally among all
classes, or `sigmoid.slope` and `sigmoid.offset` [n_classes; 1 of two]. With `logistic` [1] each
logit is of its class against the rest, and probabilities are its sigmoids, scaled to a sum of 1:
only what docs/pyspacer_export.py writes has it, in float64.
If chips have several labels, there is `thresholds` [n_classes]: each class has a probability of its
own, and is predicted from its threshold on.
If the classifier was trained on the calibration split in the end, `held_out.safetensors` holds the
tensors of the one that was not, which decided the calibration.
`model.json` holds the classes in the order of the probabilities, the digest of the tensors, and how
the classifier was made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from pipeline.core.errors import InputError
from pipeline.core.fixed_shape import in_blocks
from pipeline.storage import open_regular_file

FORMAT = 3
HELD_OUT = "held_out.safetensors"
BLOCK_ROWS = 256
"""Rows of every matrix product of a prediction."""

BINARY = 2
NOT_WANTED = "train.calibration is none"


@dataclass(frozen=True, slots=True)
class Classifier:
    """A trained classifier.

    Attributes:
        classes: labels in the order of the probabilities.
        tensors: float32 arrays by name; see the module's docstring.
        card: how it was made, as JSON values.
    """

    classes: tuple[str, ...]
    tensors: Mapping[str, NDArray[np.float32]]
    card: Mapping[str, Any]

    @property
    def is_multilabel(self) -> bool:
        """Whether a chip may have several classes, or none."""
        return "thresholds" in self.tensors

    @property
    def sizes(self) -> tuple[int, ...]:
        """Values in a feature, in each hidden layer, and classes."""
        return (len(self.tensors["mean"]), *(len(bias) for _, bias in self.layers))

    @property
    def layers(self) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """Weight [outputs, inputs] and bias [outputs] of each layer."""
        count = sum(name.endswith(".weight") for name in self.tensors)
        return [
            (self.tensors[f"layers.{number}.weight"], self.tensors[f"layers.{number}.bias"])
            for number in range(count)
        ]

    def predict_proba(self, features: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return the probabilities of *features* [n, dim], float64 [n, n_classes].

        Float64 features are scored in float64, all others in float32.
        """
        return in_blocks(
            lambda block: calibrated(self.logits(block), self.tensors), features, BLOCK_ROWS
        )

    def logits(self, features: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Return the logits, not divided by the temperature, [n, n_classes]."""
        wide = np.result_type(features, np.float32)
        standardized = (features.astype(wide) - self.tensors["mean"]) * self.tensors["scale"]
        return self.logits_of_standardized(standardized)

    def logits_of_standardized(
        self, values: NDArray[np.floating[Any]]
    ) -> NDArray[np.floating[Any]]:
        """Return the logits of features that are standardised already."""
        for number, (weight, bias) in enumerate(self.layers):
            values = (np.maximum(values, 0) if number else values) @ weight.T + bias
        return values

    def reaches_threshold(self, probabilities: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Return which of several labels are predicted, at *probabilities* [n, n_classes]."""
        # In float32, as tables hold them: a probability read from one gives the same prediction.
        reached: NDArray[np.bool_] = probabilities.astype(np.float32) >= self.tensors["thresholds"]
        return reached

    def with_card(self, facts: Mapping[str, Any]) -> Classifier:
        """Return the classifier with *facts* added to its card."""
        return replace(self, card={**self.card, **facts})

    def files(self) -> dict[str, bytes]:
        """Return the two files by name; equal classifiers give equal bytes."""
        tensors = save(dict(self.tensors))
        facts = {"classes": list(self.classes), "format": FORMAT, "tensors": sha256(tensors)}
        text = json.dumps({**self.card, **facts}, indent=1, sort_keys=True, ensure_ascii=False)
        return {"model.safetensors": tensors, "model.json": f"{text}\n".encode()}


def with_held_out(final: Classifier, held_out: Classifier) -> tuple[Classifier, dict[str, bytes]]:
    """Return *final* with *held_out* named in its card, and the file of the latter by name."""
    data = save(dict(held_out.tensors))
    return final.with_card({"held_out": sha256(data)}), {HELD_OUT: data}


def read_held_out(folder: Path, classifier: Classifier) -> Classifier:
    """Return the classifier that has not seen the calibration split: *classifier*, or another one.

    Args:
        folder: of *classifier*.
        classifier: the final one.

    Raises:
        InputError: the file is missing, or is not the one that model.json describes.
    """
    if "held_out" not in classifier.card:
        return classifier
    try:
        with open_regular_file(folder / HELD_OUT) as stream:
            data = stream.read()
    except OSError as error:
        raise InputError(f"{folder / HELD_OUT} cannot be read ({error.strerror})") from error
    if sha256(data) != classifier.card["held_out"]:
        raise InputError(f"{folder / HELD_OUT} is not the one that model.json describes")
    return replace(classifier, tensors=load(data))


def not_calibrated(card: Mapping[str, Any]) -> str:
    """Return what to tell people if a classifier's scores are not calibrated against its settings.

    "" if they are calibrated, or `train.calibration` is none.
    """
    calibration = card["calibration"]
    if calibration["method"] != "none" or calibration.get("why", NOT_WANTED) == NOT_WANTED:
        return ""
    return (
        f"The scores are not calibrated: {calibration['why']}. They may be far too high, and there "
        "is no score from which on predictions can be accepted. Label chips of more groups, or set "
        "split.calibration higher."
    )


def sha256(data: bytes) -> str:
    """Return the digest of *data*, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def calibrated(
    logits: NDArray[np.floating[Any]], tensors: Mapping[str, NDArray[np.float32]]
) -> NDArray[np.float64]:
    """Return the probabilities of *logits* [n, n_classes], by the calibration in *tensors*."""
    is_multilabel = "thresholds" in tensors
    scores = logits.astype(np.float64)
    if "logistic" in tensors:
        scores = -np.logaddexp(0, -scores)  # so that the softmax divides the sigmoids by their sum
    scores = scores / tensors["temperature"]
    probabilities = sigmoid(scores) if is_multilabel else softmax(scores)
    if "doubt" in tensors:
        choices = BINARY if is_multilabel else scores.shape[1]
        probabilities = mixed(probabilities, float(tensors["doubt"][0]), choices)
    if "sigmoid.slope" in tensors:
        slope = tensors["sigmoid.slope"].astype(np.float64)
        offset = tensors["sigmoid.offset"].astype(np.float64)
        if is_multilabel:
            return sigmoid(-(slope * probabilities + offset))
        return sigmoids(probabilities, slope, offset)
    return probabilities


def sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 1 / (1 + exp(-values)), without overflow."""
    small = np.exp(-np.abs(values))
    result: NDArray[np.float64] = np.where(values >= 0, 1, small) / (1 + small)
    return result


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probabilities of *logits* [n, n_classes]; each row has a sum of 1."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def mixed(probabilities: NDArray[np.float64], doubt: float, choices: int) -> NDArray[np.float64]:
    """Return *probabilities*, with the share *doubt* divided equally among *choices*.

    Source: Zhang, Kailkhura and Han 2020, "Mix-n-Match", section 4.2.2.
    """
    return (1 - doubt) * probabilities + doubt / choices


def sigmoids(
    probabilities: NDArray[np.float64], slope: NDArray[np.float64], offset: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return *probabilities* with each class calibrated by itself, and a sum of 1 in each row.

    Source: scikit-learn's CalibratedClassifierCV with method="sigmoid".
    """
    if len(slope) == 1:
        second = 1 / (1 + np.exp(slope * probabilities[:, 1] + offset))
        return np.stack([1 - second, second], axis=1)
    each: NDArray[np.float64] = 1 / (1 + np.exp(slope * probabilities + offset))
    total = each.sum(axis=1, keepdims=True)
    return np.where(total > 0, each / np.where(total > 0, total, 1), 1 / len(slope))


def read(folder: Path) -> Classifier:
    """Read the classifier in *folder*.

    Raises:
        InputError: it is missing, is not a classifier, or its parts do not fit together.
    """
    try:
        with open_regular_file(folder / "model.json") as stream:
            text = stream.read()
        with open_regular_file(folder / "model.safetensors") as stream:
            data = stream.read()
        card = _card(text, folder)
        if card["tensors"] != sha256(data):
            raise InputError(
                f"{folder}: model.safetensors is not the one that model.json describes; one of "
                "them was damaged or changed since the classifier was trained"
            )
        tensors = load(data)
    except FileNotFoundError as error:
        raise InputError(f"{folder}: no classifier here; run the train stage first") from error
    except (OSError, SafetensorError) as error:
        raise InputError(f"{folder}: not a classifier that can be read: {error}") from error
    classifier = Classifier(tuple(card["classes"]), tensors, card)
    _check_tensors(classifier, f"{folder}/model.safetensors")
    if classifier.sizes[-1] != len(classifier.classes):
        raise InputError(
            f"{folder}: gives {classifier.sizes[-1]} scores for {len(classifier.classes)} classes"
        )
    return classifier


def _check_tensors(classifier: Classifier, where: str) -> None:
    """Raise InputError if a tensor is missing, has another shape, or is not finite."""
    tensors = classifier.tensors
    missing = {"mean", "scale", "temperature", "layers.0.weight"} - tensors.keys()
    if missing:
        raise InputError(f"{where}: lacks {', '.join(sorted(missing))}")
    for name, values in sorted(tensors.items()):
        if not np.isfinite(values).all():
            raise InputError(f"{where}: {name} holds values that are not finite")
    try:
        shapes = _shapes(classifier)
    except KeyError as error:
        raise InputError(f"{where}: lacks {error}") from error
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise InputError(f"{where}: {name} is {tensors[name].shape}, not {shape}")


def _shapes(classifier: Classifier) -> dict[str, tuple[int, ...]]:
    """Return the shape that each tensor must have so that all fit together."""
    tensors, count = classifier.tensors, len(classifier.classes)
    dim = tensors["mean"].size
    shapes: dict[str, tuple[int, ...]] = {"mean": (dim,), "scale": (dim,), "temperature": (1,)}
    for number, (_, bias) in enumerate(classifier.layers):
        shapes[f"layers.{number}.weight"] = (bias.size, dim)
        shapes[f"layers.{number}.bias"] = (bias.size,)
        dim = bias.size
    slopes = (1 if count == BINARY and not classifier.is_multilabel else count,)
    optional = {"doubt": (1,), "sigmoid.slope": slopes, "sigmoid.offset": slopes}
    optional |= {"thresholds": (count,), "logistic": (1,)}
    return shapes | {name: shape for name, shape in optional.items() if name in tensors}


def _card(text: bytes, folder: Path) -> dict[str, Any]:
    """Return the content of model.json, or raise InputError if it is no classifier's."""
    where = f"{folder}/model.json"
    try:
        card = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error})") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise InputError(f"{where}: not a classifier of format {FORMAT}")
    missing = {"classes", "tensors"} - card.keys()
    if missing:
        raise InputError(f"{where}: lacks {', '.join(sorted(missing))}")
    extractor = card.get("extractor", {})
    made_by = extractor.get("made_by", {}) if isinstance(extractor, dict) else None
    if not _are_classes(card["classes"]) or not isinstance(made_by, dict):
        raise InputError(f"{where}: its classes, or its extractor, are not as train writes them")
    return card


def _are_classes(value: Any) -> bool:
    """Return True if *value* is a list of different labels, all valid Unicode."""
    if not isinstance(value, list) or not all(isinstance(label, str) for label in value):
        return False
    text = "".join(value)
    return len(set(value)) == len(value) and text.encode(errors="ignore").decode() == text
