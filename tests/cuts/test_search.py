"""The search ends with a proven cut."""

import pytest
import torch
from torch import nn

from regraft.cuts.batches import batch_of
from regraft.cuts.beside import Wanted
from regraft.cuts.search import Search, record_sizes
from regraft.errors import SplitError
from splits import example, features_of, frozen, output_of


def found(model, *args, at=None):
    batch = batch_of(args, {})
    record, sizes = record_sizes(model, batch, is_training=True)
    return Search(model, record, sizes, batch, wanted=at and Wanted(tuple(at), tuple(at)), is_training=True).proven()


class Mixes(nn.Module):
    """Subtracts the batch's mean between two frozen layers."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x):
        hidden = self.first(x)
        return self.last(self.second(hidden - hidden.mean(0)))


def test_the_cut_goes_before_what_mixes_the_examples():
    """The frozen layer behind it runs in the head: a cache of it would be wrong."""
    run = found(frozen(Mixes()), example())
    assert list(run.program.leaves) == ["first"]
    assert run.program.by_row


def test_a_row_that_its_mates_move_by_a_millionth_mixes():
    """Far below the rounding of another order: seen where only a mate is another one."""

    class Leans(Mixes):
        def forward(self, x):
            hidden = self.first(x)
            return self.last(self.second(hidden + 1e-6 * hidden.mean(0)))

    assert list(found(frozen(Leans()), example()).program.leaves) == ["first"]


def test_what_a_frozen_layer_leaves_out_of_sight_is_not_taken_from_an_older_batch():
    """A list that the model does not hold: only the proof can see that the head reads the last run's."""
    kept = []

    class Keeps(nn.Linear):
        def forward(self, x):
            kept[:] = [super().forward(x)]
            return kept[0]

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = Keeps(6, 6), nn.Linear(6, 2)

        def forward(self, x):
            self.first(x)
            return self.last(kept[0])

    with pytest.raises(SplitError, match="The head does not give what the model gives"):
        found(frozen(Model(), "first"), example())


def test_arguments_that_the_head_does_not_look_at_may_differ():
    """A number for a frozen layer alone; refused where the head reads it."""

    class Scales(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x, times, head_times=1):
            return self.last(self.inside(x, times)) * head_times

        def inside(self, x, times):
            return self.first(x) * times

    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.scales, self.last = Scales(), nn.Linear(2, 2)

        def forward(self, x, times):
            return self.last(self.scales(x, times))

    model = frozen(Frozen(), "scales")
    run = found(model, example(), 3)
    assert torch.equal(output_of(run, features_of(run, example(), 4)), model(example(), 4))
    run = found(frozen(Scales(), "first"), example(), 3, 2)
    with pytest.raises(SplitError, match="The argument head_times is 5; on the example it was 2"):
        features_of(run, example(), 3, 5)


def test_a_graph_splits_for_its_batch_as_a_whole():
    """Its nodes are no independent examples."""

    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x, edges):
            hidden = torch.zeros_like(x).index_add(0, edges[1], self.first(x)[edges[0]])
            return self.last(torch.zeros_like(x).index_add(0, edges[1], hidden[edges[0]]))

    model = frozen(Graph(), "first")
    edges = torch.tensor([[0, 1, 2, 3, 0], [1, 2, 3, 0, 2]])
    run = found(model, example(), edges)
    assert not run.program.by_row
    model.eval()
    assert torch.equal(output_of(run, features_of(run, example(), edges)), model(example(), edges))


def test_lengths_that_the_model_does_not_take_are_no_symbols():
    """A linear layer over the length takes one length."""
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 2))
    _, sizes = record_sizes(model, batch_of((example(),), {}), is_training=False)
    assert sizes.example == {"rows": 4}
    _, sizes = record_sizes(model, batch_of((torch.zeros(2, 8, 6),), {}), is_training=False)
    assert sizes.example == {"rows": 2, "length of 0": 8}


def test_a_length_that_makes_no_difference_to_the_head_may_be_another():
    """The forward asks for it, and the pooled features do not tell; where the head needs it, it stays fixed."""

    class Pools(nn.Module):
        divides = False

        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x):
            length = x.shape[1]
            pooled = self.last(self.first(x).amax(1))
            return pooled / length if self.divides else pooled

    x, y = torch.randn(2, 8, 6), torch.randn(3, 11, 6)
    model = frozen(Pools(), "first").train()
    run = found(model, x)
    assert torch.equal(output_of(run, features_of(run, y)), model(y))
    model.divides = True
    with pytest.raises(SplitError, match="The length of 0 is 11; on the example it was 8"):
        features_of(found(model, x), y)


def test_functions_that_compile_themselves_are_recorded_as_they_are_written():
    """To compile them for every size and every watcher takes minutes."""
    compiled = []

    def note(graph, _):
        compiled.append(graph)
        return graph

    double = torch.compile(lambda x: torch.relu(x) * 2, backend=note)

    class Doubling(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(6, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.two(double(self.one(x)))

    model = frozen(Doubling(), "one")

    record, _ = record_sizes(model, batch_of((torch.randn(3, 6),), {}), is_training=True)

    assert "relu" in [operation.name for operation in record.operations]
    assert compiled == []
