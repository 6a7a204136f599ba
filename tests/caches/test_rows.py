"""Rows by position, in memory and in parts."""

import numpy as np
import pytest
import torch

from regraft.caches.precision import encode
from regraft.caches.rows import HeldRows, Index, StoredRows
from regraft.errors import CacheError
from regraft.stores.folder import FolderStore
from regraft.tensors.fingerprints import named_ids
from trunks import leaf_of

ROWS = torch.arange(60.0).view(20, 3)


@pytest.fixture(params=["float32", "int8"])
def stored(request, tmp_path):
    """Twenty rows in three parts."""
    entry = FolderStore(tmp_path).entry("k", {})
    for name, at in (("a", slice(0, 7)), ("b", slice(7, 8)), ("c", slice(8, 20))):
        ids = named_ids(map(str, range(20)))[at]
        entry.commit(name, ids, encode("x", ROWS[at], request.param))
    return StoredRows(entry, [leaf_of("x", (3,))])


def test_rows_come_in_the_order_asked_for(stored):
    """Across parts, repeated, one alone."""
    for wanted in ([0, 19, 7, 7, 3], [8], list(range(20))):
        got = stored.gather(torch.tensor(wanted))["x"]
        assert torch.allclose(got, ROWS[wanted], atol=59 / 254)  # half a step of int8; float32 is exact below
    if "x/scale" not in stored.parts[0].tensors:
        assert torch.equal(stored.gather(torch.arange(20))["x"], ROWS)


def test_the_index_finds_each_id(stored):
    """And says -1 for a stranger."""
    ids = named_ids(["19", "stranger", "0"])
    assert stored.index().find(ids).tolist() == [19, -1, 0]


def test_an_empty_index_finds_nothing():
    """A fresh entry."""
    assert Index(np.empty((0, 16), np.uint8)).find(named_ids(["a"])).tolist() == [-1]


def test_of_equal_ids_the_first_counts():
    """Everybody finds the same row."""
    assert Index(named_ids(["a", "b", "a"])).find(named_ids(["a"])).tolist() == [0]


def test_a_part_without_a_leaf_is_refused(tmp_path):
    """It belongs to another cut."""
    entry = FolderStore(tmp_path).entry("k", {})
    entry.commit("a", named_ids(["0"]), {"x": torch.ones(1, 3)})
    with pytest.raises(CacheError, match=r"Part a of entry k lacks the leaves \['y'\]"):
        StoredRows(entry, [leaf_of("y", (3,))])


def test_sizes_are_those_of_what_is_kept(stored):
    """Bytes of every tensor."""
    exact = "x/scale" not in stored.parts[0].tensors
    assert stored.bytes == (240 if exact else 60 + 3 * 12)
    assert HeldRows({"x": ROWS}).bytes == 240
    assert torch.equal(HeldRows({"x": ROWS}).gather(torch.tensor([2]))["x"], ROWS[2:3])
