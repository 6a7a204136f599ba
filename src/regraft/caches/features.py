"""Features: the cut's values, one row per example, as a plain data set and as whole batches."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from regraft.caches.costs import Cost
from regraft.caches.precision import Difference
from regraft.caches.rows import HeldRows, Rows, StoredRows
from regraft.caches.streaming import groups_of, shuffled_groups, streamed
from regraft.errors import CacheError
from regraft.examples import Examples

Again = Callable[..., "Features"]


@final
@dataclass(frozen=True)
class Built:
    """What a call of `cache_features` did.

    computed  rows that the trunk computed now (a row is one view of one example)
    reused    rows that the store had
    seconds   from the first input to the last row, the canary included
    bytes     of all rows of these features, as they are kept
    rounding  what a lower precision or compute changed on a batch, for each leaf and output; empty when exact
    cost      what the cache was expected to cost, where that was asked for; None when nothing had to be computed
    """

    computed: int
    reused: int
    seconds: float
    bytes: int
    rounding: dict[str, Difference] = field(default_factory=dict)
    cost: Cost | None = None


@final
class Features(Dataset, Examples):
    """One row per example for each leaf of the cut, with the data set's labels.

    A `torch.utils.data.Dataset`: `features[i]` is (dict of leaf → row, label). Also `regraft.examples.Examples`:
    `gather(indices)` is (dict of leaf → (batch, …), labels).

    labels   (count, …), from the data set each time: never stored
    cut      what crosses, see `trunk.cut`
    key      of the store's entry; "" when the features live in memory alone
    again    trunk, data set → its features, cached with the options with which these were
    views    stored augmented copies of each example; `for_epoch` chooses among them
    frozen   name → digest of each parameter and buffer that they were computed by: `train` refuses a head whose model
             has others now

    Resident memory while features are streamed from a store, beside one batch and 40 bytes an example: the store's
    `memory_bytes`, at most 256 MiB and at least 16 MiB: rows are read, and shuffled together, by an eighth of it. What
    the C library keeps of freed memory comes on top, see docs/streaming.md.
    """

    labels: Tensor

    def __init__(
        self, rows: Rows, positions: Tensor | None, labels: Tensor, *, cut: Any, key: str, built: Built, again: Again
    ) -> None:
        self.rows, self.positions, self.labels = rows, positions, labels
        self.cut, self.key, self.built, self.again = cut, key, built, again
        self.frozen: dict[str, str] = {}

    @property
    def views(self) -> int:
        """Stored copies of each example."""
        return 1 if self.positions is None else self.positions.shape[1]

    @property
    def computed(self) -> int:
        """Rows that were computed now; the others came from the store."""
        return self.built.computed

    @property
    def seconds(self) -> float:
        """Seconds that the features took."""
        return self.built.seconds

    @property
    def cost(self) -> Cost | None:
        """What the cache was expected to cost, as a sentence when printed; None when nothing had to be computed."""
        return self.built.cost

    @property
    def bytes(self) -> int:
        """Bytes of the features as they are kept."""
        return self.built.bytes

    @property
    def inputs(self) -> dict[str, Tensor] | None:
        """Leaf → all its rows (count, …), in the data set's order, when they lie in memory as they are; else None."""
        return self.rows.tensors if isinstance(self.rows, HeldRows) and self.positions is None else None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[dict[str, Tensor], Tensor]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[dict[str, Tensor], Tensor]]:
        """Several examples at once, as torch's DataLoader asks for them."""
        wanted = torch.as_tensor(indices, dtype=torch.int64)
        count = len(self)
        if len(wanted) and not -count <= int(wanted.min()) <= int(wanted.max()) < count:
            raise IndexError(f"{count} examples have no index {wanted.tolist()}.")
        inputs, labels = self.gather(wanted % count if count else wanted)
        return [({leaf: rows[at] for leaf, rows in inputs.items()}, labels[at]) for at in range(len(wanted))]

    def gather(self, indices: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The rows and labels at `indices` (batch,) int64, in this order; of several views the first."""
        indices = indices.to(self.labels.device)
        return self.rows.gather(self._positions(indices)), self.labels.index_select(0, indices)

    def view(self, number: int) -> "Features":
        """The features of one view alone, 0 … views - 1."""
        if not 0 <= number < self.views:
            raise CacheError(f"There is no view {number}: the features have {self.views}, counted from 0.")
        return self if self.positions is None else self._with(self.positions[:, number : number + 1])

    def for_epoch(self, epoch: int, *, seed: int = 0) -> "Features":
        """The features of one epoch: each example by one of its views, the next one each epoch, its first by seed."""
        if self.positions is None or self.views == 1:
            return self
        first = torch.randint(self.views, (len(self),), generator=torch.Generator().manual_seed(seed))
        return self._with(self.positions.gather(1, ((first + epoch) % self.views)[:, None]))

    def deeper(self, part: Any, *, epochs: int | None = None) -> "Features":
        """The features of a deeper cut, computed from these once for each row, and kept as these are.

        part    from these features to the deeper ones: `deep_trunk.step_from(trunk)`
        epochs  of the training to come, as in `cache_features`: DoesNotPayError when computing takes longer than saved
        """
        made = self.again(part, self if self.views == 1 else _EveryView(self), epochs=epochs)
        positions = made.positions
        if self.views > 1:
            every = torch.arange(len(made)) if positions is None else positions[:, 0]
            positions = every.view(-1, self.views)
        return made._with(positions, self.labels)

    def order(self, epoch: int, *, seed: int = 0) -> Tensor:
        """The order of an epoch (count,) int64: random, and cheap to read. The same seed and epoch, the same order.

        In memory every order is equally likely. From a store, blocks of neighbouring rows (which the store holds in
        random order) are permuted, and all rows of a group of blocks are shuffled.
        """
        return torch.cat(self.for_epoch(epoch, seed=seed)._groups(epoch, seed))

    def batches(
        self, batch_size: int, *, epoch: int = 0, seed: int = 0, drop_last: bool = False
    ) -> Iterator[tuple[Tensor, dict[str, Tensor], Tensor]]:
        """(indices, inputs, labels) for each batch of `order(epoch, seed=seed)`, the next group read ahead."""
        chosen = self.for_epoch(epoch, seed=seed)
        groups = chosen._groups(epoch, seed)
        order = torch.cat(groups).split(batch_size)
        yield from chosen._in_order(groups, [batch for batch in order if len(batch) == batch_size or not drop_last])

    def in_order(
        self, blocks: Sequence[Tensor], *, workers: int | None = None
    ) -> Iterator[tuple[Tensor, dict[str, Tensor], Tensor]]:
        """(indices, inputs, labels) for each block of indices; from a store read ahead. Of several views the first."""
        if not isinstance(self.rows, StoredRows) or not blocks:
            yield from self._in_order([], blocks)
            return
        order = torch.cat([*blocks])
        yield from self._in_order(order.split(groups_of(self.rows, self._positions(order))), blocks)

    def to_numpy(self) -> tuple[np.ndarray, np.ndarray]:
        """(X, y) for scikit-learn: X (count, values) float32, the leaves flattened one after the other in the cut's
        order; y (count, …).
        """
        inputs, _ = self.gather(torch.arange(len(self)))
        flat = [rows.reshape(len(self), -1).float() for rows in inputs.values()]
        return torch.cat(flat, dim=1).cpu().numpy(), self.labels.cpu().numpy()

    def _with(self, positions: Tensor | None, labels: Tensor | None = None) -> "Features":
        labels = self.labels if labels is None else labels
        one = Features(self.rows, positions, labels, cut=self.cut, key=self.key, built=self.built, again=self.again)
        one.frozen = self.frozen
        return one

    def _positions(self, indices: Tensor) -> Tensor:
        return indices if self.positions is None else self.positions[:, 0].index_select(0, indices)

    def _groups(self, epoch: int, seed: int) -> list[Tensor]:
        """The order of an epoch, in the groups that are read at once."""
        mixed = _mixed(seed, epoch)
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(mixed))
        if not isinstance(self.rows, StoredRows):
            return [order]
        if self.rows.bytes <= self.rows.memory_bytes:  # ragged rows that would fit: the order that the data set has
            return list(order.split(groups_of(self.rows, self._positions(order))))
        return shuffled_groups(self.rows, self._in_storage_order, self._positions(self._in_storage_order), mixed)

    @cached_property
    def _in_storage_order(self) -> Tensor:
        """The examples, as their rows lie in the store."""
        return torch.arange(len(self)) if self.positions is None else self.positions[:, 0].argsort(stable=True)

    def _in_order(
        self, groups: Sequence[Tensor], batches: Sequence[Tensor]
    ) -> Iterator[tuple[Tensor, dict[str, Tensor], Tensor]]:
        """The batches; from a store by the groups that they are made of."""
        if not isinstance(self.rows, StoredRows):
            yield from ((batch, *self.gather(batch)) for batch in batches)
            return
        rows = streamed(self.rows, groups, [len(batch) for batch in batches], self._positions)
        for batch, inputs in zip(batches, rows, strict=True):
            yield batch, inputs, self.labels.index_select(0, batch.to(self.labels.device))


@final
class _EveryView(Examples):
    """Each view of each example as an example of its own: row number = example · views + view."""

    def __init__(self, features: Features) -> None:
        self.features = features

    def __len__(self) -> int:
        return len(self.features) * self.features.views

    def gather(self, indices: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        features = self.features
        assert features.positions is not None, "several views have their positions"
        rows = features.rows.gather(features.positions.reshape(-1)[indices])
        return rows, features.labels[torch.div(indices, features.views, rounding_mode="floor")]


def memory_budget() -> int:
    """Bytes that features may take when nobody says: a quarter of what the machine, or the container, has left."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 1 << 30
    try:
        told = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(told["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass  # other systems: the free pages, which is less
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        free = min(free, max(0, int(limit) - used)) if limit != "max" else free
    except (OSError, ValueError):
        pass  # no container
    return free // 4


def _mixed(seed: int, epoch: int) -> int:
    """One seed of two numbers: neighbouring seeds and epochs give unrelated orders."""
    return int(np.random.SeedSequence([seed % (1 << 64), epoch]).generate_state(1, np.uint64)[0] >> np.uint64(1))
