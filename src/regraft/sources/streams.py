"""Streams: data that can only be read from the start, as (input, label) pairs."""

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch.utils.data import DataLoader, IterableDataset, default_collate

from regraft.errors import DataError
from regraft.sources.named_rows import NamedColumns, named_columns
from regraft.sources.source import Pair

WHERE = "the stream"
WAY_OUT = (
    "Make tensors, and keep the inputs and one column of labels: .decode('torchrgb').to_tuple('jpg', 'cls') of a "
    "WebDataset, data.map(function).select_columns([…]) of a streaming data set of Hugging Face."
)
READ_ONCE = (
    "Data of the type {kind} can only be read from the start, and examples are needed by their number here.\n"
    "cache_features(trunk, data, store) reads them once; train and evaluate the head on the features. Or pass "
    "list(data), if they fit in memory."
)


def is_stream(data: object) -> bool:
    """Whether the data give their examples one after the other and not by number."""
    if isinstance(data, DataLoader):
        return isinstance(data.dataset, IterableDataset)
    return isinstance(data, IterableDataset) or (isinstance(data, Iterable) and not hasattr(data, "__getitem__"))


def pairs_of(stream: object) -> Iterator[Pair]:
    """The (input, label) pairs of a stream: its pairs as they are, rows with named columns by `named_columns`.

    Raises DataError for an element that is neither, and for a DataLoader whose batches are made by its own function.
    """
    columns: NamedColumns | None = None
    for number, element in enumerate(_elements(stream)):
        if isinstance(element, tuple | list) and len(element) == 2:
            yield element[0], element[1]
        elif isinstance(element, Mapping):
            columns = columns or named_columns(list(element), WHERE, WAY_OUT)
            yield columns.pair(element)
        else:
            raise DataError(
                f"Example {number} of the stream is a {type(element).__name__}, expected the pair (input, label) or a "
                "row with named columns. For several inputs give ((a, b), label) or ({'name': a}, label)."
            )


def _elements(stream: Any) -> Iterator[Any]:
    """The examples one by one; those of a DataLoader by as many processes as it has, of Ray Data by its cluster."""
    if _is_ray_data(stream):
        yield from stream.iter_rows()
        return
    if not isinstance(stream, DataLoader):
        yield from stream
        return
    if stream.batch_size is not None and stream.collate_fn is not default_collate:
        raise DataError(
            "The DataLoader makes its batches by its own collate_fn from a data set that can only be read from the "
            "start.\nMake the tensors of an example in the data set itself, and pass it or a DataLoader without "
            "collate_fn."
        )
    yield from DataLoader(
        stream.dataset, batch_size=None, num_workers=stream.num_workers, collate_fn=_as_it_is,
        worker_init_fn=stream.worker_init_fn, multiprocessing_context=stream.multiprocessing_context,
        timeout=stream.timeout,
    )  # fmt: skip


def _is_ray_data(data: object) -> bool:
    """Whether this is a `ray.data.Dataset`. The library is not imported for it."""
    library = sys.modules.get("ray.data")
    return library is not None and isinstance(data, library.Dataset)


def _as_it_is(element: object) -> Any:
    """An example of a worker process, unchanged."""
    return element
