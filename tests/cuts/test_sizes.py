"""How sizes grow."""

import torch
from torch import nn

from regraft.cuts.record import values_in
from regraft.cuts.recording import record_forward
from regraft.cuts.shapes import shapes_of_forward
from regraft.cuts.sizes import ROWS, Size, learn_sizes


class Grows(nn.Module):
    """Rows first, rows times heads, rows second, and a length halved."""

    def __init__(self):
        super().__init__()
        self.out = nn.Identity()

    def forward(self, x):
        heads = x.reshape(-1, x.shape[1], 2)
        return self.out((x, heads, x.transpose(0, 1), x[:, ::2], torch.zeros(7), len(x), x.shape[1] - 1))


def learnt(*, lengths=(6, 4), rows=3):
    model, x = Grows(), torch.zeros(2, 8, 4)
    record, _ = record_forward(model, (x,), {})
    runs = {
        ROWS: [(rows, shapes_of_forward(model, (torch.zeros(rows, 8, 4),), {}))],
        "length": [(n, shapes_of_forward(model, (torch.zeros(2, n, 4),), {})) for n in lengths],
    }
    sizes = learn_sizes(record, {ROWS: 2, "length": 8}, runs)
    return record, sizes, values_in(record.calls[0].output)


def test_shapes_are_told_for_other_sizes():
    """Rows and length in one."""
    record, sizes, outputs = learnt()
    told = [sizes.shape(record, value, {ROWS: 5, "length": 10}) for value in outputs]
    assert told == [(5, 10, 4), (10, 10, 2), (10, 5, 4), None, (7,)]  # half of a length is no whole step


def test_the_axis_of_the_examples_is_known():
    """Two consecutive places each where heads are merged into the rows."""
    _, sizes, outputs = learnt()
    assert [sizes.rows(value) for value in outputs] == [(0, 1), (0, 2), (1, 1), (0, 1), None]


def test_a_length_without_a_straight_line_is_known_at_the_example_only():
    """7 of 8 gives 4 as 8 does."""
    record, sizes, outputs = learnt(lengths=(7, 4))
    halved = outputs[3]
    assert sizes.shapes[halved][1] == Size(4, (), (("length", 8),))
    assert sizes.shape(record, halved, {ROWS: 5, "length": 8}) == (5, 4, 4)
    assert sizes.shape(record, halved, {ROWS: 5, "length": 6}) is None


def test_numbers_that_grow_become_sizes():
    """The length of the batch and a length less one."""
    record, sizes, _ = learnt()
    assert record.calls[0].output[5:] == (2, 7)
    assert sizes.outputs[0][5:] == (Size(0, ((ROWS, 1),)), Size(-1, (("length", 1),)))


def test_numbers_that_do_not_grow_with_sizes_are_told():
    """Their call is unstable: the head computes it again."""

    class Counts(nn.Module):
        def forward(self, x):
            return x, float(len(x))

    model = Counts()
    record, _ = record_forward(model, (torch.zeros(2, 3),), {})
    sizes = learn_sizes(record, {ROWS: 2}, {ROWS: [(3, shapes_of_forward(model, (torch.zeros(3, 3),), {}))]})
    assert sizes.unstable == {0}
    assert sizes.outputs == {0: record.calls[0].output}


def test_without_another_number_of_rows_no_shape_is_told():
    """But for the example's own sizes."""
    record, _ = record_forward(Grows(), (torch.zeros(2, 8, 4),), {})
    sizes = learn_sizes(record, {ROWS: 2}, {})
    value = values_in(record.calls[0].output)[0]
    assert sizes.shape(record, value, {ROWS: 2}) == (2, 8, 4)
    assert sizes.shape(record, value, {ROWS: 3}) is None


def test_examples_and_places_in_one_dimension_are_a_product():
    """Its rows are known, and how many places each has follows the length."""

    class Merges(nn.Module):
        def forward(self, x):
            return x.reshape(-1, 4)

    model, runs = Merges(), {ROWS: [(3, 8)], "length": [(6, 6), (4, 4)]}
    record, _ = record_forward(model, (torch.zeros(2, 8, 4),), {})
    seen = {
        symbol: [(n, shapes_of_forward(model, (torch.zeros(3 if symbol == ROWS else 2, t, 4),), {})) for n, t in points]
        for symbol, points in runs.items()
    }
    sizes = learn_sizes(record, {ROWS: 2, "length": 8}, seen)
    value = values_in(record.calls[0].output)[0]
    merged = sizes.shapes[value][0]
    assert merged == Size(1, (), (), (ROWS, "length"))
    assert sizes.rows(value) == (0, 0)
    assert sizes.shape(record, value, {ROWS: 5, "length": 3}) == (15, 4)
    assert merged.solved(15, {ROWS: 5}) == ("length", 3)
    assert merged.solved(15, {}) is None


def test_a_size_tells_its_symbol():
    """Where it depends on one alone."""
    assert Size(1, ((ROWS, 2),)).solved(7, {}) == (ROWS, 3)
    assert Size(1, ((ROWS, 2),)).solved(8, {}) is None
    assert Size(0, ((ROWS, 1), ("length", 1))).solved(8, {}) is None
