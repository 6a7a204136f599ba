"""Rows of different sizes."""

import torch

from regraft.tensors.ragged import Ragged, column_of, rows_of


def test_rows_of_one_size_are_a_tensor_and_others_are_ragged():
    assert isinstance(column_of([torch.zeros(2), torch.ones(2)]), torch.Tensor)
    ragged = column_of([torch.ones(1), torch.ones(3)], fill=7)
    assert isinstance(ragged, Ragged)
    assert ragged.index_select(0, torch.tensor([0, 1])).tolist() == [[1, 7, 7], [1, 1, 1]]
    assert ragged.reordered(torch.tensor([1, 0])).fill == 7


def test_each_row_comes_back_as_it_is():
    rows = [torch.arange(4).view(2, 2), torch.arange(2).view(1, 2)]
    ragged = column_of(rows)
    assert all(map(torch.equal, rows_of(ragged), rows))
    assert ragged.bytes == 6 * 8 + 4 * 8
    assert ragged.device.type == "cpu"
