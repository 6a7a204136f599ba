"""Data that is read once from the start."""

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from regraft.errors import DataError
from regraft.examples import as_examples
from regraft.sources.streams import is_stream, pairs_of
from trunks import tiny_data

INPUTS, LABELS = tiny_data(7)


class Stream(IterableDataset):
    """Pairs, shared out to the workers of a DataLoader."""

    def __iter__(self):
        info = torch.utils.data.get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        return iter([(INPUTS[index], int(LABELS[index])) for index in range(first, len(INPUTS), step)])


def test_what_is_a_stream():
    """Iterable data sets, DataLoaders of them and generators; lists and data sets by number are none."""
    assert all(map(is_stream, [Stream(), DataLoader(Stream()), iter([]), (pair for pair in [])]))
    assert not any(map(is_stream, [[(1, 2)], (INPUTS, LABELS), DataLoader([(INPUTS[0], 1)]), INPUTS]))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loaders_batches_are_taken_apart(workers):
    """Each example once, by its worker processes."""
    pairs = list(pairs_of(DataLoader(Stream(), batch_size=3, num_workers=workers)))
    assert sorted(float(inputs.sum()) for inputs, _ in pairs) == sorted(INPUTS.sum(1).tolist())


def test_rows_with_named_columns_are_pairs():
    """As a streaming data set of Hugging Face gives them."""
    inputs, label = next(pairs_of(iter([{"__key__": "a", "x": [1.0], "cls": 2}])))
    assert (inputs.tolist(), label) == ([1.0], 2)


def test_other_elements_are_named():
    """With the form that is expected."""
    with pytest.raises(DataError, match=r"Example 0 of the stream is a int, expected the pair \(input, label\)"):
        list(pairs_of(iter([3])))
    with pytest.raises(DataError, match="its own collate_fn"):
        list(pairs_of(DataLoader(Stream(), batch_size=2, collate_fn=list)))


def test_what_needs_examples_by_number_says_the_way_out():
    """Training on the stream itself."""
    with pytest.raises(DataError, match=r"read from the start.*\n.*cache_features\(trunk, data, store\) reads them"):
        as_examples(Stream())
