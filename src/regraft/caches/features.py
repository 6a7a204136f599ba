"""Features: the cut's values, one row per example, as a plain data set and as whole batches."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any, final

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from regraft.caches.computing import Computed, compute
from regraft.caches.costs import Cost
from regraft.caches.feature_files import hugging_face_of, read_features, write_features
from regraft.caches.feature_tables import table_of
from regraft.caches.rows import HeldRows, StoredRows
from regraft.caches.sampling import samples_of
from regraft.caches.streaming import block_rows, groups_of, shuffled_groups, streamed
from regraft.errors import CacheError, DataError
from regraft.examples import Examples
from regraft.foundation.showing import html_table
from regraft.foundation.wording import bytes_text, counted, shape_text
from regraft.labels import Labels, batch_of, count_of, subset_of, whole_labels
from regraft.splitting import FeatureComputer
from regraft.tensors.keeping import kept_generators
from regraft.tensors.trees import map_tree

NOTHING: Mapping[str, Any] = MappingProxyType({})
FeatureBatch = tuple[Tensor, dict[str, Tensor], Labels]  # indices, leaf → rows, labels


@final
class LeafRows(dict[str, Tensor]):
    """Leaf → rows, as a head takes them.

    frozen  name → digest of each parameter and buffer that they were computed by
    """

    def __init__(
        self, rows: Mapping[str, Tensor] = MappingProxyType({}), frozen: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(rows)
        self.frozen = dict(frozen or {})


@final
class Features(Dataset[Any], Examples):
    """One row per example for each leaf of the cut, with the data set's labels.

    A `torch.utils.data.Dataset`: `features[i]` is (dict of leaf → row, label). Also `regraft.examples.Examples`:
    `gather(indices)` is (dict of leaf → (batch, …), labels).

    labels   (count, …), from the data set each time: never stored. A tensor, or a dict or tuple of tensors; sequences
             of different lengths are `tensors.ragged.Ragged`
    classes  the names of the classes, where labels were given as texts; else ()
    cut      what crosses, see `trunk.cut`
    key      of the store's entry; "" when the features live in memory alone
    views    stored augmented copies of each example; `for_epoch` chooses among them
    frozen   name → digest of each parameter and buffer that they were computed by: `train` refuses a head whose model
             has others now

    Resident memory while features are streamed from a store, beside one batch and 40 bytes an example: the store's
    `memory_bytes`, at most 256 MiB and at least 16 MiB: rows are read, and shuffled together, by an eighth of it. What
    the C library keeps of freed memory comes on top, see docs/streaming.md.
    """

    labels: Labels

    def __init__(self, computed: Computed) -> None:
        self._computed, self.classes = computed, computed.classes
        self.rows, self.positions, self.labels = computed.rows, computed.positions, computed.labels
        self.cut, self.key, self.built, self.frozen = computed.cut, computed.key, computed.built, computed.frozen

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
        return count_of(self.labels)

    def __repr__(self) -> str:
        leaves = ", ".join(f"{leaf.name} {shape_text(leaf.shape)}" for leaf in self.cut.leaves)
        views = f" in {counted(self.views, 'view')}" if self.views > 1 else ""
        return f"<Features of {counted(len(self), 'example')}{views}: {leaves}, {bytes_text(self.bytes)}>"

    def _repr_html_(self) -> str:
        rows = [
            (leaf.name, shape_text(leaf.shape), leaf.dtype, bytes_text(leaf.bytes_per_example))
            for leaf in self.cut.leaves
        ]
        return html_table(repr(self)[1:-1], ("tensor", "shape of one example", "type", "per example"), rows)

    def __getitem__(self, index: int) -> tuple[dict[str, Tensor], Labels]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[dict[str, Tensor], Labels]]:
        """Several examples at once, as torch's DataLoader asks for them."""
        inputs, labels = self._gather(self._checked(torch.as_tensor(indices, dtype=torch.int64)))
        return [
            ({leaf: rows[row] for leaf, rows in inputs.items()}, map_tree(itemgetter(row), labels))
            for row in range(len(indices))
        ]

    def gather(self, indices: Tensor) -> tuple[dict[str, Tensor], Labels]:
        """The rows and labels at `indices` (batch,) int64, in this order; of several views the first.

        The rows remember the weights that they were computed by, so that training on them is refused when the model
        has others now.
        """
        inputs, labels = self._gather(indices)
        return LeafRows(inputs, self.frozen), labels

    def subset(self, indices: Tensor) -> "Features":
        """The features of the examples at `indices` (count,) int64, in this order: a fold, a part of the data.

        Rows in memory are copied, so that it trains as fast as the whole; those of a store are read when asked for.
        Raises IndexError for an index that is no example.
        """
        indices = self._checked(indices)
        computed = replace(self._computed, labels=subset_of(self.labels, indices))
        if self.positions is not None:
            return Features(replace(computed, positions=self.positions[indices]))
        if isinstance(self.rows, HeldRows):
            return Features(replace(computed, rows=self.rows.select(indices)))
        return Features(replace(computed, positions=indices[:, None]))

    def with_labels(self, labels: object, *, classes: Sequence[str] = ()) -> "Features":
        """The same features with other labels, one for each example: corrected ones, another target.

        Raises DataError for another number of them.
        """
        columns, names = whole_labels(labels, classes)
        if count_of(columns) != len(self):
            raise DataError(f"{count_of(columns)} labels for {len(self)} examples: each needs one.")
        return Features(replace(self._computed, labels=columns, classes=names))

    def view(self, number: int) -> "Features":
        """The features of one view alone, 0 … views - 1."""
        if not 0 <= number < self.views:
            raise CacheError(f"There is no view {number}: the features have {self.views}, counted from 0.")
        return self if self.positions is None else self._with(positions=self.positions[:, number : number + 1])

    def for_epoch(self, epoch: int, *, seed: int = 0) -> "Features":
        """The features of one epoch: each example by one of its views, the next one each epoch, its first by seed."""
        if self.positions is None or self.views == 1:
            return self
        first = torch.randint(self.views, (len(self),), generator=torch.Generator().manual_seed(seed))
        return self._with(positions=self.positions.gather(1, ((first + epoch) % self.views)[:, None]))

    def deeper(self, part: FeatureComputer, *, epochs: int | None = None) -> "Features":
        """The features of a deeper cut, computed from these once for each row, and kept as these are.

        part    from these features to the deeper ones: `deep_trunk.step_from(trunk)`
        epochs  of the training to come, as in `cache_features`: DoesNotPayError when computing takes longer than saved
        """
        options = self._computed.options
        examples = self if self.views == 1 else _EveryView(self)
        with kept_generators():
            hashed = options.store is not None or options.precision != "float32"
            samples = samples_of(examples, views=1, data_id=None, hashed=hashed)
            made = compute(part, samples, replace(options, epochs=epochs))
        positions = made.positions
        if self.views > 1:
            every = torch.arange(len(samples)) if positions is None else positions[:, 0]
            positions = every.view(-1, self.views)
        return Features(replace(made, positions=positions, labels=self.labels))

    def order(self, epoch: int, *, seed: int = 0) -> Tensor:
        """The order of an epoch (count,) int64: random, and cheap to read. The same seed and epoch, the same order.

        In memory every order is equally likely. From a store, blocks of neighbouring rows (which the store holds in
        random order) are permuted, and all rows of a group of blocks are shuffled.
        """
        return torch.cat(self.for_epoch(epoch, seed=seed)._groups(epoch, seed))

    def batches(
        self, batch_size: int, *, epoch: int = 0, seed: int = 0, drop_last: bool = False
    ) -> Iterator[FeatureBatch]:
        """(indices, inputs, labels) for each batch of `order(epoch, seed=seed)`, the next group read ahead."""
        order = self.order(epoch, seed=seed).split(batch_size)
        batches = [batch for batch in order if len(batch) == batch_size or not drop_last]
        return self.given_batches(batches, epoch=epoch, seed=seed)

    def given_batches(self, batches: Sequence[Tensor], *, epoch: int = 0, seed: int = 0) -> Iterator[FeatureBatch]:
        """(indices, inputs, labels) for each of these batches, the next group read ahead.

        batches  index tensors that follow one another as in `order(epoch, seed=seed)`; examples may be left out
        """
        chosen, wanted = self.for_epoch(epoch, seed=seed), torch.zeros(len(self), dtype=torch.bool)
        for batch in batches:
            wanted[batch] = True
        groups = [group[wanted[group]] for group in chosen._groups(epoch, seed)]
        yield from chosen._in_order([group for group in groups if len(group)], batches)

    def read_by(self, rank: int, count: int) -> Tensor:
        """Which examples this one of several processes reads (count,) bool: every so many-th block of a store."""
        numbers = torch.arange(len(self))
        if isinstance(self.rows, StoredRows):
            rows = block_rows(self.rows, self._positions(numbers))
            blocks = torch.div(numbers, rows, rounding_mode="floor")
            numbers = torch.empty_like(blocks).index_copy_(0, self._in_storage_order, blocks)
        return numbers % count == rank

    def in_order(self, blocks: Sequence[Tensor], *, workers: int | None = None) -> Iterator[FeatureBatch]:
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
        if not isinstance(self.labels, Tensor):
            raise DataError("scikit-learn takes one array of labels, and these are several, or of different lengths.")
        return torch.cat(flat, dim=1).cpu().numpy(), self.labels.cpu().numpy()

    def to_arrow(self, *, ids: Sequence[str] | None = None) -> Any:
        """A `pyarrow.Table`: `id`, a column of lists for each leaf, `label`; class names and origin as metadata.

        ids  a text for each example; without them the ids of the store, where the features come from one

        Of several views each is a row, numbered in the column `view`. Memory is shared where possible.
        """
        return table_of(self._computed, torch.arange(len(self) * self.views), ids=ids)

    def to_datasets(self, *, ids: Sequence[str] | None = None) -> Any:
        """A Hugging Face `datasets.Dataset` of the columns of `to_arrow`, with named classes."""
        return hugging_face_of(self._computed, ids=ids)

    def write(self, path: str | os.PathLike[str], *, ids: Sequence[str] | None = None) -> None:
        """Write them for other tools: .parquet, .arrow or .feather, or without suffix a Hugging Face folder."""
        write_features(self._computed, Path(path), ids=ids)

    @staticmethod
    def read(source: object) -> "Features":
        """Features that `write`, `to_arrow` or `to_datasets` made: a path, a table or a data set; equal bit for bit.

        Training refuses them with a model whose frozen weights are others. An .arrow file is used where it lies.
        Raises DataError for data that regraft did not write.
        """
        return Features(read_features(source))

    def _with(self, *, positions: Tensor) -> "Features":
        return Features(replace(self._computed, positions=positions))

    def _gather(self, indices: Tensor) -> tuple[dict[str, Tensor], Labels]:
        return self.rows.gather(self._positions(indices)), batch_of(self.labels, indices)

    def _checked(self, indices: Tensor) -> Tensor:
        """The indices, counted from 0. Raises IndexError for one that is no example."""
        count = len(self)
        if len(indices) and not -count <= int(indices.min()) <= int(indices.max()) < count:
            raise IndexError(f"{count} examples have no index {indices.tolist()}.")
        return indices % count if count else indices

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

    def _in_order(self, groups: Sequence[Tensor], batches: Sequence[Tensor]) -> Iterator[FeatureBatch]:
        """The batches; from a store by the groups that they are made of."""
        if not isinstance(self.rows, StoredRows):
            yield from ((batch, *self._gather(batch)) for batch in batches)
            return
        rows = streamed(self.rows, groups, [len(batch) for batch in batches], self._positions)
        for batch, inputs in zip(batches, rows, strict=True):
            yield batch, inputs, batch_of(self.labels, batch)


@final
class _EveryView(Examples):
    """Each view of each example as an example of its own: row number = example · views + view."""

    def __init__(self, features: Features) -> None:
        self.features = features

    def __len__(self) -> int:
        return len(self.features) * self.features.views

    def gather(self, indices: Tensor) -> tuple[dict[str, Tensor], Labels]:
        features = self.features
        assert features.positions is not None, "several views have their positions"
        rows = features.rows.gather(features.positions.reshape(-1)[indices])
        return rows, batch_of(features.labels, torch.div(indices, features.views, rounding_mode="floor"))


def _mixed(seed: int, epoch: int) -> int:
    """One seed of two numbers: neighbouring seeds and epochs give unrelated orders."""
    return int(np.random.SeedSequence([seed % (1 << 64), epoch]).generate_state(1, np.uint64)[0] >> np.uint64(1))
