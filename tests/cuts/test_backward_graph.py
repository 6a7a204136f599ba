"""What a backward pass would compute from shows whether its gradients are the same."""

import pytest
import torch
from torch import nn

from regraft.cuts.backward_graph import backward_graph
from regraft.errors import SplitError


def graph(forward, *, of=(3.0, 5.0)):
    model = nn.ParameterDict({"w": nn.Parameter(torch.tensor(of)), "v": nn.Parameter(torch.tensor(of))})
    return backward_graph(model, [forward(model["w"], model["v"])])


def same(graph, other):
    return graph.keys() == other.keys() and all(torch.equal(graph[name], other[name]) for name in graph)


def test_equal_steps_on_equal_values_have_equal_graphs():
    """Each run makes its own steps."""
    assert same(graph(lambda w, v: (w * v).exp().sum()), graph(lambda w, v: (w * v).exp().sum()))


@pytest.mark.parametrize(
    "other",
    [
        lambda w, v: (w * v).sigmoid().sum(),  # another step
        lambda w, v: (w * w).exp().sum(),  # another parameter
        lambda w, v: (v * w).exp().sum(),  # in another order
        lambda w, v: (w.detach() * v).exp().sum(),  # no gradient for one of them: equal outputs
        lambda w, v: (w * (v * 1)).exp().sum(),  # a step more: equal outputs
        lambda w, v: (w * v).exp().mean() * 2,  # equal outputs in other steps
    ],
)
def test_another_way_to_the_outputs_is_another_graph(other):
    """Equal outputs or not."""
    assert not same(graph(lambda w, v: (w * v).exp().sum()), graph(other))


def test_another_number_and_another_value_are_another_graph():
    """The steps are the same."""
    assert not same(graph(lambda w, v: (w * 2).sum()), graph(lambda w, v: (w * 3).sum()))
    assert not same(graph(lambda w, v: (w * v).sum()), graph(lambda w, v: (w * v).sum(), of=(3.0, 6.0)))


def test_another_layout_in_memory_is_another_graph():
    """Kernels round by it."""
    x = torch.randn(2, 3, 4, 4)
    layer = nn.Conv2d(3, 2, 1)
    graphs = [
        backward_graph(layer, [layer(x.to(memory_format=f))]) for f in (torch.channels_last, torch.preserve_format)
    ]
    assert not same(*graphs)


class Double(torch.autograd.Function):
    """Its backward pass may read anything."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


def in_place(w, v):
    part = (w * 1).reshape(2, 1)
    part[0].exp_()
    return part.sum()


def overwritten(w, v):
    result = w.exp()
    result.mul_(2)
    return result.sum()


@pytest.mark.parametrize("forward", [lambda w, v: Double.apply(w).sum(), in_place])
def test_steps_that_hide_what_they_read_are_refused(forward):
    """Only the gradients themselves show it."""
    with pytest.raises(SplitError, match="does not show what its backward pass reads"):
        graph(forward)


def test_a_saved_value_that_was_overwritten_is_refused():
    """As by the backward pass."""
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        graph(overwritten)
