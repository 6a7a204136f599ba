"""Examples as whole batches: the one way in which data reaches a model, a trunk or a head."""

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset, default_collate

from regraft.errors import DataError
from regraft.padding import longest, padded_to

Inputs = Any  # a tensor (model(x)), a tuple (model(*x)) or a dict (model(**x)); each tensor has one row per example


@runtime_checkable
class Examples(Protocol):
    """Labelled examples that are handed out by whole batches."""

    def __len__(self) -> int:
        """Number of examples."""

    def gather(self, indices: Tensor) -> tuple[Inputs, Tensor]:
        """The inputs and labels of these examples, in this order.

        indices  (batch,) int64
        returns  inputs with `batch` rows each, labels (batch,) or what the loss takes
        """


class TensorExamples:
    """Examples whose tensors lie in memory or on a device: a batch is one `index_select` per tensor."""

    def __init__(self, inputs: Inputs, labels: Tensor) -> None:
        self.inputs, self.labels = inputs, labels
        for tensor in tensors_in(inputs):
            if len(tensor) != len(labels):
                raise DataError(f"{len(tensor)} inputs and {len(labels)} labels: each example needs one of each.")

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, indices: Tensor) -> tuple[Inputs, Tensor]:
        """The rows at `indices`, copied."""
        indices = indices.to(self.labels.device)
        return map_tensors(lambda tensor: tensor.index_select(0, indices), self.inputs), self.labels.index_select(
            0, indices
        )


class DatasetExamples:
    """A torch data set of (input, label) pairs: each example is fetched by itself and collated."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset: Any = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def gather(self, indices: Tensor) -> tuple[Inputs, Tensor]:
        """The examples at `indices`, collated by torch's own rules; shorter ones are filled with zeros at the end."""
        return collated(self.fetch(indices))

    def fetch(self, indices: Tensor) -> list[tuple[Any, Any]]:
        """The pairs (input, label) at `indices`."""
        chosen = indices.tolist()
        fetch_many = getattr(self.dataset, "__getitems__", None)
        rows = fetch_many(chosen) if fetch_many else [self.dataset[index] for index in chosen]
        for index, row in zip(chosen, rows, strict=True):
            if not isinstance(row, (tuple, list)) or len(row) != 2:
                raise DataError(
                    f"Example {index} of the data set is a {type(row).__name__}, expected the pair (input, label).\n"
                    "For several inputs give ((a, b), label) or ({'name': a}, label)."
                )
        return [tuple(row) for row in rows]


def collated(rows: Sequence[tuple[Any, Any]]) -> tuple[Inputs, Tensor]:
    """A batch of (input, label) pairs."""
    if has_lengths(rows):
        columns = [[*column] for column in zip(*(tensors_in(row[0]) for row in rows), strict=True)]
        filled = [[padded_to(tensor, longest(column)) for tensor in column] for column in columns]
        each = [iter(tensors) for tensors in zip(*filled, strict=True)]
        rows = [(map_tensors(lambda _, own=own: next(own), x), y) for (x, y), own in zip(rows, each, strict=True)]
    inputs, labels = default_collate(list(rows))
    # default_collate gives lists for tuples; a model is called with *tuple.
    return (tuple(inputs) if isinstance(inputs, list) else inputs), labels


def has_lengths(rows: Sequence[tuple[Any, Any]]) -> bool:
    """Whether the inputs of these examples are tensors of different sizes."""
    shapes = [shapes_in(row[0]) for row in rows]
    return None not in shapes and any(shape != shapes[0] for shape in shapes)


def shapes_in(inputs: Any) -> tuple[tuple[int, ...], ...] | None:
    """The sizes of all tensors of an example's input, in order; None when something else is among them."""
    if isinstance(inputs, Tensor):
        return (tuple(inputs.shape),)
    if not isinstance(inputs, (Mapping, tuple)):
        return None
    found = [shapes_in(value) for value in (inputs.values() if isinstance(inputs, Mapping) else inputs)]
    return None if None in found else tuple(shape for shapes in found if shapes is not None for shape in shapes)


def as_examples(data: Any) -> Examples:
    """Whole-batch access to `data`: Examples as they are, (inputs, labels) tensors, or any torch data set.

    Raises DataError when it is none of these or holds no example.
    """
    if isinstance(data, TensorDataset) and len(data.tensors) == 2:
        examples: Examples = TensorExamples(data.tensors[0], data.tensors[1])
    elif isinstance(data, Examples):
        examples = data
    elif isinstance(data, tuple) and len(data) == 2 and isinstance(data[1], Tensor):
        examples = TensorExamples(*data)
    elif hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        examples = DatasetExamples(data)
    else:
        raise DataError(
            f"A {type(data).__name__} cannot be used as examples: give a torch data set with a length, or the pair "
            "(inputs, labels) of tensors."
        )
    if len(examples) == 0:
        raise DataError("The data set is empty.")
    return examples


def batches(
    examples: Examples, order: Tensor, batch_size: int, *, workers: int | None = None
) -> Iterator[tuple[Tensor, Inputs, Tensor]]:
    """(indices, inputs, labels) for each batch of `order`, fetched ahead by threads where fetching is work.

    order    (count,) int64: which examples, in which order
    workers  threads; None chooses one per core for data sets fetched example by example, 0 for tensors

    Threads are enough: image decoding and NumPy release the interpreter's lock.
    """
    yield from gather_ahead(examples, order.split(batch_size), workers=workers)


def gather_ahead(
    examples: Examples, blocks: Sequence[Tensor], *, workers: int | None = None
) -> Iterator[tuple[Tensor, Inputs, Tensor]]:
    """The same as `batches`, where the batches are given: one int64 tensor of indices each.

    Examples that know better how to read ahead (features in a store) say so by a method `in_order(blocks)`.
    """
    in_order = getattr(examples, "in_order", None)
    if in_order is not None:
        yield from in_order(blocks)
        return
    if workers is None:
        workers = (os.cpu_count() or 1) if isinstance(examples, DatasetExamples) else 0
    if workers == 0:
        for block in blocks:
            yield (block, *examples.gather(block))
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="regraft-examples") as pool:
        ahead: deque[tuple[Tensor, Future]] = deque()
        try:
            for block in blocks:
                ahead.append((block, pool.submit(examples.gather, block)))
                if len(ahead) > 2 * workers:  # bounds memory: at most this many batches wait
                    ready, future = ahead.popleft()
                    yield (ready, *future.result())
            while ahead:
                ready, future = ahead.popleft()
                yield (ready, *future.result())
        finally:
            for _, future in ahead:
                future.cancel()


def call(model: nn.Module | Any, inputs: Inputs) -> Any:
    """`model(x)`, `model(*x)` or `model(**x)`, by the kind of the inputs."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, tuple):
        return model(*inputs)
    return model(inputs)


def tensors_in(inputs: Inputs) -> list[Tensor]:
    """All tensors of a tensor, tuple or dict of inputs, in order."""
    if isinstance(inputs, Tensor):
        return [inputs]
    values: Sequence[Any] = list(inputs.values()) if isinstance(inputs, Mapping) else list(inputs)
    return [tensor for value in values if value is not None for tensor in tensors_in(value)]


def map_tensors(function: Any, inputs: Inputs) -> Inputs:
    """The same structure with `function` applied to each tensor."""
    if isinstance(inputs, Tensor):
        return function(inputs)
    if isinstance(inputs, Mapping):
        return {name: map_tensors(function, value) for name, value in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(map_tensors(function, value) for value in inputs)
    return inputs


def all_indices(examples: Examples) -> Tensor:
    """0 … count - 1, the data set's own order."""
    return torch.arange(len(examples))
