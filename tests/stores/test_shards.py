"""Bytes of a shard: what safetensors reads, aligned for mapping."""

import pytest
import torch
from safetensors.torch import load

from regraft.errors import CacheError
from regraft.stores.shards import layout_of, shard_chunks
from regraft.testing import part_of


def test_safetensors_reads_every_dtype():
    """Names, shapes and bits."""
    _, tensors = part_of(5)
    head, places = layout_of(tensors)
    read = load(b"".join(bytes(chunk) for chunk in shard_chunks(head, tensors, places)))
    assert set(read) == set(tensors)
    assert all(torch.equal(read[name].nan_to_num(), tensors[name].nan_to_num()) for name in tensors)


def test_every_tensor_starts_at_a_multiple_of_its_items_size():
    """Or mapping would give misaligned memory."""
    _, tensors = part_of(5)
    _, places = layout_of(tensors)
    assert all(places[name].start % tensor.element_size() == 0 for name, tensor in tensors.items())


def test_a_place_tells_where_rows_lie():
    """Start and stop in bytes of the shard."""
    head, places = layout_of({"x": torch.zeros(10, 3)})
    assert places["x"].row_bytes == 12
    assert places["x"].rows(2, 4) == (len(head) + 24, len(head) + 48)


def test_a_dtype_without_a_word_is_refused():
    """Named with its leaf."""
    with pytest.raises(CacheError, match=r"feature x is torch.complex128"):
        layout_of({"x": torch.zeros(1, dtype=torch.complex128)})
