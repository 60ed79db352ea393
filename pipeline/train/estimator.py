"""The classifier as a scikit-learn estimator: trained as the train stage does, or opened.

    from pipeline.train.estimator import FeatureClassifier
    classifier = FeatureClassifier.open("models/classifier")

An opened one needs neither torch nor pickle.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from pipeline.config.sections import TrainParams
from pipeline.train import model as _artifact

if TYPE_CHECKING:
    from pipeline.train.fit import Data, Loop


class FeatureClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """An MLP or logistic regression on features, learnt by minibatches in torch.

    It learns one label a row. One that was opened and gives several answers for each class by
    itself: `predict` gives bool [n, n_classes].

    Its parameters are keys of the section `train` of params.yaml, and mean the same. It calibrates
    nothing: scikit-learn's `CalibratedClassifierCV` does, on rows of your choosing.

    Attributes:
        classes_: the labels, in the order of the probabilities.
        n_features_in_: values in a feature.
        model_: the tensors, as `models/classifier` keeps them.
    """

    def __init__(  # noqa: PLR0913 a scikit-learn estimator names each of its parameters
        self,
        *,
        classifier: str = "mlp",
        hidden: Sequence[int] | None = None,
        epochs: int | None = None,
        batch: int | None = None,
        learning_rate: float | None = None,
        schedule: str | None = None,
        weight_decay: float = 0.0,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        precision: str = "fp32",
        standardize: bool = True,
        balance: str = "none",
        min_per_class: int = 100,
        max_per_class: int = 10_000,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self.classifier = classifier
        self.hidden = hidden
        self.epochs = epochs
        self.batch = batch
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.label_smoothing = label_smoothing
        self.precision = precision
        self.standardize = standardize
        self.balance = balance
        self.min_per_class = min_per_class
        self.max_per_class = max_per_class
        self.seed = seed
        self.device = device

    @classmethod
    def open(cls, folder: Path | str) -> Self:
        """Open a trained classifier, with its calibration.

        Raises:
            InputError: it is not there, not one of ours, or its parts do not fit together.
        """
        model = _artifact.read(Path(folder))
        sizes = model.sizes[1:-1]
        found = cls(classifier="mlp" if sizes else "lr", hidden=sizes or None)
        found.classes_ = np.array(model.classes)
        found.n_features_in_ = model.sizes[0]
        found.model_ = model
        return found

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:  # noqa: N803 scikit-learn's name
        """Learn from features [n, dim] and their labels [n], anew.

        Raises:
            ValueError: they do not fit together, are not finite, or hold one class alone.
        """
        features, labels = self._checked(X, y, reset=True)
        self.classes_, numbers = np.unique(labels, return_inverse=True)
        self._must_differ()
        self.__dict__.pop("_loop", None)
        data = self._data(features, numbers)
        loop = self._begun(data, self._section())
        for number in range(1, loop.epochs + 1):
            loop.epoch(number, data)
        self._take(loop, data)
        return self

    def partial_fit(
        self,
        X: ArrayLike,  # noqa: N803 scikit-learn's name
        y: ArrayLike,
        classes: ArrayLike | None = None,
    ) -> Self:
        """Learn from each of some rows once more, at a constant rate.

        The first call's rows decide the mean and deviation that features are brought to, and the
        defaults that go by the number of rows. What was opened goes on from its weights, and loses
        its calibration.

        Args:
            X: features [n, dim].
            y: labels [n].
            classes: all labels that will ever come; needed in the first call.

        Raises:
            ValueError: as `fit`; or a label is none of the classes; or it was opened, and gives
                several labels.
        """
        if hasattr(self, "model_") and self.model_.is_multilabel:
            raise ValueError("it gives several labels a row, and partial_fit learns one; fit anew")
        known = hasattr(self, "classes_")
        features, labels = self._checked(X, y, reset=not known)
        if not known:
            if classes is None:
                raise ValueError("the first call of partial_fit needs the classes")
            self.classes_ = np.unique(np.asarray(classes))
            self._must_differ()
        elif classes is not None and not np.array_equal(self.classes_, np.unique(classes)):
            raise ValueError("classes are not those of the first call of partial_fit")
        unknown = np.setdiff1d(labels, self.classes_)
        if len(unknown):
            raise ValueError(f"{unknown.tolist()[0]!r} is none of the classes")
        numbers = np.searchsorted(self.classes_, labels)
        data = self._data(features, numbers)
        if hasattr(self, "_loop"):
            self._standardize(data)
        else:
            steady = self._section().model_copy(update={"schedule": "constant"})
            start = self._resumed if hasattr(self, "model_") else self._begun
            self._loop, self._passes = start(data, steady), 0
        self._passes += 1
        self._loop.epoch(self._passes, data)
        self._take(self._loop, data)
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803
        """Give the probability of each class [n, n_classes] for features [n, dim]."""
        check_is_fitted(self)
        return self.model_.predict_proba(validate_data(self, X, reset=False))

    def predict(self, X: ArrayLike) -> NDArray[Any]:  # noqa: N803
        """Give the likeliest class [n] for features [n, dim]; of several labels, which it has."""
        probabilities = self.predict_proba(X)
        if self.model_.is_multilabel:
            return self.model_.decide(probabilities)
        found: NDArray[Any] = self.classes_[probabilities.argmax(axis=1)]
        return found

    def _checked(self, X: ArrayLike, y: ArrayLike, *, reset: bool) -> tuple[Any, Any]:  # noqa: N803
        features, labels = validate_data(self, X, y, reset=reset)
        check_classification_targets(labels)
        return features, labels

    def _must_differ(self) -> None:
        if len(self.classes_) == 1:
            raise ValueError("a classifier needs two classes, and there is 1 class")

    def _section(self) -> TrainParams:
        given = {name: value for name, value in self.get_params().items() if name != "device"}
        plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in given.items()}
        if self.hidden is not None:
            plain["hidden"] = tuple(int(size) for size in self.hidden)
        return TrainParams(**plain)

    def _data(self, features: NDArray[Any], numbers: NDArray[np.int64]) -> Data:
        from pipeline.train.fit import Data, Rows

        rows = Rows.of(features, [""] * len(features))
        return Data(rows, np.asarray(numbers, np.int64), features.size * 4)

    def _begun(self, data: Data, train: TrainParams) -> Loop:
        """Start from nothing."""
        from pipeline.train.fit import start

        if train.standardize:
            data.standardize(*data.measured())
        return start(data, len(self.classes_), train, self.device)

    def _resumed(self, data: Data, train: TrainParams) -> Loop:
        """Start from the model, as it was opened or fitted."""
        from pipeline.train.fit import resume

        self._standardize(data)
        return resume(self.model_, data, train, self.device)

    def _standardize(self, data: Data) -> None:
        data.standardize(self.model_.tensors["mean"], self.model_.tensors["scale"])

    def _take(self, loop: Loop, data: Data) -> None:
        from pipeline.train.fit import classifier_of

        self.model_ = classifier_of(tuple(map(str, self.classes_)), data, loop.network)
