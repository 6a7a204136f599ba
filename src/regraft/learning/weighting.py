"""Examples with a weight each."""

from typing import final

import torch
from torch import Tensor

from regraft.caches.features import Features
from regraft.errors import DataError
from regraft.examples import Examples, TensorExamples
from regraft.labels import Labels
from regraft.learning.losses import WeightedLabels
from regraft.tensors.trees import Inputs


def weighted(examples: Examples, weights: object) -> Examples:
    """The examples with these weights beside their labels.

    weights  (count,) numbers of 0 or more

    Raises DataError for another number of them, and for a weight that is negative or not finite.
    """
    values = torch.as_tensor(weights, dtype=torch.float32)
    if values.shape != (len(examples),):
        raise DataError(
            f"sample_weights has the shape {tuple(values.shape)}, expected one for each of {len(examples)} examples."
        )
    if not bool((values >= 0).all()) or not bool(values.isfinite().all()):
        raise DataError("sample_weights has a negative number, or one that is not finite.")
    if isinstance(examples, Features):
        return examples.with_labels(WeightedLabels(examples.labels, values), classes=examples.classes)
    if isinstance(examples, TensorExamples):
        return TensorExamples(examples.inputs, WeightedLabels(examples.labels, values), examples.classes)
    return _Weighted(examples, values)


@final
class _Weighted(Examples):
    """Examples that are fetched one by one, with their weights."""

    def __init__(self, examples: Examples, weights: Tensor) -> None:
        self.examples, self.weights, self.classes = examples, weights, examples.classes
        if examples.labels is not None:
            self.labels = WeightedLabels(examples.labels, weights)

    def __len__(self) -> int:
        return len(self.examples)

    def gather(self, indices: Tensor) -> tuple[Inputs, Labels]:
        inputs, labels = self.examples.gather(indices)
        return inputs, WeightedLabels(labels, self.weights[indices])
