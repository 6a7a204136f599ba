"""A torch `DataLoader` as examples: its data set, its collate_fn and its worker processes; its order is refused."""

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, default_collate

from regraft.errors import DataError
from regraft.sources.named_rows import named_columns
from regraft.sources.source import Pair, Source
from regraft.tensors.keeping import generator_states, kept_generators
from regraft.tensors.trees import map_tree, tensors_of

WITHOUT_LOADER = "Pass loader.dataset, or build the DataLoader without it."
PROBES = 4  # examples, the first ones, of which a batch is compared with its rows


def refuse_order(loader: DataLoader[Any]) -> None:
    """Raise DataError for what a DataLoader does beside batches and a plain shuffle: it would be ignored silently.

    shuffle=True changes nothing: training draws an order for each epoch, and everything else takes all examples.
    """
    sampler, batches = loader.sampler, loader.batch_sampler
    problems = []
    if loader.batch_size is None:
        problems.append(
            "it makes no batches itself (batch_size=None, or a batch_sampler), so examples cannot be taken one by one"
        )
    elif type(batches) is not BatchSampler:
        problems.append(f"its batch_sampler is a {type(batches).__name__}")
    if not _takes_all_once(sampler):
        problems.append(
            f"its sampler is a {type(sampler).__name__}, which takes some examples more often or not at all: as "
            "training order pass it by Steps(order=…), as a selection pass torch.utils.data.Subset(dataset, indices)"
        )
    if loader.drop_last:
        problems.append("drop_last=True leaves out examples")
    if loader.num_workers and loader.worker_init_fn is not None:
        problems.append("its worker_init_fn expects the DataLoader's own processes")
    if problems:
        raise DataError("The DataLoader cannot be followed: " + "; ".join(problems) + f".\n{WITHOUT_LOADER}")


def _takes_all_once(sampler: object) -> bool:
    if type(sampler) is RandomSampler:
        return not sampler.replacement and sampler.num_samples == len(sampler.data_source)
    return type(sampler) is SequentialSampler


def process_options(loader: DataLoader[Any]) -> dict[str, Any]:
    """How its processes are started; empty where it has none."""
    if not loader.num_workers:
        return {}
    return {"num_workers": loader.num_workers, "multiprocessing_context": loader.multiprocessing_context}


def has_own_collate(loader: DataLoader[Any]) -> bool:
    """Whether it makes its batches by a function of the user's."""
    return loader.collate_fn is not default_collate


@final
class CollatedRows(Source):
    """The examples of a DataLoader as its collate_fn makes them, one by one.

    collate_fn  gives a batch as the pair (inputs, labels), or a dict with a column of labels

    Raises DataError where a batch is not its rows put together: examples are mixed, or drawn at random.
    """

    def __init__(self, dataset: Any, collate_fn: Any) -> None:
        self.dataset, self.collate_fn = dataset, collate_fn
        if len(dataset):
            self._refuse_mixing()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, indices: Sequence[int]) -> list[Pair]:
        return [_first(self._batch([row])) for row in self._rows(indices)]

    def _rows(self, indices: Sequence[int]) -> list[Any]:
        fetch_many = getattr(self.dataset, "__getitems__", None)
        return list(fetch_many(list(indices))) if fetch_many else [self.dataset[index] for index in indices]

    def _batch(self, rows: list[Any]) -> Pair:
        """(inputs, labels) of a batch."""
        batch = self.collate_fn(rows)
        if isinstance(batch, Mapping):
            way_out = "Return the pair (inputs, labels) from collate_fn, or a dict of inputs and one column of labels."
            return named_columns(list(batch), "the DataLoader's batch", way_out).pair(batch)
        if isinstance(batch, tuple | list) and len(batch) == 2:
            return (tuple(batch[0]) if isinstance(batch[0], list) else batch[0]), batch[1]
        raise DataError(
            f"The DataLoader's collate_fn gives a {type(batch).__name__}, expected the pair (inputs, labels) or a dict "
            "with a column of labels."
        )

    def _refuse_mixing(self) -> None:
        with kept_generators():
            rows = self._rows(range(min(PROBES, len(self))))
            before = generator_states()
            whole, alone = self._batch(rows), [self._batch([row]) for row in rows]
            is_random = not before.same_as(generator_states())
        if is_random or not all(_is_row(whole, number, row) for number, row in enumerate(alone)):
            raise DataError(
                "The DataLoader's collate_fn mixes examples or draws at random: an example of its batch is not what "
                "the function gives for the example alone, filled up at its end.\nExamples are taken one by one here. "
                "Pass loader.dataset, or make the tensors of an example in the data set."
            )


def _first(batch: Pair) -> Pair:
    """The only example of a batch."""
    inputs, labels = batch
    return map_tree(lambda tensor: tensor[0], inputs), _row_of(labels, 0)


def _row_of(labels: object, number: int) -> object:
    return labels[number] if isinstance(labels, list) else map_tree(lambda tensor: tensor[number], labels)


def _is_row(whole: Pair, number: int, alone: Pair) -> bool:
    """Whether row `number` of a batch begins with the same values as the example alone."""
    batch_tensors, own_tensors = tensors_of(whole), tensors_of(alone)
    if len(batch_tensors) != len(own_tensors):
        return False
    return all(_begins_with(many[number], own[0]) for many, own in zip(batch_tensors, own_tensors, strict=True))


def _begins_with(row: torch.Tensor, own: torch.Tensor) -> bool:
    if row.ndim != own.ndim or any(a < b for a, b in zip(row.shape, own.shape, strict=True)):
        return False
    return torch.equal(row[tuple(slice(size) for size in own.shape)], own)
