"""What a recording is made of."""

import torch

from regraft.cuts.record import Call, Operation, Record, Slot, Value, slots_of


def value(index, *, storage=0):
    return Value(index, "result", (2, 3), (3, 1), torch.float32, torch.device("cpu"), storage=storage)


def test_a_value_knows_its_bytes():
    """Of the whole batch."""
    assert value(0).size_bytes == 24


def test_slots_are_found_in_any_structure():
    """In order."""
    assert slots_of({"a": Slot(3), "b": [Slot(1), 7]}) == [Slot(3), Slot(1)]


def test_children_are_in_the_order_of_their_calls():
    """The model itself is nobody's child."""
    record = Record(calls=[Call(0, "", 0, -1), Call(1, "a", 0, 0), Call(2, "a.b", 0, 1), Call(3, "c", 0, 0)])
    assert record.children() == {-1: [0], 0: [1, 3], 1: [2]}


def test_an_operation_needs_what_it_read_and_did_not_write():
    """A shape alone is no need, except when the data goes to Python."""
    operation = Operation(0, "f", 0, 0, arguments=(5,), steps=[((1, 2), (3,), False), ((3, 4), (6,), True)])
    assert operation.inputs == [1, 2]
    assert operation.writes == [3, 6]
    operation.needs_data = True
    assert operation.inputs == [1, 2, 5]


def test_a_read_of_another_view_counts_as_the_argument():
    """Both look at one storage."""
    values = [value(0, storage=1), value(1, storage=1), value(2, storage=2)]
    operation = Operation(0, "f", 0, 0, arguments=(0,))
    assert operation.as_given((1, 2), values) == (0, 2)
