"""scikit-learn's habit: fit, predict, score."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import _arrays
from ._data import Dataset
from ._errors import DataError
from ._lowbit import Input
from ._model import Model, zoo
from ._settings import seed as seed_of
from ._train import EpochRecord, Run, train

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
except ImportError:  # It is a habit, not a dependency.

    class BaseEstimator:  # type: ignore[no-redef]
        """Parameters by name, as scikit-learn's base class has them."""

        _names = ("model", "bits", "epochs", "batch_size", "lr", "augment", "seed")

        def get_params(self, deep: bool = True) -> dict[str, Any]:
            """The parameters."""
            return {name: getattr(self, name) for name in self._names}

        def set_params(self, **params: Any) -> Any:
            """Change parameters; returns the estimator."""
            for name, value in params.items():
                if name not in self._names:
                    raise ValueError(f"no parameter {name}")
                setattr(self, name, value)
            return self

    class ClassifierMixin:  # type: ignore[no-redef]
        """Accuracy as score."""

        def score(self, X: Any, y: Any) -> float:
            """Share of right predictions."""
            return float((self.predict(X) == np.asarray(y)).mean())  # type: ignore[attr-defined]


class Classifier(ClassifierMixin, BaseEstimator):
    """An image classifier that is trained with quantization, for scikit-learn's tools.

    `X` is uint8 images ``[n, height, width, channels]`` or ``[n, height, width]``, or numbers ``[n, features]``. The latter
    become bytes, each feature by its range in training (256 steps), and need ``model="mlp"``. `y` is whatever names classes.

    Args:
        model: a model of the zoo.
        bits: bits per weight: 32, 16, 8, 4, 2 or 1.
        epochs: passes over the images.
        batch_size: images per step.
        lr: base learning rate.
        augment: as in `lowbit.train`.
        seed: seed of weights and order.

    Attributes:
        classes_: the classes, sorted.
        model_: the trained `Model`, packed below 32 bits.
        run_: the `Run`; its test figures are NaN, since no image was held out.
    """

    def __init__(
        self,
        model: str = "eurosat-cnn",
        bits: int = 8,
        epochs: int = 10,
        batch_size: int = 64,
        lr: float = 1e-3,
        augment: str = "none",
        seed: int = 1,
    ) -> None:
        self.model = model
        self.bits = bits
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.augment = augment
        self.seed = seed

    def fit(self, X: Any, y: Any) -> Classifier:
        """Train on images and their classes; all of them, none is set apart."""
        if y is None:
            raise DataError("this Classifier requires y to be passed, but the target y is None")
        X, y = _checked(self, X, y)
        # Of numbers alone: each feature's lowest, and how far it goes.
        scale = None
        if X.ndim == 2:
            low = X.min(axis=0)
            scale = low, np.where(X.max(axis=0) > low, X.max(axis=0) - low, 1.0)
        images = self._images(X, scale)
        classes, labels = _classes(y)
        if len(classes) < 2:
            raise DataError("y holds 1 class, learning needs at least two")
        names = [str(each) for each in classes]
        part = (images, labels.astype(np.uint32))
        # Training measures each epoch on a test part. Here all images are learned from, and scikit-learn's tools hold out their
        # own: some training images stand in, and what they give is no test accuracy and is not kept.
        few = min(len(images), 64)
        seen = (images[:few], part[1][:few])
        data = Dataset._of(Input.of_arrays("X", names, part, seen, 0.2, seed_of(self.seed)))
        network = zoo(self.model, names, input=data.image_shape, seed=self.seed)
        run = train(
            network, data, epochs=self.epochs, bits=self.bits, batch_size=self.batch_size, lr=self.lr,
            augment=self.augment, seed=self.seed,
        )  # fmt: skip
        untested = {"test_loss": math.nan, "test_accuracy": math.nan, "logits_digest": None}
        epochs = [EpochRecord(**{**epoch._asdict(), **untested}) for epoch in run.epochs]
        self.run_ = Run(model=run.model, epochs=epochs, chosen_epoch=run.chosen_epoch, test_accuracy=math.nan)
        self.model_: Model = run.model
        self.classes_, self._scale = classes, scale
        return self

    def decision_function(self, X: Any) -> Any:
        """Logits ``[n, classes]``; of two classes the difference, ``[n]``."""
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict_proba(self, X: Any) -> Any:
        """Softmax of the logits, ``[n, classes]``."""
        logits = self._logits(X).astype(np.float64)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return shares / shares.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> Any:
        """The classes, ``[n]``."""
        best = self._logits(X).argmax(axis=1)
        return self.classes_[best]

    def _logits(self, X: Any) -> Any:
        if not hasattr(self, "model_"):
            try:
                from sklearn.exceptions import NotFittedError as Unfitted
            except ImportError:
                Unfitted = DataError
            raise Unfitted("this Classifier is not fitted yet: call fit first")
        return self.model_(self._images(_checked(self, X, None)[0], self._scale))

    def _images(self, X: Any, scale: tuple[Any, Any] | None) -> Any:
        if X.ndim != 2:
            if scale is not None:
                raise DataError(f"X has shape {list(X.shape)}: this Classifier was fitted on numbers [n, {len(scale[0])}]")
            # Whatever order a table's columns or a pipeline's step left them in.
            return _arrays.images(np.ascontiguousarray(X), "X")
        if self.model != "mlp":
            raise DataError(f"X has shape {list(X.shape)}: {self.model} takes images [n, height, width, channels]; model='mlp' takes numbers")
        if scale is None:
            raise DataError(f"X has shape {list(X.shape)}: this Classifier was fitted on images")
        low, spread = scale
        if X.shape[1] != len(low):
            raise DataError(f"X has shape {list(X.shape)}, expected [n, {len(low)}]")
        scaled = np.clip((X - low) / spread, 0.0, 1.0)
        return np.ascontiguousarray(np.rint(255 * scaled).astype(np.uint8))[:, None, :, None]


def _checked(estimator: Classifier, X: Any, y: Any) -> tuple[Any, Any]:
    """Both as arrays; scikit-learn's own checks of numbers where it is there."""
    if not _are_images(X):
        try:
            from sklearn.utils.validation import validate_data
        except ImportError:
            pass
        else:
            try:
                if y is None:
                    return validate_data(estimator, X, reset=False, dtype=np.float64), None
                checked: tuple[Any, Any] = validate_data(estimator, X, y, dtype=np.float64)
                return checked
            except ValueError as error:
                raise DataError(" ".join(str(error).split())) from error
    found = _arrays.array(X, "X")
    if found.ndim == 2:
        try:
            found = found.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(f"X: {error}") from error
        if not found.size or not np.isfinite(found).all():
            raise DataError("X is empty, or holds numbers that are not finite")
    if y is None:
        return found, None
    # What scikit-learn keeps of a table that was fitted before.
    for name in ("n_features_in_", "feature_names_in_"):
        estimator.__dict__.pop(name, None)
    y = _arrays.array(y, "y")
    if y.ndim != 1 or len(y) != len(found):
        raise DataError(f"y has shape {list(y.shape)}, expected one class for each of {len(found)} images")
    return found, y


def _are_images(X: Any) -> bool:
    if hasattr(X, "ndim"):
        return bool(X.ndim > 2)
    try:
        return _arrays.array(X, "X").ndim > 2
    except DataError:
        # Who reads it as numbers says what it is.
        return False


def _classes(y: Any) -> tuple[Any, Any]:
    """The classes, sorted, and of each image the index into them."""
    if y.dtype.kind in "cfO":
        for each in y.tolist():
            if each is None or isinstance(each, complex) or (isinstance(each, float) and not each.is_integer()):
                raise DataError(f"Unknown label type: y holds {each}; classes are whole numbers or names")
    try:
        classes, labels = np.unique(y, return_inverse=True)
    except TypeError as error:
        raise DataError(f"Unknown label type: y mixes what cannot be sorted: {error}") from error
    return classes, labels
