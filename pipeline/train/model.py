"""A trained classifier: its tensors in safetensors, everything else in JSON; nothing to unpickle.

`model.safetensors` holds `mean` and `scale` [dim], which standardise a feature, the network's
layers `layers.<i>.weight` and `.bias`, and `temperature` [1], which divides the logits. By what the
calibration was there are `doubt` [1], the share of the probability that all classes get alike, or
`sigmoid.slope` and `sigmoid.offset` [n_classes; 1 of two]. With `logistic` [1] each logit is of its
class against the rest, and probabilities are its sigmoid brought to a sum of 1: only what
docs/pyspacer_export.py writes has it, in float64.
Where chips have several labels there is `thresholds` [n_classes]: each class has a probability of
its own, and is answered from its threshold on.
`model.json` holds the classes in the order of the probabilities, the tensors' digest, and where it
all came from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from pipeline.core.errors import InputError
from pipeline.storage import open_regular_file

FORMAT = 3
BLOCK_ROWS = 65_536
BINARY = 2


@dataclass(frozen=True, slots=True)
class Classifier:
    """A trained classifier, ready to score.

    Attributes:
        classes: labels in the order of the probabilities.
        tensors: float32 arrays by name, as the module's docstring has them.
        card: where it came from, as JSON values.
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
        """Give the probabilities float64 [n, n_classes] of *features* [n, dim].

        Features of float64 are scored in float64, all others in float32.
        """
        blocks = [
            self._proba(features[start : start + BLOCK_ROWS])
            for start in range(0, len(features), BLOCK_ROWS)
        ]
        return np.concatenate(blocks) if blocks else np.empty((0, len(self.classes)))

    def logits(self, features: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Give the logits, before the temperature, [n, n_classes]."""
        wide = np.result_type(features, np.float32)
        standard = (features.astype(wide) - self.tensors["mean"]) * self.tensors["scale"]
        return self.of_standard(standard)

    def of_standard(self, values: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Give the logits of features that are standardised already."""
        for number, (weight, bias) in enumerate(self.layers):
            values = (np.maximum(values, 0) if number else values) @ weight.T + bias
        return values

    def _proba(self, features: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        return calibrated(self.logits(features).astype(np.float64), self.tensors)

    def decide(self, probabilities: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Say which classes the multi-label *probabilities* [n, n_classes] come to."""
        # In float32, as tables keep them: what is read back from one gives the same answers.
        found: NDArray[np.bool_] = probabilities.astype(np.float32) >= self.tensors["thresholds"]
        return found

    def of_several(self, thresholds: NDArray[np.float32]) -> Classifier:
        """Give the same classifier for chips of several labels."""
        tensors = {**self.tensors, "thresholds": thresholds}
        return Classifier(self.classes, tensors, self.card)

    def with_card(self, facts: Mapping[str, Any]) -> Classifier:
        """Give the same classifier with *facts* added to its card."""
        return Classifier(self.classes, self.tensors, {**self.card, **facts})

    def files(self) -> dict[str, bytes]:
        """Give the artifact's files by name; the same classifier gives the same bytes."""
        tensors = save(dict(self.tensors))
        own = {"classes": list(self.classes), "format": FORMAT, "tensors": sha256(tensors)}
        text = json.dumps({**self.card, **own}, indent=1, sort_keys=True, ensure_ascii=False)
        return {"model.safetensors": tensors, "model.json": f"{text}\n".encode()}


def sha256(data: bytes) -> str:
    """Digest of *data*, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def calibrated(
    logits: NDArray[np.float64], tensors: Mapping[str, NDArray[np.float32]]
) -> NDArray[np.float64]:
    """Turn logits [n, n_classes] into probabilities by the calibration in *tensors*."""
    if "thresholds" in tensors:
        return _calibrated_each(logits, tensors)
    if "logistic" in tensors:
        logits = -np.logaddexp(0, -logits)  # so that the softmax divides the sigmoids by their sum
    found = softmax(logits / tensors["temperature"])
    if "doubt" in tensors:
        return mixed(found, float(tensors["doubt"][0]))
    if "sigmoid.slope" in tensors:
        slope, offset = tensors["sigmoid.slope"], tensors["sigmoid.offset"]
        return sigmoids(found, slope.astype(np.float64), offset.astype(np.float64))
    return found


def _calibrated_each(
    logits: NDArray[np.float64], tensors: Mapping[str, NDArray[np.float32]]
) -> NDArray[np.float64]:
    """Turn logits into a probability of each class by itself."""
    found = sigmoid(logits / tensors["temperature"])
    if "doubt" in tensors:
        doubt = float(tensors["doubt"][0])
        found = (1 - doubt) * found + doubt / 2
    if "sigmoid.slope" in tensors:
        slope, offset = tensors["sigmoid.slope"], tensors["sigmoid.offset"]
        found = sigmoid(-(slope.astype(np.float64) * found + offset))
    return found


def sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give 1 / (1 + exp(-values)), without overflow."""
    small = np.exp(-np.abs(values))
    found: NDArray[np.float64] = np.where(values >= 0, 1, small) / (1 + small)
    return found


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn logits [n, n_classes] into probabilities that add up to 1 a row."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def mixed(probabilities: NDArray[np.float64], doubt: float) -> NDArray[np.float64]:
    """Give *doubt* of the probability to all classes alike.

    Source: Zhang, Kailkhura and Han 2020, "Mix-n-Match", section 4.2.2.
    """
    found: NDArray[np.float64] = (1 - doubt) * probabilities + doubt / probabilities.shape[1]
    return found


def sigmoids(
    probabilities: NDArray[np.float64], slope: NDArray[np.float64], offset: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Calibrate each class by itself, and bring the classes to a sum of 1.

    Source: scikit-learn's CalibratedClassifierCV with method="sigmoid".
    """
    if len(slope) == 1:
        second = 1 / (1 + np.exp(slope * probabilities[:, 1] + offset))
        return np.stack([1 - second, second], axis=1)
    found: NDArray[np.float64] = 1 / (1 + np.exp(slope * probabilities + offset))
    total = found.sum(axis=1, keepdims=True)
    return np.where(total > 0, found / np.where(total > 0, total, 1), 1 / len(slope))


def read(folder: Path) -> Classifier:
    """Read the classifier in *folder*.

    Raises:
        InputError: it is not there, not one of ours, or its parts do not fit together.
    """
    try:
        with open_regular_file(folder / "model.json") as stream:
            text = stream.read()
        with open_regular_file(folder / "model.safetensors") as stream:
            data = stream.read()
    except FileNotFoundError as error:
        raise InputError(f"{folder}: no classifier here; run the train stage first") from error
    except OSError as error:
        raise InputError(f"{folder}: not a classifier that can be read: {error}") from error
    card = _card(text, folder)
    if card["tensors"] != sha256(data):
        raise InputError(
            f"{folder}: model.safetensors is not the one that model.json describes; one of them "
            "was damaged or changed since the classifier was trained"
        )
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise InputError(f"{folder}: not a classifier that can be read: {error}") from error
    return _checked(Classifier(tuple(card["classes"]), tensors, card), folder)


def _checked(found: Classifier, folder: Path) -> Classifier:
    missing = {"mean", "scale", "temperature", "layers.0.weight"} - found.tensors.keys()
    if missing:
        raise InputError(f"{folder}/model.safetensors: lacks {', '.join(sorted(missing))}")
    for name, values in sorted(found.tensors.items()):
        if not np.isfinite(values).all():
            raise InputError(f"{folder}/model.safetensors: {name} holds values that are not finite")
    try:
        wanted = _shapes(found)
    except KeyError as error:
        raise InputError(f"{folder}/model.safetensors: lacks {error}") from error
    for name, shape in wanted.items():
        if found.tensors[name].shape != shape:
            have = found.tensors[name].shape
            raise InputError(f"{folder}/model.safetensors: {name} is {have}, not {shape}")
    if found.sizes[-1] != len(found.classes):
        raise InputError(
            f"{folder}: gives {found.sizes[-1]} scores for {len(found.classes)} classes"
        )
    return found


def _shapes(found: Classifier) -> dict[str, tuple[int, ...]]:
    """Give the shape that each tensor must have for all of them to fit together."""
    tensors, count = found.tensors, len(found.classes)
    dim = tensors["mean"].size
    wanted: dict[str, tuple[int, ...]] = {"mean": (dim,), "scale": (dim,), "temperature": (1,)}
    for number in range(len(found.layers)):
        size = tensors[f"layers.{number}.bias"].size
        wanted |= {f"layers.{number}.weight": (size, dim), f"layers.{number}.bias": (size,)}
        dim = size
    slopes = (1 if count == BINARY and not found.is_multilabel else count,)
    others = {"doubt": (1,), "sigmoid.slope": slopes, "sigmoid.offset": slopes}
    others |= {"thresholds": (count,), "logistic": (1,)}
    return wanted | {name: shape for name, shape in others.items() if name in tensors}


def _card(text: bytes, folder: Path) -> dict[str, Any]:
    try:
        card = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{folder}/model.json: not JSON ({error})") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise InputError(f"{folder}/model.json: not a classifier of format {FORMAT}")
    missing = {"classes", "tensors"} - card.keys()
    if missing:
        raise InputError(f"{folder}/model.json: lacks {', '.join(sorted(missing))}")
    extractor = card.get("extractor", {})
    made_by = extractor.get("made_by", {}) if isinstance(extractor, dict) else None
    if not _are_classes(card["classes"]) or not isinstance(made_by, dict):
        raise InputError(f"{folder}/model.json: its classes, or its extractor, are none of ours")
    return card


def _are_classes(found: Any) -> bool:
    """Say whether *found* are labels: texts that can be written, each once."""
    if not isinstance(found, list) or not all(isinstance(label, str) for label in found):
        return False
    whole = "".join(found)
    return len(set(found)) == len(found) and whole.encode(errors="ignore").decode() == whole
