"""What depends on what."""

import random

import torch
from torch import nn

from regraft.cuts.dataflow import dataflow_of, dependents, sources, trained_values
from regraft.cuts.record import values_in
from regraft.cuts.recording import record_forward
from splits import Branch, example, frozen, parts


def recorded(model, *args):
    return record_forward(model, args, {})[0]


def names(record, operations):
    return [record.operations[index].name for index in sorted(operations)]


def test_what_the_leaves_are_computed_from_is_known():
    """Values and operations, back to inputs and parameters."""
    record, _, _, choice = parts(frozen(Branch()), example())
    found = sources(record, choice.leaves.values())
    tensors = {record.values[index].name for index in found.values if record.values[index].kind == "parameter"}
    assert tensors == {"first.weight", "first.bias", "second.weight", "second.bias"}
    assert names(record, found.operations) == ["linear", "relu", "linear", "add"]


def test_sources_end_where_they_are_told_to():
    """What stands at the end is no part of them."""
    record, _, _, choice = parts(frozen(Branch()), example())
    output = values_in(record.calls[0].output)
    assert names(record, sources(record, output, until=choice.leaves.values()).operations) == ["linear"]


def test_dependents_follow_views_and_not_shapes():
    """A view of what was written in place depends on it; zeros_like depends on nothing."""

    class Fills(nn.Module):
        def forward(self, x):
            both = torch.zeros(2, 3)
            both[0].copy_(x)
            return both[1], torch.zeros_like(x)

    record = recorded(Fills(), torch.ones(3))
    reached = dependents(record, [value.index for value in record.values if value.kind == "input"])
    row, zeros = values_in(record.calls[0].output)
    assert row in reached
    assert zeros not in reached


def test_the_heads_part_begins_at_the_first_trainable_layer():
    """Only its own values depend on a trainable parameter."""
    record = recorded(frozen(Branch()), example())
    flow = dataflow_of(record)
    assert names(record, flow.live_operations) == ["linear"]
    assert flow.live - trained_values(record) == frozenset()
    assert values_in(record.calls[0].output)[0] in flow.dependent


def test_chance_makes_all_live_that_it_may_decide():
    """Python's numbers as well as torch's; what ran before is not."""

    class Skips(nn.Module):
        def __init__(self, draw):
            super().__init__()
            self.first, self.second, self.draw = nn.Linear(6, 6), nn.Linear(6, 6), draw

        def forward(self, x):
            x = self.first(x)
            return self.second(x) if self.draw() < 2 else x

    for draw in (random.random, lambda: torch.rand(())):
        model = frozen(Skips(draw))
        record = recorded(model, example())
        flow = dataflow_of(record)
        layers = {record.layer_of(record.operations[index]) for index in flow.live_operations}
        assert "second" in layers
        assert "first" not in layers


def test_nothing_is_written_into_the_record():
    """The same answer twice."""
    record = recorded(frozen(Branch()), example())
    before = [vars(operation).keys() for operation in record.operations]
    assert dataflow_of(record) == dataflow_of(record)
    assert len(before) == len(record.operations)
