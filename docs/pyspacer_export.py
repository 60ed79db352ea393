"""Turn a classifier of PySpacer's, a pickle, into a folder that Quadrat can evaluate.

usage, with the Python that PySpacer is installed in:

    python docs/pyspacer_export.py CLASSIFIER.pkl FOLDER --features data/manifests/features.json
                                   [--labels NAMES.csv]

It needs numpy and scikit-learn, and nothing of Quadrat. Opening a pickle runs the code in it: open
only files of people whom you trust. It writes tensors and text, FOLDER/model.safetensors and
FOLDER/model.json; name the folder in `validate.compare` of params.yaml.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = 3
"""As pipeline/train/model.py has it."""

Tensors = dict[str, Any]


def opened(path: Path) -> Any:
    """Open the pickle as PySpacer does, if it is installed: it knows the names of old ones."""
    try:
        from spacer import storage

        kind = storage.ClassifierUnpickler
    except ImportError:
        kind = pickle.Unpickler
    with path.open("rb") as stream:
        return kind(stream, fix_imports=True, encoding="latin1").load()


def exported(model: Any) -> tuple[list[str], Tensors]:
    """Return the classes and the tensors of *model*, in float64.

    Raises:
        ValueError: it does something that these tensors cannot.
    """
    found = getattr(model, "calibrated_classifiers_", None)
    if type(model).__name__ != "CalibratedClassifierCV" or not found:
        raise ValueError(f"a {type(model).__name__}, not a fitted CalibratedClassifierCV")
    if len(found) > 1:
        raise ValueError(f"{len(found)} classifiers in one (cv); PySpacer's is one (prefit)")
    inner = getattr(found[0], "estimator", None)
    inner = found[0].base_estimator if inner is None else inner  # before scikit-learn 1.2
    if type(inner).__name__ == "FrozenEstimator":
        inner = inner.estimator
    calibrators = found[0].calibrators
    kind = type(inner).__name__
    classes = [str(name) for name in inner.classes_.tolist()]
    outputs = len(classes) if len(classes) > 2 else 1  # noqa: PLR2004 one for two
    if len(calibrators) != outputs:
        raise ValueError(f"{len(calibrators)} calibrations of {len(classes)} classes")
    if kind == "MLPClassifier":
        if inner.activation != "relu":
            raise ValueError(f"an MLPClassifier with activation {inner.activation!r}, not 'relu'")
        layers = [(w.T, b) for w, b in zip(inner.coefs_, inner.intercepts_, strict=True)]
        return classes, written(two(layers), calibration(calibrators, len(classes)))
    if kind in {"SGDClassifier", "LogisticRegression"}:  # calibrated by their decision functions
        slope, offset = sigmoids(calibrators)
        weight = -slope[:, None] * inner.coef_
        bias = -(slope * inner.intercept_ + offset)
        if outputs == 1:
            return classes, written(two([(weight, bias)]), {})
        return classes, written([(weight, bias)], {"logistic": np.ones(1)})
    raise ValueError(f"calibrates a {kind}; MLPClassifier and SGDClassifier can be exported")


def two(layers: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Give a network with one output, the second class's logit, an output of 0 for the first."""
    weight, bias = layers[-1]
    if len(bias) > 1:
        return layers
    last = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
    return [*layers[:-1], last]


def calibration(calibrators: list[Any], count: int) -> Tensors:
    """Return the tensors that calibrate the probabilities of *count* classes."""
    if all(type(one).__name__ == "IsotonicRegression" for one in calibrators):
        ends = np.array([one.predict([0.0, 1.0]) for one in calibrators])
        doubt = 1 - (ends[0, 1] - ends[0, 0])
        straight = all(list(one.X_thresholds_) == [0.0, 1.0] for one in calibrators)
        if straight and np.allclose(ends, [doubt / count, 1 - doubt + doubt / count], atol=1e-12):
            return {"doubt": np.array([doubt])}  # what `python -m stages.model_export` wrote
        raise ValueError("an isotonic calibration; only sigmoid ones can be exported")
    slope, offset = sigmoids(calibrators)
    return {"sigmoid.slope": slope, "sigmoid.offset": offset}


def sigmoids(calibrators: list[Any]) -> tuple[Any, Any]:
    """Return slope and offset of each sigmoid."""
    for one in calibrators:
        if type(one).__name__ != "_SigmoidCalibration":
            raise ValueError(f"a calibration by {type(one).__name__}, not by sigmoids")
    slope, offset = (
        np.array([float(getattr(c, name)) for c in calibrators]) for name in ("a_", "b_")
    )
    return slope, offset


def written(layers: list[tuple[Any, Any]], more: Tensors) -> Tensors:
    """Return the tensors by their names in the file."""
    dim = layers[0][0].shape[1]
    tensors = {"mean": np.zeros(dim), "scale": np.ones(dim), "temperature": np.ones(1), **more}
    for number, (weight, bias) in enumerate(layers):
        tensors |= {f"layers.{number}.weight": weight, f"layers.{number}.bias": bias}
    return tensors


def safetensors(tensors: Tensors) -> bytes:
    """Encode *tensors* in the format of https://github.com/huggingface/safetensors."""
    header, body = {}, b""
    for name in sorted(tensors):
        data = np.ascontiguousarray(tensors[name], "<f8")
        place = [len(body), len(body) + data.nbytes]
        header[name] = {"dtype": "F64", "shape": list(data.shape), "data_offsets": place}
        body += data.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body


def renamed(classes: list[str], path: Path | None) -> list[str]:
    """Return the classes under the names that the table *path* (columns from, to) has for them."""
    if path is None:
        return classes
    with path.open(encoding="utf-8-sig", newline="") as stream:
        names = {row["from"].strip(): row["to"].strip() for row in csv.DictReader(stream)}
    found = [names.get(name, name) for name in classes]
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        raise ValueError(f"{path}: two classes become {', '.join(twice)}; roll up in label maps")
    return found


def card(classes: list[str], tensors: bytes, manifest: Path, source: Path) -> bytes:
    """Return the bytes of model.json."""
    made = json.loads(manifest.read_text(encoding="utf-8"))
    facts = {
        "classes": classes,
        "classifier": "PySpacer's",
        "extractor": {"made_by": made["made_by"], "stated_by": "who exported it"},
        "format": FORMAT,
        "labels": {"to": {}},
        "pickle_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "tensors": hashlib.sha256(tensors).hexdigest(),
    }
    return (json.dumps(facts, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Turn a classifier of PySpacer's into a folder for validate.compare. Opening a "
        "pickle runs whatever is in it: only open one whose maker you trust."
    )
    parser.add_argument("pickle", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--features",
        type=Path,
        required=True,
        metavar="data/manifests/features.json",
        help="of a run with the extractor and weights that the classifier was trained with; "
        "a pickle does not say which they were",
    )
    parser.add_argument(
        "--labels", type=Path, metavar="NAMES.csv", help="columns from, to: ids and their names"
    )
    return parser.parse_args()


def main() -> int:
    """Open the pickle, and write the folder."""
    asked = options()
    try:
        classes, tensors = exported(opened(asked.pickle))
        classes = renamed(classes, asked.labels)
        data = safetensors(tensors)
        text = card(classes, data, asked.features, asked.pickle)
        asked.folder.mkdir(parents=True, exist_ok=True)
        (asked.folder / "model.safetensors").write_bytes(data)
        (asked.folder / "model.json").write_bytes(text)
    except (ValueError, OSError, KeyError) as error:
        print(f"{asked.pickle}: cannot be exported: {error}", file=sys.stderr)
        return 3
    print(f"{asked.folder}: {len(tensors['mean']):,} values to {len(classes)} classes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
