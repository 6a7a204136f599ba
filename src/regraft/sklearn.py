"""scikit-learn estimators: train the new layers of a network, or take its features, cached in searches and folds.

The only module that needs scikit-learn to be imported (pip install 'regraft[sklearn]'); no other module imports it.
"""

import copy
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    RegressorMixin,
    TransformerMixin,
)
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from regraft.caching import cache_features
from regraft.errors import DataError
from regraft.foundation.patterns import Patterns
from regraft.freezing import freeze, frozen_names
from regraft.learning.learner import Learner
from regraft.learning.solvers import Solver
from regraft.splitting import Head, Trunk, split
from regraft.tasks.outputs import find_logits
from regraft.training import train

Model = nn.Module | Callable[[int], nn.Module]
Array = np.ndarray[Any, Any]


class _Reuse(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What the estimators share: the copy of the model, and its halves.

    The halves are made when they are needed: they are no part of a pickle.
    """

    model: Model
    store: str | os.PathLike[str] | None
    batch_size: int

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_halves"}

    def _inputs(self, X: object, *, reset: bool) -> Tensor:
        """The examples as float32, (count, …), as the model takes them."""
        array = validate_data(self, X, reset=reset, allow_nd=True, dtype="numeric")
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))

    def _own_model(self, outputs: int, random_state: int) -> nn.Module:
        """A copy of the model, or a new one with so many outputs."""
        if isinstance(self.model, nn.Module):
            return copy.deepcopy(self.model)
        torch.manual_seed(random_state)
        return self.model(outputs)

    def _split(self, inputs: Tensor) -> tuple[Trunk, Head]:
        if not hasattr(self, "_halves"):
            self._halves = self._made_halves(inputs[:2])
        return self._halves

    def _made_halves(self, example: Tensor) -> tuple[Trunk, Head]:
        return split(self.model_, _two(example))

    def _features(self, inputs: Tensor) -> Any:
        """The features of examples; of the ones that `store` holds nothing is computed again."""
        trunk, _ = self._split(inputs)
        labels = torch.zeros(len(inputs), dtype=torch.int64)
        return cache_features(trunk, (inputs, labels), self.store, batch_size=self.batch_size)


def _two(example: Tensor) -> Tensor:
    """Two rows, because BatchNorm cannot normalise one."""
    return example if len(example) > 1 else example.repeat(2, *[1] * (example.ndim - 1))


class _Trained(_Reuse):
    """What classifier and regressor share: fitting the head, and the outputs for new examples."""

    def __init__(
        self,
        model: Model,
        *,
        trainable: Patterns | None = None,
        store: str | os.PathLike[str] | None = None,
        solver: Solver | None = None,
        batch_size: int = 64,
        random_state: int = 0,
    ) -> None:
        self.model, self.trainable, self.store = model, trainable, store
        self.solver, self.batch_size, self.random_state = solver, batch_size, random_state

    def _fit(self, inputs: Tensor, targets: Tensor, outputs: int, loss: Any) -> None:
        self.__dict__.pop("_halves", None)
        self.model_ = self._own_model(outputs, self.random_state)
        if self.trainable is not None:
            freeze(self.model_, trainable=self.trainable)
        seed = self.random_state
        if frozen_names(self.model_):
            trunk, head = self._split(inputs)
            features = cache_features(trunk, (inputs, targets), self.store, batch_size=self.batch_size)
            self.history_ = train(head, features, loss=loss, solver=self.solver, seed=seed)
        else:
            self.history_ = train(self.model_, (inputs, targets), loss=loss, solver=self.solver, seed=seed)
        self.model_.eval()

    def _outputs(self, X: object) -> Tensor:
        """The model's outputs (count, outputs), in evaluation mode."""
        check_is_fitted(self)
        inputs = self._inputs(X, reset=False)
        rows: Any = inputs
        learner = Learner(self.model_)
        if self.store is not None and frozen_names(self.model_):
            rows, learner = self._features(inputs), Learner(self._split(inputs)[1])
        found = []
        with torch.inference_mode():
            for indices in torch.arange(len(inputs)).split(self.batch_size):
                batch = rows[indices] if rows is inputs else rows.gather(indices)[0]
                logits = find_logits(learner.outputs(batch))
                if logits is None:
                    raise DataError("The model gives no tensor of outputs. Give it one, or an attribute `logits`.")
                found.append(logits)
        return torch.cat(found)


class ReuseClassifier(ClassifierMixin, _Trained):  # type: ignore[misc]  # scikit-learn has no types
    """Trains the new layers of a network on cached features of its frozen ones; classifies.

    model         a torch module with one output for each class, its layers restored; or a function of the number of
                  outputs that gives one. It is copied, never changed
    trainable     patterns of the layers that train, all others are frozen; None leaves the model as it is
    store         a folder for the features: folds and candidates of a search share it, so that each example passes the
                  frozen layers once. None keeps the features of one fit in memory
    solver        `regraft.Steps(…)` or `regraft.Exact(…)`; None chooses by the head
    random_state  seed of new layers and batches

    X is an array (count, …) of inputs as the model takes them, y holds any class labels.
    Afterwards: `model_`, `classes_`, `history_`, `n_features_in_`.
    """

    def fit(self, X: object, y: Any) -> "ReuseClassifier":
        """Train on examples X (count, …) with class labels y (count,)."""
        X, y = validate_data(self, X, y, allow_nd=True, dtype="numeric")
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"ReuseClassifier needs two classes or more; y has 1 class: {self.classes_[0]}.")
        inputs = torch.from_numpy(np.ascontiguousarray(X, dtype=np.float32))
        self._fit(inputs, torch.from_numpy(numbers.astype(np.int64)), len(self.classes_), "cross_entropy")
        return self

    def predict_proba(self, X: object) -> Array:
        """Probabilities (count, classes), in the order of `classes_`."""
        logits = self._outputs(X)
        if logits.shape[1:] != (len(self.classes_),):
            shape = tuple(logits.shape[1:])
            raise DataError(f"The model gives outputs of shape {shape} for {len(self.classes_)} classes.")
        return np.asarray(logits.double().softmax(1))

    def predict(self, X: object) -> Array:
        """The most probable class of each example."""
        numbers = self.predict_proba(X).argmax(1)
        return np.asarray(self.classes_[numbers])


class ReuseRegressor(RegressorMixin, _Trained):  # type: ignore[misc]  # scikit-learn has no types
    """Trains the new layers of a network on cached features of its frozen ones; predicts numbers.

    The arguments are those of `ReuseClassifier`; a function as `model` gets the number of values of an example.
    Trains by the mean squared error. y is (count,) or (count, values).
    """

    def fit(self, X: object, y: Any) -> "ReuseRegressor":
        """Train on examples X (count, …) with numbers y (count,) or (count, values)."""
        X, y = validate_data(self, X, y, allow_nd=True, dtype="numeric", y_numeric=True, multi_output=True)
        self.is_flat_ = y.ndim == 1
        targets = torch.from_numpy(np.ascontiguousarray(y, dtype=np.float32)).reshape(len(y), -1)
        inputs = torch.from_numpy(np.ascontiguousarray(X, dtype=np.float32))
        self._fit(inputs, targets, targets.shape[1], "mean_squared_error")
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def predict(self, X: object) -> Array:
        """Numbers of the form that y had."""
        values = np.asarray(self._outputs(X).double())
        return values.reshape(len(values)) if self.is_flat_ else values


class FeatureExtractor(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _Reuse):  # type: ignore[misc]
    """The outputs of a network's layer as features, one row of numbers for each example.

    model       a torch module; it is copied, never changed
    layer       the name of the layer
    pool        "mean" averages over height and width, or over the tokens
    store       a folder for the features, shared by folds and candidates; None computes them each time

    fit learns nothing from y: it copies the model and proves that the features can be taken.
    """

    def __init__(
        self,
        model: nn.Module,
        layer: str,
        *,
        pool: str | None = None,
        store: str | os.PathLike[str] | None = None,
        batch_size: int = 64,
    ) -> None:
        self.model, self.layer, self.pool, self.store, self.batch_size = model, layer, pool, store, batch_size

    def fit(self, X: object, y: object = None) -> "FeatureExtractor":
        """Prepare the model for inputs like X (count, …)."""
        inputs = self._inputs(X, reset=True)
        self.__dict__.pop("_halves", None)
        self.model_ = self._own_model(0, 0).eval()
        freeze(self.model_, ".*")
        self._n_features_out = self._rows(inputs[:2]).shape[1]
        return self

    def transform(self, X: object) -> Array:
        """The features of each example, (count, numbers) float32."""
        check_is_fitted(self)
        return self._rows(self._inputs(X, reset=False))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def _made_halves(self, example: Tensor) -> tuple[Trunk, Head]:
        return split(self.model_, _two(example), at=self.layer, pool=self.pool)  # type: ignore[arg-type]

    def _rows(self, inputs: Tensor) -> Array:
        rows, _ = self._features(inputs).gather(torch.arange(len(inputs)))
        wanted = self.layer if self.pool is None else f"{self.pool}({self.layer})"
        # The cut may hold more: what the layers behind need.
        own = [rows[name].reshape(len(inputs), -1).float() for name in rows if name.partition("#")[0] == wanted]
        return np.asarray(torch.cat(own, dim=1).cpu())
