"""Examples as whole batches: the form in which data reaches a model, a trunk or a head."""

import os
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset, TensorDataset, default_collate

from regraft.errors import DataError
from regraft.foundation.wording import shape_text
from regraft.tensors.padding import longest, padded_to
from regraft.tensors.trees import Inputs, leaves_of, map_tree, tensors_of

CHANNELS = 4  # of an image at most: red, green, blue, alpha
FEW, MOST = 4, 0.75  # examples, and the part of them, that make a size the usual one
Batch = tuple[Tensor, Inputs, Tensor]  # indices, inputs, labels
Shapes = tuple[tuple[int, ...], ...]  # of the tensors of one example's input, in order


class Examples(ABC):
    """Labelled examples that are handed out by whole batches. Subclass it for data that is no torch data set.

    labels  of all examples (count, …), where they are known without fetching any; else None
    """

    labels: Tensor | None = None

    @abstractmethod
    def __len__(self) -> int:
        """Number of examples."""

    @abstractmethod
    def gather(self, indices: Tensor) -> tuple[Inputs, Tensor]:
        """The inputs and labels of these examples, in this order.

        indices  (batch,) int64
        returns  inputs with `batch` rows each, labels (batch,) or what the loss takes
        """

    def in_order(self, blocks: Sequence[Tensor], *, workers: int | None = None) -> Iterator[Batch]:
        """(indices, inputs, labels) for each block of indices, in this order.

        workers  threads that fetch ahead; 0 fetches when asked. None lets the kind of examples choose: here 0
        """
        return fetched_ahead(self.gather, blocks, workers or 0)

    def subset(self, indices: Tensor) -> "Examples":
        """The examples at `indices` (count,) int64, in this order."""
        return _Selected(self, indices)

    def content_ids(self, indices: Sequence[int] | None = None) -> Sequence[str] | None:
        """A text for each example (all, or those at `indices`) that changes whenever its input does.

        None where only the input itself can tell.
        """
        return None


class _Selected(Examples):
    """Some of other examples, in an order of their own."""

    def __init__(self, examples: Examples, indices: Tensor) -> None:
        self.examples, self.indices = examples, indices
        self.labels = None if examples.labels is None else examples.labels[indices.to(examples.labels.device)]

    def __len__(self) -> int:
        return len(self.indices)

    def gather(self, indices: Tensor) -> tuple[Inputs, Tensor]:
        return self.examples.gather(self.indices[indices])


class TensorExamples(Examples):
    """Examples whose tensors lie in memory or on a device: a batch is one `index_select` per tensor."""

    labels: Tensor

    def __init__(self, inputs: Inputs, labels: Tensor) -> None:
        self.inputs, self.labels = inputs, labels
        for tensor in tensors_of(inputs):
            if len(tensor) != len(labels):
                raise DataError(f"{len(tensor)} inputs and {len(labels)} labels: each example needs one of each.")

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, indices: Tensor) -> tuple[Inputs, Tensor]:
        """The rows at `indices`, copied."""
        indices = indices.to(self.labels.device)
        inputs = map_tree(lambda tensor: tensor.index_select(0, indices), self.inputs)
        return inputs, self.labels.index_select(0, indices)

    def subset(self, indices: Tensor) -> "TensorExamples":
        """The rows at `indices`, copied."""
        return TensorExamples(*self.gather(indices))


class DatasetExamples(Examples):
    """A torch data set of (input, label) pairs: each example is fetched by itself and collated.

    Sequences may have different lengths: the shorter ones of a batch are filled up with zeros. An example of another
    size that is no sequence raises DataError.
    """

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset: Any = dataset
        self._sizes: Counter[Shapes] = Counter()  # of the inputs fetched so far

    def __len__(self) -> int:
        return len(self.dataset)

    def gather(self, indices: Tensor) -> tuple[Inputs, Tensor]:
        """The examples at `indices`, collated by torch's own rules; shorter ones are filled with zeros at the end."""
        return collated(self.fetch(indices))

    def in_order(self, blocks: Sequence[Tensor], *, workers: int | None = None) -> Iterator[Batch]:
        """Fetched ahead, by one thread for each core where `workers` is None.

        Threads are enough: image decoding and NumPy release the interpreter's lock.
        """
        return fetched_ahead(self.gather, blocks, (os.cpu_count() or 1) if workers is None else workers)

    def subset(self, indices: Tensor) -> "DatasetExamples":
        """A torch `Subset` of the data set."""
        return DatasetExamples(Subset(self.dataset, indices.tolist()))

    def content_ids(self, indices: Sequence[int] | None = None) -> Sequence[str] | None:
        """Those of the data set, when it has a method `content_ids(indices=None)`."""
        known: Callable[..., Sequence[str] | None] | None = getattr(self.dataset, "content_ids", None)
        if known is None:
            return None
        if indices is None or signature(known).parameters:
            return known() if indices is None else known(indices)
        every = known()
        return None if every is None else [every[index] for index in indices]

    def fetch(self, indices: Tensor) -> list[tuple[Any, Any]]:
        """The pairs (input, label) at `indices`."""
        chosen = indices.tolist()
        fetch_many = getattr(self.dataset, "__getitems__", None)
        rows = fetch_many(chosen) if fetch_many else [self.dataset[index] for index in chosen]
        for index, row in zip(chosen, rows, strict=True):
            if not isinstance(row, (tuple, list)) or len(row) != 2:
                raise DataError(
                    f"Example {index} of the data set is a {type(row).__name__}, expected the pair (input, label).\n"
                    "For several inputs return ((a, b), label) or ({'name': a}, label)."
                )
        self._refuse_broken(chosen, [row[0] for row in rows])
        return [tuple(row) for row in rows]

    def _refuse_broken(self, indices: Sequence[int], inputs: Sequence[Inputs]) -> None:
        shapes = [shapes_in(each) for each in inputs]
        self._sizes.update(shape for shape in shapes if shape is not None)
        if len(self._sizes) < 2:
            return
        usual, count = self._sizes.most_common(1)[0]
        is_usual = count >= FEW and count > MOST * self._sizes.total()
        for index, each, shape in zip(indices, inputs, shapes, strict=True):
            if shape not in (None, usual) and not is_sequence(tensors_of(each), usual, is_usual=is_usual):
                own, others = (", ".join(map(shape_text, sizes)) for sizes in (shape or (), usual))
                raise DataError(
                    f"Example {index} has the size {own}, and others have {others}. Filled up with zeros, it would be "
                    "another example.\nResize or pad it in the data set, or leave it out. Sequences may have different "
                    "lengths: whole numbers such as tokens, or numbers with a mask among the inputs."
                )


def is_sequence(tensors: Sequence[Tensor], usual: Shapes, *, is_usual: bool) -> bool:
    """Whether an example of another size is a sequence of another length, which may be filled up with zeros.

    An image (three dimensions or more) of another height, width or number of channels is not. Neither are numbers alone
    where nearly all examples have one size: a row that lost its end.

    usual     the sizes that occur most often
    is_usual  whether nearly all examples have them
    """
    others = [(tensor, size) for tensor, size in zip(tensors, usual, strict=False) if tuple(tensor.shape) != size]
    if len(tensors) != len(usual) or any(_is_other_image(tuple(tensor.shape), size) for tensor, size in others):
        return False
    return not is_usual or not all(tensor.is_floating_point() for tensor, _ in others)


def _is_other_image(shape: tuple[int, ...], usual: tuple[int, ...]) -> bool:
    if len(shape) != len(usual):
        return True
    is_length_alone = shape[1:] == usual[1:] and (len(shape) != 3 or max(shape[0], usual[0]) > CHANNELS)
    return len(shape) >= 3 and not is_length_alone


def fetched_ahead(
    gather: Callable[[Tensor], tuple[Inputs, Tensor]], blocks: Sequence[Tensor], workers: int
) -> Iterator[Batch]:
    """(indices, inputs, labels) for each block, fetched by `gather` in so many threads; 0 fetches when asked."""
    if workers == 0:
        yield from ((block, *gather(block)) for block in blocks)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="regraft-examples") as pool:
        ahead: deque[tuple[Tensor, Future[Any]]] = deque()
        try:
            for block in blocks:
                ahead.append((block, pool.submit(gather, block)))
                if len(ahead) > 2 * workers:  # bounds memory: at most this many batches wait
                    ready, future = ahead.popleft()
                    yield (ready, *future.result())
            while ahead:
                ready, future = ahead.popleft()
                yield (ready, *future.result())
        finally:
            for _, future in ahead:
                future.cancel()


def collated(rows: Sequence[tuple[Any, Any]]) -> tuple[Inputs, Tensor]:
    """A batch of (input, label) pairs. Raises DataError for pairs that are not alike and labels that are no numbers."""
    try:
        inputs, labels = default_collate(_filled(rows) if has_lengths(rows) else list(rows))
    except (RuntimeError, TypeError, KeyError, ValueError, RecursionError) as error:  # torch's own rules
        raise DataError(
            f"The examples cannot be put into one batch: {str(error).splitlines()[0][:200]}\nEach needs the same "
            "tensors and numbers in the same structure, and labels of one size."
        ) from error
    if not isinstance(labels, Tensor):
        raise DataError(
            f"The label of an example is a {type(rows[0][1]).__name__}; expected a number or a tensor.\nNumber the "
            "classes; pack several labels into one tensor, or put them among the inputs."
        )
    # default_collate gives lists for tuples; a model is called with *tuple.
    return (tuple(inputs) if isinstance(inputs, list) else inputs), labels


def _filled(rows: Sequence[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """The pairs with the shorter inputs filled up with zeros at the end."""
    sizes = [longest(column) for column in zip(*(tensors_of(row[0]) for row in rows), strict=True)]

    def filled(inputs: Inputs) -> Inputs:
        size = iter(sizes)
        return map_tree(lambda tensor: padded_to(tensor, next(size)), inputs)

    return [(filled(inputs), label) for inputs, label in rows]


def has_lengths(rows: Sequence[tuple[Any, Any]]) -> bool:
    """Whether the inputs of these examples are as many tensors, of different sizes."""
    shapes = [shapes_in(row[0]) for row in rows]
    first = shapes[0]
    return first is not None and all(s is not None and len(s) == len(first) for s in shapes) and len({*shapes}) > 1


def shapes_in(inputs: Inputs) -> Shapes | None:
    """The sizes of all tensors of an example's input, in order; None when something else is among them."""
    leaves = leaves_of(inputs)
    shapes = tuple(tuple(leaf.shape) for leaf in leaves if isinstance(leaf, Tensor))
    return shapes if len(shapes) == len(leaves) else None


def as_examples(data: Any) -> Examples:
    """Whole-batch access to `data`: Examples as they are, (inputs, labels) tensors, or any torch data set.

    A `torch.utils.data.Subset` of Examples becomes a subset of their own kind.

    Raises DataError when it is none of these or holds no example.
    """
    if isinstance(data, Examples):
        examples = data
    elif isinstance(data, Subset) and isinstance(data.dataset, Examples | Subset):
        examples = as_examples(data.dataset).subset(torch.as_tensor(data.indices, dtype=torch.int64))
    elif isinstance(data, TensorDataset) and len(data.tensors) == 2:
        examples = TensorExamples(data.tensors[0], data.tensors[1])
    elif isinstance(data, tuple) and len(data) == 2 and isinstance(data[1], Tensor):
        examples = TensorExamples(*data)
    elif hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        examples = DatasetExamples(data)
    else:
        raise DataError(
            f"A {type(data).__name__} cannot be used as examples. Expected a torch data set with a length, the pair "
            "(inputs, labels) of tensors, or a regraft.examples.Examples."
        )
    if len(examples) == 0:
        raise DataError("The data set is empty.")
    return examples


def batches(examples: Examples, order: Tensor, batch_size: int, *, workers: int | None = None) -> Iterator[Batch]:
    """(indices, inputs, labels) for each batch of `order`, see `Examples.in_order`.

    order  (count,) int64: which examples, in which order
    """
    return examples.in_order(order.split(batch_size), workers=workers)


def call(model: nn.Module | Any, inputs: Inputs) -> Any:
    """`model(x)`, `model(*x)` or `model(**x)`, by the kind of the inputs."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, tuple):
        return model(*inputs)
    return model(inputs)


def all_indices(examples: Examples) -> Tensor:
    """0 … count - 1, the data set's own order."""
    return torch.arange(len(examples))
