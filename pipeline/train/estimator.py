"""The classifier as a scikit-learn estimator, fitted here or opened from the train stage's files.

    from pipeline.train.estimator import FeatureClassifier
    classifier = FeatureClassifier.open("models/classifier")

To open one and predict needs neither torch nor pickle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from pipeline.config.sections import TrainParams
from pipeline.train import model

if TYPE_CHECKING:
    from pipeline.train.batches import Data


@dataclass(kw_only=True, eq=False, repr=False)
class FeatureClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """An MLP or logistic regression on features, trained on minibatches in torch.

    It is fitted to one label a row. If it was opened from a classifier of several labels, `predict`
    returns bool [n, n_classes].

    Its parameters are keys of the section `train` of params.yaml, and mean the same. `fit` does not
    calibrate it: use scikit-learn's `CalibratedClassifierCV`, on rows of your choice.

    Attributes:
        classes_: the labels, in the order of the probabilities.
        n_features_in_: values in a feature.
        model_: the classifier that `models/classifier` holds.
    """

    classifier: str = "mlp"
    hidden: Sequence[int] | None = None
    epochs: int | None = None
    batch: int | None = None
    learning_rate: float | None = None
    schedule: str | None = None
    weight_decay: float = 0.0
    dropout: float = 0.0
    label_smoothing: float = 0.0
    precision: str = "fp32"
    standardize: bool = True
    balance: str = "none"
    min_per_class: int = 100
    max_per_class: int = 10_000
    seed: int = 0
    device: str = "cpu"

    @classmethod
    def open(cls, folder: Path | str) -> Self:
        """Open a trained classifier, with its calibration.

        Raises:
            InputError: it is missing, is not a classifier, or its parts do not fit together.
        """
        opened = model.read(Path(folder))
        sizes = opened.sizes[1:-1]
        estimator = cls(classifier="mlp" if sizes else "lr", hidden=sizes or None)
        estimator.classes_ = np.array(opened.classes)
        estimator.n_features_in_ = opened.sizes[0]
        estimator.model_ = opened
        return estimator

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:  # noqa: N803 scikit-learn's name
        """Train from scratch on features [n, dim] and their labels [n].

        Raises:
            ValueError: they do not fit together, are not finite, or have only one class.
        """
        from pipeline.train.fit import classifier_of, start

        features, labels = self._validated(X, y, reset=True)
        self._set_classes(labels)
        self.__dict__.pop("_loop", None)
        data = self._data(features, labels)
        loop = start(data, len(self.classes_), self._section(), self.device)
        for number in range(1, loop.schedule.epochs + 1):
            loop.epoch(number, data)
        self.model_ = classifier_of(self.classes_, data, loop.network)
        return self

    def partial_fit(
        self,
        X: ArrayLike,  # noqa: N803 scikit-learn's name
        y: ArrayLike,
        classes: ArrayLike | None = None,
    ) -> Self:
        """Train one more epoch on these rows, with a constant learning rate.

        The rows of the first call decide how features are standardised, and the defaults that
        depend on the number of rows. A classifier that was opened or fitted continues from its
        weights, and loses its calibration.

        Args:
            X: features [n, dim].
            y: labels [n].
            classes: all labels of all calls; required in the first call.

        Raises:
            ValueError: as `fit`; or a label is not in *classes*; or the opened classifier is one of
                several labels.
        """
        from pipeline.train.fit import classifier_of, resume, start

        if hasattr(self, "model_") and self.model_.is_multilabel:
            raise ValueError(
                "this classifier predicts several labels a row, and partial_fit trains on one; "
                "fit a new one"
            )
        is_first = not hasattr(self, "classes_")
        features, labels = self._validated(X, y, reset=is_first)
        if is_first:
            if classes is None:
                raise ValueError("the first call of partial_fit needs the classes")
            self._set_classes(classes)
        elif classes is not None and not np.array_equal(self.classes_, np.unique(classes)):
            raise ValueError("classes are not those of the first call of partial_fit")
        unknown = np.setdiff1d(labels, self.classes_)
        if len(unknown):
            raise ValueError(f"{unknown.tolist()[0]!r} is none of the classes")
        data = self._data(features, labels)
        if hasattr(self, "_loop"):
            data.standardize(self.model_.tensors["mean"], self.model_.tensors["scale"])
        else:
            train = self._section().model_copy(update={"schedule": "constant"})
            self._epochs = 0
            self._loop = (
                resume(self.model_, data, train, self.device)
                if hasattr(self, "model_")
                else start(data, len(self.classes_), train, self.device)
            )
        self._epochs += 1
        self._loop.epoch(self._epochs, data)
        self.model_ = classifier_of(self.classes_, data, self._loop.network)
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803
        """Return the probability of each class [n, n_classes] for features [n, dim]."""
        check_is_fitted(self)
        return self.model_.predict_proba(validate_data(self, X, reset=False))

    def predict(self, X: ArrayLike) -> NDArray[Any]:  # noqa: N803
        """Return the class [n] of features [n, dim], or of several labels, bool [n, n_classes]."""
        probabilities = self.predict_proba(X)
        if self.model_.is_multilabel:
            return self.model_.reaches_threshold(probabilities)
        predicted: NDArray[Any] = self.classes_[probabilities.argmax(axis=1)]
        return predicted

    def _validated(
        self,
        X: ArrayLike,  # noqa: N803
        y: ArrayLike,
        *,
        reset: bool,
    ) -> tuple[Any, Any]:
        features, labels = validate_data(self, X, y, reset=reset)
        check_classification_targets(labels)
        return features, labels

    def _set_classes(self, labels: ArrayLike) -> None:
        self.classes_ = np.unique(np.asarray(labels))
        if len(self.classes_) == 1:
            raise ValueError("a classifier needs two classes, and there is 1 class")

    def _section(self) -> TrainParams:
        """Return the parameters as the section; a grid search passes NumPy's types."""
        values = {name: value for name, value in self.get_params().items() if name != "device"}
        plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in values.items()}
        if self.hidden is not None:
            plain["hidden"] = tuple(int(size) for size in self.hidden)
        return TrainParams(**plain)

    def _data(self, features: NDArray[Any], labels: NDArray[Any]) -> Data:
        from pipeline.train.batches import Data
        from pipeline.train.labelled_features import LabelledFeatures

        numbers = np.searchsorted(self.classes_, labels).astype(np.int64)
        rows = LabelledFeatures.of(features, [""] * len(features))
        return Data(rows, numbers, features.size * 4)
