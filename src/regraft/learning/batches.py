"""Where an epoch's batches come from: memory, a device, blocks of a store read ahead, or examples one by one."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from regraft.errors import TrainError
from regraft.examples import Examples, Inputs, TensorExamples, as_examples
from regraft.learning.learner import resident

Order = Callable[[int], Sequence[Tensor | np.ndarray]]
Batch = tuple[Tensor, Inputs, Tensor]  # indices, inputs, labels


@final
@dataclass(frozen=True)
class Epoch:
    """One epoch: which examples each batch holds, known beforehand; iterating fetches them.

    streamed  fetches the batches itself, in this order; None: each is gathered by its indices
    """

    examples: Examples
    indices: list[Tensor]
    streamed: Callable[[], Iterator[Batch]] | None = None

    def __iter__(self) -> Iterator[Batch]:
        if self.streamed is None:
            return self.examples.in_order(self.indices)
        return _single_joined(self.streamed(), len(self.indices))


@final
class Source:
    """Examples and the order in which each epoch takes them.

    data    what `as_examples` takes. Features of several views give each example by another view each epoch; features
            larger than memory are read block by block, in an order that suits the store
    order   epoch (from 0) → its batches, each an array of indices; None shuffles by seed
    """

    def __init__(self, data: Any, device: torch.device, *, order: Order | None, batch_size: int, seed: int) -> None:
        self.data = as_examples(data)
        self.examples = held(self.data, device)
        self.given, self.batch_size, self.seed = order, batch_size, seed
        self.order = order or shuffled(len(self.examples), batch_size, seed)

    def __len__(self) -> int:
        return len(self.examples)

    def epoch(self, number: int) -> Epoch:
        """The epoch of this number, from 0. Raises TrainError for an order that cannot be followed."""
        data: Any = self.data
        chosen = data.for_epoch(number, seed=self.seed) if getattr(data, "views", 1) > 1 else self.examples
        streamed = hasattr(data, "batches") and getattr(data, "inputs", None) is None and self.given is None
        if not streamed:
            return Epoch(chosen, as_batches(self.order(number), len(self)))
        indices = joined(list(data.order(number, seed=self.seed).split(self.batch_size)), self.batch_size)
        return Epoch(chosen, indices, lambda: data.batches(self.batch_size, epoch=number, seed=self.seed))


def held(examples: Examples, device: torch.device) -> Examples:
    """The same examples as whole tensors, on the device where they fit, when they lie in memory; else as they are."""
    inputs, labels = getattr(examples, "inputs", None), getattr(examples, "labels", None)
    if not isinstance(examples, TensorExamples) and isinstance(inputs, dict) and isinstance(labels, Tensor):
        examples = TensorExamples(inputs, labels)
    return resident(examples, device)


def shuffled(count: int, batch_size: int, seed: int) -> Order:
    """Epoch → all examples in a new random order, as batches; any epoch's order can be had by itself.

    The last batch is smaller where the count asks for it. A single last example joins the batch before it: BatchNorm
    cannot normalise one example.
    """

    def order(epoch: int) -> Sequence[Tensor]:
        permutation = torch.from_numpy(np.random.default_rng((seed, epoch)).permutation(count))
        return joined(list(permutation.split(batch_size)), batch_size)

    return order


def joined(batches: list[Tensor], batch_size: int) -> list[Tensor]:
    """The batches with a single last example in the one before."""
    if len(batches) > 1 and len(batches[-1]) == 1 and batch_size > 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def as_batches(order: Sequence[Tensor | np.ndarray], count: int) -> list[Tensor]:
    """An epoch's batches as int64 tensors. Raises TrainError for none, an empty one, or an index that is no example."""
    batches = [torch.as_tensor(batch, dtype=torch.int64) for batch in order]
    if not batches or not all(len(batch) for batch in batches):
        raise TrainError("The order has no batch, or one without examples: each epoch needs arrays of indices.")
    every = torch.cat(batches)
    if int(every.min()) < 0 or int(every.max()) >= count:
        raise TrainError(
            f"The order names example {int(every.max() if int(every.min()) >= 0 else every.min())}; "
            f"there are {count}: 0 to {count - 1}."
        )
    return batches


def _single_joined(batches: Iterator[Batch], count: int) -> Iterator[Batch]:
    """The batches as `joined` cuts them: a last one beyond the count is put to the one before."""
    waiting: list[Batch] = []
    for number, batch in enumerate(batches):
        waiting.append(batch)
        if number < count - 1:
            yield waiting.pop()
    if waiting:
        indices, inputs, labels = zip(*waiting, strict=True)
        together = {leaf: torch.cat([rows[leaf] for rows in inputs]) for leaf in inputs[0]}
        yield torch.cat(indices), together, torch.cat(labels)
