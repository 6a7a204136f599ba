"""What a recording is made of."""

from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from regraft.cuts.record import Call, Record, RecordedOperation, RecordedStep, Slot, Value, values_in


def value(index, *, storage=0):
    return Value(index, "result", (2, 3), (3, 1), torch.float32, torch.device("cpu"), storage=storage)


def test_a_value_knows_its_bytes():
    """Of the whole batch."""
    assert value(0).size_bytes == 24


def test_slots_are_found_in_any_structure():
    """In order."""
    assert values_in({"a": Slot(3), "b": [Slot(1), 7]}) == [3, 1]


def test_children_are_in_the_order_of_their_calls():
    """The model itself is nobody's child."""
    record = Record(calls=(Call(0, "", 0, -1), Call(1, "a", 0, 0), Call(2, "a.b", 0, 1), Call(3, "c", 0, 0)))
    assert record.children == {-1: [0], 0: [1, 3], 1: [2]}
    assert list(record.with_parents(2)) == [2, 1, 0]


def test_an_operation_needs_what_it_read_and_did_not_write():
    """A shape alone is no need, except when the data goes to Python."""
    steps = (RecordedStep((1, 2), (3,)), RecordedStep((3, 4), (6,), reads_only_shape=True))
    operation = RecordedOperation(0, "f", 0, 0, arguments=(5,), steps=steps)
    assert operation.inputs == [1, 2]
    assert operation.writes == [3, 6]
    assert replace(operation, gives_python=True).inputs == [1, 2, 5]


def test_an_operation_is_what_its_steps_are():
    """Random when one is, cheap when all are; the work is summed."""
    dear = RecordedStep(is_random=True, is_cheap=False, flops=3)
    operation = RecordedOperation(0, "f", 0, 0, steps=(RecordedStep(flops=4), dear))
    assert (operation.is_random, operation.is_stateful, operation.needs_data) == (True, False, False)
    assert (operation.is_cheap, operation.flops) == (False, 7)


def test_a_record_cannot_be_changed():
    """Everything that follows reads the same one."""
    record = Record(values=(value(0),))
    for written in (record, record.values[0], RecordedOperation(0, "f", 0, 0), Call(0, "", 0, -1)):
        with pytest.raises(FrozenInstanceError, match="cannot assign to field 'index'"):
            written.index = 1
