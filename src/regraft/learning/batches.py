"""The batches of each epoch: which examples they hold, and how they are fetched."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import final

import numpy as np
import torch
from torch import Tensor

from regraft.caches.features import Features
from regraft.errors import TrainError
from regraft.examples import Batch, Examples, TensorExamples, as_examples
from regraft.learning.learner import resident
from regraft.learning.ranks import ALONE, Ranks

Order = Callable[[int], Sequence[Tensor | np.ndarray]]  # epoch (from 0) → its batches, each an array of indices


@final
@dataclass(frozen=True)
class Epoch:
    """One epoch: the indices of each batch, known beforehand. Iterating fetches the batches.

    indices  of several ranks those of this one's part, which may be empty
    stream   fetches batches of these indices in this order; None: each is gathered by its indices
    """

    examples: Examples
    indices: list[Tensor]
    stream: Callable[[list[Tensor]], Iterator[Batch]] | None = None

    def __iter__(self) -> Iterator[Batch]:
        fetched = (self.stream or self.examples.in_order)([batch for batch in self.indices if len(batch)])
        for batch in self.indices:
            yield next(fetched) if len(batch) else (batch, {}, {})


@final
class BatchSource:
    """Examples, and the order in which each epoch takes them.

    data    what `as_examples` takes. Features of several views give another view of each example in each epoch;
            features larger than memory are read block by block, in an order that suits the store
    order   None shuffles by seed
    ranks   each process takes every so many-th example of a batch; of features that are read from a store those of
            its own blocks
    """

    def __init__(
        self, data: object, device: torch.device, *, order: Order | None, batch_size: int, seed: int,
        ranks: Ranks = ALONE,
    ) -> None:  # fmt: skip
        self.data = as_examples(data)
        self.examples = in_memory(self.data, device)
        self.batch_size, self.seed = batch_size, seed
        self.order, self.ranks = order, ranks

    def epoch(self, number: int) -> Epoch:
        """The epoch of this number, from 0. Raises TrainError for an order that cannot be followed."""
        data, size, seed, examples = self.data, self.batch_size, self.seed, self.examples
        if isinstance(data, Features) and data.inputs is None:
            examples = data.for_epoch(number, seed=seed)
            if self.order is None:
                indices = merge_last(list(torch.split(data.order(number, seed=seed), size)), size)
                if self.ranks.are_several:
                    is_mine = data.read_by(self.ranks.rank, self.ranks.count)
                    indices = [batch[is_mine[batch]] for batch in indices]
                return Epoch(examples, indices, partial(data.given_batches, epoch=number, seed=seed))
        order = self.order or shuffled(len(examples), size, seed)
        every = as_batches(order(number), len(examples))
        return Epoch(examples, [batch[self.ranks.rank :: self.ranks.count] for batch in every])


def in_memory(examples: Examples, device: torch.device) -> Examples:
    """The same examples; those whose features lie in memory as whole tensors, on the device where they fit."""
    if isinstance(examples, Features) and examples.inputs is not None:
        examples = TensorExamples(examples.inputs, examples.labels, examples.classes)
    return resident(examples, device)


def shuffled(count: int, batch_size: int, seed: int) -> Order:
    """Epoch → all examples in a new random order, as batches; the order of an epoch depends on no other epoch.

    The last batch is smaller where the count asks for it. A single last example joins the batch before it: BatchNorm
    cannot normalise one example.
    """

    def order(epoch: int) -> Sequence[Tensor]:
        permutation = torch.from_numpy(np.random.default_rng((seed, epoch)).permutation(count))
        return merge_last(list(torch.split(permutation, batch_size)), batch_size)

    return order


def merge_last(batches: list[Tensor], batch_size: int) -> list[Tensor]:
    """The batches with a single last example in the one before."""
    if len(batches) > 1 and len(batches[-1]) == 1 and batch_size > 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def as_batches(order: Sequence[Tensor | np.ndarray], count: int) -> list[Tensor]:
    """An epoch's batches as int64 tensors. Raises TrainError for none, an empty one, or an index without an example."""
    batches = [torch.as_tensor(batch, dtype=torch.int64) for batch in order]
    if not batches or not all(len(batch) for batch in batches):
        raise TrainError("The order has no batch, or an empty one. Each epoch needs arrays of indices.")
    lowest, highest = (int(limit) for limit in torch.aminmax(torch.cat(batches)))
    if lowest < 0 or highest >= count:
        wrong = lowest if lowest < 0 else highest
        raise TrainError(f"The order has the index {wrong}, and there are {count} examples: 0 to {count - 1}.")
    return batches
