"""The rows to be computed: each example, or each seeded view of it, with its input, label and id."""

import hashlib
import multiprocessing
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import final

import numpy as np
import torch
from torch import Tensor

from regraft.caches.randomness import probes, refuse_random, refuse_redrawn, refuse_unseeded, seed_all
from regraft.datasets.labelled import Labelled
from regraft.errors import Advice, CacheError, DataError
from regraft.examples import DatasetExamples, Examples, Pads, TensorExamples, has_lengths, shapes_in
from regraft.labels import Labels, batch_of, count_of, joined, same_labels, subset_of
from regraft.sources.fetching import fetched_ahead, in_processes
from regraft.tensors.fingerprints import ID_BYTES, input_ids, named_ids
from regraft.tensors.keeping import generator_states, kept_generators, own_generators, position_of
from regraft.tensors.padding import Shapes, padded_cat
from regraft.tensors.trees import Inputs, map_tree, named_tensors, tensors_of

HASHED_ROWS = 1024  # that are read together where nothing is computed for them
PROMISED = 4  # examples, the first ones, by which a promise about the data is checked


@final
@dataclass(frozen=True)
class SampleBatch:
    """Some rows with what was fetched for them.

    rows    (batch,) int64
    inputs  `batch` rows in each tensor, the shorter ones filled up at their ends
    labels  columns of `batch` rows
    ids     (batch, 16) uint8
    shapes  of the tensors of each row's own input; None where only whole batches are handed out
    """

    rows: Tensor
    inputs: Inputs
    labels: Labels
    ids: np.ndarray
    shapes: list[Shapes] | None

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, indices: Tensor) -> "SampleBatch":
        """The rows at these indices of the batch."""
        inputs = map_tree(lambda tensor: tensor.index_select(0, indices.to(tensor.device)), self.inputs)
        shapes = None if self.shapes is None else [self.shapes[index] for index in indices.tolist()]
        labels = subset_of(self.labels, indices)
        return SampleBatch(self.rows[indices], inputs, labels, self.ids[indices.numpy()], shapes)

    @staticmethod
    def joined(parts: Sequence["SampleBatch"], pads: Pads) -> "SampleBatch":
        """Batches one after the other."""
        if len(parts) == 1:
            return parts[0]
        return SampleBatch(
            torch.cat([part.rows for part in parts]),
            join([part.inputs for part in parts], pads),
            joined([part.labels for part in parts]),
            np.concatenate([part.ids for part in parts]),
            _joined_shapes(parts),
        )


def _joined_shapes(parts: Sequence[SampleBatch]) -> list[Shapes] | None:
    """The shapes of each example's own tensors, where all batches have them."""
    shapes = [part.shapes for part in parts if part.shapes is not None]
    return [shape for part in shapes for shape in part] if len(shapes) == len(parts) else None


@final
class Samples:
    """Rows to be computed: row number = example · views + view.

    ids          (rows, 16) uint8; zeros for a row that has not been fetched, unless `ids_known`
    named        whether the data set or the caller vouches for the ids, so that no example has to be read for them
    ids_known    whether all ids are known: they are named, or every row has been fetched
    known_labels of all examples, where the data set knows them without fetching any; those that are fetched must agree
    """

    def __init__(
        self, examples: Examples, *, views: int = 1, seed: int = 0, data_id: str | None = None, hashed: bool = True
    ) -> None:
        """
        data_id  a promise of the caller: under this name the examples have the same inputs in every run
        hashed   False where nobody asks for ids
        """
        self.examples, self.views, self.seed, self.hashed = examples, views, seed, hashed
        names = None
        if hashed:
            names = examples.content_ids() if data_id is None else _promised_names(examples, data_id)
        self.ids: np.ndarray = np.zeros((len(self), ID_BYTES), np.uint8) if names is None else self._ids_from(names)
        self.named = self.ids_known = names is not None
        self._can_be_renamed = data_id is None and self.named
        self.known_labels = known_labels(examples)
        self._fetched_labels: list[tuple[Tensor, Labels]] = []
        self._bases: dict[int, bytes] = {}
        self._own_generators = own_generators(examples.dataset) if isinstance(examples, DatasetExamples) else []

    def __len__(self) -> int:
        return len(self.examples) * self.views

    def batches(self, rows: Tensor, batch_size: int, *, workers: int | None = None) -> Iterator[SampleBatch]:
        """`rows` in batches, fetched ahead; their ids and labels are kept.

        workers  threads, for views processes: a view is drawn from the global generators, of which a process has one
                 set. None: one for each core where examples are fetched one by one
        """
        blocks = rows.split(batch_size) if len(rows) else ()
        return self.fetched(blocks, min(self.workers(workers), len(blocks) // 2) if self.views > 1 else workers)

    def fetched(self, blocks: Iterable[Tensor], workers: int | None = None) -> Iterator[SampleBatch]:
        """A batch for each block of rows, fetched ahead: a few blocks for each worker are asked for in advance."""
        if self.views > 1:
            fetched = in_processes(self.fetch, blocks, self.workers(workers))
        elif isinstance(self.examples, DatasetExamples) and self.examples.processes and workers is None:
            fetched = in_processes(self.fetch, blocks, **self.examples.processes)
        else:
            fetched = (batch for _, batch, _ in fetched_ahead(self._fetch_pair, blocks, self.workers(workers)))
        for batch in fetched:
            self._keep(batch)
            yield batch

    def workers(self, wanted: int | None) -> int:
        """How many threads, or processes, fetch; `wanted` None chooses."""
        if self.views > 1:
            return (_processes() if wanted is None else wanted) if self.one_by_one else 0
        if isinstance(self.examples, DatasetExamples) and self.examples.processes and wanted is None:
            return int(self.examples.processes["num_workers"])
        return (_cores() if self.one_by_one else 0) if wanted is None else wanted

    @property
    def one_by_one(self) -> bool:
        """Whether each example is fetched by itself."""
        return isinstance(self.examples, DatasetExamples)

    @property
    def can_be_shared(self) -> bool:
        """Whether every builder can know all ids at little cost."""
        return self.named or (self.views == 1 and isinstance(self.examples, TensorExamples))

    def know_ids(self) -> None:
        """Read and hash all inputs, where they lie in memory, so that every builder knows all ids.

        Raises CacheError where each of several builders would have to read every input from where it is kept.
        """
        if self.ids_known:
            return
        if not self.can_be_shared:
            raise CacheError(
                "Several builders share this store, and the inputs have no names: each builder would read every input "
                "to know which features are missing.\nUse a data set that knows its inputs without reading them (image "
                "files, a table, a method content_ids).",
                advice=[Advice("data_id", "flowers-v1", "promise that example i has the same input in every run")],
            )
        for rows in torch.arange(len(self)).split(HASHED_ROWS):
            self.ids[rows.numpy()] = input_ids(self.examples.gather(rows)[0], len(rows))
        self.ids_known = True

    def fetch_labels(self, workers: int | None = None) -> None:
        """Fetch the examples of which no label is known yet."""
        if self.known_labels is not None:
            return
        is_known = torch.zeros(len(self.examples), dtype=torch.bool)
        for examples, _ in self._fetched_labels:
            is_known[examples] = True
        for _ in self.batches((~is_known).nonzero().flatten() * self.views, HASHED_ROWS, workers=workers):
            pass

    def fetch(self, rows: Tensor) -> SampleBatch:
        """The inputs, labels and ids of these rows. An example that is filled up keeps the id of what it was."""
        if self.views > 1:
            return self._seeded(rows)
        if isinstance(self.examples, TensorExamples):  # rows of tensors: nothing is drawn
            return self._fetched(rows)
        states, own = generator_states(), list(map(position_of, self._own_generators))
        batch = self._fetched(rows)
        if not states.same_as(generator_states()) or own != list(map(position_of, self._own_generators)):
            refuse_redrawn(self.examples, rows, batch.inputs)
        return batch

    def _fetched(self, rows: Tensor) -> SampleBatch:
        if not isinstance(self.examples, DatasetExamples):
            inputs, labels = self.examples.gather(rows)
            return SampleBatch(rows, inputs, labels, self._ids_of(rows, [(inputs, len(rows))]), None)
        pairs = self.examples.fetch(rows)
        inputs, labels = self.examples.collate(pairs)
        alone = ((self.examples.collate([pair])[0], 1) for pair in pairs)
        ids = self._ids_of(rows, alone if has_lengths(pairs) else [(inputs, len(rows))])
        shapes = [shape for pair in pairs if (shape := shapes_in(pair[0])) is not None]
        return SampleBatch(rows, inputs, labels, ids, shapes if len(shapes) == len(pairs) else None)

    def inputs_of(self, rows: Tensor) -> Inputs:
        """The inputs of these rows."""
        return self._seeded(rows).inputs if self.views > 1 else self.examples.gather(rows)[0]

    def refuse_changed(self, rows: Sequence[int], ids: np.ndarray) -> None:
        """Raise CacheError when an example is no longer what its id says: edited while its features were computed."""
        if not self._can_be_renamed:
            return
        names = self.examples.content_ids([row // self.views for row in rows])
        assert names is not None, "they were given names before"
        now = self._ids_from(names).reshape(len(rows), self.views, ID_BYTES)
        now = now[np.arange(len(rows)), np.array(rows) % self.views]
        changed = [row // self.views for row in np.array(rows)[(now != ids).any(1)]]
        if changed:
            raise changed_meanwhile(changed)

    @property
    def pads(self) -> Pads:
        """What shorter inputs end in."""
        return self.examples.pads if isinstance(self.examples, DatasetExamples) else {}

    @property
    def labels(self) -> Labels:
        """Of all examples, as columns: every example was fetched, or its label is known."""
        if self.known_labels is not None:
            return self.known_labels
        order = torch.cat([examples for examples, _ in self._fetched_labels])
        last = torch.empty(len(self.examples), dtype=torch.int64)
        last[order] = torch.arange(len(order))  # an example may have been fetched more than once
        return subset_of(joined([labels for _, labels in self._fetched_labels]), last)

    def _fetch_pair(self, rows: Tensor) -> tuple[SampleBatch, Labels]:
        """As `fetched_ahead` asks for it: the hashing is done where the fetching is, in its threads."""
        batch = self.fetch(rows)
        return batch, batch.labels

    def _keep(self, batch: SampleBatch) -> None:
        if self.hashed and not self.named:  # else the batch's ids were taken from `ids`
            self._keep_ids(batch)
        if isinstance(self.examples, TensorExamples) and self.known_labels is not None:
            return  # the batch's labels are rows of these
        examples = torch.div(batch.rows, self.views, rounding_mode="floor")
        if self.known_labels is None:
            self._fetched_labels.append((examples, batch.labels))
        elif not same_labels(known := subset_of(self.known_labels, examples), batch.labels):
            raise DataError(
                f"The data set's attribute `labels` does not hold the labels of its examples: for "
                f"{examples.tolist()[:5]} … it holds {_first(known)} …, and they have {_first(batch.labels)} …."
            )

    def _keep_ids(self, batch: SampleBatch) -> None:
        """Note the ids of a batch, or compare them with what they were."""
        if not self.ids_known:
            self.ids[batch.rows.numpy()] = batch.ids
        elif len(changed := batch.rows[torch.from_numpy((batch.ids != self.ids[batch.rows.numpy()]).any(1))]):
            raise changed_meanwhile([row // self.views for row in changed.tolist()])

    def _ids_from(self, names: Sequence[str]) -> np.ndarray:
        """The ids (examples · views, 16) of these names."""
        drawn = f"{self.seed} drawn" if self.views > 1 else f"{self.seed}"
        return named_ids(f"{name}\0{view}\0{drawn}" for name in names for view in range(self.views))

    def _seeded(self, rows: Tensor) -> SampleBatch:
        """Each row drawn by itself after seeding: the same view of the same example is the same input, always."""
        inputs, labels = [], []
        with kept_generators():
            for row in rows.tolist():
                example, view = divmod(row, self.views)
                seed_all(self._base(example) + view.to_bytes(4, "little"))
                alone, label = self.examples.gather(torch.tensor([example]))
                inputs.append(alone)
                labels.append(label)
        shapes = [tuple(tuple(tensor.shape[1:]) for tensor in tensors_of(alone)) for alone in inputs]
        ids = self._ids_of(rows, ((alone, 1) for alone in inputs))
        return SampleBatch(rows, join(inputs, self.pads), joined(labels), ids, shapes)

    def _ids_of(self, rows: Tensor, inputs: Iterable[tuple[Inputs, int]]) -> np.ndarray:
        """The rows' ids (count, 16) uint8, from their names or their inputs; zeros when nobody asks for ids."""
        if self.named or not self.hashed:
            known: np.ndarray = self.ids[rows.numpy()]
            return known
        return np.concatenate([input_ids(some, count) for some, count in inputs])

    def _base(self, example: int) -> bytes:
        """What an example's seeds come from: its content, so that added and reordered data keep their views."""
        start = self.seed.to_bytes(8, "little", signed=True)
        if self.named:
            return start + bytes(self.ids[example * self.views])
        if example not in self._bases:
            seed_all(start)
            self._bases[example] = input_ids(self.examples.gather(torch.tensor([example]))[0], 1).tobytes()
        return start + self._bases[example]


def samples_of(examples: Examples, *, views: int, data_id: str | None, hashed: bool) -> Samples:
    """The rows of the examples, after a check that they can be fetched again. Raises CacheError when they cannot."""
    if views < 1:
        raise CacheError(f"views is {views}; expected 1 or more.")
    if views == 1:
        refuse_random(examples)
    samples = Samples(examples, views=views, data_id=data_id, hashed=hashed)
    if views > 1:
        rows = torch.tensor(probes(examples)) * views
        refuse_unseeded(samples.inputs_of(rows), samples.inputs_of(rows))
    return samples


def known_labels(examples: Examples) -> Labels | None:
    """A copy of the labels where they are known without fetching; None otherwise.

    Of torch data sets only a `Labelled` is believed: others may change a label on its way from an attribute
    (`targets`) to what they give.
    """
    labels = examples.labels
    if isinstance(examples, DatasetExamples) and isinstance(examples.dataset, Labelled):
        labels = examples.dataset.labels
    return None if labels is None else map_tree(torch.clone, labels)


def _promised_names(examples: Examples, data_id: str) -> list[str]:
    """A text for each example: the promised name with a hash of the first inputs, and its number."""
    seed_all(b"probe")
    # The first ones: examples that are added do not change the names of those that were there.
    first = [examples.gather(torch.tensor([index]))[0] for index in range(min(len(examples), PROMISED))]
    probe = hashlib.sha256(b"".join(input_ids(inputs, 1).tobytes() for inputs in first)).hexdigest()
    return [f"{data_id}\0{probe}\0{index}" for index in range(len(examples))]


def changed_meanwhile(examples: Sequence[int]) -> CacheError:
    """The error for data that was edited while its features were computed."""
    several = f"Examples {', '.join(map(str, examples[:5]))}{' …' if len(examples) > 5 else ''} were"
    return CacheError(
        f"{f'Example {examples[0]} was' if len(examples) == 1 else several} changed while the features were computed.\n"
        "Nothing of their part was stored. Run again: what is stored already stays."
    )


def join(parts: Sequence[Inputs], pads: Pads = MappingProxyType({})) -> Inputs:
    """Batches of the same structure, one after the other; shorter rows end in the pads."""
    if len(parts) == 1:
        return parts[0]
    fills = [pads.get(path, 0) for path, _ in named_tensors(parts[0])] if pads else [0] * len(tensors_of(parts[0]))
    columns = iter(list(map(padded_cat, zip(*map(tensors_of, parts), strict=True), fills)))
    return map_tree(lambda _: next(columns), parts[0])


def _first(labels: Labels) -> object:
    """The first few, to be shown."""
    few = batch_of(labels, torch.arange(min(5, count_of(labels))))
    return map_tree(torch.Tensor.tolist, few)


def _processes() -> int:
    """One for each core where a process is made by a fork; elsewhere it would import everything again."""
    return _cores() if multiprocessing.get_start_method() == "fork" else 0


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
