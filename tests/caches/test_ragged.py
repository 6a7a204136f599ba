"""Rows of different sizes: kept without what fills them up, handed out filled up to the longest."""

import pytest
import torch

from regraft.caches.ragged import decode_values, encode_column, ragged_leaves
from regraft.caches.rows import StoredRows
from regraft.stores.memory import MemoryStore
from regraft.tensors.fingerprints import named_ids
from regraft.tensors.ragged import Ragged, column_of
from trunks import leaf_of

LENGTHS = (3, 0, 5, 1)
ROWS = [torch.arange(1.0, 2 * length + 1).view(length, 2) for length in LENGTHS]


def filled(numbers):
    """These rows in one tensor."""
    longest = max(LENGTHS[number] for number in numbers)
    out = torch.zeros(len(numbers), longest, 2)
    for at, number in enumerate(numbers):
        out[at, : LENGTHS[number]] = ROWS[number]
    return out


@pytest.mark.parametrize("numbers", [[0, 1, 2, 3], [3, 0], [1], [2, 2]])
def test_a_batch_is_as_long_as_its_longest_row(numbers):
    """In any order, repeated, one of no length."""
    column = column_of(ROWS)
    assert isinstance(column, Ragged)
    assert torch.equal(column.index_select(0, torch.tensor(numbers)), filled(numbers))
    assert torch.equal(column.reordered(torch.tensor(numbers)).index_select(0, torch.arange(len(numbers))),
                       filled(numbers))  # fmt: skip


def test_no_rows_are_an_empty_batch():
    """As an index_select of nothing."""
    assert column_of(ROWS).index_select(0, torch.tensor([], dtype=torch.int64)).shape == (0, 0, 0)


def test_only_the_rows_own_values_are_kept():
    """18 values and the shapes of four rows."""
    column = column_of(ROWS)
    assert (len(column), column.values.numel(), column.bytes) == (4, 18, 18 * 4 + 4 * 2 * 8)


def test_rows_of_one_shape_are_a_tensor():
    """Scalars too."""
    assert torch.equal(column_of([torch.ones(2, 3)] * 4), torch.ones(4, 2, 3))
    assert torch.equal(column_of([torch.tensor(2.0)] * 3), torch.full((3,), 2.0))


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_values_are_stored_in_every_precision(precision):
    """int8 by a scale for each place of the last dimension."""
    stored = encode_column("x", column_of(ROWS), precision)
    assert stored["x"].shape == (18,)
    assert torch.equal(stored["x/shapes"], torch.tensor([[length, 2] for length in LENGTHS], dtype=torch.int32))
    values = decode_values(stored["x"], torch.float32, stored.get("x/scale"))
    assert torch.allclose(values, torch.cat([row.flatten() for row in ROWS]), atol=10 / 254)  # half a step of int8


def test_a_last_dimension_that_varies_has_one_scale():
    """Nothing to tell the channels by."""
    stored = encode_column("x", column_of([torch.ones(2), torch.full((3,), 2.0)]), "int8")
    assert stored["x/scale"].shape == (1,)
    values = decode_values(stored["x"], torch.float32, stored["x/scale"])
    assert torch.allclose(values, torch.tensor([1.0, 1, 2, 2, 2]), atol=2 / 254)  # half a step of int8


def test_leaves_that_vary_are_known_by_their_shape():
    """The cut marks them."""
    assert ragged_leaves([leaf_of("even", (3,)), leaf_of("ragged", (5, 3), varying=(0,))]) == ("ragged",)


def test_one_large_ragged_row_does_not_take_the_detail_of_the_others():
    """Its values have a step of their own, wherever its row begins."""
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randn(length, 4, generator=generator) for length in (3, 5, 2, 7, 4)]
    rows[2] *= 1000
    column = column_of(rows)
    stored = encode_column("x", column, "int8")
    repeats = column.shapes.prod(1) // 4
    values = decode_values(stored["x"], torch.float32, stored["x/scale"], stored["x/row/scale"], repeats).view(-1, 4)
    for row, back in zip(rows, values.split([3, 5, 2, 7, 4]), strict=True):
        assert (back - row).abs().max() <= row.abs().max() / 127


def test_ragged_rows_of_int8_come_back_from_a_store_in_any_order():
    """The rows' own steps belong to the rows that are read."""
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randn(length, 4, generator=generator) for length in (3, 5, 2, 7, 4)]
    rows[2] *= 1000
    entry = MemoryStore().entry("k", {})
    entry.commit("p", named_ids("abcde"), encode_column("x", column_of(rows), "int8"))
    stored = StoredRows(entry, [leaf_of("x", (7, 4), varying=(0,))])
    for wanted in ([0, 1, 2, 3, 4], [4, 2], [3], [2, 0]):
        got = stored.gather(torch.tensor(wanted))["x"]
        for number, row in zip(wanted, got, strict=True):
            assert (row[: len(rows[number])] - rows[number]).abs().max() <= rows[number].abs().max() / 127
    assert stored.steps(torch.tensor([2, 0]))["x"].shape == (2, 4)
