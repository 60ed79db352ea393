"""The classifier in others' formats: ONNX, and a scikit-learn pickle as PySpacer keeps its own.

Both hold the whole way from a feature to probabilities: what standardises it, the network, and the
calibration.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import SettingError
from pipeline.train.model import Classifier

OPSET = 13
"""ONNX's version of 2020, which every runtime of today reads."""


def onnx(classifier: Classifier) -> bytes:
    """Give the classifier as an ONNX model.

    Its input is `features`, float32 [n, dim]; its outputs are `label`, strings [n], and
    `probabilities`, float32 [n, n_classes], in the order of the metadata's `classes` (JSON). Where
    there may be several labels, `labels`, bool [n, n_classes], takes the place of `label`.

    Raises:
        SettingError: onnx is not installed, or the classifier is a foreign one of class against
            rest.
    """
    _no_foreign(classifier)
    try:
        from onnx import TensorProto, checker, helper, numpy_helper
    except ModuleNotFoundError as error:
        raise SettingError("an export to ONNX needs onnx; pip install onnx") from error
    nodes: list[Any] = []
    values: dict[str, NDArray[Any]] = {}

    def step(kind: str, *inputs: str | NDArray[Any], to: str = "", **settings: Any) -> str:
        """Add a node and the constants it wants; give the name of its output."""
        names = []
        for place, value in enumerate(inputs):
            names.append(value if isinstance(value, str) else f"value.{len(nodes)}.{place}")
            if not isinstance(value, str):
                values[names[-1]] = value
        output = to or f"step.{len(nodes)}"
        nodes.append(helper.make_node(kind, names, [output], **settings))
        return output

    found = step("Sub", "features", classifier.tensors["mean"])
    found = step("Mul", found, classifier.tensors["scale"])
    for number, (weight, bias) in enumerate(classifier.layers):
        found = step("Relu", found) if number else found
        found = step("Gemm", found, weight, bias, transB=1)
    found = step("Div", found, classifier.tensors["temperature"])
    if classifier.is_multilabel:
        _each(classifier, step, step("Sigmoid", found))
    else:
        _likeliest(classifier, step, step("Softmax", found, axis=1))
    graph = helper.make_graph(
        nodes,
        "quadrat",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", classifier.sizes[0]])],
        [
            helper.make_tensor_value_info("labels", TensorProto.BOOL, ["n", classifier.sizes[-1]])
            if classifier.is_multilabel
            else helper.make_tensor_value_info("label", TensorProto.STRING, ["n"]),
            helper.make_tensor_value_info(
                "probabilities", TensorProto.FLOAT, ["n", classifier.sizes[-1]]
            ),
        ],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8, producer_name="quadrat")
    helper.set_model_props(model, _facts(classifier))
    checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _likeliest(classifier: Classifier, step: Callable[..., str], found: str) -> None:
    """Calibrate the classes together, and answer the likeliest."""
    if "sigmoid.slope" in classifier.tensors:
        found = _sigmoids(classifier, step, found)
    else:
        found = _mixed(classifier, step, found, len(classifier.classes))
    likeliest = step("ArgMax", found, axis=1, keepdims=0)
    step("Gather", np.array(classifier.classes, object), likeliest, to="label")


def _each(classifier: Classifier, step: Callable[..., str], found: str) -> None:
    """Calibrate each class by itself, and answer it from its threshold on."""
    if "sigmoid.slope" in classifier.tensors:
        slope, offset = (classifier.tensors[f"sigmoid.{name}"] for name in ("slope", "offset"))
        scaled = step("Sub", step("Mul", found, -slope), offset)
        found = step("Sigmoid", scaled, to="probabilities")
    else:
        found = _mixed(classifier, step, found, 2)
    step("Not", step("Less", found, classifier.tensors["thresholds"]), to="labels")


def _mixed(classifier: Classifier, step: Callable[..., str], found: str, among: int) -> str:
    """Share out the doubt, if there is any, *among* so many answers."""
    doubt = classifier.tensors.get("doubt", np.zeros(1, np.float32))
    return step("Add", step("Mul", found, 1 - doubt), doubt / among, to="probabilities")


def _sigmoids(classifier: Classifier, step: Callable[..., str], scores: str) -> str:
    """Calibrate each class by itself; see `model.sigmoids`."""
    slope, offset = (classifier.tensors[f"sigmoid.{name}"] for name in ("slope", "offset"))
    one = np.ones(1, np.float32)
    if len(slope) == 1:
        second = step("Gather", scores, np.ones(1, np.int64), axis=1)
        second = step("Sigmoid", step("Sub", step("Mul", second, -slope), offset))
        return step("Concat", step("Sub", one, second), second, axis=1, to="probabilities")
    found = step("Sigmoid", step("Sub", step("Mul", scores, -slope), offset))
    total = step("ReduceSum", found, np.ones(1, np.int64), keepdims=1)
    some = step("Greater", total, 0 * one)
    share = step("Div", found, step("Where", some, total, one))
    return step("Where", some, share, one / np.float32(len(slope)), to="probabilities")


def _facts(classifier: Classifier) -> dict[str, str]:
    extractor = classifier.card.get("extractor", {})
    return {
        "classes": json.dumps(list(classifier.classes), ensure_ascii=False),
        "extractor": json.dumps(extractor, sort_keys=True, ensure_ascii=False),
    }


def scikit_learn(classifier: Classifier) -> bytes:
    """Give the classifier as a pickled scikit-learn estimator, as PySpacer 0.14 keeps its own.

    A `CalibratedClassifierCV` of an `MLPClassifier` (without hidden layers where there are none)
    whose first and last layer have taken in the standardisation and the temperature. Labels that
    are all whole numbers become such, as CoralNet's are. Whoever opens a pickle runs what is in it:
    it is for people who trust its maker.

    Raises:
        SettingError: it gives several labels, which PySpacer does not know, or is a foreign one of
            class against rest.

    Source: PySpacer 0.14, `storage.py: store_classifier, load_classifier`.
    """
    from sklearn.neural_network import MLPClassifier
    from sklearn.preprocessing import LabelBinarizer

    _no_foreign(classifier)
    if classifier.is_multilabel:
        raise SettingError("PySpacer knows one label a point, and this classifier gives several")
    classes = np.array(_ids(classifier.classes))
    order = np.argsort(classes)  # scikit-learn wants them sorted
    coefs, intercepts = _folded(classifier, order)
    hidden = classifier.sizes[1:-1]
    found = MLPClassifier(hidden_layer_sizes=hidden)
    found.coefs_, found.intercepts_ = coefs, intercepts
    found.n_layers_, found.n_features_in_ = len(coefs) + 1, classifier.sizes[0]
    found.n_outputs_ = coefs[-1].shape[1]
    found.out_activation_ = "logistic" if found.n_outputs_ == 1 else "softmax"
    found.classes_ = classes[order]
    found._label_binarizer = LabelBinarizer().fit(classes)  # noqa: SLF001 what its predict asks
    return pickle.dumps(_calibrated(found, classifier, order), protocol=2)


def _no_foreign(classifier: Classifier) -> None:
    if "logistic" in classifier.tensors:
        raise SettingError("a classifier that came from a pickle of PySpacer's; use that instead")


def _ids(classes: tuple[str, ...]) -> list[int] | list[str]:
    numbers = [int(name) for name in classes if name.isascii() and name.isdecimal()]
    return numbers if list(map(str, numbers)) == list(classes) else list(classes)


def _folded(classifier: Classifier, order: NDArray[np.int64]) -> tuple[list[Any], list[Any]]:
    """Give weights [inputs, outputs] and biases that do all by themselves, in float64.

    Of two classes scikit-learn keeps one output, the second's logit less the first's.
    """
    mean, scale, temperature = (
        classifier.tensors[name].astype(np.float64) for name in ("mean", "scale", "temperature")
    )
    coefs = [weight.T.astype(np.float64) for weight, _ in classifier.layers]
    intercepts = [bias.astype(np.float64) for _, bias in classifier.layers]
    coefs[0] = coefs[0] * scale[:, None]
    intercepts[0] = intercepts[0] - mean @ coefs[0]
    coefs[-1], intercepts[-1] = coefs[-1][:, order], intercepts[-1][order]
    if len(order) == 2:  # noqa: PLR2004
        coefs[-1] = coefs[-1][:, 1:] - coefs[-1][:, :1]
        intercepts[-1] = intercepts[-1][1:] - intercepts[-1][:1]
    coefs[-1], intercepts[-1] = coefs[-1] / temperature, intercepts[-1] / temperature
    return coefs, intercepts


def _calibrated(found: Any, classifier: Classifier, order: NDArray[np.int64]) -> Any:
    """Give *found* in the one shape that PySpacer takes: prefit, and calibrated class by class."""
    from sklearn.calibration import (
        CalibratedClassifierCV,
        _CalibratedClassifier,
        _SigmoidCalibration,
    )
    from sklearn.isotonic import IsotonicRegression

    calibrators: list[Any] = []
    for place in order if len(order) > 2 else [0]:  # noqa: PLR2004
        if "sigmoid.slope" in classifier.tensors:
            calibrators.append(_SigmoidCalibration())
            calibrators[-1].a_ = float(classifier.tensors["sigmoid.slope"][place])
            calibrators[-1].b_ = float(classifier.tensors["sigmoid.offset"][place])
        else:  # a straight line through what becomes of 0 and of 1
            doubt = float(classifier.tensors.get("doubt", [0.0])[0])
            ends = doubt / len(order), 1 - doubt + doubt / len(order)
            calibrators.append(IsotonicRegression(out_of_bounds="clip").fit([0.0, 1.0], ends))
    whole = CalibratedClassifierCV(found, cv="prefit")
    whole.classes_, whole.n_features_in_ = found.classes_, found.n_features_in_
    whole.calibrated_classifiers_ = [
        _CalibratedClassifier(found, calibrators, classes=found.classes_, method="sigmoid")
    ]
    return whole


FORMATS: Mapping[str, Callable[[Classifier], bytes]] = {".onnx": onnx, ".pkl": scikit_learn}
"""What a file's suffix asks for."""
