"""What a forward leaves behind beside its output."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from regraft.cuts.traces import Traces, gives_code


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
    traces = Traces(module, (torch.zeros(1),), {"cache": held})
    assert not traces.left()
    change(module, held)
    assert traces.left()


def test_running_statistics_and_equal_numbers_are_no_traces():
    """The recording sees what is written into tensors; a number that stays the same tells nothing."""
    module = Keeper()
    traces = Traces(module, (), {})
    module.seen += 1
    module.number = int("1")
    assert not traces.left()


def test_functions_and_iterators_hide_what_they_hold():
    """Wherever they stand in the output."""
    assert gives_code({"a": [lambda: 1]})
    assert gives_code((iter([]),))
    assert gives_code(partial(print))
    assert not gives_code((torch.zeros(1), "text", None, nn.ReLU))
