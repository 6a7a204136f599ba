"""One forward is recorded as it ran, with its side effects."""

import random
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from regraft.cuts.record import values_in
from regraft.cuts.recording import SideEffects, gives_code, record_forward


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x, *, scale=None):
        hidden = self.layer(x)
        hidden += 1
        return self.norm(torch.relu(hidden))


def recorded(model, *args, **kwargs):
    return record_forward(model, args, kwargs)[0]


def test_calls_and_operations_are_in_the_order_of_time():
    """By the module that ran them."""
    record = recorded(Small().eval(), torch.ones(2, 3))
    assert [call.name for call in record.calls] == ["", "layer", "norm"]
    own = [operation.name for operation in record.operations if operation.call == 0]
    assert [name for name in own if name in ("add_", "relu")] == ["add_", "relu"]


def test_an_in_place_operation_starts_a_new_value():
    """The value before is not the value after."""
    record = recorded(Small().eval(), torch.ones(2, 3))
    added = next(operation for operation in record.operations if operation.name == "add_")
    before, after = next(iter(added.changes.items()))
    assert record.values[before].storage == record.values[after].storage
    assert before == values_in(record.calls[1].output)[0]


def test_running_statistics_make_an_operation_stateful():
    """In training only."""
    for is_training in (True, False):
        record = recorded(Small().train(is_training), torch.randn(4, 3))
        assert any(operation.is_stateful for operation in record.operations) is is_training


def test_inputs_are_named_as_the_forward_names_them():
    """Positional ones too."""
    record = recorded(Small().eval(), torch.ones(2, 3), scale=torch.ones(2))
    assert [value.name for value in record.values if value.kind == "input"] == ["x", "scale"]


def test_draws_of_python_and_numpy_are_noted():
    """They are none of torch's, and would be one draw for all epochs."""

    class Draws(nn.Module):
        def __init__(self, draw):
            super().__init__()
            self.draw = draw

        def forward(self, x):
            return x * self.draw()

    for draw, answer in ((random.random, True), (np.random.rand, True), (lambda: 2.0, False)):
        assert bool(recorded(Draws(draw), torch.ones(1)).python_draws) is answer


class Keeper(nn.Module):
    """A module with something of each kind."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))
        self.kept, self.number = [], 1


CHANGES = {
    "an attribute": lambda module, held: setattr(module, "hidden", torch.zeros(1)),
    "a number": lambda module, held: setattr(module, "number", 2),
    "a list": lambda module, held: module.kept.append(1),
    "a new buffer": lambda module, held: setattr(module, "seen", torch.zeros(1)),
    "an argument": lambda module, held: held["layers"][0].keys.append(torch.zeros(1)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_seen(change):
    """In the module and in the containers that it is given."""
    module, held = Keeper(), {"layers": [SimpleNamespace(keys=[])]}
    effects = SideEffects(module, (torch.zeros(1),), {"cache": held})
    assert not effects.any()
    change(module, held)
    assert effects.any()


def test_running_statistics_and_equal_numbers_are_no_side_effects():
    """The recording sees what is written into tensors; a number that stays the same tells nothing."""
    module = Keeper()
    effects = SideEffects(module, (), {})
    module.seen += 1
    module.number = int("1")
    assert not effects.any()


def test_functions_and_iterators_hide_what_they_hold():
    """Wherever they stand in the output."""
    assert gives_code({"a": [lambda: 1]})
    assert gives_code((iter([]),))
    assert gives_code(partial(print))
    assert not gives_code((torch.zeros(1), "text", None, nn.ReLU))
