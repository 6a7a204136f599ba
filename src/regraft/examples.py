"""Examples as whole batches: the form in which data reaches a model, a trunk or a head."""

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from inspect import signature
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, default_collate

from regraft.errors import DataError
from regraft.foundation.wording import shape_text
from regraft.labels import Labels, batch_of, columns_in, count_of, filled, label_columns, subset_of, whole_labels
from regraft.sources.arrow import is_arrow, table_examples
from regraft.sources.fetching import fetched_ahead, in_processes
from regraft.sources.hugging_face import HuggingFaceRows, is_hugging_face, refuse_several
from regraft.sources.loaders import CollatedRows, has_own_collate, process_options, refuse_order
from regraft.sources.named_rows import named_columns
from regraft.sources.source import Pair, Source
from regraft.sources.streams import READ_ONCE, is_stream
from regraft.tensors.keeping import kept_generators
from regraft.tensors.pad_values import GivenPads, config_pad_id, missing_masks, pad_values, takes_mask, with_masks
from regraft.tensors.padding import Shapes, is_sequence, longest, padded_to
from regraft.tensors.trees import Inputs, find_in, leaves_of, map_tree, named_tensors, tensors_of

FEW, MOST = 4, 0.75  # examples, and the part of them, that make a size the usual one
Batch = tuple[Tensor, Inputs, Labels]  # indices, inputs, labels
Pads = Mapping[str, float]  # path of an input ("input_ids", "0", "" for a single one) → what its shorter rows end in


class Examples(ABC):
    """Labelled examples that are handed out by whole batches. Subclass it for data that is no torch data set.

    labels   of all examples (count, …), where they are known without fetching any; else None. A tensor, or a dict or
             tuple of tensors; sequences of different lengths are `tensors.ragged.Ragged`
    classes  the names of the classes, where labels are given as texts; else ()
    """

    labels: Labels | None = None
    classes: tuple[str, ...] = ()

    @abstractmethod
    def __len__(self) -> int:
        """Number of examples."""

    @abstractmethod
    def gather(self, indices: Tensor) -> tuple[Inputs, Labels]:
        """The inputs and labels of these examples, in this order.

        indices  (batch,) int64
        returns  inputs with `batch` rows each, labels (batch,) or what the loss takes: tensors, shorter sequences end
                 in -100 or NaN
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
        self.labels = None if examples.labels is None else subset_of(examples.labels, indices)
        self.classes = examples.classes

    def __len__(self) -> int:
        return len(self.indices)

    def gather(self, indices: Tensor) -> tuple[Inputs, Labels]:
        return self.examples.gather(self.indices[indices])

    def content_ids(self, indices: Sequence[int] | None = None) -> Sequence[str] | None:
        """Those of the other examples."""
        own = self.indices if indices is None else self.indices[torch.tensor(list(indices), dtype=torch.int64)]
        return self.examples.content_ids(own.tolist())


class TensorExamples(Examples):
    """Examples whose tensors lie in memory or on a device: a batch is one `index_select` per tensor."""

    labels: Labels

    def __init__(self, inputs: Inputs, labels: Labels, classes: Sequence[str] = ()) -> None:
        self.inputs, self.classes = inputs, tuple(classes)
        self.labels = labels
        self.count = count_of(labels)
        for column in [*tensors_of(inputs), *columns_in(labels)]:
            if len(column) != self.count:
                raise DataError(f"{len(column)} inputs and {self.count} labels: each example needs one of each.")

    def __len__(self) -> int:
        return self.count

    def gather(self, indices: Tensor) -> tuple[Inputs, Labels]:
        """The rows at `indices`, copied."""
        if isinstance(self.labels, Tensor):
            indices = indices.to(self.labels.device)
        inputs = map_tree(lambda tensor: tensor.index_select(0, indices.to(tensor.device)), self.inputs)
        return inputs, batch_of(self.labels, indices)

    def subset(self, indices: Tensor) -> "TensorExamples":
        """The rows at `indices`, copied."""
        return TensorExamples(self.gather(indices)[0], subset_of(self.labels, indices), self.classes)


class DatasetExamples(Examples):
    """A torch data set of (input, label) pairs: each example is fetched by itself and collated.

    Sequences may have different lengths: the shorter ones of a batch are filled up. An example of another size that is
    no sequence raises DataError.

    classes    the names of the classes, where labels are texts
    pads       what shorter inputs end in, by their path; zeros where none is given
    processes  options of the DataLoader that fetches in other processes; {} fetches in threads
    masks      mask that is made → token ids that it belongs to
    masked     whether masks are made of examples of one length, too
    """

    def __init__(
        self, dataset: Dataset[Any], classes: Sequence[str] = (), pads: Pads = MappingProxyType({}), *,
        processes: Mapping[str, Any] = MappingProxyType({}), masks: Mapping[str, str] = MappingProxyType({}),
        masked: bool = False,
    ) -> None:  # fmt: skip
        self.dataset: Any = dataset
        self.pads, self.processes, self.masks, self.masked = dict(pads), dict(processes), dict(masks), masked
        self.labels = dataset.labels if isinstance(dataset, Source) else None
        self.classes = tuple(classes) or (dataset.classes if isinstance(dataset, Source) else ())
        self._sizes: Counter[Shapes] = Counter()  # of the inputs fetched so far

    def __len__(self) -> int:
        return len(self.dataset)

    def gather(self, indices: Tensor) -> tuple[Inputs, Labels]:
        """The examples at `indices`, collated by torch's own rules; shorter ones are filled up at their ends."""
        inputs, labels = self.collate(self.fetch(indices))
        return inputs, filled(labels)

    def collate(self, rows: Sequence[tuple[object, object]]) -> tuple[Inputs, Labels]:
        """A batch of the pairs; labels of different lengths are ragged."""
        return collated(rows, self.classes, self.pads)

    def in_order(self, blocks: Sequence[Tensor], *, workers: int | None = None) -> Iterator[Batch]:
        """Fetched ahead, by one thread for each core where `workers` is None, or by the processes of a DataLoader.

        Threads are enough where image decoding and NumPy do the work: these release the interpreter's lock.
        """
        if self.processes and workers is None:
            return in_processes(self._batch, blocks, **self.processes)
        return fetched_ahead(self.gather, blocks, (os.cpu_count() or 1) if workers is None else workers)

    def subset(self, indices: Tensor) -> "DatasetExamples":
        """A torch `Subset` of the data set."""
        is_source = isinstance(self.dataset, Source)
        part = self.dataset.subset(indices) if is_source else Subset(self.dataset, indices.tolist())
        return DatasetExamples(
            part, self.classes, self.pads, processes=self.processes, masks=self.masks, masked=self.masked
        )

    def content_ids(self, indices: Sequence[int] | None = None) -> Sequence[str] | None:
        """Those of the data set, when it has a method `content_ids(indices=None)`."""
        known: Callable[..., Sequence[str] | None] | None = getattr(self.dataset, "content_ids", None)
        if known is None:
            return None
        if indices is None or signature(known).parameters:
            return known() if indices is None else known(indices)
        every = known()
        return None if every is None else [every[index] for index in indices]

    def fetch(self, indices: Tensor) -> list[Pair]:
        """The pairs (input, label) at `indices`; with the masks that are made, where their lengths differ."""
        chosen = indices.tolist()
        fetch_many = getattr(self.dataset, "__getitems__", None)
        rows = fetch_many(chosen) if fetch_many else [self.dataset[index] for index in chosen]
        rows = [_pair_of(row) for row in rows]
        for index, row in zip(chosen, rows, strict=True):
            if not isinstance(row, (tuple, list)) or len(row) != 2:
                raise DataError(
                    f"Example {index} of the data set is a {type(row).__name__}, expected the pair (input, label).\n"
                    "For several inputs return ((a, b), label) or ({'name': a}, label)."
                )
        self._refuse_broken(chosen, [row[0] for row in rows])
        if self.masks and (self.masked or has_lengths(rows)):
            return [(with_masks(inputs, self.masks), label) for inputs, label in rows]
        return [tuple(row) for row in rows]

    def _batch(self, indices: Tensor) -> Batch:
        return (indices, *self.gather(indices))

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


def _pair_of(row: object) -> Any:
    """A row with named columns as the pair (input, label); any other row as it is."""
    if not isinstance(row, dict):
        return row
    way_out = "Return the pair (input, label) from the data set, or a dict of the inputs and one label."
    return named_columns(list(row), "the data set", way_out).pair(row)


def collated(
    rows: Sequence[tuple[object, object]], classes: Sequence[str] = (), pads: Pads = MappingProxyType({})
) -> tuple[Inputs, Labels]:
    """A batch of (input, label) pairs: inputs filled up to one size, labels as columns.

    Raises DataError for pairs that are not alike.
    """
    inputs = [row[0] for row in rows]
    try:
        batch = default_collate(_filled_up(inputs, pads) if has_lengths(rows) else inputs)
    except (RuntimeError, TypeError, KeyError, ValueError, RecursionError) as error:  # torch's own rules
        raise DataError(
            f"The examples cannot be put into one batch: {str(error).splitlines()[0][:200]}\nEach needs the same "
            "tensors and numbers in the same structure."
        ) from error
    # default_collate gives lists for tuples; a model is called with *tuple.
    return (tuple(batch) if isinstance(batch, list) else batch), label_columns([row[1] for row in rows], classes)


def _filled_up(rows: Sequence[Inputs], pads: Pads) -> list[Inputs]:
    """The inputs with the shorter ones filled up at their ends: with zeros where nothing else is given."""
    sizes = [longest(column) for column in zip(*map(tensors_of, rows), strict=True)]
    fills = [pads.get(path, 0) for path, _ in named_tensors(rows[0])]

    def filled_up(inputs: Inputs) -> Inputs:
        ends = iter(zip(sizes, fills, strict=True))
        return map_tree(lambda tensor: padded_to(tensor, *next(ends)), inputs)

    return list(map(filled_up, rows))


def has_lengths(rows: Sequence[tuple[object, object]]) -> bool:
    """Whether the inputs of these examples are as many tensors, of different sizes."""
    shapes = [shapes_in(row[0]) for row in rows]
    first = shapes[0]
    return first is not None and all(s is not None and len(s) == len(first) for s in shapes) and len({*shapes}) > 1


def shapes_in(inputs: Inputs) -> Shapes | None:
    """The sizes of all tensors of an example's input, in order; None when something else is among them."""
    leaves = leaves_of(inputs)
    shapes = tuple(tuple(leaf.shape) for leaf in leaves if isinstance(leaf, Tensor))
    return shapes if len(shapes) == len(leaves) else None


def as_examples(data: object, *, classes: Sequence[str] = (), pads: Pads = MappingProxyType({})) -> Examples:
    """Whole-batch access to `data`: Examples as they are, (inputs, labels) of tensors or arrays, or any torch data set.

    Also a Hugging Face data set, an Arrow table (`sources.named_rows` says which column is the label) and a DataLoader,
    of which data set, collate_fn and worker processes are taken. A `torch.utils.data.Subset` of Examples or of these
    becomes a subset of their own kind.

    classes  the names of the classes, where labels are texts; the texts of a whole list of labels are sorted where none
             are given
    pads     what shorter inputs of a data set end in, by their path; zeros where none is given

    Raises DataError when it is none of these or holds no example.
    """
    refuse_several(data)
    examples = (
        data if isinstance(data, Examples) else _of_library(data, classes, pads) or _of_torch(data, classes, pads)
    )
    if len(examples) == 0:
        raise DataError("The data set is empty.")
    return examples


def _of_library(data: object, classes: Sequence[str], pads: Pads) -> Examples | None:
    """Data of another library as examples; None for anything else. Raises DataError for a stream."""
    if is_stream(data):
        raise DataError(READ_ONCE.format(kind=type(data).__name__))
    if isinstance(data, DataLoader):
        return _of_loader(data, classes, pads)
    if is_hugging_face(data):
        return DatasetExamples(HuggingFaceRows(data), classes, pads)
    return TensorExamples(*table_examples(data, classes)) if is_arrow(data) else None


def _of_torch(data: Any, classes: Sequence[str], pads: Pads) -> Examples:
    """A torch data set, or whole tensors or arrays, as examples. Raises DataError for anything else."""
    if isinstance(data, Subset) and (isinstance(data.dataset, Examples | Subset) or is_hugging_face(data.dataset)):
        inner = as_examples(data.dataset, classes=classes, pads=pads)
        return inner.subset(torch.as_tensor(data.indices, dtype=torch.int64))
    if isinstance(data, TensorDataset) and len(data.tensors) == 2:
        return TensorExamples(data.tensors[0], data.tensors[1])
    if isinstance(data, tuple) and len(data) == 2 and _are_whole_columns(*data):
        inputs: Inputs = map_tree(torch.from_numpy, data[0], kind=np.ndarray)
        return TensorExamples(inputs, *whole_labels(data[1], classes))
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return DatasetExamples(data, classes, pads)
    raise DataError(
        f"A {type(data).__name__} cannot be used as examples. Expected a torch data set with a length, the pair "
        "(inputs, labels) of tensors, or a regraft.examples.Examples."
    )


def _of_loader(loader: DataLoader[Any], classes: Sequence[str], pads: Pads) -> Examples:
    """The examples of a DataLoader, fetched by as many processes as it has."""
    refuse_order(loader)
    if has_own_collate(loader):
        examples: Examples = DatasetExamples(CollatedRows(loader.dataset, loader.collate_fn), classes, pads)
    else:
        examples = as_examples(loader.dataset, classes=classes, pads=pads)
    if isinstance(examples, DatasetExamples):
        examples.processes = process_options(loader)
    return examples


def with_pads(
    examples: Examples, model: nn.Module, pad: GivenPads, *, taken: Collection[str] | None = None
) -> Examples:
    """The examples whose shorter inputs end in what the model expects, with a mask of that where they have none.

    See `pad_values` and `missing_masks`.

    taken  the arguments with which the model is always called, masks among them; None: those that its `forward` takes
    """
    if not isinstance(examples, DatasetExamples) or not _may_be_padded(model, pad):
        return examples
    with kept_generators():
        (first, _), *_ = examples.fetch(torch.zeros(1, dtype=torch.int64))
    pads, masks = pad_values(model, first, pad), missing_masks(model, first, taken)
    if masks and "" in pads:  # a single input gets its name beside its mask
        pads = {masks["attention_mask"]: pads[""]}
    return DatasetExamples(
        examples.dataset, examples.classes, pads, processes=examples.processes, masks=masks, masked=taken is not None
    )


def _may_be_padded(model: nn.Module, pad: GivenPads) -> bool:
    return pad is not None or config_pad_id(model) is not None or takes_mask(model)


def _are_whole_columns(inputs: object, labels: object) -> bool:
    """Whether this is the pair (inputs, labels) of a whole data set, and not a data set of two examples."""
    if isinstance(labels, Tensor | np.ndarray | list):
        return not isinstance(labels, Tensor) or bool(tensors_of(inputs)) or isinstance(inputs, np.ndarray)
    is_nested = isinstance(labels, Mapping | tuple)
    columns: list[Any] = list(find_in((inputs, labels), (Tensor, np.ndarray))) if is_nested else []
    sizes = {column.shape[:1] for column in columns}
    return len(columns) > 1 and len(sizes) == 1 and sizes != {()}


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
