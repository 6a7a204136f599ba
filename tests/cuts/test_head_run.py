"""The head runs the model's own forward on leaves and stubs."""

import pytest
import torch
from torch import nn

from regraft.errors import SplitError
from splits import Branch, example, features_of, frozen, output_of, program_of


def test_a_skipped_layer_does_not_run():
    """Its output comes from the features."""
    model = frozen(Branch())
    run = program_of(model, example())
    features = features_of(run, example())
    expected = model(example())
    with torch.no_grad():
        model.first.weight.fill_(float("nan"))
    assert torch.equal(output_of(run, features), expected)


def test_a_leaf_that_the_head_writes_into_is_copied():
    """The features stay as they are."""

    class Writes(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x):
            hidden = self.first(x)
            return self.last(hidden.add_(torch.rand(())))

    run = program_of(frozen(Writes(), "first"), example())
    features = features_of(run, example())
    before = {name: rows.clone() for name, rows in features.items()}
    output_of(run, features)
    assert all(torch.equal(rows, before[name]) for name, rows in features.items())


def test_a_longer_way_than_the_examples_is_refused():
    """A frozen layer that is called once more has no output to give."""

    class Loops(nn.Module):
        times = 2

        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x):
            return sum(self.last(self.first(x)) for _ in range(self.times))

    model = frozen(Loops(), "first")
    run = program_of(model, example())
    features = features_of(run, example())
    model.times = 3
    with pytest.raises(SplitError, match="first is not called as it was on the example"):
        output_of(run, features)


def test_a_buffer_that_frozen_results_fill_has_no_data_either():
    """It is made in the forward; what stood in its memory must not be read."""

    class Fills(nn.Module):
        times = 1

        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x):
            both = torch.empty(len(x), 6)
            both[:] = self.first(x)
            return sum(self.last(both.relu()) for _ in range(self.times))

    model = frozen(Fills(), "first")
    run = program_of(model, example())
    features = features_of(run, example())
    assert torch.equal(output_of(run, features), model.eval()(example()))
    model.times = 2
    with pytest.raises(SplitError, match="relu asks for the data"):
        output_of(run, features)


def test_data_that_does_not_cross_is_missed_by_name():
    """When the head's way depends on something that the example did not show."""

    class Curious(nn.Module):
        curious = False

        def __init__(self):
            super().__init__()
            self.first, self.second, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x):
            first = self.first(x)
            out = self.last(self.second(first))
            return out + first.sum() if self.curious else out

    model = frozen(Curious())
    run = program_of(model, example())
    features = features_of(run, example())
    model.curious = True
    with pytest.raises(SplitError, match="sum asks for the data of first"):
        output_of(run, features)


def test_shapes_of_stubs_follow_the_batch():
    """Views by sizes that the forward asks of skipped outputs."""

    class Asks(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x):
            rows, width = x.shape
            return self.last(self.first(x).view(rows * 2, width // 2).view(rows, width)) * rows

    model = frozen(Asks(), "first")
    run = program_of(model, example())
    x = torch.randn(3, 6)
    assert torch.equal(output_of(run, features_of(run, x)), model(x))


def test_functions_that_give_back_their_argument_need_no_data():
    """A dropout in evaluation, `to` the same type, `contiguous` of what is: in a layer whose forward the head runs."""

    class Keeps(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.kept = nn.Linear(6, 6), []

        def forward(self, x):
            out = nn.functional.dropout(self.linear(x), 0.5, training=False)
            self.kept = [out]  # a side effect: the head runs this forward
            return self.linear(out.to(torch.float32).contiguous()).to(torch.float64).float().relu_()

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = Keeps(), nn.Linear(6, 2)

        def forward(self, x):
            return self.last(self.first(x))

    model = frozen(Model(), "first")
    program = program_of(model, example())
    assert list(program.leaves) == ["first.float"]
    x = torch.randn(3, 6)
    assert torch.equal(output_of(program, features_of(program, x)), model(x))
