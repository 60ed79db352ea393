"""Write the classifier as ONNX, or as a scikit-learn pickle like PySpacer's.

Both contain everything from a feature to probabilities: the standardisation, the network and the
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
"""The version of ONNX, of 2020, that every runtime of today reads."""


def onnx(classifier: Classifier) -> bytes:
    """Return the classifier as an ONNX model.

    Its input is `features`, float32 [n, dim]; its outputs are `label`, strings [n], and
    `probabilities`, float32 [n, n_classes], in the order of the metadata's `classes` (JSON). If a
    chip may have several labels, `labels`, bool [n, n_classes], replaces `label`.

    Raises:
        SettingError: onnx is not installed, or the classifier is PySpacer's, one-vs-rest.
    """
    _check_trained_here(classifier)
    try:
        from onnx import TensorProto, checker, helper, numpy_helper
    except ModuleNotFoundError as error:
        raise SettingError("an export to ONNX needs onnx; pip install onnx") from error
    nodes: list[Any] = []
    constants: dict[str, NDArray[Any]] = {}

    def step(kind: str, *inputs: str | NDArray[Any], to: str = "", **attributes: Any) -> str:
        """Add a node and its constants; return the name of its output."""
        names = []
        for place, value in enumerate(inputs):
            names.append(value if isinstance(value, str) else f"value.{len(nodes)}.{place}")
            if not isinstance(value, str):
                constants[names[-1]] = value
        output = to or f"step.{len(nodes)}"
        nodes.append(helper.make_node(kind, names, [output], **attributes))
        return output

    logits = step("Sub", "features", classifier.tensors["mean"])
    logits = step("Mul", logits, classifier.tensors["scale"])
    for number, (weight, bias) in enumerate(classifier.layers):
        logits = step("Relu", logits) if number else logits
        logits = step("Gemm", logits, weight, bias, transB=1)
    logits = step("Div", logits, classifier.tensors["temperature"])
    dim, n_classes = classifier.sizes[0], classifier.sizes[-1]
    if classifier.is_multilabel:
        _add_labels(classifier, step, step("Sigmoid", logits))
        label = helper.make_tensor_value_info("labels", TensorProto.BOOL, ["n", n_classes])
    else:
        _add_label(classifier, step, step("Softmax", logits, axis=1))
        label = helper.make_tensor_value_info("label", TensorProto.STRING, ["n"])
    float32 = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "quadrat",
        [helper.make_tensor_value_info("features", float32, ["n", dim])],
        [label, helper.make_tensor_value_info("probabilities", float32, ["n", n_classes])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8, producer_name="quadrat")
    extractor = classifier.card.get("extractor", {})
    metadata = {
        "classes": json.dumps(list(classifier.classes), ensure_ascii=False),
        "extractor": json.dumps(extractor, sort_keys=True, ensure_ascii=False),
    }
    helper.set_model_props(model, metadata)
    checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


Step = Callable[..., str]


def _add_label(classifier: Classifier, step: Step, scores: str) -> None:
    """Add the calibration of all classes together, and the label with the highest probability."""
    if "sigmoid.slope" in classifier.tensors:
        probabilities = _sigmoids(classifier, step, scores)
    else:
        probabilities = _mixed(classifier, step, scores, len(classifier.classes))
    highest = step("ArgMax", probabilities, axis=1, keepdims=0)
    step("Gather", np.array(classifier.classes, object), highest, to="label")


def _add_labels(classifier: Classifier, step: Step, scores: str) -> None:
    """Add the calibration of each class by itself, and the labels that reach their thresholds."""
    if "sigmoid.slope" in classifier.tensors:
        slope, offset = (classifier.tensors[f"sigmoid.{name}"] for name in ("slope", "offset"))
        scaled = step("Sub", step("Mul", scores, -slope), offset)
        probabilities = step("Sigmoid", scaled, to="probabilities")
    else:
        probabilities = _mixed(classifier, step, scores, 2)
    step("Not", step("Less", probabilities, classifier.tensors["thresholds"]), to="labels")


def _mixed(classifier: Classifier, step: Step, scores: str, outcomes: int) -> str:
    """Add the mixture with equal probabilities of so many outcomes; see `pipeline.train.model`."""
    doubt = classifier.tensors.get("doubt", np.zeros(1, np.float32))
    return step("Add", step("Mul", scores, 1 - doubt), doubt / outcomes, to="probabilities")


def _sigmoids(classifier: Classifier, step: Step, scores: str) -> str:
    """Add a sigmoid for each class, and scale them to a sum of 1; see `pipeline.train.model`."""
    slope, offset = (classifier.tensors[f"sigmoid.{name}"] for name in ("slope", "offset"))
    one = np.ones(1, np.float32)
    if len(slope) == 1:
        second = step("Gather", scores, np.ones(1, np.int64), axis=1)
        second = step("Sigmoid", step("Sub", step("Mul", second, -slope), offset))
        return step("Concat", step("Sub", one, second), second, axis=1, to="probabilities")
    each = step("Sigmoid", step("Sub", step("Mul", scores, -slope), offset))
    total = step("ReduceSum", each, np.ones(1, np.int64), keepdims=1)
    is_positive = step("Greater", total, 0 * one)
    share = step("Div", each, step("Where", is_positive, total, one))
    equal = one / np.float32(len(slope))
    return step("Where", is_positive, share, equal, to="probabilities")


def scikit_learn(classifier: Classifier) -> bytes:
    """Return the classifier as a pickled scikit-learn estimator, as PySpacer 0.14 stores its own.

    It is a `CalibratedClassifierCV` of an `MLPClassifier`, whose first and last layers include the
    standardisation and the temperature. Labels that are all whole numbers, as CoralNet's are,
    become integers.

    Raises:
        SettingError: it predicts several labels for a chip, which PySpacer cannot, or is
            PySpacer's, one-vs-rest.

    Source: PySpacer 0.14, `storage.py: store_classifier, load_classifier`.
    """
    from sklearn.neural_network import MLPClassifier
    from sklearn.preprocessing import LabelBinarizer

    _check_trained_here(classifier)
    if classifier.is_multilabel:
        raise SettingError(
            "PySpacer has one label a point, and this classifier predicts several; export it to "
            ".onnx instead"
        )
    names = list(classifier.classes)
    numbers = [int(name) for name in names if name.isascii() and name.isdecimal()]
    classes = np.array(numbers if list(map(str, numbers)) == names else names)
    order = np.argsort(classes)  # scikit-learn expects them sorted
    network = MLPClassifier(hidden_layer_sizes=classifier.sizes[1:-1])
    coefs, network.intercepts_ = _folded(classifier, order)
    network.coefs_, network.n_layers_ = coefs, len(coefs) + 1
    network.n_features_in_, network.n_outputs_ = classifier.sizes[0], coefs[-1].shape[1]
    network.out_activation_ = "logistic" if network.n_outputs_ == 1 else "softmax"
    network.classes_ = classes[order]
    network._label_binarizer = LabelBinarizer().fit(classes)  # noqa: SLF001 - predict uses it
    return pickle.dumps(_calibrated(network, classifier, order), protocol=2)


def _check_trained_here(classifier: Classifier) -> None:
    if "logistic" in classifier.tensors:
        raise SettingError("this classifier comes from a pickle of PySpacer; use that file instead")


def _folded(classifier: Classifier, order: NDArray[np.int64]) -> tuple[list[Any], list[Any]]:
    """Return weights [inputs, outputs] and biases, float64, with all scaling included.

    For two classes scikit-learn has one output: the second's logit minus the first's.
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


def _calibrated(network: Any, classifier: Classifier, order: NDArray[np.int64]) -> Any:
    """Return *network* in the only form that PySpacer loads: prefit, calibrated by class."""
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
        else:  # a straight line through the calibrated values of 0 and 1
            doubt = float(classifier.tensors.get("doubt", [0.0])[0])
            ends = doubt / len(order), 1 - doubt + doubt / len(order)
            calibrators.append(IsotonicRegression(out_of_bounds="clip").fit([0.0, 1.0], ends))
    estimator = CalibratedClassifierCV(network, cv="prefit")
    estimator.classes_, estimator.n_features_in_ = network.classes_, network.n_features_in_
    estimator.calibrated_classifiers_ = [
        _CalibratedClassifier(network, calibrators, classes=network.classes_, method="sigmoid")
    ]
    return estimator


FORMATS: Mapping[str, Callable[[Classifier], bytes]] = {".onnx": onnx, ".pkl": scikit_learn}
"""The function for each ending of the file's name."""
